"""A running echo server of one contender, and the load put on it."""

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from types import TracebackType

from benches.contender import (
    ROOT,
    Contender,
    MeasuredProcessError,
    environment,
    last_line,
    run_to_json,
)
from benches.echo.cells import Cell
from benches.echo.native_build import program

START_TIMEOUT_S = 10
END_TIMEOUT_S = 10
CLIENT_GRACE_S = 20
WARM_UP = ("-s", 1024, "-c", 4, "-w", 0.02, "-d", 0.05)
WARM_UP_OPTIONS = {"udp": ("-u",), "tls_protocol": ("-t",)}


class EchoServer:
    """A server process: a context manager that waits for its start and kills it at the end.

    Raises (on entering):
        MeasuredProcessError: it did not start; the text is its own last words.
    """

    def __init__(
        self,
        contender: Contender,
        kind: str,
        prefix: tuple[str, ...] = (),
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        """``prefix`` goes before the server's command (an instruction counter)."""
        self._warm_up = WARM_UP_OPTIONS.get(kind, ())
        self._client = "echoload-tls" if kind == "tls_protocol" else "echoload"
        self._command = [*prefix, *server_command(contender, kind)]
        self._start_timeout_s = start_timeout_s

    def __enter__(self) -> "EchoServer":
        # A file, not a pipe: nobody reads while the server runs, and a full pipe would stop it.
        self._words = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._words,
            text=True,
        )
        try:
            # The server's own pid: under a counter the child is the counter.
            self._address, self._pid = self._wait_until_ready()
        except BaseException:
            self._process.kill()
            self._reap()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.returncode is None:
            os.kill(self._pid, signal.SIGKILL)
        self._reap()

    def _wait_until_ready(self) -> tuple[str, int]:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            started = selector.select(self._start_timeout_s)
        words = self._process.stdout.readline().split() if started else []
        if words[:1] != ["READY"]:
            raise MeasuredProcessError(f"the server did not start: {last_line(self.words())}")
        return words[1], int(words[2])

    def _reap(self) -> None:
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def terminate(self) -> str:
        """Ends the server by SIGTERM, so that a counter around it can report, and returns all its
        words.
        """
        os.kill(self._pid, signal.SIGTERM)
        self._reap()
        return self.words()

    def words(self) -> str:
        """Returns what the server has written to standard error."""
        self._words.seek(0)
        return self._words.read()

    def load(self, *options: object, seconds: float) -> dict[str, float]:
        """Runs the load client with ``options`` against this server and returns what it measured.

        Raises:
            MeasuredProcessError: the client found a fault, or the server stalled; with the server's
            last words.
        """
        command = [program(self._client), "-a", self._address, "-P", str(self._pid)]
        try:
            return run_to_json([*command, *map(str, options)], seconds + CLIENT_GRACE_S)
        except MeasuredProcessError as error:
            raise MeasuredProcessError(f"{error}; server: {last_line(self.words())}") from error

    def warm(self) -> None:
        """Opens, uses and closes a few connections before anything is measured.

        It matters: asyncio's first end of file frees a whole 256 KiB receive block, glibc raises
        its mmap threshold upon it, and the mmap, mremap and munmap around every earlier recv (3x
        the CPU per message) are gone. A server that lives longer than a moment is always in the
        second state, so that one is compared.
        """
        self.load(*WARM_UP, *self._warm_up, seconds=0.1)

    def measure(self, cell: Cell, warm_s: float, window_s: float) -> dict[str, float]:
        """Returns what the load client measured for one cell; raises as :meth:`load`."""
        options = [*cell_options(cell), "-w", warm_s, "-d", window_s]
        return self.load(*options, seconds=warm_s + window_s)


def server_command(contender: Contender, kind: str) -> list[str]:
    """Returns the command of a contender's server; the floor's is the same for all streams."""
    if contender.native and kind == "tls_protocol":
        raise MeasuredProcessError("the bare server speaks no TLS")
    if contender.native and kind == "unix_protocol":
        return [
            program("epollserver"),
            os.path.join(tempfile.mkdtemp(prefix="antiphon-bench-"), "socket"),
        ]
    if contender.native:
        return [program("epollserver"), *(["-u"] if kind == "udp" else [])]
    return contender.command("echo.server", contender.loop, kind)


def cell_options(cell: Cell) -> list[object]:
    """Returns the load client's options for a cell."""
    options: list[object] = ["-s", cell.message_bytes, "-c", cell.connections, "-n", cell.depth]
    if cell.datagrams:
        return [*options, "-u"]
    if cell.secure:
        return [*options, "-t"]
    return [*options, "-x"] if cell.churn else options


@contextlib.contextmanager
def warm_server(contender: Contender, kind: str) -> Iterator[EchoServer]:
    """A started and warmed server; raises :class:`MeasuredProcessError` on entering where that
    fails.
    """
    with EchoServer(contender, kind) as server:
        server.warm()
        yield server
