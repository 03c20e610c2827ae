"""The kernel hands out the lowest free number: what was said of a descriptor must die with it.

Every test closes a descriptor that the loop knew and opens another, which gets the same number;
nothing meant for the one may reach the other.
"""

import asyncio
import contextlib
import os
import socket

import pytest

from support.net import (
    BufferedRecorder,
    Echo,
    Recorder,
    connect_recorder,
    io_barrier,
    pattern,
    stream_pair,
    turns,
)

ROUNDS = 30


def pair_at(number):
    """Gives a socket pair whose near end has the descriptor `number`, which must be free."""
    near, far = stream_pair()
    if near.fileno() != number:
        os.dup2(near.fileno(), number, inheritable=False)
        near.close()
        near = socket.socket(fileno=number)
    near.setblocking(False)
    return near, far


async def test_reader_of_a_closed_descriptor_never_sees_its_successor(loop):
    near, far = stream_pair()
    number = near.fileno()
    for step in range(ROUNDS):
        got = []
        loop.add_reader(near, lambda got=got, near=near: got.append(near.recv(100)))
        far.send(b"%d" % step)
        await io_barrier(loop)
        assert got == [b"%d" % step]
        loop.remove_reader(near)
        near.close()
        far.close()
        near, far = pair_at(number)
        far.send(b"nobody has asked")
        await io_barrier(loop)
        assert got == [b"%d" % step]
        near.recv(100)
    near.close()
    far.close()


async def test_cancelled_receive_does_not_take_the_data_of_its_successor(loop):
    near, far = stream_pair()
    number = near.fileno()
    for step in range(ROUNDS):
        waiting = loop.create_task(loop.sock_recv(near, 100))
        await turns(1)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        near.close()
        far.close()
        near, far = pair_at(number)
        far.send(b"for step %d" % step)
        assert await loop.sock_recv(near, 100) == b"for step %d" % step
    near.close()
    far.close()


async def test_receive_cancelled_and_closed_in_one_turn_leaves_the_successor_alone(loop):
    near, far = stream_pair()
    number = near.fileno()
    for step in range(ROUNDS):
        waiting = loop.create_task(loop.sock_recv(near, 100))
        await turns(1)
        # The cancellation is on its way, not yet carried out, when the descriptor goes.
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        near.close()
        far.close()
        near, far = pair_at(number)
        receive = loop.create_task(loop.sock_recv(near, 100))
        await turns(1)
        assert not receive.done()
        await loop.sock_sendall(far, b"%d" % step)
        assert await receive == b"%d" % step
    near.close()
    far.close()


async def test_event_of_a_descriptor_closed_in_the_same_turn_is_not_given_to_its_successor(loop):
    """Both are ready in one look at the kernel; the first to run replaces the other."""
    for _ in range(ROUNDS):
        pairs = [stream_pair(), stream_pair()]
        spurious, replaced = [], []

        def read(mine, other, pairs=pairs, spurious=spurious, replaced=replaced):
            if replaced:
                return
            victim, victim_far = pairs[other]
            number = victim.fileno()
            loop.remove_reader(victim)
            victim.close()
            victim_far.close()
            pairs[other] = pair_at(number)
            # The successor has nothing to read: any call is the victim's event gone astray.
            loop.add_reader(pairs[other][0], spurious.append, other)
            replaced.append(other)
            loop.remove_reader(pairs[mine][0])

        for _, far in pairs:
            far.send(b"x")
        for mine, (near, _) in enumerate(pairs):
            loop.add_reader(near, read, mine, 1 - mine)
        await io_barrier(loop)
        assert replaced and spurious == []
        loop.remove_reader(pairs[replaced[0]][0])
        for near, far in pairs:
            near.close()
            far.close()


@pytest.mark.parametrize("factory", [Recorder, BufferedRecorder])
@pytest.mark.whole_writes("reads once what was written once")
async def test_transports_one_after_the_other_on_one_number_keep_apart(loop, factory):
    near, far = stream_pair()
    number = near.fileno()
    finished = []
    for step in range(ROUNDS):
        transport, protocol = await connect_recorder(loop, near, factory)
        payload = pattern(step, 3000)
        far.send(payload)
        transport.write(payload[::-1])
        assert await protocol.received(3000) == payload
        assert await loop.sock_recv(far, 10_000) == payload[::-1]
        transport.close()
        await protocol.happened("connection_lost")
        await turns(1)
        far.close()
        finished.append((protocol, payload))
        near, far = pair_at(number)
    for protocol, payload in finished:
        assert protocol.data == payload
        assert protocol.events == ["connection_made", "data_received", "connection_lost"]
    near.close()
    far.close()


async def test_pending_data_of_an_aborted_transport_never_reaches_its_successor(loop):
    near, far = stream_pair()
    number = near.fileno()
    for step in range(5):
        transport, protocol = await connect_recorder(loop, near)
        transport.write(b"stale" * (1 << 20))
        transport.abort()
        await protocol.happened("connection_lost")
        await turns(1)
        far.close()
        near, far = pair_at(number)
        successor, successor_protocol = await connect_recorder(loop, near)
        successor.write(b"fresh %d" % step)
        await io_barrier(loop)
        assert await loop.sock_recv(far, 1 << 20) == b"fresh %d" % step
        successor.close()
        await successor_protocol.happened("connection_lost")
        await turns(1)
        far.close()
        near, far = pair_at(number)
    near.close()
    far.close()


async def test_late_calls_on_a_closed_transport_leave_its_successor_alone(loop):
    near, far = stream_pair()
    number = near.fileno()
    old, old_protocol = await connect_recorder(loop, near)
    old.close()
    await old_protocol.happened("connection_lost")
    await turns(1)
    far.close()
    near, far = pair_at(number)
    new, new_protocol = await connect_recorder(loop, near)
    for late in (old.close, old.abort, old.pause_reading, old.resume_reading):
        late()
    old.write(b"stale")
    far.send(b"fresh")
    assert await new_protocol.received(5) == b"fresh"
    new.write(b"answer")
    assert await loop.sock_recv(far, 100) == b"answer"
    assert old_protocol.data == b""
    assert old_protocol.events.count("connection_lost") == 1
    assert not new.is_closing()
    far.close()
    await new_protocol.happened("connection_lost")


async def test_reader_and_transport_take_turns_on_one_number(loop):
    near, far = stream_pair()
    number = near.fileno()
    for step in range(ROUNDS):
        got = []
        loop.add_reader(near, lambda got=got, near=near: got.append(near.recv(100)))
        far.send(b"reader")
        await io_barrier(loop)
        assert got == [b"reader"]
        assert loop.remove_reader(near) is True
        near.close()
        far.close()
        near, far = pair_at(number)
        transport, protocol = await connect_recorder(loop, near)
        far.send(b"transport %d" % step)
        assert await protocol.received(10)
        transport.abort()
        await protocol.happened("connection_lost")
        await turns(1)
        assert got == [b"reader"]
        far.close()
        near, far = pair_at(number)
    near.close()
    far.close()


async def test_churn_of_connections_mixes_nothing_up(loop):
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()

    async def client(number):
        for step in range(10):
            transport, protocol = await loop.create_connection(Recorder, *address)
            payload = b"%d/%d;" % (number, step) * 50
            transport.write(payload)
            assert await protocol.received(len(payload)) == payload
            if step % 2:
                transport.abort()
            else:
                transport.close()
            await protocol.happened("connection_lost")
            assert protocol.data == payload

    await asyncio.gather(*(client(number) for number in range(20)))
    server.close()
    await server.wait_closed()
    await io_barrier(loop)


# asyncio refuses the second transport, since the first one still holds the number in its table.
@pytest.mark.loops("antiphon")
@pytest.mark.parametrize("watched", [False, True], ids=["unknown", "transport"])
async def test_socket_closed_behind_its_transport_gives_its_successor_nothing(loop, watched):
    """The double close that let one connection's bytes reach another in a loop once."""
    near, far = stream_pair()
    number = near.fileno()
    transport, recorder = await connect_recorder(loop, near)
    # Not through the transport: it still believes that the number is its own.
    near.close()
    other, other_far = pair_at(number)
    if watched:
        second, second_recorder = await connect_recorder(loop, other)
    transport.write(b"secret of the first connection")
    other_far.send(b"word for the second one")
    if watched:
        second.write(b"answer of the second")
        assert await loop.sock_recv(other_far, 100) == b"answer of the second"
        assert await second_recorder.received(23) == b"word for the second one"
    await recorder.happened("connection_lost")
    with pytest.raises(BlockingIOError):
        other_far.recv(100)
    assert recorder.data == b""
    # The number is the successor's to close, and the first transport has left it open.
    os.fstat(number)
    if watched:
        second.close()
        await second_recorder.happened("connection_lost")
    for sock in (other, other_far, far):
        sock.close()
