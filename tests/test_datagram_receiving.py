"""Datagrams that come in: each whole, in order, with its sender, whatever the protocol does meanwhile.

Loopback and Unix sockets lose nothing while their buffers have room, and deliver at once: what was sent
can be received in the next look at the kernel. So nothing here is sent twice.
"""

import contextvars
import socket

import pytest

from support.datagrams import LARGEST_UDP, MANY, DatagramRecorder, Echoing, address_of, receive
from support.net import io_barrier, pattern


async def test_datagrams_arrive_whole_in_order_with_their_sender(loop, endpoints):
    transport, protocol = await endpoints.udp()
    far = endpoints.socket()
    sent = [pattern(number, number) for number in range(1, MANY + 1)]
    for data in sent:
        far.sendto(data, address_of(transport))
    assert await protocol.got(MANY) == sent
    assert {sender for _, sender in protocol.datagrams} == {far.getsockname()}


async def test_bursts_and_single_datagrams_may_alternate(loop, endpoints):
    transport, protocol = await endpoints.udp()
    far = endpoints.socket(connect_to=address_of(transport))
    number = 0
    for burst in (1, 1, 1, 40, 1, 2, 33, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 64, 3):
        for _ in range(burst):
            far.send(b"%d" % number)
            number += 1
        await protocol.got(number)
    assert protocol.contents == [b"%d" % n for n in range(number)]


async def test_each_of_many_senders_is_told_apart(loop, endpoints):
    transport, protocol = await endpoints.udp()
    senders = [endpoints.socket() for _ in range(200)]
    for round_number in (1, 2):
        for number, sock in enumerate(senders, 1):
            sock.sendto(b"%d" % sock.getsockname()[1], address_of(transport))
            if number % 50 == 0:
                # The kernel's buffer has room for a few hundred.
                await protocol.got((round_number - 1) * len(senders) + number)
    assert all(data == b"%d" % sender[1] for data, sender in protocol.datagrams)
    assert len({sender for _, sender in protocol.datagrams}) == len(senders)


@pytest.mark.parametrize("size", [1, 1472, 9000, LARGEST_UDP])
async def test_sizes_up_to_the_largest(loop, endpoints, size):
    transport, protocol = await endpoints.udp(Echoing)
    far = endpoints.socket()
    for seed in range(3):
        far.sendto(pattern(seed, size), address_of(transport))
        assert await receive(loop, far, 1) == [pattern(seed, size)]
    assert protocol.contents == [pattern(seed, size) for seed in range(3)]


async def test_unix_datagrams_may_be_larger(loop, endpoints, tmp_path):
    path = str(tmp_path / "s")
    _, protocol = await endpoints.make(local_addr=path, family=socket.AF_UNIX)
    far = endpoints.socket(socket.AF_UNIX)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    data = pattern(1, 150_000)
    far.sendto(data, path)
    assert await protocol.got(1) == [data]


async def test_empty_datagram_is_received(loop, endpoints):
    transport, protocol = await endpoints.udp()
    far = endpoints.socket()
    far.sendto(b"", address_of(transport))
    far.sendto(b"after", address_of(transport))
    assert await protocol.got(2) == [b"", b"after"]


# asyncio receives one datagram of a socket per turn.
@pytest.mark.loops("antiphon")
async def test_callbacks_of_a_burst_run_after_it(loop, endpoints):
    order = []

    class Scheduling(DatagramRecorder):
        def datagram_received(self, data, addr):
            order.append(data)
            loop.call_soon(order.append, b"callback of " + data)
            super().datagram_received(data, addr)

    transport, protocol = await endpoints.udp(Scheduling)
    far = endpoints.socket(connect_to=address_of(transport))
    for number in range(3):
        far.send(b"%d" % number)
    await protocol.got(3)
    await io_barrier(loop)
    assert order == [b"0", b"1", b"2", b"callback of 0", b"callback of 1", b"callback of 2"]


async def test_raising_protocol_is_reported_and_the_transport_goes_on(loop, endpoints, faults):
    class Failing(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"bad":
                raise LookupError("bad datagram")

    transport, protocol = await endpoints.udp(Failing)
    far = endpoints.socket()
    for data in (b"good", b"bad", b"fine"):
        far.sendto(data, address_of(transport))
    assert await protocol.got(3) == [b"good", b"bad", b"fine"]
    assert [str(fault["exception"]) for fault in faults] == ["bad datagram"]
    assert not transport.is_closing()


async def test_contextvars_are_those_of_the_creation(loop, endpoints):
    place = contextvars.ContextVar("place")
    seen = []

    class Looking(DatagramRecorder):
        def datagram_received(self, data, addr):
            seen.append(place.get("nowhere"))
            super().datagram_received(data, addr)

    place.set("creation")
    transport, protocol = await endpoints.udp(Looking)
    place.set("later")
    endpoints.socket().sendto(b"x", address_of(transport))
    await protocol.got(1)
    assert seen == ["creation"]


async def test_another_protocol_takes_over_in_the_midst_of_a_burst(loop, endpoints):
    second = DatagramRecorder()

    class Handing(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if len(self.datagrams) == 3:
                self.transport.set_protocol(second)

    transport, first = await endpoints.udp(Handing)
    far = endpoints.socket()
    for number in range(MANY):
        far.sendto(b"%d" % number, address_of(transport))
    await second.got(MANY - 3)
    assert len(first.datagrams) == 3
    assert transport.get_protocol() is second
    assert first.contents + second.contents == [b"%d" % number for number in range(MANY)]
    transport.set_protocol(first)


@pytest.mark.parametrize("pause_after", [1, 3, 32, 50])
async def test_pause_in_the_midst_of_a_burst_keeps_the_rest(loop, endpoints, pause_after):
    class Pausing(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if len(self.datagrams) == pause_after:
                self.transport.pause_reading()

    transport, protocol = await endpoints.udp(Pausing)
    far = endpoints.socket()
    for number in range(MANY):
        far.sendto(b"%d" % number, address_of(transport))
    await protocol.got(pause_after)
    await io_barrier(loop)
    assert len(protocol.datagrams) == pause_after
    assert not transport.is_reading()
    transport.resume_reading()
    assert await protocol.got(MANY) == [b"%d" % number for number in range(MANY)]


async def test_pause_and_resume_by_turns_keep_the_order(loop, endpoints):
    class Halting(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.transport.pause_reading()
            loop.call_soon(self.transport.resume_reading)

    transport, protocol = await endpoints.udp(Halting)
    far = endpoints.socket()
    for number in range(MANY):
        far.sendto(b"%d" % number, address_of(transport))
    assert await protocol.got(MANY) == [b"%d" % number for number in range(MANY)]


async def test_close_in_the_midst_of_a_burst_ends_the_delivery(loop, endpoints):
    class Closing(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.transport.close()

    transport, protocol = await endpoints.udp(Closing)
    far = endpoints.socket()
    for number in range(MANY):
        far.sendto(b"%d" % number, address_of(transport))
    await protocol.happened("connection_lost")
    assert protocol.contents == [b"0"]
    assert protocol.lost_with is None


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
def test_what_leaves_the_loop_loses_no_datagram(loop, endpoints, leaving):
    class Interrupting(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if len(self.datagrams) == 2:
                raise leaving

    transport, protocol = loop.run_until_complete(endpoints.udp(Interrupting))
    far = endpoints.socket()
    for number in range(10):
        far.sendto(b"%d" % number, address_of(transport))
    with pytest.raises(leaving):
        loop.run_forever()
    assert len(protocol.datagrams) == 2
    loop.run_until_complete(protocol.got(10))
    assert protocol.contents == [b"%d" % number for number in range(10)]


async def test_sockets_of_other_classes_are_driven_by_their_methods(loop, endpoints):
    calls = []

    class Counting(socket.socket):
        def recvfrom(self, *args):
            calls.append("recvfrom")
            return super().recvfrom(*args)

        def sendto(self, *args):
            calls.append("sendto")
            return super().sendto(*args)

    sock = Counting(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    transport, protocol = await endpoints.make(Echoing, sock=sock)
    far = endpoints.socket()
    for number in range(5):
        far.sendto(b"%d" % number, address_of(transport))
    assert await receive(loop, far, 5) == [b"%d" % number for number in range(5)]
    assert calls == ["recvfrom", "sendto"] * 5
    assert len(protocol.datagrams) == 5
