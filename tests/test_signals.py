"""Signals: handlers on the loop, Python's own handlers beside it, and Ctrl-C as a runner treats it."""

import asyncio
import ctypes
import os
import signal
import threading

import pytest

from support.children import Child
from support.loops import run_ready
from support.threads import wait_until_polling

USER_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)


@pytest.fixture(autouse=True)
def dispositions():
    """Puts back what a failing test may leave installed."""
    before = {number: signal.getsignal(number) for number in (*USER_SIGNALS, signal.SIGCHLD)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    assert signal.set_wakeup_fd(-1) == -1


def send(number):
    os.kill(os.getpid(), number)


def send_when_asleep(number):
    """Starts a thread that sends the signal once this thread sleeps in its loop."""
    sleeper = threading.get_native_id()
    thread = threading.Thread(target=lambda: (wait_until_polling(sleeper), send(number)))
    thread.start()
    return thread


async def test_handler_runs_in_the_loop_with_its_arguments(loop):
    got = loop.create_future()

    def handler(*args):
        got.set_result((args, asyncio.get_running_loop(), threading.current_thread()))

    loop.add_signal_handler(signal.SIGUSR1, handler, 1, "two")
    send(signal.SIGUSR1)
    args, running, thread = await got
    assert args == (1, "two")
    assert running is loop
    assert thread is threading.main_thread()
    assert loop.remove_signal_handler(signal.SIGUSR1) is True


def test_signal_wakes_a_sleeping_loop(loop):
    ran = []
    loop.add_signal_handler(signal.SIGUSR1, lambda: (ran.append(1), loop.stop()))
    thread = send_when_asleep(signal.SIGUSR1)
    loop.run_forever()
    thread.join(5)
    assert ran == [1]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_signal_sent_before_the_run_is_handled_by_it(loop):
    ran = []
    loop.add_signal_handler(signal.SIGUSR1, lambda: (ran.append(1), loop.stop()))
    send(signal.SIGUSR1)
    loop.run_forever()
    assert ran == [1]
    loop.remove_signal_handler(signal.SIGUSR1)


async def test_different_signals_reach_their_own_handlers(loop):
    ran = []
    both = loop.create_future()

    def handler(number):
        ran.append(number)
        if len(ran) == 2:
            both.set_result(None)

    for number in USER_SIGNALS:
        loop.add_signal_handler(number, handler, number)
    for number in USER_SIGNALS:
        send(number)
    await both
    assert sorted(ran) == sorted(USER_SIGNALS)
    for number in USER_SIGNALS:
        assert loop.remove_signal_handler(number)


async def test_every_signal_of_a_series_is_handled(loop):
    for _ in range(50):
        got = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, got.set_result, None)
        send(signal.SIGUSR1)
        await got
    loop.remove_signal_handler(signal.SIGUSR1)


# asyncio's pipe is a socket pair, full after a few hundred signals; the rest is lost, and said so.
@pytest.mark.loops("antiphon")
async def test_thousands_of_signals_while_the_loop_is_busy_keep_their_order(loop):
    ran = []
    for number in USER_SIGNALS:
        loop.add_signal_handler(number, ran.append, number)
    sent = [USER_SIGNALS[step % 3 == 0] for step in range(5000)]
    for number in sent:
        send(number)  # delivered before it returns: one pending signal at a time is not coalesced
    assert ran == []
    while len(ran) < len(sent):
        await asyncio.sleep(0)
    assert ran == sent
    for number in USER_SIGNALS:
        loop.remove_signal_handler(number)


@pytest.mark.loops("antiphon")  # as above
@pytest.mark.slow
async def test_signal_that_finds_the_pipe_full_is_handled_after_the_others(loop, audit):
    ran = []
    for number in USER_SIGNALS:
        loop.add_signal_handler(number, ran.append, number)
    often, rare = USER_SIGNALS
    for _ in range(70_000):  # more than a pipe takes
        send(often)
    send(rare)
    while rare not in ran:
        await asyncio.sleep(0)
    assert ran == [often] * (len(ran) - 1) + [rare]
    # Of the next ones nothing is left over.
    ran.clear()
    send(often)
    while not ran:
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert ran == [often]
    # The interpreter says that the pipe was full.
    full = [text for text in audit.unraisable if "BlockingIOError" in text]
    assert full and full == audit.unraisable
    audit.unraisable.clear()
    for number in USER_SIGNALS:
        loop.remove_signal_handler(number)


async def test_second_handler_replaces_the_first(loop):
    ran = []
    got = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, ran.append, "first")
    loop.add_signal_handler(signal.SIGUSR1, got.set_result, "second")
    send(signal.SIGUSR1)
    assert await got == "second"
    assert ran == []
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False


def test_removal_restores_the_default(loop):
    for number, default in (
        (signal.SIGUSR1, signal.SIG_DFL),
        (signal.SIGINT, signal.default_int_handler),
    ):
        loop.add_signal_handler(number, print)
        assert signal.getsignal(number) not in (default, print)
        assert loop.remove_signal_handler(number) is True
        assert signal.getsignal(number) is default


def test_removal_of_what_was_never_added_says_false(loop):
    assert loop.remove_signal_handler(signal.SIGUSR1) is False


def test_close_removes_the_handlers(loop):
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGUSR2, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1


def test_raising_handler_is_reported_and_the_loop_goes_on(loop, faults):
    ran = []
    loop.add_signal_handler(signal.SIGUSR1, lambda: 1 / 0)
    loop.add_signal_handler(signal.SIGUSR2, lambda: (ran.append(1), loop.stop()))
    send(signal.SIGUSR1)
    send(signal.SIGUSR2)
    loop.run_forever()
    if not faults:
        run_ready(loop)
    assert isinstance(faults[0]["exception"], ZeroDivisionError)
    assert ran == [1]
    for number in USER_SIGNALS:
        loop.remove_signal_handler(number)


def test_exit_exception_of_a_handler_leaves_the_run(loop):
    def leave():
        raise SystemExit("signalled")

    loop.add_signal_handler(signal.SIGUSR1, leave)
    send(signal.SIGUSR1)
    with pytest.raises(SystemExit, match="^signalled$"):
        loop.run_forever()
    loop.remove_signal_handler(signal.SIGUSR1)


@pytest.mark.parametrize("number", [0, -1, 1000])
def test_invalid_signal_number_is_refused(loop, number):
    with pytest.raises(ValueError, match=f"^invalid signal number {number}$"):
        loop.add_signal_handler(number, print)
    with pytest.raises(ValueError, match=f"^invalid signal number {number}$"):
        loop.remove_signal_handler(number)


@pytest.mark.parametrize("bad", ["SIGUSR1", 10.0, None])
def test_signal_must_be_an_integer(loop, bad):
    with pytest.raises(TypeError, match="^sig must be an int, not "):
        loop.add_signal_handler(bad, print)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_uncatchable_signal_is_refused(loop, number):
    with pytest.raises(RuntimeError, match=f"^sig {int(number)} cannot be caught$"):
        loop.add_signal_handler(number, print)
    assert signal.set_wakeup_fd(-1) == -1


def test_coroutines_are_refused(loop):
    async def coroutine():
        pass

    instance = coroutine()
    for bad in (coroutine, instance):
        with pytest.raises(
            TypeError, match=r"^coroutines cannot be used with add_signal_handler\(\)$"
        ):
            loop.add_signal_handler(signal.SIGUSR1, bad)
    instance.close()


def test_other_threads_are_refused(loop):
    errors = []

    def enter():
        try:
            loop.add_signal_handler(signal.SIGUSR1, print)
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(5)
    assert len(errors) == 1 and "main thread" in errors[0]
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_closed_loop_refuses(loop):
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.add_signal_handler(signal.SIGUSR1, print)


def test_child_exit_signal_can_be_handled(loop):
    ran = []
    loop.add_signal_handler(signal.SIGCHLD, lambda: (ran.append(1), loop.stop()))
    child = os.fork()
    if child == 0:
        os._exit(0)
    loop.run_forever()
    os.waitpid(child, 0)
    assert ran == [1]
    loop.remove_signal_handler(signal.SIGCHLD)


@pytest.mark.real_driver("the sleep must end by a signal")
def test_pythons_own_handler_runs_while_the_loop_sleeps(loop):
    frames = []

    def handler(number, frame):
        frames.append(number)
        loop.call_soon_threadsafe(loop.stop)

    signal.signal(signal.SIGUSR1, handler)
    thread = send_when_asleep(signal.SIGUSR1)
    loop.run_forever()
    thread.join(5)
    assert frames == [signal.SIGUSR1]


@pytest.mark.real_driver("the sleep must end by a signal")
def test_exception_of_pythons_own_handler_leaves_the_sleeping_loop(loop):
    class Alarm(Exception):
        pass

    def handler(number, frame):
        raise Alarm

    signal.signal(signal.SIGUSR1, handler)
    thread = send_when_asleep(signal.SIGUSR1)
    with pytest.raises(Alarm):
        loop.run_forever()
    thread.join(5)
    assert not loop.is_running()
    run_ready(loop)


RUNNER = """
    async def main():
        try:
            report(ready=True)
            await asyncio.Event().wait()
        finally:
            report(cleaned_up=True)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
"""


def test_ctrl_c_cancels_the_main_task_and_ends_the_program(loop_name):
    with Child(loop_name, RUNNER) as child:
        assert child.report() == {"ready": True}
        child.process.send_signal(signal.SIGINT)
        assert child.report() == {"cleaned_up": True}
        result = child.finish()
    assert result.returncode == -signal.SIGINT
    assert result.stderr.rstrip().endswith("KeyboardInterrupt")


def test_ctrl_c_reaches_a_task_that_never_awaits_at_its_next_await(loop_name):
    source = """
        async def main():
            report(ready=True)
            while not interrupted:
                pass
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                report(cancelled=True)
                raise

        interrupted = []
        on_sigint = asyncio.Runner._on_sigint

        class Runner(asyncio.Runner):
            def _on_sigint(self, *args, **kwargs):
                interrupted.append(1)
                return on_sigint(self, *args, **kwargs)

        with Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
    """
    with Child(loop_name, source) as child:
        assert child.report() == {"ready": True}
        child.process.send_signal(signal.SIGINT)
        assert child.report() == {"cancelled": True}
        assert child.finish().returncode == -signal.SIGINT


def test_second_ctrl_c_interrupts_a_main_task_that_ignores_the_first(loop_name):
    source = """
        async def main():
            report(ready=True)
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    report(ignored=True)

        try:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(main())
        except KeyboardInterrupt:
            report(interrupted=True)
            os._exit(0)
    """
    with Child(loop_name, source) as child:
        assert child.report() == {"ready": True}
        child.process.send_signal(signal.SIGINT)
        assert child.report() == {"ignored": True}
        child.process.send_signal(signal.SIGINT)
        # Closing the runner cancels the task once more.
        while (fact := child.report()) == {"ignored": True}:
            child.process.send_signal(signal.SIGINT)
        assert fact == {"interrupted": True}
        assert child.finish().returncode == 0


def test_ctrl_c_leaves_a_bare_run_forever(loop_name):
    source = """
        loop = new_event_loop()
        loop.call_soon(report)
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            report(interrupted=True, running=loop.is_running())
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    """
    with Child(loop_name, source) as child:
        child.report()
        child.process.send_signal(signal.SIGINT)
        assert child.report() == {"interrupted": True, "running": False}
        assert child.finish().returncode == 0


def test_terminate_handled_by_the_loop_ends_the_program_in_order(loop_name):
    source = """
        async def main():
            stop = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
            report(ready=True)
            await stop.wait()
            report(stopped=True)

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
    """
    with Child(loop_name, source) as child:
        assert child.report() == {"ready": True}
        child.process.send_signal(signal.SIGTERM)
        assert child.report() == {"stopped": True}
        assert child.finish().returncode == 0


@pytest.mark.parametrize("delay", [None, 0.0])
async def test_what_a_handler_queues_as_the_loop_falls_asleep_runs(loop, delay):
    """The signal is pending when the loop has looked at its queue and is about to wait."""
    woken = loop.create_future()

    def wake(*_):
        if delay is None:
            woken.set_result(None)
        else:
            loop.call_later(delay, woken.set_result, None)

    signal.signal(signal.SIGUSR1, wake)
    # The C function itself as the callback: no Python code runs in between, which would run the handler.
    loop.call_soon(getattr(ctypes.PyDLL(None), "raise"), int(signal.SIGUSR1))
    async with asyncio.timeout(15) as limit:
        await woken
    assert loop.time() < limit.when()  # it is not the limit's timer that has woken the loop
