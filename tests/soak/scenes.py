"""What a visitor may do when nothing but the planned interference goes wrong."""

import asyncio
import os
import random
import signal
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any

from soak.ends import BufferedEnd, PlainEnd
from soak.exchange import MOST_BYTES_AT_ONCE, Exchange, Flow, Plan
from soak.keystream import Keystream
from soak.talks import SocketTalk, StreamTalk, finish

if TYPE_CHECKING:
    from soak.life import Life


async def connection(life: "Life", rng: random.Random, number: int) -> None:
    """An exchange over a stream: any kind of client, any kind of server, any ending."""
    exchange = Exchange(life.book, number, life.seed, Plan.draw(rng))
    life.exchanges[number] = exchange
    try:
        await _client(life, exchange)
        if exchange.plan.is_complete or exchange.was_met:
            await exchange.server_ended
        verify(exchange)
    except TimeoutError:
        life.book.fail(f"{exchange}: stalled")
    finally:
        del life.exchanges[number]
        exchange.close()


def verify(exchange: Exchange) -> None:
    """Holds a finished exchange against its plan (Q1)."""
    plan = exchange.plan
    if plan.is_complete and not (exchange.up.has_arrived and exchange.down.has_arrived):
        exchange.book.fail(f"{exchange}: bytes were lost")
    exchange.book.done[f"{plan.kind} {plan.ending.value}"] += 1


async def _client(life: "Life", exchange: Exchange) -> None:
    plan = exchange.plan
    if plan.client in ("protocol", "buffered"):
        kind = PlainEnd if plan.client == "protocol" else BufferedEnd
        _, end = await life.connect(plan, lambda: kind(exchange, False))
        await end.lost
    elif plan.client == "streams":
        reader, writer = await life.open_streams(plan)
        writer.write(exchange.header)
        await finish(exchange, StreamTalk(exchange, False, reader, writer).run())
        writer.transport.abort()  # does nothing to one that is closed
    else:
        await finish(exchange, _socket_client(life, exchange))


async def _socket_client(life: "Life", exchange: Exchange) -> None:
    plan = exchange.plan
    address = life.addresses[plan.kind, plan.server]
    family = socket.AF_UNIX if plan.kind == "unix" else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    with sock:
        sock.setblocking(False)
        await life.loop.sock_connect(sock, address)
        await life.loop.sock_sendall(sock, exchange.header)
        await SocketTalk(exchange, sock).run()
        await asyncio.sleep(0)


_DATAGRAM = struct.Struct("!QIH")
_MOST_DATAGRAM_BYTES = 1400


class _Datagrams(asyncio.DatagramProtocol):
    """Checks that each datagram is of its own exchange, unchanged and new; echoes as a server."""

    def __init__(self, life: "Life", number: int, echoes: bool) -> None:
        self.life = life
        self.number = number
        self.echoes = echoes
        self.pattern = Keystream(f"{life.seed}/{number}/datagrams")
        self.seen: set[int] = set()
        self.lost = life.loop.create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        number, step, size = _DATAGRAM.unpack_from(data)
        body = data[_DATAGRAM.size :]
        if number != self.number or body != self.pattern.at(step * _MOST_DATAGRAM_BYTES, size):
            self.life.book.fail(f"datagram {step} of exchange {number} at {self.number} is wrong")
        if step in self.seen:
            self.life.book.fail(f"datagram {step} of exchange {number} came twice")
        self.seen.add(step)
        self.life.book.done["bytes checked"] += size
        if self.echoes:
            self.transport.sendto(data, addr)

    def error_received(self, exc: Exception) -> None:
        self.life.book.done["datagram errors told"] += 1

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(None)

    def send(self, rng: random.Random, step: int, address: Any) -> None:
        """Sends one datagram."""
        size = rng.randrange(_MOST_DATAGRAM_BYTES)
        body = self.pattern.at(step * _MOST_DATAGRAM_BYTES, size)
        self.transport.sendto(_DATAGRAM.pack(self.number, step, size) + body, address)


async def datagrams(life: "Life", rng: random.Random, number: int) -> None:
    """Datagrams there and back, in bursts; sometimes the answering side goes away."""
    make = life.loop.create_datagram_endpoint
    far_transport, far = await make(
        lambda: _Datagrams(life, number, True), local_addr=("127.0.0.1", 0)
    )
    address = far_transport.get_extra_info("sockname")
    connected = rng.random() < 0.5
    way = {"remote_addr": address} if connected else {"local_addr": ("127.0.0.1", 0)}
    near_transport, near = await make(lambda: _Datagrams(life, number, False), **way)
    gone = rng.random() < 0.2
    sent = 0
    for _ in range(rng.randrange(1, 10)):
        for _ in range(rng.randrange(1, 40)):
            near.send(rng, sent, None if connected else address)
            sent += 1
        await asyncio.sleep(rng.choice((0, 0, 0.002)))
        if gone:
            far_transport.abort()
    for _ in range(100):
        if len(near.seen) == sent or gone:
            break
        await asyncio.sleep(0.002)
    near_transport.close()
    far_transport.close()
    await near.lost
    await far.lost
    life.book.done["datagrams sent"] += sent
    life.book.done["datagrams answered"] += len(near.seen)


class _Pump(asyncio.Protocol):
    """An end of a pipe: writes its flow, or checks it."""

    def __init__(self, life: "Life", rng: random.Random, flow: Flow, writes: bool) -> None:
        self.life = life
        self.rng = rng
        self.flow = flow
        self.writes = writes
        self.may_write = True
        self.quits_at: int | None = None
        self.lost = life.loop.create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if self.writes:
            self.pump()

    def pump(self) -> None:
        while self.may_write and not self.flow.is_sent and not self.transport.is_closing():
            self.transport.write(self.flow.next_chunk(self.rng.randrange(1, MOST_BYTES_AT_ONCE)))
            if self.quits_at is not None and self.flow.outgoing.offset >= self.quits_at:
                self.transport.abort()
        if self.flow.is_sent:
            self.transport.close()

    def pause_writing(self) -> None:
        self.may_write = False

    def resume_writing(self) -> None:
        self.may_write = True
        self.pump()

    def data_received(self, data: bytes) -> None:
        self.life.book.check(self.flow.incoming, data, f"pipe {self.flow.incoming.name}")
        if self.quits_at is not None and self.flow.incoming.offset >= self.quits_at:
            self.transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(None)


async def pipe(life: "Life", rng: random.Random, number: int) -> None:
    """A pipe with a transport at each end; sometimes one of them quits."""
    flow = Flow(f"{life.seed}/{number}/pipe", rng.randrange(1, 400_000))
    ends = zip(os.pipe(), ("rb", "wb"), strict=True)
    reading, writing = [os.fdopen(fd, mode, buffering=0) for fd, mode in ends]
    reader = _Pump(life, rng, flow, False)
    writer = _Pump(life, rng, flow, True)
    quitter = rng.choice((None, None, reader, writer))
    if quitter is not None:
        quitter.quits_at = rng.randrange(flow.total)
    # The loop closes the files.
    await life.loop.connect_read_pipe(lambda: reader, reading)
    await life.loop.connect_write_pipe(lambda: writer, writing)
    await reader.lost
    await writer.lost
    if quitter is None and not flow.has_arrived:
        life.book.fail(f"pipe {flow.incoming.name}: bytes were lost")
    life.book.done["pipes"] += 1


async def readers(life: "Life", rng: random.Random, number: int) -> None:
    """A socket pair driven by `add_reader` and `add_writer`."""
    flow = Flow(f"{life.seed}/{number}/readers", rng.randrange(1, 200_000))
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    arrived = life.loop.create_future()

    def send() -> None:
        start = flow.outgoing.offset
        sent = near.send(flow.next_chunk(rng.randrange(1, 20_000)))
        flow.outgoing.offset = start + sent
        if flow.is_sent:
            life.loop.remove_writer(near)

    def receive() -> None:
        life.book.check(flow.incoming, far.recv(rng.randrange(1, 20_000)), f"reader {number}")
        if flow.has_arrived:
            life.loop.remove_reader(far)
            arrived.set_result(None)

    with near, far:
        life.loop.add_writer(near, send)
        life.loop.add_reader(far, receive)
        await arrived
    life.book.done["readers and writers"] += 1


async def timers(life: "Life", rng: random.Random, number: int) -> None:
    """Timers in the order of their deadlines; half of them are cancelled."""
    ran: list[float] = []
    begun = life.loop.time()
    kept, dropped = [], []
    for step in range(100):
        deadline = begun + rng.random() / 20
        handle = life.loop.call_at(deadline, ran.append, deadline if step % 2 else -1)
        (kept if step % 2 else dropped).append((deadline, handle))
    for _, handle in dropped:
        handle.cancel()
    await asyncio.sleep(0.06)
    while len(ran) < len(kept):
        await asyncio.sleep(0.001)
    if ran != sorted(deadline for deadline, _ in kept):
        life.book.fail(f"timers {number}: ran as {ran}")
    life.book.done["timers"] += len(ran)


async def threads(life: "Life", rng: random.Random, number: int) -> None:
    """Threads that flood the loop, and jobs of the executor."""
    count = rng.randrange(1, 1000)
    arrived: list[int] = []
    complete = life.loop.create_future()

    def arrive(step: int) -> None:
        arrived.append(step)
        if step == count - 1:
            complete.set_result(None)

    def flood() -> None:
        for step in range(count):
            try:
                life.loop.call_soon_threadsafe(arrive, step)
            except RuntimeError:
                return  # the loop was closed

    thread = threading.Thread(target=flood)
    thread.start()
    answers = await asyncio.gather(
        *(life.loop.run_in_executor(None, lambda step=step: step) for step in range(5))
    )
    await complete
    thread.join()
    if arrived != list(range(count)) or answers != list(range(5)):
        life.book.fail(f"threads {number}: callbacks arrived out of order")
    life.book.done["callbacks from threads"] += count


async def signals(life: "Life", rng: random.Random, number: int) -> None:
    """A burst of signals; the handler of each runs at least once after it."""
    before = dict(life.signals)
    for _ in range(rng.randrange(1, 300)):
        os.kill(os.getpid(), signal.SIGUSR1)
        life.book.done["signals sent"] += 1
    os.kill(os.getpid(), signal.SIGUSR2)
    while any(life.signals[number] == before[number] for number in before):
        await asyncio.sleep(0.001)
