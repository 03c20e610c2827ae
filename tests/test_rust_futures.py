"""Rust futures as coroutines (crates/antiphon-pyo3): results, delegation, cancellation, contexts, threads, protocol.

The module under test is the example extension, which `scripts/build-extension.sh` builds.
"""

import asyncio
import collections.abc
import contextvars
import gc
import inspect
import socket
import types
import warnings
import weakref

import pytest

rust = pytest.importorskip(
    "rust_futures", reason="scripts/build-extension.sh has not built it here"
)


async def give(value, turns=1):
    """Returns `value` after some turns of the loop."""
    for _ in range(turns):
        await asyncio.sleep(0)
    return value


async def raises(error):
    await asyncio.sleep(0)
    raise error


async def refuse(awaitable, error):
    """Awaits what has to raise `error`; gives the exception."""
    with pytest.raises(error) as caught:
        await awaitable
    return caught.value


async def settled(task):
    """Lets `task` run to where it waits."""
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()


async def test_awaited_directly_and_as_a_task(loop):
    assert await rust.double(4, 0) == 8
    task = asyncio.create_task(rust.double(5, 0.001), name="doubles")
    assert await task == 10
    assert await asyncio.wait_for(rust.double(6, 0.001), 10) == 12


async def test_many_at_once(loop):
    assert await asyncio.gather(*(rust.double(n, 0) for n in range(100))) == [
        2 * n for n in range(100)
    ]


async def test_python_awaitables_inside(loop):
    values = iter([3, 4])
    assert await rust.twice(lambda: give(next(values))) == 7
    future = loop.create_future()
    loop.call_soon(future.set_result, "of a future")
    assert await rust.pass_through(future) == "of a future"
    assert await rust.pass_through(rust.pass_through(give("nested"))) == "nested"
    assert await rust.in_a_task(1) == 2


async def test_generator_based_coroutine_and_bare_yields(loop):
    @types.coroutine
    def old(turns):
        for _ in range(turns):
            yield
        return turns

    assert await rust.pass_through(old(3)) == 3


async def test_exceptions_come_out_and_what_is_no_awaitable_is_told(loop):
    error = ValueError("on purpose")
    assert await refuse(rust.pass_through(raises(error)), ValueError) is error
    told = await refuse(rust.pass_through(1), TypeError)
    assert str(told) == "object int can't be used in 'await' expression"
    told = await refuse(rust.twice(lambda: give("no number")), TypeError)
    assert "str" in str(told)


async def test_two_at_once_and_many_as_they_end(loop):
    assert await rust.both(give(1, 5), give(2)) == (1, 2)
    assert await rust.as_they_end([give(3, 9), give(1, 2), give(2, 5)]) == [1, 2, 3]
    same = loop.create_future()
    loop.call_soon(same.set_result, 7)
    assert await rust.both(same, same) == (7, 7)


async def test_first_wins_and_the_other_one_is_closed(loop):
    closed = []

    async def loser():
        try:
            await asyncio.sleep(3600)
        finally:
            closed.append(True)

    assert await rust.first(give("winner", 3), loser()) == "winner"
    assert closed == [True]


async def test_cancellation_reaches_the_python_awaitable_inside(loop):
    log = []

    async def inner():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError as error:
            log.append(error.args)
            await asyncio.sleep(0)  # clean-up may await
            log.append("cleaned up")
            raise

    task = asyncio.create_task(rust.pass_through(inner()))
    await settled(task)
    task.cancel("enough")
    await refuse(task, asyncio.CancelledError)
    assert log == [("enough",), "cleaned up"]
    assert task.cancelled()


async def test_cancellation_that_python_swallows_is_swallowed(loop):
    async def stubborn():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return "still here"

    task = asyncio.create_task(rust.pass_through(stubborn()))
    await settled(task)
    task.cancel()
    assert await task == "still here"


async def test_cancelled_task_cancels_the_future_that_it_waits_for(loop):
    future, other = loop.create_future(), loop.create_future()
    task = asyncio.create_task(rust.pass_through(future))
    await settled(task)
    task.cancel()
    await refuse(task, asyncio.CancelledError)
    assert future.cancelled()

    # The same when several are waited for: the first hears of it.
    future = loop.create_future()
    task = asyncio.create_task(rust.both(future, other))
    await settled(task)
    task.cancel()
    await settled(task)
    assert future.cancelled() and not other.done()
    other.set_result(None)
    await refuse(task, asyncio.CancelledError)


async def test_future_that_nobody_of_pythons_wakes_is_cancelled_at_its_edge(loop):
    dropped = []
    task = asyncio.create_task(rust.forever(lambda: dropped.append(True)))
    await settled(task)
    task.cancel()
    await refuse(task, asyncio.CancelledError)
    assert dropped == [True]


async def test_cancellation_can_be_handled_in_rust_and_the_clean_up_awaits(loop):
    log = []

    async def clean_up(error):
        await asyncio.sleep(0)
        log.append(type(error))

    task = asyncio.create_task(rust.forever_cleanly(clean_up))
    await settled(task)
    task.cancel()
    await refuse(task, asyncio.CancelledError)
    assert log == [asyncio.CancelledError]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await rust.forever_cleanly(clean_up)


async def test_one_context(loop):
    variable = contextvars.ContextVar("variable", default="default")
    variable.set("python")
    assert await rust.context_of(variable) == ("python", "python")
    assert variable.get() == "rust"  # awaited: the same context
    variable.set("parent")
    assert await asyncio.create_task(rust.context_of(variable)) == ("parent", "parent")
    assert variable.get() == "parent"  # a task of its own: a copy


async def test_other_threads_wake_it_on_the_loops_thread(loop):
    import threading

    threads = set()
    assert await rust.sum_from_thread(500, lambda n: threads.add(threading.get_ident())) == 124750
    assert threads == {threading.get_ident()}


async def test_several_are_woken_by_threads_while_the_loop_goes_on(loop):
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    sums = await asyncio.gather(*(rust.sum_from_thread(100, lambda n: None) for _ in range(4)))
    ticking.cancel()
    assert sums == [4950] * 4 and ticks > 0


async def test_wakes_in_its_own_step_let_the_others_run(loop):
    order = []

    async def other():
        for n in range(3):
            order.append(n)
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await rust.give_way(3)
    assert order == [0, 1, 2]
    await task


async def test_panic_is_an_exception_of_its_own(loop, capfd):
    assert await rust.positive(1) == 1
    try:
        await rust.positive(-1)
    except BaseException as error:
        assert type(error).__name__ == "PanicException" and str(error) == "on purpose"
    else:
        pytest.fail("nothing raised")
    assert "on purpose" in capfd.readouterr().err


def drive(coroutine):
    """Steps a coroutine that never waits; gives what it returns and how often it yielded."""
    yields = 0
    while True:
        try:
            assert coroutine.send(None) is None
        except StopIteration as stop:
            return stop.value, yields
        yields += 1


def test_it_is_a_coroutine_to_everybody():
    coroutine = rust.give_way(2)
    assert isinstance(coroutine, collections.abc.Coroutine) and inspect.isawaitable(coroutine)
    assert asyncio.iscoroutine(coroutine)
    assert coroutine.__name__ == coroutine.__qualname__ == "give_way"
    assert repr(coroutine).startswith("<coroutine object give_way at 0x")
    assert not coroutine.cr_running
    assert drive(coroutine) == (None, 2)


def test_protocol_is_that_of_pythons_coroutines():
    coroutine = rust.give_way(2)
    with pytest.raises(TypeError, match="can't send non-None value to a just-started coroutine"):
        coroutine.send(1)
    assert drive(coroutine) == (None, 2)
    for step in (lambda: coroutine.send(None), lambda: coroutine.throw(ValueError)):
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            step()
    assert coroutine.close() is None


def test_thrown_exceptions_in_every_form():
    for arguments in [
        (ValueError("no"),),
        (ValueError,),
        (ValueError, "no"),
        (ValueError, ("no",), None),
    ]:
        coroutine = rust.give_way(2)
        coroutine.send(None)
        with pytest.raises(ValueError, match="no" if len(arguments) > 1 else ""):
            coroutine.throw(*arguments)
    coroutine = rust.give_way(2)
    with pytest.raises(ValueError):  # before it begins
        coroutine.throw(ValueError())
    with pytest.raises(RuntimeError):
        coroutine.send(None)
    coroutine = rust.give_way(1)
    coroutine.send(None)
    with pytest.raises(TypeError, match="instance exception may not have a separate value"):
        coroutine.throw(ValueError("no"), "value")
    for wrong in (1, int):
        with pytest.raises(
            TypeError, match="exceptions must be classes or instances deriving from"
        ):
            coroutine.throw(wrong)
    assert drive(coroutine) == (None, 0)  # not finished by that


async def test_closed_in_the_middle_it_drops_what_it_holds(loop):
    dropped, closed = [], []
    coroutine = rust.forever(lambda: dropped.append(True))
    assert asyncio.isfuture(coroutine.send(None))
    coroutine.close()
    assert dropped == [True]

    @types.coroutine
    def inner():
        try:
            yield
        finally:
            closed.append(True)

    coroutine = rust.pass_through(inner())
    assert coroutine.send(None) is None
    coroutine.close()
    assert closed == [True]
    with pytest.raises(RuntimeError, match="cannot reuse"):
        coroutine.send(None)


def far_end(made):
    """Our end of a Rust future's connection, and the future."""
    descriptor, coroutine = made
    end = socket.socket(fileno=descriptor)
    end.setblocking(False)
    return end, coroutine


async def receive(loop, end, count):
    received = b""
    while len(received) < count:
        piece = await loop.sock_recv(end, 1 << 20)
        assert piece, "the connection has ended"
        received += piece
    return received


async def test_socket_inside_waits_on_the_running_loop(loop):
    end, coroutine = far_end(rust.shout())
    with end:
        task = asyncio.create_task(coroutine)
        for word in (b"never", b"louder"):
            await settled(task)
            await loop.sock_sendall(end, word)
            assert await receive(loop, end, len(word)) == word.upper()
        end.shutdown(socket.SHUT_WR)
        assert await task == 11
        assert await loop.sock_recv(end, 1) == b"", "the other end is closed"


async def test_socket_inside_waits_for_room_as_well(loop):
    end, coroutine = far_end(rust.shout())
    with end:
        task = asyncio.create_task(coroutine)
        said = bytes(range(97, 123)) * 60_000  # more than both directions hold
        sending = asyncio.create_task(loop.sock_sendall(end, said))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not sending.done(), "nobody has read yet"
        assert await receive(loop, end, len(said)) == said.upper()
        await sending
        end.shutdown(socket.SHUT_WR)
        assert await task == len(said)


async def test_many_sockets_inside_at_once(loop):
    made = [far_end(rust.shout()) for _ in range(50)]
    tasks = [asyncio.create_task(coroutine) for _, coroutine in made]
    for number, (end, _) in enumerate(made):
        end.send(b"no %d" % number)
    for number, (end, _) in enumerate(made):
        heard = b"NO %d" % number
        assert await receive(loop, end, len(heard)) == heard
        end.close()
    assert sum(await asyncio.gather(*tasks)) == sum(len(f"no {number}") for number in range(50))


async def test_cancelled_wait_for_a_socket_leaves_nothing_behind(loop):
    end, coroutine = far_end(rust.shout())
    with end:
        task = asyncio.create_task(coroutine)
        await settled(task)
        task.cancel("enough")
        await refuse(task, asyncio.CancelledError)
        del coroutine, task
        gc.collect()
        assert await loop.sock_recv(end, 1) == b"", "the other end is closed"
    # Its number is free: the next one that has it is told of its own events alone.
    await test_socket_inside_waits_on_the_running_loop(loop)


async def test_closed_coroutine_that_waits_for_a_socket_is_not_called_again(loop):
    end, coroutine = far_end(rust.shout())
    with end:
        future = coroutine.send(None)
        assert asyncio.isfuture(future)
        coroutine.close()
        for _ in range(3):
            await asyncio.sleep(0)
        assert not future.done()
        assert await loop.sock_recv(end, 1) == b""


async def test_second_one_who_waits_for_a_direction_is_told(loop):
    end, coroutine = far_end(rust.read_twice())
    with end:
        task = asyncio.create_task(coroutine)
        await settled(task)
        end.send(b"x")
        told = "RuntimeError: another future waits for this direction of the descriptor already"
        assert await task == told


def test_loop_may_be_closed_while_a_socket_inside_waits(loop_factory):
    loop = loop_factory()
    end, coroutine = far_end(rust.shout())
    with end:
        task = loop.create_task(coroutine)
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
        task._log_destroy_pending = False
        loop.close()
        coroutine.close()
        assert end.recv(1) == b"", "the other end is closed"


def test_socket_outside_of_a_loop_is_an_error():
    end, coroutine = far_end(rust.shout())
    with end, pytest.raises(RuntimeError, match="no running event loop"):
        coroutine.send(None)


def test_stepped_from_its_own_step_it_refuses():
    seen = []

    async def meddle():
        seen.append(coroutine.cr_running)
        for call in (lambda: coroutine.send(None), coroutine.close):
            with pytest.raises(ValueError, match="coroutine already executing"):
                call()

    coroutine = rust.pass_through(meddle())
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert seen == [True]


def test_stop_iteration_from_inside_is_an_error():
    def stop():
        raise StopIteration("inside")

    with pytest.raises(RuntimeError, match="coroutine raised StopIteration") as caught:
        rust.twice(stop).send(None)
    assert isinstance(caught.value.__cause__, StopIteration)


def test_awaitable_outside_of_a_coroutine_is_an_error():
    inner = give(1)
    with pytest.raises(RuntimeError, match="outside of a coroutine"):
        rust.poll_outside(inner)
    inner.close()


def test_never_awaited_is_told():
    with pytest.warns(RuntimeWarning, match="coroutine 'give_way' was never awaited"):
        rust.give_way(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rust.give_way(1).close()


def test_task_that_nobody_can_wake_goes_with_its_loop(loop_factory):
    loop = loop_factory()
    task = loop.create_task(rust.forever(lambda: None))
    loop.run_until_complete(asyncio.sleep(0))
    watched = weakref.ref(task)
    task.cancel()  # so that it does not complain
    loop.run_until_complete(asyncio.wait([task]))
    loop.close()
    del task
    gc.collect()
    assert watched() is None
