"""The words that a pool and its workers exchange: the first item of each message.

The numbers of calls grow by one with each call that a worker is sent; a worker begins calls in that order.
"""

__all__ = [
    "CALL",
    "CALLS",
    "CANCEL",
    "CANCELLED",
    "FUNCTION",
    "GIVEN_BACK",
    "GIVE_BACK",
    "PROGRESS",
    "RAISED",
    "READY",
    "RESULTS",
    "RETURNED",
    "STOP",
]

# To a worker.
CALL = 1  # number of the call, key of the function or 0, parcel of the arguments, carried context variables or None
FUNCTION = 2  # key, pickle of a function that calls will refer to
CANCEL = 3  # number of the call, words for the CancelledError or None
STOP = 4  # nothing; the worker ends once its calls have
GIVE_BACK = 5  # number of the last call that was sent; over the control connection
CALLS = 6  # number of the first, key of the function, list of plain arguments: calls with consecutive numbers

# From a worker.
READY = 11  # nothing
RETURNED = 12  # number of the call, parcel of what it returned
RAISED = (
    13  # number of the call, parcel of the exception or None, its traceback, its type and words
)
CANCELLED = 14  # number of the call, words of the CancelledError or None
PROGRESS = (
    15  # number up to which no call waits to begin, seconds of work since the last such message
)
RESULTS = 17  # number of the first, 0, list of plain results: of calls with consecutive numbers
GIVEN_BACK = 16  # numbers of calls that it will not begin; over the control connection
