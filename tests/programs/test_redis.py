"""redis: its asyncio client on streams, with a server of the test's own that speaks as much of the protocol."""

import asyncio
import collections
import contextlib

import pytest
import redis.asyncio
from redis.exceptions import ResponseError

from support.net import pattern, turns
from support.programs import settle


class Server:
    """Strings, lists with blocking pops, transactions and channels, in the loop under test.

    Source: the Redis serialization protocol specification (RESP2).
    """

    def __init__(self):
        self.strings = {}
        self.lists = collections.defaultdict(collections.deque)
        self.arrived = asyncio.Condition()
        self.channels = collections.defaultdict(set)
        self.serving = set()

    async def __call__(self, reader, writer):
        """Serves one connection until its end, or its client's."""
        self.serving.add(asyncio.current_task())
        try:
            # Streams of 3.12.1 report callbacks that end cancelled.
            ends = (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError)
            with contextlib.suppress(*ends):
                await self.converse(reader, writer)
        finally:
            self.serving.discard(asyncio.current_task())
            for subscribers in self.channels.values():
                subscribers.discard(writer)
            writer.close()

    async def converse(self, reader, writer):
        transaction = None
        while True:
            command, *arguments = await self.read(reader)
            if command == b"MULTI":
                transaction = []
                reply = b"+OK"
            elif command == b"EXEC":
                replies, transaction = transaction, None
                reply = b"*%d\r\n" % len(replies) + b"\r\n".join(replies)
            elif transaction is not None:
                transaction.append(await self.answer(command, arguments, writer))
                reply = b"+QUEUED"
            else:
                reply = await self.answer(command, arguments, writer)
            writer.write(reply + b"\r\n")
            await writer.drain()

    async def read(self, reader):
        """Reads one command: an array of strings."""
        words = []
        for _ in range(int((await reader.readuntil(b"\r\n"))[1:])):
            size = int((await reader.readuntil(b"\r\n"))[1:])
            words.append((await reader.readexactly(size + 2))[:-2])
        return words[0].upper(), *words[1:]

    async def answer(self, command, arguments, writer):
        match command, arguments:
            case b"PING", []:
                return b"+PONG"
            case b"CLIENT", _:
                return b"+OK"
            case b"SET", [key, value, *_]:
                self.strings[key] = value
                return b"+OK"
            case b"GET", [key]:
                return self.bulk(self.strings.get(key))
            case b"INCRBY", [key, by]:
                number = int(self.strings.get(key, b"0")) + int(by)
                self.strings[key] = b"%d" % number
                return b":%d" % number
            case b"RPUSH", [key, *values]:
                async with self.arrived:
                    self.lists[key].extend(values)
                    self.arrived.notify_all()
                return b":%d" % len(self.lists[key])
            case b"BLPOP", [key, _]:
                async with self.arrived:
                    await self.arrived.wait_for(lambda: self.lists[key])
                return b"*2\r\n" + self.bulk(key) + b"\r\n" + self.bulk(self.lists[key].popleft())
            case b"SUBSCRIBE", [channel]:
                self.channels[channel].add(writer)
                return b"*3\r\n$9\r\nsubscribe\r\n" + self.bulk(channel) + b"\r\n:1"
            case b"UNSUBSCRIBE", [channel]:
                self.channels[channel].discard(writer)
                return b"*3\r\n$11\r\nunsubscribe\r\n" + self.bulk(channel) + b"\r\n:0"
            case b"PUBLISH", [channel, message]:
                for subscriber in self.channels[channel]:
                    parts = (self.bulk(b"message"), self.bulk(channel), self.bulk(message))
                    subscriber.write(b"*3\r\n" + b"\r\n".join(parts) + b"\r\n")
                return b":%d" % len(self.channels[channel])
        return b"-ERR unknown command"

    def bulk(self, value):
        return b"$-1" if value is None else b"$%d\r\n%b" % (len(value), value)


@pytest.fixture
def client(loop):
    """A client with a pool of connections to a server that lives as long."""

    async def start():
        server = Server()
        listener = await asyncio.start_server(server, "127.0.0.1", 0)
        host, port = listener.sockets[0].getsockname()
        return server, listener, redis.asyncio.Redis(host=host, port=port, protocol=2)

    async def stop():
        await client.aclose()
        listener.close()
        # Some still wait, for a push that never comes.
        for task in server.serving:
            task.cancel()
        await listener.wait_closed()
        await settle()

    server, listener, client = loop.run_until_complete(start())
    yield client
    loop.run_until_complete(stop())


async def test_tasks_at_once_get_their_own_answers(loop, client):
    assert await client.ping()

    async def use(number):
        key, value = f"key {number}", pattern(number, 1000 * (number % 7))
        assert await client.set(key, value)
        assert await client.get(key) == value
        return await client.incr("counter")

    counted = await asyncio.gather(*(use(number) for number in range(50)))
    assert sorted(counted) == list(range(1, 51))
    assert await client.get("no such key") is None


async def test_pipelines_and_transactions(loop, client):
    async with client.pipeline(transaction=False) as pipe:
        for number in range(20):
            pipe.set(f"key {number}", number)
            pipe.get(f"key {number}")
        answers = await pipe.execute()
    assert answers == [part for number in range(20) for part in (True, b"%d" % number)]
    async with client.pipeline(transaction=True) as pipe:
        assert await pipe.incr("counter").incr("counter", 5).get("counter").execute() == [
            1,
            6,
            b"6",
        ]


async def test_a_blocking_pop_waits_for_another_connections_push(loop, client):
    popping = asyncio.create_task(client.blpop("list"))
    assert await client.ping()  # its connection is another one
    assert not popping.done()
    assert await client.rpush("list", "first", "second") == 2
    assert await popping == (b"list", b"first")
    assert await client.blpop("list") == (b"list", b"second")


async def test_messages_of_a_channel(loop, client):
    async with client.pubsub() as subscription:
        await subscription.subscribe("channel")
        messages = subscription.listen()
        assert (await anext(messages))["type"] == "subscribe"
        for number in range(10):
            assert await client.publish("channel", number) == 1
        got = [(await anext(messages))["data"] for _ in range(10)]
        assert got == [b"%d" % number for number in range(10)]
        await messages.aclose()
        await subscription.unsubscribe("channel")
    assert await client.ping()


async def test_a_cancelled_call_spoils_nobody_elses(loop, client):
    popping = asyncio.create_task(client.blpop("never"))
    assert await client.ping()
    await turns(2)
    popping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await popping
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await client.blpop("never")
    assert await client.set("key", "value") and await client.get("key") == b"value"


async def test_an_error_of_the_server_is_the_callers(loop, client):
    with pytest.raises(ResponseError, match="unknown command"):
        await client.execute_command("NONSENSE")
    assert await client.ping()
