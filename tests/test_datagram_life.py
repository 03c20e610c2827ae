"""The beginning and the end of datagram transports, and what they leave behind."""

import asyncio
import gc
import os
import sys
import weakref

import pytest

from support.datagrams import DatagramRecorder, Echoing, address_of
from support.loops import run_ready


async def test_connection_lost_comes_once_and_later(loop, endpoints):
    transport, protocol = await endpoints.udp()
    transport.close()
    transport.close()
    transport.abort()
    assert protocol.events == ["connection_made"]
    assert transport.is_closing()
    assert not transport.is_reading()
    await protocol.happened("connection_lost")
    await asyncio.sleep(0)
    assert protocol.events == ["connection_made", "connection_lost"]
    assert protocol.lost_with is None


async def test_sending_after_the_end_is_forgiven_then_logged(loop, endpoints, audit):
    far = endpoints.socket()
    transport, protocol = await endpoints.make(remote_addr=far.getsockname())
    transport.close()
    await protocol.happened("connection_lost")
    for _ in range(4):
        transport.sendto(b"late")
    assert not audit.log.records
    transport.sendto(b"too late")
    audit.take_log("socket.send\\(\\) raised exception")


# asyncio raises an AttributeError of its own.
@pytest.mark.loops("antiphon")
async def test_sending_to_an_address_after_the_end_is_forgiven_too(loop, endpoints):
    far = endpoints.socket()
    transport, protocol = await endpoints.udp()
    transport.close()
    await protocol.happened("connection_lost")
    transport.sendto(b"late", far.getsockname())
    with pytest.raises(BlockingIOError):
        far.recv(1)
    assert protocol.errors == []


async def test_pause_and_resume_after_close_do_nothing(loop, endpoints):
    transport, protocol = await endpoints.udp()
    transport.close()
    transport.pause_reading()
    transport.resume_reading()
    await protocol.happened("connection_lost")
    transport.resume_reading()
    assert not transport.is_reading()


async def test_raising_connection_made_is_reported_and_the_endpoint_stands(loop, endpoints, faults):
    class Failing(DatagramRecorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise LookupError("made")

    transport, protocol = await endpoints.udp(Failing)
    assert [str(fault["exception"]) for fault in faults] == ["made"]
    endpoints.socket().sendto(b"x", address_of(transport))
    assert await protocol.got(1) == [b"x"]


async def test_raising_connection_lost_is_reported_and_the_socket_closed(loop, endpoints, faults):
    class Failing(DatagramRecorder):
        def connection_lost(self, exc):
            super().connection_lost(exc)
            raise LookupError("lost")

    sock = endpoints.socket()
    transport, protocol = await endpoints.make(Failing, sock=sock)
    transport.close()
    await protocol.happened("connection_lost")
    await asyncio.sleep(0)
    assert [str(fault["exception"]) for fault in faults] == ["lost"]
    assert sock.fileno() == -1


async def test_repr_tells_the_state(loop, endpoints):
    transport, protocol = await endpoints.udp()
    fd = transport.get_extra_info("socket").fileno()
    assert f"fd={fd} read=polling write=<idle, bufsize=0>" in repr(transport)
    transport.pause_reading()
    assert "read=idle" in repr(transport)
    transport.close()
    assert " closing " in repr(transport)
    await protocol.happened("connection_lost")
    assert " closed" in repr(transport)


async def test_extra_info_has_a_default(loop, endpoints):
    transport, _ = await endpoints.udp()
    assert transport.get_extra_info("nothing") is None
    assert transport.get_extra_info("nothing", 7) == 7
    assert transport.get_extra_info("peername", 7) is None


async def test_descriptor_of_a_transport_cannot_be_watched(loop, endpoints):
    transport, _ = await endpoints.udp()
    fd = transport.get_extra_info("socket").fileno()
    with pytest.raises(RuntimeError, match=r"^File descriptor .* is used by transport <"):
        loop.add_reader(fd, print)


@pytest.mark.asyncio_lacks(
    when=sys.version_info < (3, 12), reason="asyncio did not look before 3.12"
)
async def test_two_transports_cannot_share_a_socket(loop, endpoints):
    sock = endpoints.socket()
    await endpoints.make(sock=sock)
    with pytest.raises(RuntimeError, match="is used by transport"):
        await loop.create_datagram_endpoint(DatagramRecorder, sock=sock)


def test_forgotten_transport_warns_and_closes(loop, loop_factory, audit):
    other = loop_factory()
    transport, _ = other.run_until_complete(
        other.create_datagram_endpoint(DatagramRecorder, local_addr=("127.0.0.1", 0))
    )
    other.close()
    gone = weakref.ref(transport)
    del transport, _
    gc.collect()
    audit.take_warning(ResourceWarning, "unclosed transport")
    audit.drop_warnings(ResourceWarning, "unclosed <socket")
    gc.collect()  # the record of the warning kept it
    assert gone() is None


async def test_closed_transport_keeps_nothing_alive(loop, endpoints):
    transport, protocol = await loop.create_datagram_endpoint(
        DatagramRecorder, local_addr=("127.0.0.1", 0)
    )
    transport.close()
    await protocol.happened("connection_lost")
    assert transport.get_protocol() is None
    gone = weakref.ref(protocol)
    del protocol
    gc.collect()
    assert gone() is None


def test_open_transport_in_a_cycle_with_its_loop_is_collected(loop, loop_factory, audit):
    other = loop_factory()

    made = other.run_until_complete(
        other.create_datagram_endpoint(DatagramRecorder, local_addr=("127.0.0.1", 0))
    )
    made[1].loop = other
    gone = weakref.ref(made[1])
    other.close()
    del made, other
    gc.collect()
    audit.take_warning(ResourceWarning, "unclosed transport")
    audit.drop_warnings(ResourceWarning, "unclosed <socket")
    gc.collect()  # the record of the warning kept it
    assert gone() is None


def test_no_references_are_left_per_datagram(loop, endpoints):
    transport, protocol = loop.run_until_complete(endpoints.udp(Echoing))
    far = endpoints.socket(connect_to=address_of(transport))

    def round_trips(count):
        for _ in range(count):
            far.send(b"x" * 100)
            while True:
                run_ready(loop)
                try:
                    far.recv(200)
                    break
                except BlockingIOError:
                    continue
        protocol.datagrams.clear()
        protocol.events.clear()
        gc.collect()
        return sys.getallocatedblocks()

    round_trips(100)
    before = round_trips(10)
    assert round_trips(300) - before < 50


def test_address_objects_are_not_leaked(loop, endpoints):
    transport, protocol = loop.run_until_complete(endpoints.udp())
    far = endpoints.socket()
    for _ in range(20):
        far.sendto(b"x", address_of(transport))
    loop.run_until_complete(protocol.got(20))
    senders = [sender for _, sender in protocol.datagrams]
    protocol.datagrams.clear()
    counts = {sys.getrefcount(sender) for sender in senders}
    # The list and the call; where one object stands for them all, its other places in the list and the memory.
    assert max(counts) <= len(senders) + 4


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
async def test_creation_and_end_leave_no_descriptor(loop):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        transport, protocol = await loop.create_datagram_endpoint(
            DatagramRecorder, local_addr=("127.0.0.1", 0)
        )
        transport.close()
        await protocol.happened("connection_lost")
    assert len(os.listdir("/proc/self/fd")) == before
