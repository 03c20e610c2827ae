"""Places in the code whose calls have blocked, and give the loop away from then on (`on_block="handoff"`).

Native code learns and forgets them (`hand_off/call_sites.rs`); here they are shown.

Source: docs/hand-off.md, "Learned call sites".
"""

from dataclasses import dataclass
from types import CodeType

from antiphon import _antiphon

__all__ = ["CallSite", "learned_call_sites"]


@dataclass(frozen=True)
class CallSite:
    """A call that gives the loop to another thread as it begins, and takes it back as it returns.

    Attributes:
        file, line, function: where it is.
        given: how often it has given the loop away.
    """

    file: str
    line: int
    function: str
    given: int


def learned_call_sites() -> list[CallSite]:
    """Tells which places have been learned.

    The table is the process's and forgets all when the last loop with `on_block="handoff"` is closed, a place when its
    calls turn out to be quick, and the one that was used least recently when there are too many.

    Returns:
        The places, in no order.
    """
    return [
        CallSite(code.co_filename, _line_of(code, offset), code.co_qualname, given)
        for code, offset, given in _antiphon._learned_call_sites()
    ]


def _line_of(code: CodeType, offset: int) -> int:
    for start, end, line in code.co_lines():
        if start <= offset < end and line is not None:
            return line
    return code.co_firstlineno
