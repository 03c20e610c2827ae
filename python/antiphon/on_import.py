"""Functions that are called with a module once it has been imported, or at once if it was.

    forget = when_imported("sqlite3", adapt)

Only names that somebody asked for are looked at; with the last one the finder leaves `sys.meta_path`.

Source: "The import system" of the language reference; PEP 451.
"""

import importlib.abc
import importlib.machinery
import sys
import threading
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

__all__ = ["when_imported"]

Adapt = Callable[[ModuleType], None]

_lock = threading.RLock()
_adapters: dict[str, Adapt] = {}


class _Finder(importlib.abc.MetaPathFinder):
    """Lets the other finders find the modules that are asked for, and wraps their loaders."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _adapters:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is None:
                continue
            if spec.loader is not None:
                spec.loader = _Loader(spec.loader)  # type: ignore[assignment]  # has what loaders have
            return spec
        return None


class _Loader:
    """A module's own loader, and a word afterwards."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None:  # nobody else is to meet the wrapper
            spec.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        adapt = _adapters.get(module.__name__)
        if adapt is not None:
            adapt(module)


_finder = _Finder()


def when_imported(name: str, adapt: Adapt) -> Callable[[], None]:
    """Calls a function with a module: now if it is there, else as soon as it has been imported.

    Args:
        name: the module; one function for each.
        adapt: the function.

    Returns:
        A function that ends this.
    """

    def forget() -> None:
        with _lock:
            _adapters.pop(name, None)
            if not _adapters and _finder in sys.meta_path:
                sys.meta_path.remove(_finder)

    with _lock:
        _adapters[name] = adapt
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    if module is not None and not getattr(spec, "_initializing", False):
        adapt(module)
    return forget
