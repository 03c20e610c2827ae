"""The `sock_*` calls: sockets driven by coroutines without transports."""

import array
import asyncio
import socket
import tempfile

import pytest

from support.net import (
    closed_port,
    connect_recorder,
    io_barrier,
    listening_socket,
    pattern,
    stream_pair,
    tcp_pair,
    turns,
)

MEGABYTE = 1 << 20


@pytest.fixture
def pair():
    near, far = tcp_pair()
    with near, far:
        yield near, far


def udp_socket():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    return sock


async def started(loop, coroutine):
    """Starts a call as a task and returns once it waits for the kernel."""
    task = loop.create_task(coroutine)
    await turns(2)
    assert not task.done()
    return task


class TestReceive:
    async def test_sock_recv_takes_what_is_there(self, loop, pair):
        near, far = pair
        far.send(b"hello")
        await io_barrier(loop)
        assert await loop.sock_recv(near, 2) == b"he"
        assert await loop.sock_recv(near, 100) == b"llo"

    async def test_sock_recv_waits_for_data(self, loop, pair):
        near, far = pair
        receive = await started(loop, loop.sock_recv(near, 100))
        far.send(b"late")
        assert await receive == b"late"

    async def test_sock_recv_gives_empty_bytes_at_end_of_file(self, loop, pair):
        near, far = pair
        receive = await started(loop, loop.sock_recv(near, 100))
        far.shutdown(socket.SHUT_WR)
        assert await receive == b""
        assert await loop.sock_recv(near, 100) == b""

    async def test_sock_recv_gives_bytes_of_their_own(self, loop, pair):
        near, far = pair
        pieces = []
        for number in range(50):
            far.send(pattern(number, 1000))
            pieces.append(await loop.sock_recv(near, 1000))
        assert b"".join(pieces) == b"".join(pattern(number, 1000) for number in range(50))
        assert {type(piece) for piece in pieces} == {bytes}

    async def test_sock_recv_raises_the_error_of_the_connection(self, loop, pair):
        near, far = pair
        receive = await started(loop, loop.sock_recv(near, 100))
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        far.close()
        with pytest.raises(ConnectionResetError):
            await receive

    async def test_sock_recv_of_a_socket_that_is_not_connected_raises(self, loop):
        with socket.socket() as sock:
            sock.setblocking(False)
            with pytest.raises(OSError, match="not connected"):
                await loop.sock_recv(sock, 10)

    @pytest.mark.parametrize(
        "make",
        [bytearray, lambda n: memoryview(bytearray(n)), lambda n: array.array("B", bytes(n))],
        ids=["bytearray", "memoryview", "array"],
    )
    @pytest.mark.parametrize("waits", [False, True])
    async def test_sock_recv_into_fills_any_writable_buffer(self, loop, pair, make, waits):
        near, far = pair
        buffer = make(10)
        if waits:
            receive = await started(loop, loop.sock_recv_into(near, buffer))
            far.send(b"hello")
            assert await receive == 5
        else:
            far.send(b"hello")
            await io_barrier(loop)
            assert await loop.sock_recv_into(near, buffer) == 5
        assert bytes(buffer) == b"hello" + bytes(5)

    async def test_sock_recv_into_part_of_a_buffer_leaves_the_rest(self, loop, pair):
        near, far = pair
        buffer = bytearray(b"." * 10)
        far.send(b"1234567890")
        assert await loop.sock_recv_into(near, memoryview(buffer)[3:6]) == 3
        assert buffer == b"...123...."
        assert await loop.sock_recv(near, 100) == b"4567890"

    async def test_sock_recv_into_refuses_a_read_only_buffer(self, loop, pair):
        near, far = pair
        far.send(b"x")
        await io_barrier(loop)
        with pytest.raises((TypeError, BufferError)):
            await loop.sock_recv_into(near, b"immutable")

    @pytest.mark.parametrize("waits", [False, True])
    async def test_sock_recvfrom_gives_datagram_and_sender(self, loop, waits):
        with udp_socket() as receiver, udp_socket() as sender:
            if waits:
                receive = await started(loop, loop.sock_recvfrom(receiver, 100))
                sender.sendto(b"datagram", receiver.getsockname())
                assert await receive == (b"datagram", sender.getsockname())
            else:
                sender.sendto(b"datagram", receiver.getsockname())
                await io_barrier(loop)
                assert await loop.sock_recvfrom(receiver, 100) == (
                    b"datagram",
                    sender.getsockname(),
                )

    @pytest.mark.parametrize("waits", [False, True])
    @pytest.mark.parametrize(("nbytes", "expected"), [(0, 8), (4, 4)])
    async def test_sock_recvfrom_into_fills_the_buffer(self, loop, waits, nbytes, expected):
        buffer = bytearray(20)
        with udp_socket() as receiver, udp_socket() as sender:
            if waits:
                receive = await started(loop, loop.sock_recvfrom_into(receiver, buffer, nbytes))
                sender.sendto(b"datagram", receiver.getsockname())
                result = await receive
            else:
                sender.sendto(b"datagram", receiver.getsockname())
                await io_barrier(loop)
                result = await loop.sock_recvfrom_into(receiver, buffer, nbytes)
            assert result == (expected, sender.getsockname())
        assert buffer == b"datagram"[:expected].ljust(20, b"\0")

    async def test_cancelled_receive_takes_no_data(self, loop, pair):
        near, far = pair
        for number in range(20):
            receive = await started(loop, loop.sock_recv(near, 100))
            receive.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receive
            far.send(b"%02d" % number)
            assert await loop.sock_recv(near, 100) == b"%02d" % number

    async def test_receive_cancelled_after_the_data_came_leaves_it_in_the_socket(self, loop, pair):
        near, far = pair
        receive = await started(loop, loop.sock_recv(near, 100))
        far.send(b"data")
        receive.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receive
        assert await loop.sock_recv(near, 100) == b"data"

    async def test_timeout_around_a_receive_leaves_the_socket_usable(self, loop, pair):
        near, far = pair
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.002):
                await loop.sock_recv(near, 100)
        far.send(b"after")
        assert await loop.sock_recv(near, 100) == b"after"


class TestSend:
    @pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
    async def test_sock_sendall_takes_every_bytes_like(self, loop, pair, make):
        near, far = pair
        assert await loop.sock_sendall(near, make(b"hello")) is None
        assert await loop.sock_recv(far, 100) == b"hello"

    async def test_sock_sendall_of_nothing_returns(self, loop, pair):
        near, far = pair
        await loop.sock_sendall(near, b"")
        await loop.sock_sendall(near, b"x")
        assert await loop.sock_recv(far, 100) == b"x"

    async def test_sock_sendall_sends_more_than_the_buffers_hold(self, loop, pair):
        near, far = pair
        data = pattern(1, 8 * MEGABYTE)
        got = bytearray()

        async def receive():
            while chunk := await loop.sock_recv(far, 65536):
                got.extend(chunk)

        receiver = loop.create_task(receive())
        await loop.sock_sendall(near, data)
        near.shutdown(socket.SHUT_WR)
        await receiver
        assert got == data

    async def test_both_directions_of_one_socket_at_once(self, loop, pair):
        near, far = pair

        async def send_and_receive(sock, seed_out, seed_in):
            send = loop.create_task(loop.sock_sendall(sock, pattern(seed_out, MEGABYTE)))
            got = bytearray()
            while len(got) < MEGABYTE:
                got += await loop.sock_recv(sock, 65536)
            await send
            assert got == pattern(seed_in, MEGABYTE)

        await asyncio.gather(send_and_receive(near, 1, 2), send_and_receive(far, 2, 1))

    async def test_sock_sendall_raises_when_the_peer_is_gone(self, loop, pair):
        near, far = pair
        far.close()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(100):
                await loop.sock_sendall(near, bytes(MEGABYTE))

    async def test_waiting_sock_sendall_raises_when_the_peer_goes(self, loop, pair):
        near, far = pair
        send = await started(loop, loop.sock_sendall(near, bytes(16 * MEGABYTE)))
        far.close()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await send

    async def test_cancelled_sock_sendall_lets_the_socket_go(self, loop, pair):
        near, far = pair
        send = await started(loop, loop.sock_sendall(near, bytes(16 * MEGABYTE)))
        send.cancel()
        with pytest.raises(asyncio.CancelledError):
            await send
        # The socket carries no watch of the loop's any more.
        assert loop.remove_writer(near) is False
        near.shutdown(socket.SHUT_WR)
        while await loop.sock_recv(far, MEGABYTE):
            pass

    async def test_buffer_is_released_after_sock_sendall(self, loop, pair):
        near, far = pair
        data = bytearray(b"resizable again")
        await loop.sock_sendall(near, data)
        data.append(1)
        assert await loop.sock_recv(far, 100) == b"resizable again"

    async def test_sock_sendto_sends_a_datagram_and_gives_its_length(self, loop):
        with udp_socket() as receiver, udp_socket() as sender:
            assert await loop.sock_sendto(sender, b"datagram", receiver.getsockname()) == 8
            assert await loop.sock_recvfrom(receiver, 100) == (b"datagram", sender.getsockname())

    async def test_sock_sendto_with_a_wrong_address_raises(self, loop):
        with udp_socket() as sender, pytest.raises((TypeError, OverflowError)):
            await loop.sock_sendto(sender, b"x", ("127.0.0.1", 70000))


class TestConnect:
    async def test_sock_connect_reaches_a_listener(self, loop):
        with listening_socket() as listener, socket.socket() as sock:
            sock.setblocking(False)
            assert await loop.sock_connect(sock, listener.getsockname()) is None
            accepted, address = await loop.sock_accept(listener)
            with accepted:
                assert address == sock.getsockname()
                await loop.sock_sendall(sock, b"hello")
                assert await loop.sock_recv(accepted, 10) == b"hello"

    async def test_sock_connect_resolves_names(self, loop):
        with listening_socket() as listener, socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, ("localhost", listener.getsockname()[1]))
            assert sock.getpeername() == listener.getsockname()

    async def test_refused_connect_names_the_address(self, loop):
        address = ("127.0.0.1", closed_port())
        with socket.socket() as sock:
            sock.setblocking(False)
            with pytest.raises(ConnectionRefusedError) as caught:
                await loop.sock_connect(sock, address)
        assert str(address) in str(caught.value)
        assert "Connect call failed" in str(caught.value)

    async def test_unix_path_connects_and_a_missing_one_raises(self, loop):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/socket"
            with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as sock:
                sock.setblocking(False)
                with pytest.raises(FileNotFoundError):
                    await loop.sock_connect(sock, path)
                listener.bind(path)
                listener.listen()
                await loop.sock_connect(sock, path)
                assert sock.getpeername() == path

    async def test_cancelled_connect_lets_the_socket_go(self, loop):
        with listening_socket(backlog=0) as listener:
            # Once the queue of the listener is full, the kernel drops what else knocks.
            fillers = []
            for _ in range(4):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
                fillers.append(filler)
            sock = socket.socket()
            sock.setblocking(False)
            connect = await started(loop, loop.sock_connect(sock, listener.getsockname()))
            connect.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connect
            assert loop.remove_writer(sock) is False
            for open_one in [sock, *fillers]:
                open_one.close()


class TestAccept:
    async def test_sock_accept_waits_for_a_client(self, loop):
        with listening_socket() as listener:
            accept = await started(loop, loop.sock_accept(listener))
            with socket.create_connection(listener.getsockname()) as client:
                accepted, address = await accept
                with accepted:
                    assert address == client.getsockname()
                    assert accepted.getblocking() is False
                    assert accepted.get_inheritable() is False
                    assert type(accepted) is socket.socket

    async def test_sock_accept_takes_clients_in_the_order_they_came(self, loop):
        with listening_socket() as listener:
            clients = [socket.create_connection(listener.getsockname()) for _ in range(5)]
            for client in clients:
                accepted, address = await loop.sock_accept(listener)
                accepted.close()
                assert address == client.getsockname()
                client.close()

    async def test_cancelled_accept_loses_no_client(self, loop):
        with listening_socket() as listener:
            accept = await started(loop, loop.sock_accept(listener))
            accept.cancel()
            with pytest.raises(asyncio.CancelledError):
                await accept
            with socket.create_connection(listener.getsockname()) as client:
                accepted, address = await loop.sock_accept(listener)
                accepted.close()
                assert address == client.getsockname()

    async def test_sock_accept_of_a_socket_that_does_not_listen_raises(self, loop):
        with socket.socket() as sock:
            sock.setblocking(False)
            with pytest.raises(OSError, match="Invalid argument"):
                await loop.sock_accept(sock)


class TestSendFile:
    async def test_sock_sendfile_sends_offset_and_count(self, loop, pair):
        near, far = pair
        with tempfile.TemporaryFile() as file:
            file.write(pattern(3, 100_000))
            file.flush()
            assert await loop.sock_sendfile(near, file, 1000, 5000) == 5000
            assert file.tell() == 6000
        got = bytearray()
        while len(got) < 5000:
            got += await loop.sock_recv(far, 5000)
        assert got == pattern(3, 100_000)[1000:6000]


CALLS = {
    "sock_recv": lambda loop, sock: loop.sock_recv(sock, 10),
    "sock_recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(10)),
    "sock_recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 10),
    "sock_recvfrom_into": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(10)),
    "sock_sendall": lambda loop, sock: loop.sock_sendall(sock, b"x"),
    "sock_sendto": lambda loop, sock: loop.sock_sendto(sock, b"x", ("127.0.0.1", 9)),
    "sock_connect": lambda loop, sock: loop.sock_connect(sock, ("127.0.0.1", 9)),
    "sock_accept": lambda loop, sock: loop.sock_accept(sock),
}


@pytest.fixture(params=CALLS)
def call(request):
    return CALLS[request.param]


class TestEveryCall:
    async def test_closed_socket_raises(self, loop, call):
        sock = socket.socket()
        sock.setblocking(False)
        sock.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            await call(loop, sock)

    async def test_blocking_socket_is_refused_in_debug_mode(self, loop, call):
        loop.set_debug(True)
        with socket.socket() as sock:
            with pytest.raises(ValueError, match="^the socket must be non-blocking$"):
                await call(loop, sock)
            sock.settimeout(1)
            with pytest.raises(ValueError, match="^the socket must be non-blocking$"):
                await call(loop, sock)

    async def test_tls_socket_is_refused(self, loop, call):
        ssl = pytest.importorskip("ssl")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        with socket.socket() as raw, context.wrap_socket(raw, do_handshake_on_connect=False) as tls:
            tls.setblocking(False)
            with pytest.raises(TypeError, match="^Socket cannot be of type SSLSocket$"):
                await call(loop, tls)


async def test_socket_under_a_transport_is_refused(loop):
    near, far = stream_pair()
    transport, protocol = await connect_recorder(loop, near)
    with pytest.raises(RuntimeError, match="is used by transport"):
        await loop.sock_recv(near, 10)
    transport.close()
    await protocol.happened("connection_lost")
    far.close()


async def test_ping_pong_of_many_sockets_keeps_them_apart(loop):
    async def rally(number):
        near, far = stream_pair()
        with near, far:
            for step in range(20):
                ball = b"%d:%d" % (number, step)
                await loop.sock_sendall(near, ball)
                assert await loop.sock_recv(far, 100) == ball
                await loop.sock_sendall(far, ball[::-1])
                assert await loop.sock_recv(near, 100) == ball[::-1]

    await asyncio.gather(*(rally(number) for number in range(50)))
