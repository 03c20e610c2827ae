"""Faults of the program's own code: each is reported, and nothing but its own connection suffers.

The first sentences of "Bad input and faults" of the loop's specification; the rest is in
`test_bad_input`.
"""

import asyncio
import errno
import gc
import socket

import pytest

from support.children import run_child
from support.net import (
    Echo,
    Recorder,
    connect_recorder,
    io_barrier,
    others_done,
    stream_pair,
    turns,
)


class Fault(Exception):
    """What the misbehaving code of these tests raises."""


class Grave(BaseException):
    """A `BaseException` that is neither of the two that end a program."""


def raise_fault(*args):
    raise Fault


async def loop_is_alive(loop):
    """Asserts that callbacks, timers, descriptors and threads still reach the loop."""
    await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    await io_barrier(loop)
    assert await loop.run_in_executor(None, int, "7") == 7


# A raising callback, protocol factory, protocol method or reader is reported through the exception
# handler and the loop goes on.


@pytest.mark.parametrize("kind", [Fault, Grave, asyncio.CancelledError, StopIteration])
@pytest.mark.parametrize("way", ["call_soon", "call_later", "call_soon_threadsafe"])
async def test_raising_callback_is_reported_and_the_loop_goes_on(loop, faults, kind, way):
    def fail():
        raise kind("from the callback")

    ran = []
    delay = (0,) if way == "call_later" else ()
    handle = getattr(loop, way)(*delay, fail)
    getattr(loop, way)(*delay, ran.append, "next")
    while not ran:
        await asyncio.sleep(0)
    (context,) = faults
    assert type(context["exception"]) is kind
    assert context["message"].startswith("Exception in callback ")
    assert context["handle"] is handle
    await loop_is_alive(loop)


async def test_every_one_of_many_raising_callbacks_is_reported(loop, faults):
    for _ in range(1000):
        loop.call_soon(raise_fault)
    await turns(1)
    assert [type(context["exception"]) for context in faults] == [Fault] * 1000


@pytest.mark.parametrize("watch", ["reader", "writer"])
async def test_raising_reader_or_writer_is_reported_and_others_are_served(loop, faults, watch):
    near, far = stream_pair()
    served = []

    def fail():
        if watch == "reader":
            near.recv(10)
        else:
            loop.remove_writer(near)
        raise Fault

    other, other_far = stream_pair()
    loop.add_reader(other, lambda: served.append(other.recv(10)))
    (loop.add_reader if watch == "reader" else loop.add_writer)(near, fail)
    far.send(b"x")
    other_far.send(b"served")
    await io_barrier(loop)
    assert [type(context["exception"]) for context in faults] == [Fault]
    assert served == [b"served"]
    # The watch itself stays: raising is no way to end it.
    if watch == "reader":
        far.send(b"x")
        await io_barrier(loop)
        assert len(faults) == 2
        assert loop.remove_reader(near) is True
    loop.remove_reader(other)
    for sock in (near, far, other, other_far):
        sock.close()
    await loop_is_alive(loop)


async def test_raising_factory_of_a_server_drops_that_connection_alone(loop, faults, audit):
    broken = [True]

    def factory():
        if broken[0]:
            raise Fault
        return Echo()

    loop.set_debug(True)  # release mode is silent about it, as asyncio is
    loop.slow_callback_duration = 3600
    server = await loop.create_server(factory, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    refused = socket.create_connection(address)
    refused.setblocking(False)
    await io_barrier(loop)
    await others_done()
    assert [context["message"] for context in faults] == [
        "Error on transport creation for incoming connection"
    ]
    assert isinstance(faults[0]["exception"], Fault)
    # The exception's frames hold the accepted socket on asyncio; with them gone it is closed.
    faults.clear()
    gc.collect()
    assert await loop.sock_recv(refused, 10) == b""
    audit.drop_warnings(ResourceWarning, "unclosed <socket")
    broken[0] = False
    transport, protocol = await loop.create_connection(Recorder, *address)
    transport.write(b"next one")
    assert await protocol.received(8) == b"next one"
    transport.close()
    await protocol.happened("connection_lost")
    refused.close()
    server.close()
    await server.wait_closed()


# What each raising protocol method is reported as; None: asyncio's words are those of a callback.
METHODS = {
    "connection_made": None,
    "data_received": "Fatal error: protocol.data_received() call failed.",
    "eof_received": "Fatal error: protocol.eof_received() call failed.",
    "connection_lost": None,
    "pause_writing": "protocol.pause_writing() failed",
    "resume_writing": "protocol.resume_writing() failed",
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", [Fault, Grave])
async def test_raising_protocol_method_is_reported_and_other_connections_live(
    loop, faults, method, kind
):
    class Raising(Recorder):
        def note(self, event):
            super().note(event)
            if event == method:
                raise kind

    healthy_near, healthy_far = stream_pair()
    _, healthy = await connect_recorder(loop, healthy_near)
    near, far = stream_pair()
    transport, protocol = await connect_recorder(loop, near, Raising)
    if method in ("pause_writing", "resume_writing"):
        transport.write(bytes(1 << 24))
        while transport.get_write_buffer_size():
            await loop.sock_recv(far, 1 << 20)
    far.send(b"data")
    far.shutdown(socket.SHUT_WR)
    await protocol.happened("connection_lost")
    await turns(2)
    (context,) = faults
    assert type(context["exception"]) is kind
    assert context["message"] == METHODS[method] or (
        METHODS[method] is None and context["message"].startswith("Exception in callback ")
    )
    if METHODS[method] is not None:
        assert context["transport"] is transport
        assert context["protocol"] is protocol
    if "call failed" in (METHODS[method] or ""):
        # What fails while reading is fatal for the connection.
        assert type(protocol.lost_with) is kind
    assert near.fileno() == -1
    healthy_far.send(b"healthy")
    assert await healthy.received(7) == b"healthy"
    healthy_far.close()
    await healthy.happened("connection_lost")
    far.close()
    await loop_is_alive(loop)


async def test_protocol_without_data_received_is_a_fault_of_that_connection(loop, faults):
    class Poor:
        def connection_made(self, transport):
            pass

        def connection_lost(self, exc):
            lost.set_result(exc)

    lost = loop.create_future()
    near, far = stream_pair()
    await loop.create_connection(Poor, sock=near)
    far.send(b"x")
    assert isinstance(await lost, AttributeError)
    assert [context["exception"] for context in faults] == [lost.result()]
    far.close()
    await loop_is_alive(loop)


# BaseException leaves the loop usable.


def raise_exit(kind):
    raise kind("out")


def assert_it_leaves_the_run(loop, kind):
    with pytest.raises(kind, match="^out$"):
        loop.run_forever()
    assert not loop.is_running()
    loop.run_until_complete(loop_is_alive(loop))


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
class TestExitExceptions:
    def test_of_a_timer_leaves_the_run_and_the_loop_usable(self, loop, kind):
        loop.call_later(0, raise_exit, kind)
        assert_it_leaves_the_run(loop, kind)

    def test_of_a_reader_leaves_the_run_and_the_loop_usable(self, loop, kind):
        near, far = stream_pair()
        with near, far:
            loop.add_reader(near, lambda: (near.recv(1), raise_exit(kind)))
            far.send(b"x")
            assert_it_leaves_the_run(loop, kind)
            assert loop.remove_reader(near) is True

    @pytest.mark.parametrize("method", ["connection_made", "data_received", "eof_received"])
    def test_of_a_protocol_leaves_the_run_and_the_loop_usable(self, loop, kind, method):
        class Leaving(Recorder):
            """Raises once: end of file would be told again and again to a protocol that raises."""

            def note(self, event):
                first = event == method and event not in self.events
                super().note(event)
                if first:
                    raise_exit(kind)

        near, far = stream_pair()
        far.send(b"x")
        far.shutdown(socket.SHUT_WR)
        connect = loop.create_task(connect_recorder(loop, near, Leaving))
        assert_it_leaves_the_run(loop, kind)
        transport, protocol = loop.run_until_complete(connect)
        transport.abort()
        loop.run_until_complete(protocol.happened("connection_lost"))
        far.close()

    def test_of_a_factory_leaves_the_run_and_the_loop_usable(self, loop, audit, kind):
        server = loop.run_until_complete(
            loop.create_server(lambda: raise_exit(kind), "127.0.0.1", 0)
        )
        client = socket.create_connection(server.sockets[0].getsockname())
        assert_it_leaves_the_run(loop, kind)
        client.close()
        server.close()
        loop.run_until_complete(server.wait_closed())
        # asyncio's accepting task has died of it and is reported as well; the accepted socket is
        # left to the collector.
        gc.collect()
        audit.log.records.clear()
        audit.drop_warnings(ResourceWarning, "unclosed <socket")


# EMFILE at accept: logged, accepting pauses and resumes, nothing leaks.


@pytest.mark.slow
def test_accept_out_of_descriptors_is_reported_pauses_and_resumes(loop_name):
    facts = run_child(
        loop_name,
        """
        import resource, socket

        async def main():
            loop = asyncio.get_running_loop()
            served = []
            contexts = []
            loop.set_exception_handler(lambda loop, context: contexts.append(context))

            class Serving(asyncio.Protocol):
                def connection_made(self, transport):
                    served.append(transport)
                    transport.write(b"served")

            server = await loop.create_server(Serving, "127.0.0.1", 0, backlog=3)
            address = server.sockets[0].getsockname()
            clients = [socket.socket() for _ in range(3)]
            before = len(os.listdir("/proc/self/fd"))
            # Not one more descriptor than are open now.
            highest = max(map(int, os.listdir("/proc/self/fd")[:-1]))
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            blockers = []
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
            try:
                while True:
                    blockers.append(os.dup(0))
            except OSError:
                pass
            for client in clients:
                client.setblocking(False)
                await loop.sock_connect(client, address)
            while not contexts:
                await asyncio.sleep(0)
            # A ready descriptor that cannot be accepted must not spin: look again over many turns.
            for _ in range(200):
                await asyncio.sleep(0)
            messages = [context["message"] for context in contexts]
            errors = [context["exception"].errno for context in contexts]
            kinds = [type(context["socket"]).__name__ for context in contexts]
            none_served = not served
            for fd in blockers:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            # The same server takes them up again by itself.
            answers = [await loop.sock_recv(client, 100) for client in clients]
            contexts.clear()
            for client in clients:
                client.close()
            server.close()
            for transport in served:
                transport.close()
            await server.wait_closed()
            while len(os.listdir("/proc/self/fd")) > before - 4:
                await asyncio.sleep(0)
            report(
                messages=messages, errors=errors, kinds=kinds, none_served=none_served,
                answers=[answer.decode() for answer in answers],
            )

        loop = new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        """,
    )
    # asyncio tries on to the end of its backlog before it pauses, and reports every attempt.
    assert 1 <= len(facts["messages"]) <= 5
    assert set(facts["messages"]) == {"socket.accept() out of system resource"}
    assert set(facts["errors"]) == {errno.EMFILE}
    assert set(facts["kinds"]) == {"TransportSocket"}
    assert facts["none_served"]
    assert facts["answers"] == ["served"] * 3
