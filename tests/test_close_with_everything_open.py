"""`close()` of a loop in the middle of everything: no crash, no leak, asyncio's own warnings."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import threading
import weakref

import pytest

from support.audit import open_descriptors
from support.datagrams import DatagramRecorder
from support.net import Recorder, connect_recorder, stream_pair
from support.pipes import PipeRecorder
from support.processes import ProcessRecorder
from support.tls import client_context, server_context


class Everything:
    """A loop with everything open, which refers to itself in every way that programs do."""

    def __init__(self, loop, folder):
        self.loop = loop
        self.folder = str(folder)
        self.sockets = []
        self.flooded = 0
        self.job_may_end = threading.Event()
        loop.set_exception_handler(self.on_fault)
        self.faults = []

    def on_fault(self, loop, context):
        self.faults.append(context["message"])

    def pair(self):
        pair = stream_pair()
        self.sockets += pair
        return pair

    async def open(self):
        """Opens it all."""
        for opening in (
            self.open_servers,
            self.open_datagrams,
            self.open_pipes,
            self.open_child,
            self.open_socket_calls,
            self.open_callbacks,
            self.open_threads,
            self.open_tasks,
        ):
            await opening()

    async def open_servers(self):
        """Servers of each kind, with a connection that is full, one that idles, one in its handshake."""
        path = os.path.join(self.folder, "server")
        tls = {"ssl": server_context()}
        trusting = {"ssl": client_context(), "server_hostname": "localhost"}
        make, connect = self.loop.create_server, self.loop.create_connection
        self.servers = [
            await make(Recorder, "127.0.0.1", 0),
            await make(Recorder, "127.0.0.1", 0, **tls),
            await self.loop.create_unix_server(Recorder, path),
        ]
        plain, encrypted = (server.sockets[0].getsockname() for server in self.servers[:2])
        self.connections = [
            await connect(Recorder, *plain),
            await connect(Recorder, *encrypted, **trusting),
            await self.loop.create_unix_connection(Recorder, path),
        ]
        for transport, _ in self.connections:
            transport.write(bytes(1 << 22))
        near, _ = self.pair()
        self.handshaking = self.loop.create_task(connect(Recorder, sock=near, **trusting))
        self.streams = await asyncio.open_connection(*plain)
        self.reading = self.loop.create_task(self.streams[0].read())
        # Accepted, and never heard of again.
        self.sockets.append(socket.create_connection(plain))
        self.sockets.append(socket.create_connection(encrypted))
        await asyncio.sleep(0)

    async def open_datagrams(self):
        self.datagrams = await self.loop.create_datagram_endpoint(
            DatagramRecorder, local_addr=("127.0.0.1", 0)
        )

    async def open_pipes(self):
        reading, writing = os.pipe()
        files = os.fdopen(reading, "rb", buffering=0), os.fdopen(writing, "wb", buffering=0)
        self.reader = await self.loop.connect_read_pipe(PipeRecorder, files[0])
        self.writer = await self.loop.connect_write_pipe(PipeRecorder, files[1])
        self.writer[0].write(bytes(1 << 20))

    async def open_child(self):
        self.child = await self.loop.subprocess_exec(ProcessRecorder, "cat")

    async def open_socket_calls(self):
        near, _ = self.pair()
        self.receiving = self.loop.create_task(self.loop.sock_recv(near, 10))
        near, _ = self.pair()
        self.sending = self.loop.create_task(self.loop.sock_sendall(near, bytes(1 << 22)))
        await asyncio.sleep(0)

    async def open_callbacks(self):
        near, _ = self.pair()
        self.loop.add_reader(near, self.on_fault, self)
        self.loop.add_writer(near, self.on_fault, self)
        self.timer = self.loop.call_later(3600, self.on_fault, self)
        self.loop.call_soon(self.on_fault, self, {"message": "soon"})
        self.loop.add_signal_handler(signal.SIGUSR1, self.on_fault, self)

    async def open_threads(self):
        self.job = self.loop.run_in_executor(None, self.job_may_end.wait)
        began = threading.Event()

        def flood():
            with contextlib.suppress(RuntimeError):  # closed
                while True:
                    self.loop.call_soon_threadsafe(int)
                    self.flooded += 1
                    began.set()

        self.thread = threading.Thread(target=flood)
        self.thread.start()
        await asyncio.sleep(0)
        began.wait()

    async def open_tasks(self):
        async def wait_for_ever():
            async with asyncio.timeout(3600):
                await self.loop.create_future()

        async def generate():
            yield await self.loop.create_future()

        self.waiting = self.loop.create_task(wait_for_ever())
        self.generating = self.loop.create_task(anext(generate()))
        await asyncio.sleep(0)
        # Never steps.
        self.unborn = self.loop.create_task(wait_for_ever())

    def bury(self):
        """Ends what no loop ends."""
        self.job_may_end.set()
        self.thread.join()
        for thread in threading.enumerate():  # the job's has its future in hand until it ends
            if thread.name.startswith("asyncio_"):
                thread.join()
        for sock in self.sockets:
            sock.close()
        pid = self.child[0].get_pid()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


# asyncio leaves the child's pidfd to nobody.
@pytest.mark.loops("antiphon")
@pytest.mark.slow
def test_nothing_is_left(loop_factory, audit, tmp_path):
    before = open_descriptors()
    loop = loop_factory()
    everything = Everything(loop, tmp_path)
    loop.run_until_complete(everything.open())
    loop.close()
    assert loop.is_closed() and everything.flooded
    alive = weakref.ref(loop)
    everything.bury()
    for transport, _ in everything.connections:
        for late in (transport.close, transport.abort):
            with contextlib.suppress(RuntimeError):  # the loop is closed
                late()
    everything.timer.cancel()
    del loop, everything, late, transport
    for _ in range(3):
        gc.collect()
    # What asyncio says of tasks and transports that were never ended, and of coroutines that never began.
    audit.log.records.clear()
    audit.warnings.clear()
    audit.unraisable.clear()
    gc.collect()
    assert alive() is None
    assert open_descriptors().keys() == before.keys()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_accepted_connections_are_closed_with_their_transports(loop_factory, audit, tls):
    loop = loop_factory()
    accepted = asyncio.Queue()

    class Accepted(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            accepted.put_nowait(None)

    async def accept_one(loop):
        options = {"ssl": server_context()} if tls else {}
        server = await loop.create_server(Accepted, "127.0.0.1", 0, **options)
        sock = socket.create_connection(server.sockets[0].getsockname())
        if not tls:
            await accepted.get()
        else:
            await asyncio.sleep(0.01)  # in its handshake, or not yet accepted: either must do
        return server, sock

    server, sock = loop.run_until_complete(accept_one(loop))
    server.close()
    loop.close()
    del server, loop
    gc.collect()
    sock.settimeout(10)
    assert sock.recv(1) == b""
    sock.close()
    audit.warnings.clear()
    audit.log.records.clear()


def test_timeout_that_was_under_way_does_not_keep_the_loop(loop_factory, audit):
    """The timeout keeps its timer, the timer its loop, the loop the timeout's task by its handler."""
    loop = loop_factory()

    class Program:
        def on_fault(self, loop, context):
            pass

        async def run(self):
            async with asyncio.timeout(3600):
                await asyncio.get_running_loop().create_future()

    program = Program()
    loop.set_exception_handler(program.on_fault)
    program.task = loop.create_task(program.run())
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    alive = weakref.ref(loop)
    del loop, program
    gc.collect()
    gc.collect()
    audit.unraisable.clear()  # the timeout's coroutine cancels its timer as it dies
    assert alive() is None


def test_handles_of_a_closed_loop_can_be_used(loop_factory):
    loop = loop_factory()
    handles = [loop.call_later(3600, int), loop.call_soon(int), loop.call_soon_threadsafe(int)]
    loop.close()
    del loop
    gc.collect()
    for handle in handles:
        assert "Handle" in repr(handle)
        handle.cancel()
        handle.cancel()
        assert handle.cancelled()


def test_waits_that_end_after_the_loop_keep_nothing(loop_factory, audit):
    loop = loop_factory()
    near, far = stream_pair()
    transport, recorder = loop.run_until_complete(connect_recorder(loop, near))
    left, right = stream_pair()
    receiving = loop.create_task(loop.sock_recv(left, 10))
    receiving._log_destroy_pending = False
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    # What these schedule will never run.
    for late in (receiving.cancel, transport.abort):
        with contextlib.suppress(RuntimeError):  # asyncio: the loop is closed
            late()
    died = [weakref.ref(thing) for thing in (loop, receiving, transport, recorder)]
    for sock in (near, far, left, right):
        sock.close()
    del loop, receiving, transport, recorder, late
    gc.collect()
    audit.warnings.clear()  # what is warned of lives on in the record
    gc.collect()
    gc.collect()
    assert [thing() for thing in died] == [None] * 4
