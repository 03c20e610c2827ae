"""Bad input: wrong descriptors, closed loops, wrong kinds of arguments get asyncio's own errors.

The paragraph "Bad input and faults" of the loop's specification, sentence by sentence, but for the
faults of the program's own code (`test_faults`). What is said of one call alone stands with that
call's tests.
"""

import asyncio
import gc
import os
import socket
import tempfile
import threading

import pytest

from support.loops import run_ready
from support.net import BufferedRecorder, Recorder, connect_recorder, io_barrier, stream_pair

CLOSED = "^Event loop is closed$"


# Descriptors that are closed, negative or not pollable: asyncio's own error.


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
class TestBadDescriptors:
    def test_negative_number(self, loop, method):
        with pytest.raises(ValueError, match="^Invalid file descriptor: -1$"):
            getattr(loop, method)(-1, print)

    def test_closed_number(self, loop, method):
        fd = os.dup(0)
        os.close(fd)
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            getattr(loop, method)(fd, print)
        assert caught.value.errno == 9

    def test_number_that_was_never_open(self, loop, method):
        with pytest.raises(OSError, match="Bad file descriptor"):
            getattr(loop, method)(1 << 20, print)

    def test_closed_socket(self, loop, method):
        sock = socket.socket()
        sock.close()
        with pytest.raises(ValueError, match="^Invalid file descriptor: -1$"):
            getattr(loop, method)(sock, print)

    def test_regular_file(self, loop, method):
        with tempfile.TemporaryFile() as file, pytest.raises(PermissionError):
            getattr(loop, method)(file, print)

    @pytest.mark.parametrize(
        "bad", [None, "1", 1.0, pytest.param(object(), id="object"), []], ids=repr
    )
    def test_what_is_no_descriptor(self, loop, method, bad):
        with pytest.raises(ValueError, match="^Invalid file object: "):
            getattr(loop, method)(bad, print)

    def test_object_whose_fileno_raises(self, loop, method):
        class Broken:
            def fileno(self):
                raise ValueError("detached")

        with pytest.raises(ValueError, match="^Invalid file object: "):
            getattr(loop, method)(Broken(), print)

    def test_number_too_large_for_the_kernel(self, loop, method):
        with pytest.raises((OverflowError, OSError, ValueError)):
            getattr(loop, method)(1 << 40, print)

    def test_failure_leaves_no_watch_behind(self, loop, method):
        removal = method.replace("add", "remove")
        with tempfile.TemporaryFile() as file:
            with pytest.raises(PermissionError):
                getattr(loop, method)(file, print)
            assert getattr(loop, removal)(file) is False


@pytest.mark.parametrize("method", ["remove_reader", "remove_writer"])
def test_removal_by_a_bad_descriptor_is_false_or_asyncios_error(loop, method):
    fd = os.dup(0)
    os.close(fd)
    assert getattr(loop, method)(fd) is False
    with pytest.raises(ValueError, match="^Invalid file object: "):
        getattr(loop, method)("no descriptor")


@pytest.mark.parametrize("factory", [Recorder, BufferedRecorder])
async def test_descriptor_closed_under_a_transport_hurts_that_connection_alone(
    loop, faults, factory
):
    near, far = stream_pair()
    transport, protocol = await connect_recorder(loop, near, factory)
    transport.pause_reading()
    placeholder = near.detach()
    os.close(placeholder)
    transport.write(b"into nothing")
    await protocol.happened("connection_lost")
    assert isinstance(protocol.lost_with, OSError)
    far.close()
    await io_barrier(loop)


# Using a closed loop: asyncio's own error and words.


@pytest.mark.parametrize(
    "use",
    [
        lambda loop: loop.call_soon(print),
        lambda loop: loop.call_soon_threadsafe(print),
        lambda loop: loop.call_later(1, print),
        lambda loop: loop.call_at(1, print),
        lambda loop: loop.run_forever(),
        lambda loop: loop.run_in_executor(None, print),
        lambda loop: loop.add_reader(0, print),
        lambda loop: loop.add_writer(0, print),
    ],
    ids=[
        "call_soon",
        "call_soon_threadsafe",
        "call_later",
        "call_at",
        "run_forever",
        "run_in_executor",
        "add_reader",
        "add_writer",
    ],
)
def test_closed_loop_refuses(loop, use):
    loop.close()
    with pytest.raises(RuntimeError, match=CLOSED):
        use(loop)


def test_closed_loop_still_answers_questions(loop):
    loop.close()
    assert loop.is_closed() and not loop.is_running()
    assert loop.get_debug() is False
    assert isinstance(loop.time(), float)
    assert "closed=True" in repr(loop)
    assert loop.get_exception_handler() is None
    assert loop.get_task_factory() is None
    loop.stop()
    loop.create_future().cancel()


def test_transport_whose_loop_was_closed_can_be_dropped(loop_factory, audit):
    loop = loop_factory()
    near, far = stream_pair()
    transport, protocol = loop.run_until_complete(connect_recorder(loop, near))
    loop.close()
    del near
    protocol.transport = None
    del transport, protocol
    gc.collect()
    far.close()
    audit.take_warning(ResourceWarning, "unclosed transport")
    audit.drop_warnings(ResourceWarning, "unclosed <socket")


# A coroutine passed to call_soon: asyncio's own error and words (refused in debug mode; otherwise
# the call fails when its turn comes).


def test_coroutine_function_given_to_call_soon_warns_when_its_turn_comes(loop, audit):
    async def coroutine():
        pass

    loop.call_soon(coroutine)
    run_ready(loop)
    gc.collect()
    audit.take_warning(RuntimeWarning, "coroutine .*coroutine' was never awaited")


def test_coroutine_given_to_call_soon_is_reported_when_its_turn_comes(loop, faults):
    async def coroutine():
        pass

    instance = coroutine()
    loop.call_soon(instance)
    run_ready(loop)
    instance.close()
    assert "'coroutine' object is not callable" in str(faults[0]["exception"])


# A loop from a wrong thread in debug mode: test_debug_mode. After fork: test_fork.


def test_loop_survives_misuse_from_many_threads_in_debug_mode(loop):
    loop.set_debug(True)
    loop.slow_callback_duration = 3600
    refusals = []

    def misuse():
        for _ in range(100):
            try:
                loop.call_soon(print)
            except RuntimeError:
                refusals.append(1)

    async def main():
        threads = [threading.Thread(target=misuse) for _ in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            await asyncio.sleep(0)
        for thread in threads:
            thread.join()

    loop.run_until_complete(main())
    assert len(refusals) == 400


# No panic reaches Python: whatever the argument, the answer is an ordinary exception.

NONSENSE = [None, "text", b"bytes", 1.5, -1, 1 << 70, [], {}, object(), float("nan")]


@pytest.mark.parametrize("bad", NONSENSE, ids=lambda bad: type(bad).__name__)
def test_nonsense_as_any_argument_is_an_ordinary_exception(loop, audit, bad):
    calls = [
        lambda: loop.call_at(bad, print),
        lambda: loop.call_later(bad, print),
        lambda: loop.call_soon(print, context=bad) if bad is not None else None,
        lambda: loop.set_exception_handler(bad),
        lambda: loop.set_task_factory(bad),
        lambda: loop.set_default_executor(bad),
        lambda: loop.add_signal_handler(bad, print),
        lambda: loop.remove_signal_handler(bad),
        lambda: loop.remove_reader(bad),
        lambda: loop.run_until_complete(bad),
    ]
    for call in calls:
        try:
            call()
        except Exception as error:
            assert "panic" not in type(error).__name__.lower()
    # asyncio takes some of it and chokes when it runs, so this loop never does.
    loop.close()
    audit.log.records.clear()


@pytest.mark.parametrize("bad", NONSENSE, ids=lambda bad: type(bad).__name__)
async def test_nonsense_given_to_socket_calls_is_an_ordinary_exception(loop, bad):
    near, far = stream_pair()
    far.send(b"x" * 100)
    calls = [
        lambda: loop.sock_recv(bad, 10),
        lambda: loop.sock_recv(near, bad),
        lambda: loop.sock_recv_into(near, bad),
        lambda: loop.sock_sendall(bad, b"x"),
        lambda: loop.sock_sendall(near, bad),
        lambda: loop.sock_sendto(near, bad, bad),
        lambda: loop.sock_accept(bad),
        lambda: loop.sock_connect(bad, ("127.0.0.1", 9)),
        lambda: loop.create_connection(bad, sock=bad),
        lambda: loop.create_server(bad, sock=bad),
        lambda: loop.getnameinfo(bad),
    ]
    for call in calls:
        try:
            async with asyncio.timeout(0.01):
                await call()
        except Exception as error:
            assert "panic" not in type(error).__name__.lower()
    near.close()
    far.close()
    await io_barrier(loop)
