"""`EventLoopPolicy`: asyncio's default policy with antiphon's loop, while Python has policies.

    asyncio.set_event_loop_policy(antiphon.EventLoopPolicy())

Python 3.14 deprecates policies and 3.16 drops them; `loop_factory` takes their place. This module is
imported when somebody asks for the policy, so that importing antiphon never warns.

Source: Lib/asyncio/events.py, "Policies" of the asyncio documentation.
"""

import sys
from typing import TYPE_CHECKING

from antiphon.loop import Loop

__all__ = ["EventLoopPolicy"]

if TYPE_CHECKING or sys.version_info < (3, 14):
    from asyncio import DefaultEventLoopPolicy as _DefaultEventLoopPolicy
else:
    # The public name warns on access from 3.14 on; whoever sets the policy is warned by asyncio.
    from asyncio.unix_events import _DefaultEventLoopPolicy


class EventLoopPolicy(_DefaultEventLoopPolicy):
    """Makes antiphon loops; everything else is as in asyncio's default policy."""

    _loop_factory = Loop

    def new_event_loop(self) -> Loop:
        """Returns a new loop, to be closed by the caller."""
        return Loop()
