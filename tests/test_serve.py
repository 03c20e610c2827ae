"""Servers on all cores: `antiphon.serve` and `antiphon --workers`, with aiohttp, uvicorn, protocols, plain programs."""

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from support.net import free_port, listening_socket
from support.processes import is_zombie_or_gone
from support.switches import refuse_process

#: Seconds that programs may take to do what they are about to do; a busy machine starts three interpreters in many.
LIMIT_SECONDS = 60

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_driver("workers are processes of their own"),
    pytest.mark.timeout(2 * LIMIT_SECONDS),
]

SERVE = """
import asyncio, logging, os, signal, socket, sys, time
import antiphon

async def act(path):
    "What a request does to its worker; gives the answer."
    if path == "/hang":
        time.sleep(1000)
    if path == "/die":
        os.kill(os.getpid(), signal.SIGKILL)
    if path == "/slow":
        print("slow", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    return str(os.getpid())

def aiohttp_application():
    from aiohttp import web

    async def answer(request):
        return web.Response(text=await act(request.path))

    application = web.Application()
    application.router.add_get("/{name:.*}", answer)
    return application

def asgi_application():
    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        body = (await act(scope["path"])).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return application

class Answer(asyncio.Protocol):
    def connection_made(self, transport):
        body = str(os.getpid())
        transport.write(f"HTTP/1.0 200 OK\\r\\ncontent-length: {len(body)}\\r\\n\\r\\n{body}".encode())

    def eof_received(self):
        return False

async def own(sockets):
    servers = [await asyncio.get_running_loop().create_server(Answer, sock=sock) for sock in sockets]
    await asyncio.gather(*(server.serve_forever() for server in servers))

def nothing():
    return None

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    antiphon.serve(globals()[sys.argv[1]], sock=socket.socket(fileno=int(sys.argv[2])), workers=2, **eval(sys.argv[3]))
"""

PLAIN = """
import asyncio, os, signal, sys

async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    body = str(os.getpid())
    writer.write(f"HTTP/1.0 200 OK\\r\\ncontent-length: {len(body)}\\r\\n\\r\\n{body}".encode())
    writer.close()

async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", int(sys.argv[1]))
    # One write: the workers share the pipe.
    os.write(1, f"port {server.sockets[0].getsockname()[1]}\\n".encode())
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()
    await server.wait_closed()

asyncio.run(main())
"""


#: Those of the test that runs.
PROGRAMS: list["Program"] = []


class Program:
    """A server program with workers, as a test sees it."""

    def __init__(self, words: list[str], port: int, keep: tuple[int, ...] = ()) -> None:
        refuse_process()
        self.port = port
        PROGRAMS.append(self)
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=keep,
        )
        self.log: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.log.append(line)
                self._news.notify_all()
        with self._news:
            self.log.append("")
            self._news.notify_all()

    def wait_for(self, pattern: str, count: int = 1) -> list[str]:
        """Waits until so many lines of the log match; gives what the pattern's group has matched."""

        def found() -> list[str]:
            return [match[1] for line in self.log if (match := re.search(pattern, line))]

        with self._news:
            assert self._news.wait_for(lambda: len(found()) >= count, LIMIT_SECONDS), self.log
        return found()

    def told(self, key: str) -> str:
        """Waits for the next line of the program's output, which is a key and a value; gives the value."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith(key + " "), (line, self.log)
        return line.split()[1]

    def get(self, path: str = "/") -> str:
        """Makes a request on a connection of its own; gives the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            assert response.status == 200
            return response.read().decode()

    def pids(self) -> set[str]:
        """Asks until both workers have answered."""
        pids: set[str] = set()
        deadline = time.monotonic() + LIMIT_SECONDS  # which of them answers is the kernel's choice
        while len(pids) < 2 and time.monotonic() < deadline:
            pids.add(self.get())
        assert len(pids) == 2
        return pids

    def end(self) -> int:
        """Ends the program as a service manager does; gives its status."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            return self.process.wait(LIMIT_SECONDS)
        finally:
            self.let_go()

    def let_go(self) -> None:
        """Leaves nothing of it behind, whatever became of the test."""
        if self.process.poll() is None:
            self.process.kill()  # its workers find that out by themselves
            self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()  # type: ignore[union-attr]


@pytest.fixture(autouse=True)
def programs() -> Iterator[list[Program]]:
    """The programs that the test has started; what it has not ended is killed."""
    yield PROGRAMS
    for program in PROGRAMS:
        program.let_go()
    PROGRAMS.clear()


@pytest.fixture
def serving(tmp_path: Any, programs: list[Program]) -> Iterator[Any]:
    """Starts programs that call `antiphon.serve`, and ends them."""
    path = tmp_path / "program.py"
    path.write_text(SERVE)

    def start(factory: str, **options: Any) -> Program:
        with listening_socket() as sock:
            sock.setblocking(True)
            words = [sys.executable, str(path), factory, str(sock.fileno()), repr(options)]
            return Program(words, sock.getsockname()[1], (sock.fileno(),))

    yield start
    for program in programs:
        if program.process.returncode is None:
            program.end()


@pytest.mark.parametrize("factory", ["aiohttp_application", "asgi_application", "Answer", "own"])
def test_workers_share_the_port(serving: Any, factory: str) -> None:
    program = serving(factory)
    pids = program.pids()
    assert str(program.process.pid) not in pids
    assert program.end() == 0
    assert all(is_zombie_or_gone(int(pid)) for pid in pids)


@pytest.mark.parametrize("factory", ["aiohttp_application", "asgi_application"])
def test_threads_share_the_port(serving: Any, factory: str) -> None:
    program = serving(factory, kind="thread")
    assert program.get() == str(program.process.pid)
    assert program.end() == 0


@pytest.mark.parametrize("factory", ["aiohttp_application", "asgi_application"])
def test_restart_loses_no_request(serving: Any, factory: str) -> None:
    program = serving(factory)
    before = program.pids()
    stop = threading.Event()
    failures: list[BaseException] = []

    def ask() -> None:
        while not stop.is_set():
            try:
                program.get()
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        program.process.send_signal(signal.SIGHUP)
        program.wait_for(r"worker \d is pid (\d+)", 4)
        while before & (after := program.pids()):
            pass
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert len(after) == 2
    assert program.end() == 0


def test_worker_that_dies_is_replaced(serving: Any) -> None:
    program = serving("aiohttp_application")
    before = program.pids()
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        program.get("/die")
    (died,) = program.wait_for(r"\(pid (\d+)\) ended with status -9")
    assert died in before
    program.wait_for(r"worker \d is pid (\d+)", 3)
    assert died not in program.pids()


def test_worker_that_hangs_is_replaced(serving: Any) -> None:
    program = serving("asgi_application", hang_timeout=10.0)
    before = program.pids()
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        program.get("/hang")
    (hung,) = program.wait_for(r"\(pid (\d+)\) hangs")
    assert hung in before
    program.wait_for(r"worker \d is pid (\d+)", 3)
    assert hung not in program.pids()


@pytest.mark.parametrize("factory", ["aiohttp_application", "asgi_application"])
def test_requests_are_answered_before_the_end(serving: Any, factory: str) -> None:
    program = serving(factory)
    program.pids()
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(program.get("/slow")))
    thread.start()
    assert program.process.stdout.readline() == "slow\n"
    program.process.send_signal(signal.SIGTERM)
    # New connections are refused, or wait for a worker that will not come.
    program.process.stdin.write("go on\n")
    program.process.stdin.flush()
    thread.join()
    assert answers and answers[0].isdigit()
    assert program.end() == 0


def test_workers_that_do_not_start_end_the_program(serving: Any) -> None:
    program = serving("nothing")
    assert program.process.wait(LIMIT_SECONDS) == 1
    program.wait_for("(in a row ended before they served)")
    program.wait_for("(TypeError: the factory made None)")
    program.end()


def test_workers_end_with_a_killed_supervisor(serving: Any) -> None:
    program = serving("aiohttp_application", drain=0.5)
    ends = [os.pidfd_open(int(pid)) for pid in program.pids()]
    program.process.kill()
    for end in ends:
        assert select_readable(end)
        os.close(end)
    program.process.wait()
    program.end()


def select_readable(descriptor: int) -> bool:
    import select

    return bool(select.select([descriptor], [], [], LIMIT_SECONDS)[0])


@pytest.mark.parametrize("port", ["0", "free"])
def test_unchanged_program_runs_on_several_cores(tmp_path: Any, port: str) -> None:
    path = tmp_path / "program.py"
    path.write_text(PLAIN)
    if port == "free":
        port = str(free_port())
    words = [sys.executable, "-m", "antiphon", "--workers", "2", str(path), port]
    program = Program(words, 0)
    ports = {int(program.told("port")) for _ in range(2)}
    assert len(ports) == 1
    program.port = ports.pop()
    before = program.pids()
    program.process.send_signal(signal.SIGHUP)
    for _ in range(2):  # of the new workers
        assert int(program.told("port")) == program.port
    while before & program.pids():
        pass
    assert program.end() == 0


def test_bind_that_fails_fails_in_the_worker(tmp_path: Any) -> None:
    path = tmp_path / "program.py"
    path.write_text(PLAIN)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = [sys.executable, "-m", "antiphon", "--workers", "1", str(path), str(port)]
        program = Program(words, port)
        assert program.process.wait(LIMIT_SECONDS) == 1
        program.wait_for("(address already in use)|(Address already in use)")
        program.end()


def test_wrong_arguments_are_refused() -> None:
    import antiphon

    with pytest.raises(ValueError, match="either port or sock"):
        antiphon.serve(print)
    with pytest.raises(ValueError, match="kind must be"):
        antiphon.serve(print, 0, kind="fibre")
