"""What a stream transport is: its kind, its extra information, its protocol, its name in logs."""

import asyncio
import gc
import socket

from support.net import BufferedRecorder, Recorder, connect_recorder, stream_pair, turns


async def test_transport_is_asyncios_transport(loop, link):
    assert isinstance(link.transport, asyncio.Transport)


async def test_extra_info_has_the_socket_and_a_default(loop, link):
    sock = link.transport.get_extra_info("socket")
    assert type(sock).__name__ == "TransportSocket"
    assert sock.type == socket.SOCK_STREAM
    assert link.transport.get_extra_info("sockname") == sock.getsockname()
    assert link.transport.get_extra_info("peername") == sock.getpeername()
    assert link.transport.get_extra_info("nothing") is None
    assert link.transport.get_extra_info("nothing", "default") == "default"


async def test_extra_info_outlives_the_connection(loop, link):
    names = [link.transport.get_extra_info(key) for key in ("sockname", "peername")]
    link.transport.close()
    await link.protocol.happened("connection_lost")
    await turns(1)
    assert [link.transport.get_extra_info(key) for key in ("sockname", "peername")] == names
    assert link.transport.get_extra_info("socket").fileno() == -1


async def test_repr_tells_descriptor_and_state(loop, link):
    assert f"fd={link.transport.get_extra_info('socket').fileno()}" in repr(link.transport)
    link.transport.close()
    assert "closing" in repr(link.transport)
    await link.protocol.happened("connection_lost")
    await turns(1)
    assert "closed" in repr(link.transport)


async def test_get_protocol_gives_what_was_set(loop, link):
    assert link.transport.get_protocol() is link.protocol
    other = Recorder()
    link.transport.set_protocol(other)
    assert link.transport.get_protocol() is other
    link.far.send(b"for the other")
    assert await other.received(13) == b"for the other"
    assert link.protocol.data == b""
    link.transport.set_protocol(link.protocol)


async def test_protocol_may_change_between_plain_and_buffered(loop, link):
    buffered = BufferedRecorder()
    link.far.send(b"plain")
    assert await link.protocol.received(5) == b"plain"
    link.transport.set_protocol(buffered)
    link.far.send(b"buffered")
    assert await buffered.received(8) == b"buffered"
    link.transport.set_protocol(link.protocol)
    link.far.send(b" again")
    assert await link.protocol.received(11) == b"plain again"


async def test_protocol_may_change_from_inside_data_received(loop, link):
    class Handshake(Recorder):
        def data_received(self, data):
            super().data_received(data)
            link.transport.set_protocol(link.protocol)

    handshake = Handshake()
    link.transport.set_protocol(handshake)
    link.far.send(b"hello")
    await handshake.received(5)
    link.far.send(b"payload")
    assert await link.protocol.received(7) == b"payload"
    assert handshake.data == b"hello"


async def test_abandoned_transport_warns_and_closes_its_socket(loop, audit):
    near, far = stream_pair()
    transport, protocol = await connect_recorder(loop, near)
    # A transport that reads is kept by the loop; one that does not is its owner's alone.
    transport.pause_reading()
    await turns(1)
    del near
    protocol.transport = None
    del transport, protocol
    gc.collect()
    audit.take_warning(ResourceWarning, "unclosed transport")
    # asyncio's transport owns a socket object, which complains for itself.
    audit.drop_warnings(ResourceWarning, "unclosed <socket")
    assert await loop.sock_recv(far, 1) == b""
    far.close()
