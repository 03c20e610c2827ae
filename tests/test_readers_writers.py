"""`add_reader`, `add_writer` and their removal."""

import contextlib
import contextvars
import os
import socket

import pytest

from support.loops import run_ready
from support.net import connect_recorder, io_barrier, stream_pair, turns


@pytest.fixture
def pair():
    near, far = stream_pair()
    with near, far:
        yield near, far


async def test_reader_runs_when_data_is_there_and_gets_its_arguments(loop, pair):
    near, far = pair
    got = loop.create_future()
    loop.add_reader(near, lambda *args: got.done() or got.set_result(args), 1, "two")
    far.send(b"x")
    assert await got == (1, "two")
    assert loop.remove_reader(near) is True


async def test_reader_runs_again_until_the_data_is_taken(loop, pair):
    near, far = pair
    calls = []
    thrice = loop.create_future()

    def read():
        calls.append(len(calls))
        if len(calls) == 3:
            near.recv(10)
            thrice.set_result(None)

    loop.add_reader(near, read)
    far.send(b"x")
    await thrice
    await io_barrier(loop)
    assert calls == [0, 1, 2]
    loop.remove_reader(near)


async def test_reader_without_data_never_runs(loop, pair):
    near, _ = pair
    calls = []
    loop.add_reader(near, calls.append, "spurious")
    await io_barrier(loop)
    assert calls == []
    loop.remove_reader(near)


async def test_reader_runs_at_end_of_file(loop, pair):
    near, far = pair
    got = loop.create_future()
    loop.add_reader(near, lambda: got.done() or got.set_result(near.recv(10)))
    far.close()
    assert await got == b""
    loop.remove_reader(near)


async def test_writer_runs_as_long_as_there_is_room(loop, pair):
    near, _ = pair
    calls = []
    enough = loop.create_future()

    def write():
        calls.append(1)
        if len(calls) == 3:
            enough.set_result(loop.remove_writer(near))

    loop.add_writer(near, write)
    assert await enough is True
    await io_barrier(loop)
    assert len(calls) == 3


async def test_writer_waits_while_the_buffer_is_full(loop, pair):
    near, far = pair
    with contextlib.suppress(BlockingIOError):
        while True:
            near.send(b"x" * 65536)
    calls = []
    room = loop.create_future()
    loop.add_writer(near, lambda: (calls.append(1), room.done() or room.set_result(None)))
    await io_barrier(loop)
    assert calls == []
    with contextlib.suppress(BlockingIOError):
        while far.recv(1 << 20):
            pass
    await room
    loop.remove_writer(near)


async def test_writer_of_a_pipe_runs_when_the_reader_is_gone(loop):
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write_fd, b"x" * 65536)
    told = loop.create_future()
    loop.add_writer(write_fd, lambda: told.done() or told.set_result(None))
    os.close(read_fd)
    await told
    loop.remove_writer(write_fd)
    os.close(write_fd)


async def test_reader_and_writer_share_a_descriptor_and_leave_it_one_by_one(loop, pair):
    near, far = pair
    ran = []
    loop.add_reader(near, lambda: ran.append(("read", near.recv(10))))
    loop.add_writer(near, ran.append, "write")
    await io_barrier(loop)
    assert "write" in ran and set(ran) == {"write"}
    assert loop.remove_writer(near) is True
    ran.clear()
    far.send(b"still read")
    await io_barrier(loop)
    assert ran == [("read", b"still read")]
    assert loop.remove_reader(near) is True
    far.send(b"nobody")
    await io_barrier(loop)
    assert ran == [("read", b"still read")]


async def test_removal_of_the_reader_leaves_the_writer(loop, pair):
    near, _ = pair
    calls = []
    loop.add_writer(near, calls.append, 1)
    loop.add_reader(near, calls.append, 2)
    assert loop.remove_reader(near) is True
    await io_barrier(loop)
    assert calls and set(calls) == {1}
    assert loop.remove_writer(near) is True


async def test_second_reader_replaces_the_first(loop, pair):
    near, far = pair
    ran = []
    loop.add_reader(near, ran.append, "first")
    loop.add_reader(near, lambda: ran.append(near.recv(10)))
    far.send(b"second")
    await io_barrier(loop)
    assert ran == [b"second"]
    assert loop.remove_reader(near) is True
    assert loop.remove_reader(near) is False


async def test_second_writer_replaces_the_first(loop, pair):
    near, _ = pair
    ran = []
    loop.add_writer(near, ran.append, "first")
    loop.add_writer(near, ran.append, "second")
    await io_barrier(loop)
    assert set(ran) == {"second"}
    loop.remove_writer(near)


def test_removal_of_what_was_never_added_says_false(loop, pair):
    near, _ = pair
    assert loop.remove_reader(near) is False
    assert loop.remove_writer(near) is False
    assert loop.remove_reader(near.fileno()) is False


async def test_number_and_object_name_the_same_descriptor(loop, pair):
    near, far = pair
    ran = []
    loop.add_reader(near.fileno(), lambda: ran.append(near.recv(10)))
    far.send(b"x")
    await io_barrier(loop)
    assert ran == [b"x"]
    assert loop.remove_reader(near) is True


async def test_reader_may_remove_itself(loop, pair):
    near, far = pair
    ran = []
    loop.add_reader(near, lambda: ran.append(loop.remove_reader(near)))
    far.send(b"never taken")
    await io_barrier(loop)
    assert ran == [True]


async def test_ready_reader_removed_by_another_of_the_same_turn_never_runs(loop):
    pairs = [stream_pair() for _ in range(2)]
    ran = []

    def read(mine, other):
        ran.append(mine)
        loop.remove_reader(other)

    first, second = pairs[0][0], pairs[1][0]
    for _, far in pairs:
        far.send(b"x")
    loop.add_reader(first, read, first, second)
    loop.add_reader(second, read, second, first)
    await io_barrier(loop)
    # Both were ready in the same look at the kernel; whichever came first removed the other.
    assert len(set(ran)) == 1
    loop.remove_reader(ran[0])
    for near, far in pairs:
        near.close()
        far.close()


async def test_many_descriptors_each_wake_their_own_callback(loop):
    pairs = [stream_pair() for _ in range(200)]
    got = {}
    everyone = loop.create_future()

    def read(number):
        got[number] = pairs[number][0].recv(100)
        if len(got) == len(pairs) and not everyone.done():
            everyone.set_result(None)

    for number, (near, _) in enumerate(pairs):
        loop.add_reader(near, read, number)
    for number in reversed(range(len(pairs))):
        pairs[number][1].send(b"%d" % number)
    await everyone
    assert got == {number: b"%d" % number for number in range(len(pairs))}
    for near, far in pairs:
        loop.remove_reader(near)
        near.close()
        far.close()


async def test_pipes_eventfds_and_udp_sockets_can_be_watched(loop):
    read_fd, write_fd = os.pipe()
    event_fd = os.eventfd(0, os.EFD_NONBLOCK)
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    got = {}
    loop.add_reader(read_fd, lambda: got.setdefault("pipe", os.read(read_fd, 10)))
    loop.add_reader(event_fd, lambda: got.setdefault("eventfd", os.eventfd_read(event_fd)))
    loop.add_reader(receiver, lambda: got.setdefault("udp", receiver.recv(10)))
    os.write(write_fd, b"p")
    os.eventfd_write(event_fd, 7)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"u", receiver.getsockname())
    await io_barrier(loop)
    assert got == {"pipe": b"p", "eventfd": 7, "udp": b"u"}
    for watched in (read_fd, event_fd, receiver):
        loop.remove_reader(watched)
    receiver.close()
    for fd in (read_fd, write_fd, event_fd):
        os.close(fd)


async def test_callbacks_run_in_the_context_of_the_call(loop, pair):
    near, far = pair
    variable = contextvars.ContextVar("variable")
    seen = []
    variable.set("at add_reader")
    loop.add_reader(near, lambda: seen.append((near.recv(10), variable.get())))
    variable.set("later")
    far.send(b"x")
    await io_barrier(loop)
    assert seen == [(b"x", "at add_reader")]
    loop.remove_reader(near)


async def test_descriptor_of_a_transport_is_refused(loop, pair):
    near, _ = pair
    transport, protocol = await connect_recorder(loop, near)
    for call in (loop.add_reader, loop.add_writer):
        with pytest.raises(RuntimeError, match=r"^File descriptor .* is used by transport <.*>$"):
            call(near, print)
        with pytest.raises(RuntimeError, match=f"^File descriptor {near.fileno()} is used by"):
            call(near.fileno(), print)
    for call in (loop.remove_reader, loop.remove_writer):
        with pytest.raises(RuntimeError, match=r"^File descriptor .* is used by transport <.*>$"):
            call(near)
    transport.close()
    await protocol.happened("connection_lost")


def test_watch_set_before_the_run_and_between_runs_holds(loop, pair):
    near, far = pair
    ran = []
    loop.add_reader(near, lambda: (ran.append(near.recv(10)), loop.stop()))
    far.send(b"one")
    loop.run_forever()
    far.send(b"two")
    loop.run_forever()
    assert ran == [b"one", b"two"]
    assert loop.remove_reader(near) is True


def test_closed_loop_refuses_to_watch_and_removes_nothing(loop, pair):
    near, _ = pair
    loop.add_reader(near, print)
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.add_reader(near, print)
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.add_writer(near, print)
    assert loop.remove_reader(near) is False
    assert loop.remove_writer(near) is False


def test_close_of_the_loop_leaves_the_descriptor_open(loop, pair):
    near, far = pair
    loop.add_reader(near, print)
    loop.close()
    far.send(b"alive")
    assert near.recv(10) == b"alive"


def test_removal_after_stop_in_the_same_turn_holds(loop, pair):
    near, _ = pair
    ran = []

    def write():
        ran.append(1)
        loop.stop()
        loop.call_soon(loop.remove_writer, near)

    loop.add_writer(near, write)
    loop.run_forever()
    run_ready(loop)
    ran.clear()
    run_ready(loop)
    run_ready(loop)
    assert ran == []


async def test_reader_added_and_removed_many_times_leaves_nothing_behind(loop, pair):
    near, far = pair
    ran = []
    for number in range(1000):
        loop.add_reader(near, ran.append, number)
        if number % 3 == 0:
            assert loop.remove_reader(near) is True
    far.send(b"x")
    await turns(1)
    assert loop.remove_reader(near) is False
    await io_barrier(loop)
    assert ran == []
