"""httpx: its asyncio client against servers written out by hand."""

import asyncio
import contextlib

import httpx
import pytest

from support.net import others_done, pattern
from support.programs import free_address, settle
from support.tls import tls_contexts


@contextlib.asynccontextmanager
async def serving(handle, **options):
    """Serves streams with `handle(request_head, reader, writer)`; gives the address."""

    async def connection(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await handle(head, reader, writer)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(connection, "127.0.0.1", 0, **options)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        await others_done()
        await server.wait_closed()


def respond(writer, body, extra=b""):
    writer.write(b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n" % (extra, len(body)))
    writer.write(body)


async def test_requests_reuse_a_connection_and_carry_their_data(loop):
    peers = []

    async def handle(head, reader, writer):
        peers.append(writer.get_extra_info("peername"))
        length = next(
            (
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length")
            ),
            0,
        )
        body = await reader.readexactly(length)
        respond(writer, head.split(b"\r\n")[0] + b"|" + body[::-1])

    async with (
        serving(handle) as (host, port),
        httpx.AsyncClient(base_url=f"http://{host}:{port}") as client,
    ):
        answer = await client.get("/path", params={"q": "ü"})
        assert answer.content == b"GET /path?q=%C3%BC HTTP/1.1|"
        body = pattern(1, 300_000)
        answer = await client.put("/data", content=body)
        assert answer.content == b"PUT /data HTTP/1.1|" + body[::-1]
    assert len(set(peers)) == 1


async def test_streamed_answer_arrives_piece_by_piece(loop):
    async def handle(head, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(20):
            writer.write(b"%x\r\n%s\r\n" % (1000, pattern(number, 1000)))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    async with serving(handle) as (host, port), httpx.AsyncClient() as client:
        got = bytearray()
        async with client.stream("GET", f"http://{host}:{port}/") as answer:
            async for chunk in answer.aiter_bytes():
                got += chunk
    assert got == b"".join(pattern(number, 1000) for number in range(20))


async def test_https_is_spoken_with_a_verified_certificate(loop):
    server_context, client_context = tls_contexts()

    async def handle(head, reader, writer):
        respond(writer, writer.get_extra_info("cipher")[1].encode() + pattern(1, 200_000))

    async with serving(handle, ssl=server_context) as (host, port):
        async with httpx.AsyncClient(verify=client_context) as client:
            answer = await client.get(f"https://{host}:{port}/")
            assert answer.content == b"TLSv1.3" + pattern(1, 200_000)
        await settle()


async def test_refused_connection_and_timeout_raise_httpxs_errors(loop):
    never = asyncio.Event()

    async def handle(head, reader, writer):
        await never.wait()

    host, port = free_address()
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://{host}:{port}/")
    impatient = httpx.Timeout(None, read=0.02)
    async with serving(handle) as (host, port), httpx.AsyncClient(timeout=impatient) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get(f"http://{host}:{port}/")
        never.set()
