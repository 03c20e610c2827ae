"""Streams: what runs once per connection. The reader, the writer and the protocol themselves are native.

    reader, writer = await antiphon.streams.open_connection("127.0.0.1", 7)
    writer.write(b"hello")
    await writer.drain()
    print(await reader.readexactly(5))

Source: Lib/asyncio/streams.py.
"""

import asyncio
import sys
import traceback
import warnings
from asyncio import events, format_helpers
from collections.abc import Awaitable, Callable
from typing import Any

from antiphon._antiphon import StreamReader, StreamReaderProtocol, StreamWriter

__all__ = [
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "open_connection",
    "open_unix_connection",
    "start_server",
    "start_unix_server",
]

_DEFAULT_LIMIT = 2**16
# The frame that made a reader, seen from a function that its native constructor calls.
_MAKER = 2

ClientConnected = Callable[[StreamReader, StreamWriter], Awaitable[None] | None]


async def open_connection(
    host: Any = None,
    port: Any = None,
    *,
    limit: int = _DEFAULT_LIMIT,
    **kwds: Any,
) -> tuple[StreamReader, StreamWriter]:
    """Opens a stream connection.

    Args:
        host: as for `loop.create_connection`.
        port: as for `loop.create_connection`.
        limit: of the reader's buffer, in bytes.
        kwds: the other arguments of `loop.create_connection`.

    Returns:
        A reader and a writer.

    Raises:
        OSError: the connection failed.
    """
    loop = asyncio.get_running_loop()
    reader, protocol = _client_end(limit, loop)
    transport, _ = await loop.create_connection(lambda: protocol, host, port, **kwds)
    return reader, StreamWriter(transport, protocol, reader, loop)


async def start_server(
    client_connected_cb: ClientConnected,
    host: Any = None,
    port: Any = None,
    *,
    limit: int = _DEFAULT_LIMIT,
    **kwds: Any,
) -> asyncio.Server:
    """Starts a server that calls back for each connection.

    Args:
        client_connected_cb: called with a reader and a writer; a coroutine becomes a task.
        host: as for `loop.create_server`.
        port: as for `loop.create_server`.
        limit: of the readers' buffers, in bytes.
        kwds: the other arguments of `loop.create_server`.

    Returns:
        The server.

    Raises:
        OSError: it cannot listen there.
    """
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        _protocol_factory(client_connected_cb, limit, loop), host, port, **kwds
    )


async def open_unix_connection(
    path: Any = None, *, limit: int = _DEFAULT_LIMIT, **kwds: Any
) -> tuple[StreamReader, StreamWriter]:
    """`open_connection` over a Unix socket.

    Args:
        path: as for `loop.create_unix_connection`.
        limit: of the reader's buffer, in bytes.
        kwds: the other arguments of `loop.create_unix_connection`.

    Returns:
        A reader and a writer.

    Raises:
        OSError: the connection failed.
    """
    loop = asyncio.get_running_loop()
    reader, protocol = _client_end(limit, loop)
    transport, _ = await loop.create_unix_connection(lambda: protocol, path, **kwds)
    return reader, StreamWriter(transport, protocol, reader, loop)


async def start_unix_server(
    client_connected_cb: ClientConnected,
    path: Any = None,
    *,
    limit: int = _DEFAULT_LIMIT,
    **kwds: Any,
) -> asyncio.Server:
    """`start_server` on a Unix socket.

    Args:
        client_connected_cb: called with a reader and a writer; a coroutine becomes a task.
        path: as for `loop.create_unix_server`.
        limit: of the readers' buffers, in bytes.
        kwds: the other arguments of `loop.create_unix_server`.

    Returns:
        The server.

    Raises:
        OSError: it cannot listen there.
    """
    loop = asyncio.get_running_loop()
    return await loop.create_unix_server(
        _protocol_factory(client_connected_cb, limit, loop), path, **kwds
    )


def _client_end(
    limit: int, loop: asyncio.AbstractEventLoop
) -> tuple[StreamReader, StreamReaderProtocol]:
    reader = StreamReader(limit=limit, loop=loop)
    return reader, StreamReaderProtocol(reader, loop=loop)


def _protocol_factory(
    client_connected_cb: ClientConnected, limit: int, loop: asyncio.AbstractEventLoop
) -> Callable[[], StreamReaderProtocol]:
    def factory() -> StreamReaderProtocol:
        reader = StreamReader(limit=limit, loop=loop)
        return StreamReaderProtocol(reader, client_connected_cb, loop=loop)

    return factory


# What follows is called by the native classes, for what happens once per connection or never.


def client_connected(
    protocol: StreamReaderProtocol, reader: StreamReader | None, transport: asyncio.Transport
) -> None:
    """Hands an accepted connection to the program."""
    loop, callback = protocol._loop, protocol._client_connected_cb
    writer = StreamWriter(transport, protocol, reader, loop)
    if sys.version_info < (3, 13):
        protocol._stream_writer = writer
    try:
        result = callback(reader, writer)
    except Exception as exc:
        if sys.version_info < (3, 14):
            raise
        _callback_failed(loop, exc, transport)
        return
    if not asyncio.iscoroutine(result):
        return

    def ended(task: asyncio.Task[None]) -> None:
        if task.cancelled():
            transport.close()
            return
        exc = task.exception()
        if exc is not None:
            _callback_failed(loop, exc, transport)

    protocol._task = loop.create_task(result)
    protocol._task.add_done_callback(ended)


def _callback_failed(
    loop: asyncio.AbstractEventLoop, exc: BaseException, transport: asyncio.Transport
) -> None:
    loop.call_exception_handler(
        {
            "message": "Unhandled exception in client_connected_cb",
            "exception": exc,
            "transport": transport,
        }
    )
    transport.close()


def connection_rejected(protocol: StreamReaderProtocol, transport: asyncio.Transport) -> None:
    """Aborts a connection whose stream was given up before it was made."""
    context: dict[str, Any] = {
        "message": "An open stream was garbage collected prior to establishing network connection; "
        'call "stream.close()" explicitly.'
    }
    if protocol._source_traceback:
        context["source_traceback"] = protocol._source_traceback
    protocol._loop.call_exception_handler(context)
    transport.abort()


if sys.version_info >= (3, 12):

    async def start_tls(
        writer: StreamWriter,
        sslcontext: Any,
        *,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> None:
        """`StreamWriter.start_tls`."""
        await _start_tls(
            writer,
            sslcontext,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

else:

    async def start_tls(
        writer: StreamWriter,
        sslcontext: Any,
        *,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
    ) -> None:
        """`StreamWriter.start_tls`."""
        await _start_tls(
            writer,
            sslcontext,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
        )


async def _start_tls(writer: StreamWriter, sslcontext: Any, **options: Any) -> None:
    protocol = writer._protocol
    server_side = protocol._client_connected_cb is not None
    await writer.drain()
    transport: Any = await writer._loop.start_tls(
        writer._transport, protocol, sslcontext, server_side=server_side, **options
    )
    writer._transport = transport
    if sys.version_info >= (3, 13):
        protocol._replace_transport(transport)
    else:
        protocol._replace_writer(writer)


def unclosed_writer(writer: StreamWriter) -> None:
    """`StreamWriter.__del__` of one whose transport is open."""
    if writer._loop.is_closed():
        warnings.warn("loop is closed", ResourceWarning, stacklevel=2)
    else:
        writer.close()
        warnings.warn(f"unclosed {writer!r}", ResourceWarning, stacklevel=2)


def default_loop() -> asyncio.AbstractEventLoop:
    """The loop of a reader that was given none."""
    if sys.version_info < (3, 12):
        return events._get_event_loop(stacklevel=3)  # type: ignore[attr-defined,no-any-return]
    return events.get_event_loop()


def construction_stack() -> traceback.StackSummary:
    """The stack of whoever makes a reader right now; in debug mode."""
    return format_helpers.extract_stack(sys._getframe(_MAKER - 1))


async def read_on(reader: StreamReader) -> bytes:
    """`StreamReader.read(-1)` for subclasses with a `read` of their own."""
    if reader._exception is not None:
        raise reader._exception
    blocks = []
    while block := await reader.read(reader._limit):
        blocks.append(block)
    return b"".join(blocks)


async def readline(reader: StreamReader) -> bytes:
    """`StreamReader.readline` for subclasses with a `readuntil` of their own."""
    separator = b"\n"
    try:
        return await reader.readuntil(separator)
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        buffer = reader._buffer
        if buffer.startswith(separator, error.consumed):
            del buffer[: error.consumed + len(separator)]
        else:
            buffer.clear()
        reader._maybe_resume_transport()
        raise ValueError(error.args[0]) from error


async def next_line(reader: StreamReader) -> bytes:
    """`StreamReader.__anext__` for subclasses with a `readline` of their own."""
    line = await reader.readline()
    if line == b"":
        raise StopAsyncIteration
    return line


def reader_repr(reader: StreamReader) -> str:
    """The `repr` of a reader."""
    info = ["StreamReader"]
    if waiting := len(reader._buffer):
        info.append(f"{waiting} bytes")
    if reader._eof:
        info.append("eof")
    if reader._limit != _DEFAULT_LIMIT:
        info.append(f"limit={reader._limit}")
    for name in ("waiter", "exception", "transport"):
        if value := getattr(reader, f"_{name}"):
            info.append(f"{name}={value!r}")
    if reader._paused:
        info.append("paused")
    return f"<{' '.join(info)}>"


def writer_repr(writer: StreamWriter) -> str:
    """The `repr` of a writer."""
    info = [type(writer).__name__, f"transport={writer._transport!r}"]
    if writer._reader is not None:
        info.append(f"reader={writer._reader!r}")
    return f"<{' '.join(info)}>"
