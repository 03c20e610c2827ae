"""Datagrams that go out: each whole and in order, or the protocol hears why not."""

import errno
import socket

import pytest

from support.datagrams import MANY, SENDS_EMPTY, DatagramRecorder, Echoing, address_of, receive
from support.net import closed_port, pattern


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
async def test_every_bytes_like_can_be_sent(loop, endpoints, make):
    transport, _ = await endpoints.udp()
    far = endpoints.socket()
    transport.sendto(make(b"data"), far.getsockname())
    transport.sendto(data=make(b"named"), addr=far.getsockname())
    assert await receive(loop, far, 2) == [b"data", b"named"]


@pytest.mark.parametrize("data", ["text", 7, None, [b"x"]])
async def test_anything_else_is_a_type_error(loop, endpoints, data):
    transport, _ = await endpoints.udp()
    with pytest.raises(TypeError) as caught:
        transport.sendto(data, ("127.0.0.1", 9))
    kind = type(data).__name__
    assert str(caught.value) == f"data argument must be a bytes-like object, not {kind!r}"


async def test_what_is_sent_may_change_afterwards(loop, endpoints):
    transport, _ = await endpoints.udp()
    far = endpoints.socket()
    data = bytearray(b"before")
    transport.sendto(data, far.getsockname())
    data[:] = b"after!"
    assert await receive(loop, far, 1) == [b"before"]


async def test_empty_datagrams_are_sent_as_the_version_does(loop, endpoints):
    transport, _ = await endpoints.udp()
    far = endpoints.socket()
    transport.sendto(b"", far.getsockname())
    transport.sendto(b"after", far.getsockname())
    expected = [b"", b"after"] if SENDS_EMPTY else [b"after"]
    assert await receive(loop, far, len(expected)) == expected


async def test_echo_keeps_order_content_and_addresses(loop, endpoints):
    transport, _ = await endpoints.udp(Echoing)
    senders = [endpoints.socket(connect_to=address_of(transport)) for _ in range(5)]
    for number in range(MANY):
        senders[number % 5].send(pattern(number, 20))
    for place, sock in enumerate(senders):
        expected = [pattern(number, 20) for number in range(place, MANY, 5)]
        assert await receive(loop, sock, MANY // 5) == expected


async def test_answers_of_one_delivery_keep_their_order(loop, endpoints):
    class Answering(DatagramRecorder):
        def datagram_received(self, data, addr):
            for number in range(MANY):
                # A name goes through the resolver, a number does not: the order stays.
                self.transport.sendto(
                    b"%d" % number, ("localhost" if number % 7 == 3 else addr[0], addr[1])
                )

    transport, _ = await endpoints.udp(Answering)
    far = endpoints.socket(connect_to=address_of(transport))
    far.send(b"?")
    assert await receive(loop, far, MANY) == [b"%d" % number for number in range(MANY)]


@pytest.mark.whole_writes("abort() drops what is held back")
async def test_datagrams_sent_before_abort_in_a_delivery_leave(loop, endpoints):
    class Answering(DatagramRecorder):
        def datagram_received(self, data, addr):
            self.transport.sendto(b"first", addr)
            self.transport.sendto(b"second", addr)
            self.transport.abort()

    transport, protocol = await endpoints.udp(Answering)
    far = endpoints.socket(connect_to=address_of(transport))
    far.send(b"?")
    await protocol.happened("connection_lost")
    assert await receive(loop, far, 2) == [b"first", b"second"]


@pytest.mark.whole_writes("nothing waits after write()")
async def test_nothing_is_buffered_while_there_is_room(loop, endpoints):
    sizes = []

    class Answering(DatagramRecorder):
        def datagram_received(self, data, addr):
            self.transport.sendto(data, addr)
            sizes.append(self.transport.get_write_buffer_size())

    transport, _ = await endpoints.udp(Answering)
    far = endpoints.socket(connect_to=address_of(transport))
    far.send(b"?")
    assert await receive(loop, far, 1) == [b"?"]
    assert sizes == [0]


async def test_address_other_than_the_only_one_is_refused(loop, endpoints):
    far = endpoints.socket()
    transport, _ = await endpoints.make(remote_addr=far.getsockname())
    with pytest.raises(ValueError) as caught:
        transport.sendto(b"x", ("127.0.0.1", 1))
    assert str(caught.value) == f"Invalid address: must be None or {far.getsockname()}"
    host, port = far.getsockname()
    transport.sendto(b"equal is enough", (host, port))
    assert await receive(loop, far, 1) == [b"equal is enough"]


async def test_refused_datagrams_are_told_and_the_transport_goes_on(loop, endpoints):
    port = closed_port()
    transport, protocol = await endpoints.make(remote_addr=("127.0.0.1", port))
    for round_number in range(1, 4):
        transport.sendto(b"anybody?")
        await protocol.until(lambda wanted=round_number: len(protocol.errors) >= wanted)
    assert {type(error) for error in protocol.errors} == {ConnectionRefusedError}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.bind(("127.0.0.1", port))
        far.setblocking(False)
        transport.sendto(b"now somebody")
        assert await receive(loop, far, 1) == [b"now somebody"]


@pytest.mark.whole_writes("asks for an error of sendto() itself")
async def test_each_refused_datagram_is_told_while_sending(loop, endpoints):
    transport, protocol = await endpoints.make(remote_addr=("127.0.0.1", closed_port()))
    # The kernel answers on loopback before the call returns: the next send meets the error and sends nothing.
    for _ in range(10):
        transport.sendto(b"x")
    assert [type(error) for error in protocol.errors] == [ConnectionRefusedError] * 5


@pytest.mark.parametrize("within_a_delivery", [False, True])
async def test_datagram_that_is_too_long_is_told_and_the_others_leave(
    loop, endpoints, within_a_delivery
):
    class Answering(DatagramRecorder):
        def datagram_received(self, data, addr):
            answer(self.transport, addr)

    def answer(transport, address):
        transport.sendto(b"before", address)
        transport.sendto(bytes(70_000), address)
        transport.sendto(b"after", address)

    transport, protocol = await endpoints.udp(Answering)
    far = endpoints.socket(connect_to=address_of(transport))
    if within_a_delivery:
        far.send(b"?")
    else:
        answer(transport, far.getsockname())
    assert await receive(loop, far, 2) == [b"before", b"after"]
    await protocol.until(lambda: protocol.errors)
    assert [error.errno for error in protocol.errors] == [errno.EMSGSIZE]
    assert not transport.is_closing()


# asyncio tells it within sendto, as antiphon does outside of a delivery.
@pytest.mark.loops("antiphon")
@pytest.mark.whole_writes("asks for an error of sendto() itself")
async def test_error_of_a_delivery_is_told_after_it(loop, endpoints):
    class Answering(DatagramRecorder):
        def datagram_received(self, data, addr):
            self.transport.sendto(bytes(70_000), addr)
            self.note("sent")

    transport, protocol = await endpoints.udp(Answering)
    endpoints.socket(connect_to=address_of(transport)).send(b"?")
    await protocol.happened("error_received")
    assert protocol.events == ["connection_made", "sent", "error_received"]
    transport.sendto(bytes(70_000), address_of(transport))
    assert len(protocol.errors) == 2


# In asyncio the exception leaves datagram_received, before it comes to the third datagram.
@pytest.mark.loops("antiphon")
def test_what_leaves_the_loop_while_sending_loses_no_datagram(loop, endpoints):
    class Interrupting(DatagramRecorder):
        def datagram_received(self, data, addr):
            for answer in (b"before", bytes(70_000), b"after"):
                self.transport.sendto(answer, addr)

        def error_received(self, exc):
            raise KeyboardInterrupt

    transport, _ = loop.run_until_complete(endpoints.udp(Interrupting))
    far = endpoints.socket(connect_to=address_of(transport))
    far.send(b"?")
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert loop.run_until_complete(receive(loop, far, 2)) == [b"before", b"after"]


async def test_error_received_may_send_again(loop, endpoints):
    class Retrying(DatagramRecorder):
        def datagram_received(self, data, addr):
            self.sender = addr
            self.transport.sendto(bytes(70_000), addr)

        def error_received(self, exc):
            super().error_received(exc)
            self.transport.sendto(b"shorter", self.sender)

    transport, protocol = await endpoints.udp(Retrying)
    far = endpoints.socket(connect_to=address_of(transport))
    far.send(b"?")
    assert await receive(loop, far, 1) == [b"shorter"]
    assert len(protocol.errors) == 1


async def test_address_of_another_family_is_told(loop, endpoints):
    transport, protocol = await endpoints.udp()
    transport.sendto(b"x", ("::1", 9))
    assert len(protocol.errors) == 1
    assert isinstance(protocol.errors[0], socket.gaierror)
    assert not transport.is_closing()


@pytest.mark.parametrize(
    ("address", "error"),
    [
        (None, TypeError),
        ("127.0.0.1", TypeError),
        (("127.0.0.1",), TypeError),
        (("127.0.0.1", "9"), TypeError),
        (("127.0.0.1", 65536), OverflowError),
        (("127.0.0.1", -1), OverflowError),
        (("127.0.0.1", 10**30), OverflowError),
    ],
)
async def test_impossible_address_ends_the_transport(loop, endpoints, faults, address, error):
    transport, protocol = await endpoints.udp()
    transport.sendto(b"x", address)
    assert transport.is_closing()
    await protocol.happened("connection_lost")
    assert type(protocol.lost_with) is error
    (fault,) = faults
    assert fault["message"] == "Fatal write error on datagram transport"
    assert fault["exception"] is protocol.lost_with
    assert fault["transport"] is transport
    assert fault["protocol"] is protocol


async def test_kernel_without_buffers_is_told(loop, endpoints):
    class Full(socket.socket):
        def sendto(self, *args):
            raise OSError(errno.ENOBUFS, "No buffer space available")

    sock = Full(socket.AF_INET, socket.SOCK_DGRAM)
    transport, protocol = await endpoints.make(sock=sock)
    transport.sendto(b"x", ("127.0.0.1", 9))
    assert [error.errno for error in protocol.errors] == [errno.ENOBUFS]
    assert not transport.is_closing()
    assert transport.get_write_buffer_size() == 0


@pytest.mark.whole_writes("asks for an error of sendto() itself")
async def test_raising_error_received_is_the_senders(loop, endpoints):
    class Failing(DatagramRecorder):
        def error_received(self, exc):
            raise LookupError("told")

    transport, _ = await endpoints.udp(Failing)
    with pytest.raises(LookupError, match="told"):
        transport.sendto(bytes(70_000), ("127.0.0.1", 9))


@pytest.mark.whole_writes("asks for an error of sendto() itself")
async def test_socket_closed_by_its_maker_sends_nothing_to_others(loop, endpoints):
    sock = endpoints.socket()
    number = sock.fileno()
    transport, protocol = await endpoints.make(sock=sock)
    far = endpoints.socket()
    sock.close()
    other = endpoints.socket()
    transport.sendto(b"stray", far.getsockname())
    assert other.fileno() == number
    assert [error.errno for error in protocol.errors] == [errno.EBADF]
    with pytest.raises(BlockingIOError):
        far.recv(100)
