"""pytest plugin: tests fail whose code blocks the event loop.

    pytest --antiphon-on-block=raise --antiphon-block-after=0.1

With the option, all of asyncio is antiphon's for the whole session (`antiphon.install`), so that loops which a test, a
fixture or another plugin makes are watched. A task whose step blocks fails with `BlockingError`, and if the code under
test swallows that, the test fails with it nevertheless. Without the option nothing happens.

`antiphon_on_block` and `antiphon_block_after` in pytest's configuration file mean the same.

Source: docs/blocking.md; the pytest documentation, "Writing plugins".
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

__all__ = ["pytest_addoption", "pytest_configure"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options."""
    group = parser.getgroup("antiphon", "code that blocks the event loop")
    group.addoption(
        "--antiphon-on-block",
        metavar="HOW",
        help="run on antiphon; code that blocks the event loop is: report, raise (its test fails)",
    )
    group.addoption(
        "--antiphon-block-after",
        metavar="SECONDS",
        help="from how long on code blocks the event loop (default: 0.05)",
    )
    parser.addini("antiphon_on_block", "as --antiphon-on-block")
    parser.addini("antiphon_block_after", "as --antiphon-block-after")


def pytest_configure(config: pytest.Config) -> None:
    """Puts antiphon in asyncio's place if that was asked for."""
    on_block = config.getoption("antiphon_on_block") or config.getini("antiphon_on_block") or None
    block_after = (
        config.getoption("antiphon_block_after") or config.getini("antiphon_block_after") or None
    )
    if on_block is None and block_after is None:
        return
    # Not before: who does not use the plugin should not pay for it.
    import antiphon
    from antiphon import blocking
    from antiphon.installation import is_installed

    try:
        blocking.set_defaults(on_block, block_after)
        mode, _ = blocking.resolve_options()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    if not is_installed():
        antiphon.install()
        config.add_cleanup(antiphon.uninstall)
    config.add_cleanup(blocking.set_defaults)
    if mode == "raise":
        verdicts = _Verdicts()
        config.add_cleanup(blocking.on_verdict(verdicts.note))
        config.pluginmanager.register(verdicts, "antiphon-verdicts")


class _Verdicts:
    """Fails the tests during which a step was found to block and the error came to nothing."""

    def __init__(self) -> None:
        self._errors: list[BaseException] = []

    def note(self, error: BaseException) -> None:
        """Takes in an error, in the loop's thread."""
        self._errors.append(error)

    def _watch(self) -> Generator[None, Any, Any]:
        self._errors.clear()
        result = yield
        if self._errors:
            # The outcome was a good one, or this would not be reached.
            raise self._errors[0]
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, Any, Any]:
        """Watches fixtures."""
        return (yield from self._watch())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self) -> Generator[None, Any, Any]:
        """Watches the test."""
        return (yield from self._watch())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Generator[None, Any, Any]:
        """Watches the ends of fixtures."""
        return (yield from self._watch())
