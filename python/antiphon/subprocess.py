"""Child processes: `subprocess_exec` and `subprocess_shell`.

A child is started by a thread, so that not even a slow file system stops the loop, and reaped by the
loop itself. A loop that is closed leaves its children to their `Popen` objects.

Source: Lib/asyncio/base_events.py, "Running Subprocesses" of the asyncio documentation.
"""

import asyncio
import subprocess
from asyncio.log import logger
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from antiphon.pipes import Pipes
from antiphon.spawn import PopenThread, abandon
from antiphon.subprocess_transport import SubprocessTransport

if TYPE_CHECKING:
    from antiphon._antiphon import Spawner

__all__ = ["Subprocesses"]

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class Subprocesses(Pipes):
    """The part of the loop that runs child processes."""

    __slots__ = ()

    _spawner_if_made: "Spawner | None" = None
    _popen_thread: PopenThread | None = None

    async def subprocess_exec(  # type: ignore[override]
        self,
        protocol_factory: ProtocolFactory,
        program: Any,
        *args: Any,
        stdin: Any = subprocess.PIPE,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        universal_newlines: bool = False,
        shell: bool = False,
        bufsize: int = 0,
        encoding: None = None,
        errors: None = None,
        text: bool | None = None,
        **kwargs: Any,
    ) -> tuple[asyncio.SubprocessTransport, asyncio.BaseProtocol]:
        """Starts a program.

        Args:
            protocol_factory: called without arguments before the program is started.
            program, args: the program and its arguments, each str, bytes or a path.
            stdin, stdout, stderr: a file object, a descriptor, None, or `subprocess.PIPE`, `DEVNULL`,
                `STDOUT`.
            universal_newlines, shell, bufsize, encoding, errors, text: as they are; data is bytes.
            kwargs: further arguments of `subprocess.Popen`. `preexec_fn` runs in a process that was
                forked on another thread than the loop's.

        Returns:
            The transport and the protocol, after `connection_made`.

        Raises:
            OSError: the program cannot be started.
            ValueError: an argument that only makes sense with `subprocess.Popen`.

        Cancellation: the child is killed, and its end is awaited.
        """
        if shell:
            raise ValueError("shell must be False")
        _check_binary(universal_newlines, bufsize, text, encoding, errors)
        description = f"execute program {program!r}"
        return await self._run_child(
            protocol_factory, description, (program, *args), False, stdin, stdout, stderr, kwargs
        )

    async def subprocess_shell(  # type: ignore[override]
        self,
        protocol_factory: ProtocolFactory,
        cmd: str | bytes,
        *,
        stdin: Any = subprocess.PIPE,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        universal_newlines: bool = False,
        shell: bool = True,
        bufsize: int = 0,
        encoding: None = None,
        errors: None = None,
        text: bool | None = None,
        **kwargs: Any,
    ) -> tuple[asyncio.SubprocessTransport, asyncio.BaseProtocol]:
        """Starts a command of the shell; for the other arguments see `subprocess_exec`.

        Args:
            cmd: the command, read by /bin/sh.

        Raises:
            ValueError: `cmd` is no string, or an argument only makes sense with `subprocess.Popen`.
        """
        if not isinstance(cmd, (bytes, str)):
            raise ValueError("cmd must be a string")
        if not shell:
            raise ValueError("shell must be True")
        _check_binary(universal_newlines, bufsize, text, encoding, errors)
        description = f"run shell command {cmd!r}"
        return await self._run_child(
            protocol_factory, description, cmd, True, stdin, stdout, stderr, kwargs
        )

    async def _run_child(
        self,
        protocol_factory: ProtocolFactory,
        description: str,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        kwargs: dict[str, Any],
    ) -> tuple[SubprocessTransport, asyncio.BaseProtocol]:
        """Starts a child and gives its transport and protocol."""
        protocol = protocol_factory()
        if self.get_debug():
            logger.debug(" ".join([description, *_describe_stdio(stdin, stdout, stderr)]))
        transport = SubprocessTransport(self, protocol)
        keywords = {
            **kwargs,
            "shell": shell,
            "stdin": stdin,
            "stdout": stdout,
            "stderr": stderr,
            "universal_newlines": False,
            "bufsize": 0,
        }
        await transport.start(args, keywords)
        if self.get_debug():
            logger.info("%s: %r", description, transport)
        return transport, protocol

    def _spawner(self) -> "Spawner":
        """Returns the threads that start children and wait for them, made with the first child."""
        if self._spawner_if_made is None:
            self._spawner_if_made = self._make_spawner()
        return self._spawner_if_made

    def _start_popen(
        self,
        args: Any,
        keywords: dict[str, Any],
        made: Callable[[Any, BaseException | None], None],
    ) -> None:
        """Makes a `Popen` in a Python thread, then calls `made` with it, or its exception, in the loop."""
        self._check_closed()
        if self._popen_thread is None:
            self._popen_thread = PopenThread()

        def tell(popen: Any, error: BaseException | None) -> None:
            try:
                self.call_soon_threadsafe(made, popen, error)
            except RuntimeError:
                # The loop was closed meanwhile: nobody else knows of the child.
                if popen is not None:
                    abandon(popen)

        self._popen_thread.start(args, keywords, tell)

    def _close_children(self) -> None:
        """Lets go of the threads; the loop closes. Children that run go on."""
        if self._spawner_if_made is not None:
            self._spawner_if_made.close()
        if self._popen_thread is not None:
            self._popen_thread.close()


def _check_binary(
    universal_newlines: Any, bufsize: Any, text: Any, encoding: Any, errors: Any
) -> None:
    """Refuses what belongs to files of text, or buffered ones."""
    if universal_newlines:
        raise ValueError("universal_newlines must be False")
    if bufsize != 0:
        raise ValueError("bufsize must be 0")
    if text:
        raise ValueError("text must be False")
    if encoding is not None:
        raise ValueError("encoding must be None")
    if errors is not None:
        raise ValueError("errors must be None")


def _describe_stdio(stdin: Any, stdout: Any, stderr: Any) -> list[str]:
    """Says where the child's standard files lead, for the log."""
    words = {subprocess.PIPE: "<pipe>", subprocess.STDOUT: "<stdout>"}

    def word(file: Any) -> str:
        return words.get(file, repr(file)) if isinstance(file, int) else repr(file)

    described = [] if stdin is None else [f"stdin={word(stdin)}"]
    if stdout is not None and stderr == subprocess.STDOUT:
        return [*described, f"stdout=stderr={word(stdout)}"]
    if stdout is not None:
        described.append(f"stdout={word(stdout)}")
    if stderr is not None:
        described.append(f"stderr={word(stderr)}")
    return described
