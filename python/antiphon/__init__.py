"""antiphon: asyncio in Rust.

    import antiphon

    async def main(): ...

    antiphon.run(main())

`antiphon.install()` puts all of it in asyncio's place, for programs that know asyncio alone. The same loop for programs
that bring their own runner: `asyncio.run(main(), loop_factory=antiphon.new_event_loop)`.
"""

from typing import TYPE_CHECKING, Any

from antiphon._antiphon import __version__
from antiphon.blocking import BlockedStep, BlockingError, BlockingStats, Stall, on_blocked
from antiphon.call_sites import CallSite, learned_call_sites
from antiphon.installation import install, uninstall
from antiphon.loop import Loop
from antiphon.pinned import pinned
from antiphon.runner import Runner, new_event_loop, run

if TYPE_CHECKING:
    from antiphon.cores import serve
    from antiphon.policy import EventLoopPolicy
    from antiphon.pool import Pool, WorkerLost

__all__ = [
    "BlockedStep",
    "BlockingError",
    "BlockingStats",
    "CallSite",
    "EventLoopPolicy",
    "Loop",
    "Pool",
    "Runner",
    "Stall",
    "WorkerLost",
    "__version__",
    "install",
    "learned_call_sites",
    "new_event_loop",
    "on_blocked",
    "pinned",
    "run",
    "serve",
    "uninstall",
]


def __getattr__(name: str) -> Any:
    """Gives what few programs need, imported when asked for; policies where Python still has them."""
    if name in ("Pool", "WorkerLost"):
        from antiphon import pool

        return getattr(pool, name)
    if name == "serve":
        from antiphon.cores import serve

        return serve
    if name == "EventLoopPolicy":
        try:
            from antiphon.policy import EventLoopPolicy
        except ImportError:
            raise AttributeError("this Python has no event loop policies") from None
        return EventLoopPolicy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
