"""What the loop does with an exception that nobody awaits.

Every fault (a raising callback, a protocol method, a future dropped with its exception) arrives at
`call_exception_handler` as one context dictionary with asyncio's keys. Invariant: no fault in a
handler stops the loop; only `KeyboardInterrupt` and `SystemExit` pass through.

    loop.set_exception_handler(lambda loop, context: print(context["message"]))

Source: Lib/asyncio/base_events.py, "Error Handling API" of the asyncio documentation.
"""

import asyncio
import sys
import traceback
from asyncio.log import logger
from collections.abc import Callable
from typing import Any

from antiphon._antiphon import LoopBase

__all__ = ["ExceptionHandler", "Faults"]

ExceptionHandler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]

# From 3.12 on a handler sees the context variables of the task, future or handle that failed.
_RUNS_IN_CONTEXT_OF_FAULT = sys.version_info >= (3, 12)


class Faults(LoopBase):
    """The part of the loop that reports faults."""

    __slots__ = ()

    _exception_handler: ExceptionHandler | None = None

    def get_exception_handler(self) -> ExceptionHandler | None:
        """Returns the handler set by the program, or None while the default one is in use."""
        return self._exception_handler

    def set_exception_handler(self, handler: ExceptionHandler | None) -> None:
        """Makes `handler` the receiver of all faults of this loop.

        Args:
            handler: called as `handler(loop, context)`; None brings the default one back.

        Raises:
            TypeError: `handler` is neither callable nor None.
        """
        if handler is not None and not callable(handler):
            raise TypeError(f"A callable object or None is expected, got {handler!r}")
        self._exception_handler = handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Logs a fault as one record at level ERROR on the logger `asyncio`.

        Args:
            context: see `call_exception_handler`. In debug mode the key `handle_traceback` is added
                to it when the running handle knows where it was created.
        """
        exception = context.get("exception")
        # The handle that runs just now, which the native half knows in debug mode only.
        handle = getattr(self, "_current_handle", None)
        if "source_traceback" not in context and handle is not None:
            created_at = getattr(handle, "_source_traceback", None)
            if created_at:
                context["handle_traceback"] = created_at

        lines = [context.get("message") or "Unhandled exception in event loop"]
        lines += [
            f"{key}: {_describe(key, context[key])}"
            for key in sorted(context)
            if key not in ("message", "exception")
        ]
        logger.error(
            "\n".join(lines),
            exc_info=False
            if exception is None
            else (type(exception), exception, exception.__traceback__),
        )

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Hands a fault to the handler of the program, or to the default one.

        Args:
            context: `message` says what happened; `exception`, `future`, `task`, `handle`,
                `protocol`, `transport`, `socket`, `asyncgen`, `source_traceback` and
                `handle_traceback` are there when they apply.

        Raises:
            KeyboardInterrupt: raised by the handler.
            SystemExit: raised by the handler. Anything else that a handler raises is logged.
        """
        handler = self._exception_handler
        if handler is None:
            self._call_default_handler(context, "Exception in default exception handler")
            return
        try:
            run = _context_runner(context) if _RUNS_IN_CONTEXT_OF_FAULT else None
            if run is None:
                handler(self, context)
            else:
                run(handler, self, context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._call_default_handler(
                {
                    "message": "Unhandled error in exception handler",
                    "exception": error,
                    "context": context,
                },
                "Exception in default exception handler while handling an unexpected error "
                "in custom exception handler",
            )

    def _call_default_handler(self, context: dict[str, Any], when_it_fails: str) -> None:
        """Calls the default handler, which a subclass may have replaced by one that raises."""
        try:
            self.default_exception_handler(context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            logger.error(when_it_fails, exc_info=True)


def _describe(key: str, value: Any) -> str:
    """Returns the text of one context entry: a stack for tracebacks, else its repr."""
    if key == "source_traceback":
        title = "Object"
    elif key == "handle_traceback":
        title = "Handle"
    else:
        return repr(value)
    stack = "".join(traceback.format_list(value)).rstrip()
    return f"{title} created at (most recent call last):\n{stack}"


def _context_runner(context: dict[str, Any]) -> Callable[..., object] | None:
    """Returns `run` of the context variables that belong to the fault, or None.

    The first of task, future and handle decides; a future that is not a task has no context.
    """
    culprit = next(
        (context[key] for key in ("task", "future", "handle") if context.get(key) is not None), None
    )
    get_context = getattr(culprit, "get_context", None)
    return None if get_context is None else getattr(get_context(), "run", None)
