"""tornado: its server, client and WebSockets, which wait for sockets by `add_reader` and `add_writer` alone."""

import asyncio
import json

import pytest
import tornado.gen
import tornado.httpclient
import tornado.httpserver
import tornado.ioloop
import tornado.netutil
import tornado.web
import tornado.websocket

from support.net import pattern
from support.programs import settle


class Hello(tornado.web.RequestHandler):
    async def get(self, name):
        await asyncio.sleep(0)
        self.write({"hello": name, "query": self.get_query_argument("q", None)})


class Reverse(tornado.web.RequestHandler):
    async def post(self):
        self.write(self.request.body[::-1])


class Stream(tornado.web.RequestHandler):
    async def get(self):
        for number in range(20):
            self.write(pattern(number, 10_000))
            await self.flush()


class Fail(tornado.web.RequestHandler):
    @tornado.gen.coroutine
    def get(self):
        yield tornado.gen.moment
        raise tornado.web.HTTPError(418)


class Echo(tornado.websocket.WebSocketHandler):
    def on_message(self, message):
        self.write_message(message[::-1], binary=isinstance(message, bytes))


@pytest.fixture
def url(loop):
    """An application on a free port; gives its address without the scheme."""

    async def start():
        application = tornado.web.Application(
            [
                ("/hello/(.*)", Hello),
                ("/reverse", Reverse),
                ("/stream", Stream),
                ("/fail", Fail),
                ("/echo", Echo),
            ],
            log_function=lambda handler: None,
        )
        sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
        server = tornado.httpserver.HTTPServer(application)
        server.add_sockets(sockets)
        return server, sockets[0].getsockname()[1]

    async def stop():
        server.stop()
        await server.close_all_connections()
        tornado.httpclient.AsyncHTTPClient().close()
        await settle()

    server, port = loop.run_until_complete(start())
    yield f"127.0.0.1:{port}"
    loop.run_until_complete(stop())


async def test_the_loop_under_test_is_tornados(loop):
    assert tornado.ioloop.IOLoop.current().asyncio_loop is loop


async def test_requests_at_once_get_their_own_answers(loop, url):
    client = tornado.httpclient.AsyncHTTPClient()
    answers = await asyncio.gather(
        *(client.fetch(f"http://{url}/hello/{number}?q={number}") for number in range(30))
    )
    assert [json.loads(answer.body) for answer in answers] == [
        {"hello": str(number), "query": str(number)} for number in range(30)
    ]


async def test_large_bodies_both_ways(loop, url):
    client = tornado.httpclient.AsyncHTTPClient()
    body = pattern(3, 2_000_000)
    headers = {"Content-Type": "application/octet-stream"}
    answer = await client.fetch(f"http://{url}/reverse", method="POST", headers=headers, body=body)
    assert answer.body == body[::-1]
    chunks = []
    await client.fetch(f"http://{url}/stream", streaming_callback=chunks.append)
    assert b"".join(chunks) == b"".join(pattern(number, 10_000) for number in range(20))


async def test_an_error_of_a_generator_handler_is_its_answer(loop, url):
    with pytest.raises(tornado.httpclient.HTTPClientError) as caught:
        await tornado.httpclient.AsyncHTTPClient().fetch(f"http://{url}/fail")
    assert caught.value.code == 418


async def test_websockets_talk(loop, url):
    connection = await tornado.websocket.websocket_connect(f"ws://{url}/echo")
    for number in range(20):
        await connection.write_message(f"message {number}")
        assert await connection.read_message() == f"message {number}"[::-1]
    await connection.write_message(b"bytes", binary=True)
    assert await connection.read_message() == b"setyb"
    connection.close()
    assert await connection.read_message() is None
