"""Where asyncio's own loop looks names up: the modules that a program replaces names in.

A test that patches `asyncio.base_events.socket`, or a program that gives `asyncio.unix_events.signal`
another meaning, wants to be heard by whatever loop runs. So code that runs once per connection, server
or signal handler takes these names from there, at each use, instead of importing them itself. Nothing
that runs per packet or per callback does.

    sock = base_events.socket.socket(family=family, type=kind, proto=proto)

Source: Lib/asyncio/base_events.py, Lib/asyncio/unix_events.py; Lib/test/test_asyncio.
"""

import asyncio.base_events
import asyncio.unix_events
from typing import Any

__all__ = ["base_events", "unix_events"]

# Their types do not name what they import, which is what is wanted of them here.
base_events: Any = asyncio.base_events
"""Has `socket` and `logger`."""
unix_events: Any = asyncio.unix_events
"""Has `os`, `signal`, `socket` and `sys`."""
