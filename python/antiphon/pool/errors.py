"""What a pool raises, beside what the calls themselves raise."""

__all__ = [
    "PoolClosed",
    "PoolError",
    "RemoteError",
    "RemoteTraceback",
    "TransferError",
    "WorkerLost",
]


class PoolError(Exception):
    """The base of all errors that are the pool's own."""


class PoolClosed(PoolError):
    """The pool takes no calls: it was not entered, was left, or was broken by workers that do not start."""


class WorkerLost(PoolError):
    """A worker ended while it ran this call; whether the call had its effect is not known.

    The text names the worker, its process and how it ended. Calls that had not begun are not affected: they run on
    another worker.
    """


class TransferError(PoolError):
    """An object could not cross between two processes; the text names it and the way out."""


class RemoteError(PoolError):
    """Stands for an exception of a worker that could not itself be brought over; the text has its type and words."""


class RemoteTraceback(Exception):
    """The traceback that an exception had in its worker, as text; the cause of what the call raises.

    Args:
        text: what `traceback.format_exception` gave in the worker, groups with all their members.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'
