"""Objects to bytes and back: pickle protocol 5, large buffers kept apart, cloudpickle where pickle gives up.

What cannot be pickled is named by its place in the call, with the way out: "argument 1['lock'] is a _thread.lock".

Source: PEP 574; Lib/pickle.py.
"""

import pickle
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

from antiphon.pool.errors import TransferError

__all__ = ["OUT_OF_BAND_BYTES", "Pickled", "dump", "importable", "load", "main_cannot_be_imported"]

#: Buffers from this size on cross in shared memory.
OUT_OF_BAND_BYTES = 1 << 18

#: The pickle, and the buffers that it refers to.
Pickled = tuple[bytes, list[memoryview]]

_MOST_DEEP = 8


def dump(
    value: object,
    name: Callable[[], str],
    part: Callable[[int], str] | None = None,
    foreign: bool = False,
) -> Pickled:
    """Pickles `value`.

    Args:
        value: what is to cross.
        name: says what `value` is; called for the text of an error alone.
        part: what the items of `value` are called, if it is a tuple and its items have names; called like `name`.
        foreign: who reads it does not have this program's `__main__`.

    Returns:
        The pickle and its out-of-band buffers, which refer to the memory of `value`.

    Raises:
        TransferError: `value` or something in it cannot be pickled, by cloudpickle neither.
    """
    if not foreign:
        # Nearly all objects have no such buffers, and need no function to ask about each.
        found: list[pickle.PickleBuffer] = []
        try:
            data = pickle.dumps(value, protocol=5, buffer_callback=found.append)
        except Exception:
            pass  # with the others below
        else:
            if not found:
                return data, []
    buffers: list[memoryview] = []

    def keep_in_band(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if raw.nbytes < OUT_OF_BAND_BYTES:
            return True
        buffers.append(raw)
        return False

    dumps = _cloud_dumps() if foreign else None
    try:
        return (dumps or pickle.dumps)(value, protocol=5, buffer_callback=keep_in_band), buffers
    except Exception as error:
        buffers.clear()
        cloud = _cloud_dumps()
        if cloud is not None and dumps is None:
            try:
                return cloud(value, protocol=5, buffer_callback=keep_in_band), buffers
            except Exception:
                buffers.clear()
        raise TransferError(_complaint(value, name(), part, error, cloud is not None)) from error


def load(data: bytes | memoryview, buffers: Iterable[memoryview] = ()) -> Any:
    """Makes the object again; raises whatever its own code raises."""
    return pickle.loads(data, buffers=buffers)


def importable(function: object, foreign: bool = False) -> bool:
    """Whether `function` is the same whenever it is pickled: a plain function of a module, found by its name.

    Args:
        function: any object.
        foreign: as for `dump`.
    """
    if type(function) is not types.FunctionType or function.__closure__ is not None:
        return False
    if function.__module__ == "__main__" and (foreign or main_cannot_be_imported()):
        return False
    module = sys.modules.get(function.__module__)
    return getattr(module, function.__qualname__, None) is function


def main_cannot_be_imported() -> bool:
    """Whether `__main__` is a notebook or an interactive session, whose names a worker cannot look up."""
    main = sys.modules.get("__main__")
    return (
        main is not None
        and getattr(main, "__spec__", None) is None
        and not hasattr(main, "__file__")
    )


def _cloud_dumps() -> Any:
    """`cloudpickle.dumps`, or None where it is not installed."""
    try:
        import cloudpickle  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return None
    return cloudpickle.dumps


def _complaint(
    value: object,
    name: str,
    part: Callable[[int], str] | None,
    error: Exception,
    has_cloudpickle: bool,
) -> str:
    """Names the innermost thing that cannot be pickled, and what can be done."""
    path, culprit = name, value
    if part is not None and isinstance(value, tuple):
        for index, item in enumerate(value):
            if not _picklable(item):
                path, culprit = f"{name}: {part(index)}", item
                break
    path, culprit = _innermost(culprit, path, _MOST_DEEP)
    kind = f"{type(culprit).__module__}.{type(culprit).__qualname__}".removeprefix("builtins.")
    if isinstance(culprit, types.FunctionType | type):
        kind = f"the {kind} {culprit.__module__}.{culprit.__qualname__}"
        way_out = "define it at the top level of a module that the workers can import"
        if not has_cloudpickle:
            way_out += ", or install cloudpickle"
    elif isinstance(culprit, types.CoroutineType | types.GeneratorType):
        kind = f"a {kind}"
        way_out = "give the function and its arguments instead, so that the worker calls it"
    elif isinstance(culprit, memoryview):
        kind = f"a {kind}"
        way_out = "wrap it in pickle.PickleBuffer"
    else:
        kind = f"a {kind}"
        way_out = "give what it is made from and make it in the worker, or define __reduce__ for it"
    return f"{path} is {kind}, which cannot be pickled ({type(error).__name__}: {error}); {way_out}"


def _innermost(value: object, path: str, depth: int) -> tuple[str, object]:
    """Descends to the part that is at fault; gives its place and itself."""
    if depth:
        for step, part in _parts(value):
            if not _picklable(part):
                return _innermost(part, path + step, depth - 1)
    return path, value


def _parts(value: object) -> Iterable[tuple[str, object]]:
    """The parts of containers, partial functions and plain objects, each with how it is reached."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield f"[{key!r}]", part
    elif isinstance(value, list | tuple | set | frozenset):
        for index, part in enumerate(value):
            yield f"[{index}]", part
    elif isinstance(value, BaseExceptionGroup):
        for index, part in enumerate(value.exceptions):
            yield f".exceptions[{index}]", part
    elif not isinstance(value, types.FunctionType | type | types.ModuleType):
        if isinstance(value, BaseException):
            for index, part in enumerate(value.args):
                yield f".args[{index}]", part
        for attribute, part in getattr(value, "__dict__", {}).items():
            yield f".{attribute}", part


def _picklable(value: object) -> bool:
    try:
        pickle.dumps(value, protocol=5, buffer_callback=lambda _: None)
    except Exception:
        return False
    return True
