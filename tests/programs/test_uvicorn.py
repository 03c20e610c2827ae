"""uvicorn serving FastAPI and Starlette, asked by httpx."""

import asyncio
import signal

import httpx
import pytest
from fastapi import FastAPI, WebSocket
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from support.children import Child
from support.net import pattern
from support.programs import uvicorn_serving


class Item(BaseModel):
    name: str
    price: float


def fastapi_app(log):
    app = FastAPI()

    @app.get("/items/{number}")
    async def item(number: int, double: bool = False):
        await asyncio.sleep(0)
        return {"number": number * (2 if double else 1)}

    @app.post("/items")
    async def create(item: Item):
        return {"created": item.name, "gross": item.price * 1.5}

    @app.get("/thread")
    def in_a_thread():
        # Plain functions run in anyio's worker threads.
        import threading

        return {"thread": threading.current_thread() is not threading.main_thread()}

    @app.websocket("/echo")
    async def echo(websocket: WebSocket):
        await websocket.accept()
        while True:
            text = await websocket.receive_text()
            if text == "end":
                await websocket.close()
                return
            await websocket.send_text(text[::-1])

    @app.middleware("http")
    async def note(request, call_next):
        response = await call_next(request)
        log.append((request.method, request.url.path, response.status_code))
        return response

    return app


@pytest.mark.slow
@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_fastapi_answers_every_kind_of_request(loop, http):
    log = []
    async with (
        uvicorn_serving(fastapi_app(log), http=http, lifespan="on") as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        answer = await client.get("/items/21", params={"double": "true"})
        assert (answer.status_code, answer.json()) == (200, {"number": 42})
        answer = await client.post("/items", json={"name": "lamp", "price": 10})
        assert answer.json() == {"created": "lamp", "gross": 15.0}
        answer = await client.post("/items", json={"name": "lamp"})
        assert answer.status_code == 422
        answer = await client.get("/thread")
        assert answer.json() == {"thread": True}
        answer = await client.get("/nowhere")
        assert answer.status_code == 404
    assert log == [
        ("GET", "/items/21", 200),
        ("POST", "/items", 200),
        ("POST", "/items", 422),
        ("GET", "/thread", 200),
        ("GET", "/nowhere", 404),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_many_requests_at_once_get_their_own_answers(loop, http):
    async with (
        uvicorn_serving(fastapi_app([]), http=http) as url,
        httpx.AsyncClient(base_url=url, limits=httpx.Limits(max_connections=20)) as client,
    ):
        answers = await asyncio.gather(*(client.get(f"/items/{n}") for n in range(40)))
    assert [answer.json()["number"] for answer in answers] == list(range(40))


@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_starlette_streams_both_ways(loop, http):
    async def mirror(request):
        body = bytearray()
        async for chunk in request.stream():
            body += chunk

        async def chunks():
            for start in range(0, len(body), 5000):
                yield bytes(body[start : start + 5000])

        return StreamingResponse(chunks())

    async def startup_seen(request):
        return JSONResponse(request.app.state.log)

    payload = pattern(1, 1_000_000)

    async def upload():
        for start in range(0, len(payload), 30_000):
            yield payload[start : start + 30_000]

    app = Starlette(
        routes=[Route("/mirror", mirror, methods=["POST"]), Route("/log", startup_seen)]
    )
    app.state.log = ["made"]
    async with (
        uvicorn_serving(app, http=http) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        answer = await client.post("/mirror", content=upload())
        assert answer.content == payload
        assert (await client.get("/log")).json() == ["made"]


async def test_fastapi_websocket_talks(loop):
    import websockets

    async with (
        uvicorn_serving(fastapi_app([]), ws="websockets-sansio") as url,
        websockets.connect(url.replace("http", "ws") + "/echo", proxy=None) as socket,
    ):
        for word in ("one", "two", "three"):
            await socket.send(word)
            assert await socket.recv() == word[::-1]
        await socket.send("end")
        with pytest.raises(websockets.ConnectionClosedOK):
            await socket.recv()


@pytest.mark.slow
def test_server_started_by_name_answers_and_ends_at_a_signal(loop_name):
    """As a user starts it: uvicorn makes the loop by the name of its factory."""
    source = """
        import uvicorn, socket

        example = new_event_loop()
        kind = type(example)
        example.close()

        async def app(scope, receive, send):
            if scope["type"] != "http":
                return
            body = str(type(asyncio.get_running_loop()) is kind).encode()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body})

        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        report(port=sock.getsockname()[1])
        factory = {"asyncio": "asyncio", "antiphon": "antiphon:new_event_loop"}[LOOP]
        config = uvicorn.Config(app, loop=factory, log_level="error", lifespan="off")
        uvicorn.Server(config).run(sockets=[sock])
        report(ended=True)
    """.replace("LOOP", repr(loop_name))
    with Child(loop_name, source) as child:
        port = child.report()["port"]
        answer = httpx.get(f"http://127.0.0.1:{port}/", timeout=10)
        assert answer.text == "True"
        child.process.send_signal(signal.SIGINT)
        # uvicorn puts the signal back up after its orderly end.
        result = child.finish()
    assert result.returncode in (0, -signal.SIGINT)
