"""A worker that is a thread with a loop of its own: arguments and results are the objects themselves.

Meant for free-threaded interpreters; with the GIL it overlaps waiting and C code that lets go of it, not Python code.
"""

import asyncio
import contextvars
import threading
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from antiphon.loop import Loop
from antiphon.pool import messages
from antiphon.pool.call import AnyCall
from antiphon.pool.carried import adopt
from antiphon.pool.errors import WorkerLost
from antiphon.pool.intake import Intake
from antiphon.pool.link import WorkerLink

if TYPE_CHECKING:
    from antiphon.pool.scheduler import Scheduler

__all__ = ["ThreadLink"]


class ThreadLink(WorkerLink):
    """One worker thread.

    Args:
        initializer, initargs: called in the thread before its first call.
        variables: the context variables that go along with calls.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        scheduler: "Scheduler",
        name: str,
        initializer: Callable[..., Any] | None,
        initargs: tuple[Any, ...],
        variables: list[contextvars.ContextVar[Any]],
    ) -> None:
        super().__init__(loop, scheduler, name)
        self._initializer = initializer
        self._initargs = initargs
        self._variables = variables
        self._outbox: list[tuple[Any, ...]] = []
        self._intake: _ThreadIntake | None = None
        self._failure: BaseException | None = None
        self._started: asyncio.Future[None] = loop.create_future()
        self._over: asyncio.Future[None] = loop.create_future()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def begun(self) -> int:
        return self._intake.begun if self._intake is not None else 0

    async def start(self, timeout: float) -> None:
        self._thread.start()
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._started)
        except TimeoutError:
            raise WorkerLost(f"{self.name} was not ready within {timeout:g} s") from None

    def flush(self) -> None:
        if self._outbox and self._intake is not None:
            outbox, self._outbox = self._outbox, []
            self._intake.hand_over(outbox)

    def stop(self) -> None:
        self.ready = False
        self._outbox.append((messages.STOP,))
        self.flush()

    async def ended(self) -> None:
        await asyncio.shield(self._over)
        self._thread.join()  # it has said its last word

    def kill(self) -> None:
        if self._thread.is_alive() and not self._over.done():
            # A thread cannot be ended from outside; as a daemon it does not keep the process.
            warnings.warn(
                f"{self.name} still computes and was left to itself", RuntimeWarning, stacklevel=2
            )
            self.lost = "was left to itself"
            self.fail_calls(self.begun())
            self._over.set_result(None)

    def _run(self) -> None:
        """The thread."""
        try:
            # Its end cancels the tasks that calls have left behind, and ends generators and threads.
            with asyncio.Runner(loop_factory=Loop) as runner:
                loop = runner.get_loop()
                asyncio.set_event_loop(loop)
                if self._initializer is not None:
                    self._initializer(*self._initargs)
                self._intake = _ThreadIntake(loop, self._loop, self.receive, self._variables)
                self._tell(self.receive, [(messages.READY,)])
                self._run_until_stopped(loop)
        except BaseException as error:
            self._failure = error
        self._tell(self._ended)

    def _run_until_stopped(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                continue  # of a task that a call has left behind
            return

    def _tell(self, callback: Callable[..., Any], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def _become_ready(self) -> None:
        super()._become_ready()
        if not self._started.done():
            self._started.set_result(None)

    def _ended(self) -> None:
        self.ready = False
        self.lost = "ended" if self._failure is None else f"ended by {self._failure!r}"
        self.fail_calls(self.begun())
        if not self._started.done():
            self._started.set_exception(WorkerLost(f"{self.name} {self.lost} before it was ready"))
            self._started.exception()
        if not self._over.done():
            self._over.set_result(None)

    def _transfer(self, number: int, call: AnyCall) -> None:
        self._outbox.append((messages.CALL, number, call.function, call.arguments, call.carried))

    def _ask_cancel(self, number: int, msg: str | None) -> None:
        self._outbox.append((messages.CANCEL, number, msg))
        self.flush()

    def _ask_back(self) -> bool:
        if self._intake is not None:
            self._loop.call_soon(self.give_back, self._intake.give_back(self._sent))
        return True

    def _open(self, parcel: Any) -> Any:
        return parcel

    def _open_error(self, parcel: Any, traceback: str, words: str) -> BaseException:
        assert isinstance(parcel, BaseException)
        return parcel

    def _unreadable(self, what: str, call: AnyCall, error: BaseException) -> BaseException:
        return error


class _ThreadIntake(Intake):
    """Calls that come as objects."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        home: asyncio.AbstractEventLoop,
        deliver: Callable[[list[tuple[Any, ...]]], None],
        variables: list[contextvars.ContextVar[Any]],
    ) -> None:
        super().__init__(loop)
        self._home = home
        self._deliver = deliver
        self._variables = variables
        self._answers: list[tuple[Any, ...]] = []
        self.begun = 0

    def hand_over(self, received: list[tuple[Any, ...]]) -> None:
        """Takes messages from the pool's thread."""
        self._loop.call_soon_threadsafe(self.receive, received)

    def _take(self, message: tuple[Any, ...]) -> tuple[Any, ...]:
        return message

    def _open(
        self, message: tuple[Any, ...], context: contextvars.Context
    ) -> tuple[Callable[..., Any], Iterable[Any]]:
        _, _, function, arguments, carried = message
        if carried is not None:
            adopt(context, self._variables, carried)
        return function, arguments

    def _other(self, message: tuple[Any, ...]) -> None:
        raise AssertionError(f"no message to a thread: {message[0]}")

    def _note_begun(self, number: int) -> None:
        self.begun = number

    def _returned(self, number: int, value: object) -> None:
        self._report((messages.RETURNED, number, value))

    def _raised(self, number: int, error: BaseException) -> None:
        self._report((messages.RAISED, number, error, "", ""))

    def _report(self, message: tuple[Any, ...]) -> None:
        if not self._answers:
            self._loop.call_soon(self._flush)
        self._answers.append(message)

    def _flush(self) -> None:
        if self._answers:
            answers, self._answers = self._answers, []
            try:
                self._home.call_soon_threadsafe(self._deliver, answers)
            except RuntimeError:
                if not self._home.is_closed():
                    raise
