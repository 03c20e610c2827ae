"""What native transports and listeners say when something goes wrong, in asyncio's words.

Nothing here runs on the hot path. Faults of user code go to the loop's exception handler with
asyncio's own context keys; broken connections are everyday and shown in debug mode only.

Source: CPython Lib/asyncio/selector_events.py, transports.py.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import warnings
from asyncio import trsock
from typing import Any

logger = logging.getLogger("asyncio")

#: Seconds until accepting is tried again after running out of descriptors or memory.
ACCEPT_RETRY_SECONDS = 1.0


def protocol_failed(
    loop: Any, transport: Any, protocol: Any, method: str, exception: BaseException
) -> None:
    """Report `connection_made` or `connection_lost` that raised."""
    name = f"{type(protocol).__qualname__}.{method}"
    loop.call_exception_handler(
        {
            "message": f"Exception in callback {name}()",
            "exception": exception,
            "transport": transport,
            "protocol": protocol,
        }
    )


def transport_failed(
    loop: Any, transport: Any, protocol: Any, message: str, exception: BaseException
) -> None:
    """Report why a transport closes itself; an `OSError` (a broken connection) in debug mode only."""
    if isinstance(exception, OSError):
        if loop.get_debug():
            logger.debug("%r: %s", transport, message, exc_info=exception)
        return
    loop.call_exception_handler(
        {
            "message": message,
            "exception": exception,
            "transport": transport,
            "protocol": protocol,
        }
    )


def flow_control_failed(
    loop: Any, transport: Any, protocol: Any, method: str, exception: BaseException
) -> None:
    """Report `pause_writing` or `resume_writing` that raised; the connection goes on."""
    loop.call_exception_handler(
        {
            "message": f"protocol.{method}() failed",
            "exception": exception,
            "transport": transport,
            "protocol": protocol,
        }
    )


def tls_failed(
    loop: Any, transport: Any, protocol: Any, message: str, exception: BaseException
) -> None:
    """Report why a TLS transport closes itself, like `transport_failed`; cancellation is no fault."""
    if not isinstance(exception, asyncio.CancelledError):
        transport_failed(loop, transport, protocol, message, exception)


def eof_answer_ignored() -> None:
    """Log that a protocol wanted to keep a TLS connection half open."""
    logger.warning("returning true from eof_received() has no effect when using ssl")


def write_to_closed_tls() -> None:
    """Log one more write to a TLS connection that is gone."""
    logger.warning("SSL connection is closed")


def tls_repr(transport: Any, phase: str, queued: int, lower: Any) -> str:
    """`repr` of a TLS transport.

    Args:
        phase: where in its life the connection is.
        queued: bytes that wait to be encrypted and sent.
        lower: the transport below, None before it is known.
    """
    return f"<{type(transport).__name__} {phase} bufsize={queued} over {lower!r}>"


def write_to_lost() -> None:
    """Log one more write to a connection that is gone."""
    logger.warning("socket.send() raised exception.")


def write_to_lost_pipe() -> None:
    """Log one more write to a pipe that is closed or has no readers."""
    logger.warning("pipe closed by peer or os.write(pipe, data) raised exception.")


def read_pipe_failed(
    loop: Any, transport: Any, protocol: Any, message: str, exception: OSError
) -> None:
    """Report why a reading end closes itself; EIO (a terminal's other side has gone) in debug mode only."""
    if exception.errno == errno.EIO:
        if loop.get_debug():
            logger.debug("%r: %s", transport, message, exc_info=exception)
    else:
        transport_refused(loop, transport, protocol, message, exception)


def transport_refused(
    loop: Any, transport: Any, protocol: Any, message: str, exception: BaseException
) -> None:
    """Report why a transport closes itself, whatever it was."""
    loop.call_exception_handler(
        {
            "message": message,
            "exception": exception,
            "transport": transport,
            "protocol": protocol,
        }
    )


def log(message: str, transport: Any) -> None:
    """Log an event of a transport in debug mode."""
    logger.debug(message, transport)


def log_info(message: str, transport: Any) -> None:
    """Log an event of a transport in debug mode that asyncio finds worth level INFO."""
    logger.info(message, transport)


def transport_repr(
    transport: Any, fd: int, closing: bool, reading: bool, writing: bool, queued: int
) -> str:
    """`repr` of a stream transport.

    Args:
        fd: the descriptor, -1 once it is closed.
        reading, writing: whether the driver watches for data, for room to write.
        queued: bytes that wait to be sent.
    """
    parts = [type(transport).__name__]
    if fd < 0:
        parts.append("closed")
    elif closing:
        parts.append("closing")
    if fd >= 0:
        parts.append(f"fd={fd}")
        parts.append("read=polling" if reading else "read=idle")
        parts.append(f"write=<{'polling' if writing else 'idle'}, bufsize={queued}>")
    return f"<{' '.join(parts)}>"


def pipe_repr(transport: Any, fd: int, closing: bool, polling: bool, queued: int | None) -> str:
    """`repr` of a pipe transport.

    Args:
        fd: the descriptor, -1 once it is closed.
        polling: whether the driver watches for data (reading end) or for room (writing end).
        queued: bytes that wait to be written; None for a reading end.
    """
    parts = [type(transport).__name__]
    if fd < 0:
        parts.append("closed")
        return f"<{' '.join(parts)}>"
    if closing:
        parts.append("closing")
    parts.append(f"fd={fd}")
    if transport._loop.is_closed():
        parts.append("open")
    else:
        parts.append("polling" if polling else "idle")
    if queued is not None:
        parts.append(f"bufsize={queued}")
    return f"<{' '.join(parts)}>"


def unclosed_transport(transport: Any) -> None:
    """Warn of a transport that was dropped without `close()`."""
    warnings.warn(
        f"unclosed transport {transport!r}", ResourceWarning, stacklevel=2, source=transport
    )


def accept_failed(loop: Any, sock: socket.socket, exception: OSError) -> None:
    """Report an accept that failed for a reason of the listening socket's own."""
    loop.call_exception_handler(
        {
            "message": "Exception in callback of a listening socket",
            "exception": exception,
            "socket": trsock.TransportSocket(sock),
        }
    )


def accept_exhausted(loop: Any, listener: Any, sock: socket.socket, exception: OSError) -> None:
    """Report that accepting ran out of resources; it goes on in `ACCEPT_RETRY_SECONDS`."""
    loop.call_exception_handler(
        {
            "message": "socket.accept() out of system resource",
            "exception": exception,
            "socket": trsock.TransportSocket(sock),
        }
    )
    loop.call_later(ACCEPT_RETRY_SECONDS, listener.resume)


def child_failed(loop: Any, exception: BaseException) -> None:
    """Report that what has to be done at the start or end of a child process failed."""
    loop.call_exception_handler(
        {"message": "Exception in callback of a child process", "exception": exception}
    )


def connection_failed(loop: Any, exception: BaseException) -> None:
    """Report an accepted connection whose factory or transport failed; it is closed already."""
    loop.call_exception_handler(
        {
            "message": "Error on transport creation for incoming connection",
            "exception": exception,
        }
    )
