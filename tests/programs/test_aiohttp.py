"""aiohttp: its server and its client in one loop."""

import asyncio
import hashlib
import io

import aiohttp
import pytest
from aiohttp import web

from support.net import pattern
from support.programs import settle


async def serve(app):
    """Serves `app` on a free port; gives the runner and the base URL."""
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    return runner, f"http://{host}:{port}"


@pytest.fixture
def site(loop):
    """An application with every kind of exchange that the tests make; gives its URL."""

    async def hello(request):
        return web.json_response(
            {"hello": request.match_info["name"], "query": dict(request.query)}
        )

    async def digest(request):
        total = hashlib.sha256()
        size = 0
        async for chunk in request.content.iter_chunked(16384):
            total.update(chunk)
            size += len(chunk)
        return web.json_response({"size": size, "sha256": total.hexdigest()})

    async def stream(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(int(request.query["chunks"])):
            await response.write(pattern(number, 10_000))
        await response.write_eof()
        return response

    async def shout(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                await socket.send_str(message.data.upper())
            elif message.type is aiohttp.WSMsgType.BINARY:
                await socket.send_bytes(message.data[::-1])
        return socket

    async def fail(request):
        raise web.HTTPConflict(text="two of them")

    app = web.Application(client_max_size=1 << 26)
    app.add_routes(
        [
            web.get("/hello/{name}", hello),
            web.post("/digest", digest),
            web.get("/stream", stream),
            web.get("/shout", shout),
            web.get("/fail", fail),
        ]
    )
    runner, url = loop.run_until_complete(serve(app))
    yield url
    loop.run_until_complete(runner.cleanup())
    loop.run_until_complete(settle())


async def test_hundred_requests_over_ten_connections_get_their_own_answers(loop, site):
    connector = aiohttp.TCPConnector(limit=10)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask(number):
            async with session.get(f"{site}/hello/n{number}", params={"n": str(number)}) as answer:
                assert answer.status == 200
                assert await answer.json() == {
                    "hello": f"n{number}",
                    "query": {"n": str(number)},
                }

        await asyncio.gather(*(ask(number) for number in range(100)))


async def test_large_body_is_uploaded_unchanged(loop, site):
    body = pattern(1, 5_000_000)
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{site}/digest", data=io.BytesIO(body)) as answer,
    ):
        assert await answer.json() == {
            "size": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
        }


async def test_streamed_upload_arrives_whole(loop, site):
    async def chunks():
        for number in range(50):
            yield pattern(number, 7000)
            await asyncio.sleep(0)

    expected = b"".join(pattern(number, 7000) for number in range(50))
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{site}/digest", data=chunks()) as answer,
    ):
        facts = await answer.json()
    assert facts == {"size": 350_000, "sha256": hashlib.sha256(expected).hexdigest()}


async def test_streamed_answer_arrives_whole(loop, site):
    got = bytearray()
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{site}/stream", params={"chunks": "100"}) as answer,
    ):
        async for chunk in answer.content.iter_any():
            got += chunk
    assert got == b"".join(pattern(number, 10_000) for number in range(100))


async def test_websocket_talks_in_both_directions(loop, site):
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{site}/shout") as socket:
        for number in range(50):
            await socket.send_str(f"message {number}")
            assert await socket.receive_str() == f"MESSAGE {number}"
        await socket.send_bytes(b"x" * 100_000 + b"end")
        assert await socket.receive_bytes() == b"dne" + b"x" * 100_000
        await socket.close()
        assert socket.close_code == aiohttp.WSCloseCode.OK


async def test_error_of_a_handler_reaches_the_client(loop, site):
    async with aiohttp.ClientSession() as session, session.get(f"{site}/fail") as answer:
        assert answer.status == 409
        assert await answer.text() == "two of them"


async def test_client_gives_up_on_a_server_that_does_not_answer(loop):
    never = asyncio.Event()

    async def wait(request):
        await never.wait()

    app = web.Application()
    app.add_routes([web.get("/", wait)])
    runner, url = await serve(app)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.02)) as session:
        with pytest.raises(asyncio.TimeoutError):
            await session.get(url)
    never.set()
    await runner.cleanup()
    await settle()
