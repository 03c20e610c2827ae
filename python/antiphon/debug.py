"""What native code asks for when it has time: reports of failed and slow callbacks, representations, debug checks.

Nothing here runs on the hot path. Wording follows asyncio's, which tests and log filters read.

Source: CPython Lib/asyncio/format_helpers.py, events.py, base_events.py.
"""

from __future__ import annotations

import functools
import inspect
import reprlib
import sys
import traceback
from asyncio import constants, coroutines, format_helpers
from typing import Any

from antiphon.seams import base_events


def call_stack() -> traceback.StackSummary:
    """The stack of the code that called into the loop, as debug mode keeps it for each handle."""
    frame = sys._getframe(1)
    limit = constants.DEBUG_STACK_DEPTH
    stack = traceback.StackSummary.extract(
        traceback.walk_stack(frame), limit=limit, lookup_lines=False
    )
    stack.reverse()
    return stack


def check_callback(callback: object, method: str) -> None:
    """Refuse what cannot be a callback.

    Raises:
        TypeError: it is a coroutine, a coroutine function, or not callable.
    """
    if coroutines.iscoroutine(callback) or _is_coroutine_function(callback):
        raise TypeError(f"coroutines cannot be used with {method}()")
    if not callable(callback):
        raise TypeError(f"a callable object was expected by {method}(), got {callback!r}")


def _is_coroutine_function(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or getattr(
        function, "_is_coroutine", None
    ) is getattr(coroutines, "_is_coroutine", functools)


def _source(function: Any) -> tuple[str, int] | None:
    """File and line where a function begins, looked for behind partials and wrappers."""
    function = inspect.unwrap(function)
    if inspect.isfunction(function):
        code = function.__code__
        return code.co_filename, code.co_firstlineno
    if isinstance(function, (functools.partial, functools.partialmethod)):
        return _source(function.func)
    return None


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    items = [reprlib.repr(value) for value in args]
    items.extend(f"{name}={reprlib.repr(value)}" for name, value in kwargs.items())
    return f"({', '.join(items)})"


def _describe(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], detailed: bool, suffix: str = ""
) -> str:
    if isinstance(function, functools.partial):
        suffix = (_arguments(args, kwargs) if detailed else "()") + suffix
        return _describe(function.func, function.args, function.keywords, detailed, suffix)
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    shown = name or repr(function)
    return shown + (_arguments(args, kwargs) if detailed else "()") + suffix


#: Since when arguments are shown in debug mode only (they may hold secrets and be long).
_HIDES_ARGUMENTS = "debug" in inspect.signature(format_helpers._format_callback_source).parameters


def callback_source(function: Any, args: tuple[Any, ...], debug: bool) -> str:
    """`name(args) at file:line`, the way asyncio's messages and representations name a callback."""
    text = _describe(function, args or (), {}, debug or not _HIDES_ARGUMENTS)
    source = _source(function)
    return text if source is None else f"{text} at {source[0]}:{source[1]}"


def handle_repr(handle: Any, timer: bool) -> str:
    """`repr` of a Handle or TimerHandle."""
    parts = [type(handle).__name__]
    if handle._cancelled:  # the method may wait for the callback
        parts.append("cancelled")
    if timer:
        parts.append(f"when={handle.when()}")
    if handle._callback is not None:
        debug = handle._loop.get_debug()
        parts.append(callback_source(handle._callback, handle._args, debug))
    if handle._source_traceback:
        origin = handle._source_traceback[-1]
        parts.append(f"created at {origin[0]}:{origin[1]}")
    return f"<{' '.join(parts)}>"


def callback_failed(
    loop: Any, handle: Any, callback: Any, args: tuple[Any, ...], exception: BaseException
) -> None:
    """Report a callback that raised to the loop's exception handler."""
    source = callback_source(callback, args, loop.get_debug())
    context = {
        "message": f"Exception in callback {source}",
        "exception": exception,
        "handle": handle,
    }
    if handle._source_traceback:
        context["source_traceback"] = handle._source_traceback
    loop.call_exception_handler(context)


def report_slow(culprit: Any, seconds: float) -> None:
    """Log a callback or a task's step that kept the loop for longer than `slow_callback_duration`."""
    base_events.logger.warning("Executing %s took %.3f seconds", slow_source(culprit), seconds)


def slow_source(culprit: Any) -> str:
    """What was slow: the task, if it is a task's step, else the handle."""
    owner = getattr(getattr(culprit, "_callback", None), "__self__", None)
    task_type = sys.modules["asyncio"].Task
    return repr(owner) if isinstance(owner, task_type) else repr(culprit)


def step_failed(loop: Any, task: Any, exception: BaseException) -> None:
    """Report a task whose step could not be taken; what its coroutine raises is the task's own."""
    context = {
        "message": f"Exception in callback {type(task).__name__}.task_step()",
        "exception": exception,
        "task": task,
    }
    if task._source_traceback:
        context["source_traceback"] = task._source_traceback
    loop.call_exception_handler(context)
