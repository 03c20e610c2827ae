"""The system has no more to give: ENFILE, ENOBUFS and ENOMEM from the calls that the loop makes.

EMFILE is in `test_faults`: a process can bring that about by itself.
"""

import asyncio
import errno
import socket

import pytest

from support.datagrams import DatagramRecorder
from support.net import Recorder, connect_recorder, io_barrier, tcp_pair, turns
from support.seccomp import run_with_failing_calls, why_unavailable
from support.tls import client_context, server_context

_why_unavailable = why_unavailable()
pytestmark = pytest.mark.skipif(_why_unavailable is not None, reason=str(_why_unavailable))

SENDING = ("write", "writev", "sendto", "sendmsg", "sendmmsg")


@pytest.mark.slow
@pytest.mark.parametrize("error", [errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_accept_pauses_is_reported_and_resumes(loop, faults, error):
    class Serving(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"served")

    server = loop.run_until_complete(loop.create_server(Serving, "127.0.0.1", 0, backlog=2))
    listener = server.sockets[0]
    clients = [socket.create_connection(listener.getsockname()) for _ in range(2)]

    async def be_refused():
        while not faults:
            await asyncio.sleep(0)
        # A listener that cannot accept must not spin.
        count = len(faults)
        for _ in range(200):
            await asyncio.sleep(0)
        return count

    count = run_with_failing_calls(
        lambda: loop.run_until_complete(be_refused()),
        ("accept", "accept4"),
        error,
        listener.fileno(),
    )
    # asyncio goes on to the end of its backlog before it pauses, and reports every attempt.
    assert count == len(faults) <= 3
    for fault in faults:
        assert fault["message"] == "socket.accept() out of system resource"
        assert fault["exception"].errno == error
        assert fault["socket"].fileno() == listener.fileno()

    async def be_served():
        answers = []
        for client in clients:
            client.setblocking(False)
            answers.append(await loop.sock_recv(client, 100))
            client.close()
        return answers

    assert loop.run_until_complete(be_served()) == [b"served"] * 2
    server.close()
    loop.run_until_complete(server.wait_closed())
    loop.run_until_complete(io_barrier(loop))


@pytest.mark.parametrize("how", ["write", "writelines", "after a wait"])
def test_stream_that_cannot_send_is_lost_with_the_error(loop, faults, how):
    near, far = tcp_pair()
    transport, recorder = loop.run_until_complete(connect_recorder(loop, near))
    if how == "after a wait":
        transport.write(bytes(1 << 24))
        loop.run_until_complete(io_barrier(loop))
        assert transport.get_write_buffer_size()

    async def write():
        if how == "write":
            transport.write(b"nowhere")
        elif how == "writelines":
            transport.writelines([b"no", b"where"])
        else:
            # Until there is room again, which is tried and fails.
            while await loop.sock_recv(far, 1 << 20):
                pass
        await recorder.happened("connection_lost")

    run_with_failing_calls(
        lambda: loop.run_until_complete(write()), SENDING, errno.ENOBUFS, near.fileno()
    )
    assert recorder.lost_with.errno == errno.ENOBUFS
    assert faults == []
    loop.run_until_complete(turns(1))
    assert near.fileno() == -1
    far.close()


def test_tls_that_cannot_send_is_lost_with_the_error(loop, faults):
    near, far = tcp_pair()

    async def connect():
        return await asyncio.gather(
            loop.create_connection(
                Recorder, sock=near, ssl=client_context(), server_hostname="localhost"
            ),
            loop.connect_accepted_socket(Recorder, far, ssl=server_context()),
        )

    (transport, recorder), (_, far_recorder) = loop.run_until_complete(connect())

    async def write():
        transport.write(b"nowhere")
        await recorder.happened("connection_lost")

    run_with_failing_calls(
        lambda: loop.run_until_complete(write()), SENDING, errno.ENOBUFS, near.fileno()
    )
    assert recorder.lost_with.errno == errno.ENOBUFS
    loop.run_until_complete(far_recorder.happened("connection_lost"))
    assert far_recorder.data == b""
    loop.run_until_complete(turns(2))
    assert faults == []


@pytest.mark.parametrize("connected", [False, True], ids=["to an address", "connected"])
def test_datagram_that_cannot_be_sent_is_told_and_the_transport_goes_on(loop, faults, connected):
    far_transport, far = loop.run_until_complete(
        loop.create_datagram_endpoint(DatagramRecorder, local_addr=("127.0.0.1", 0))
    )
    address = far_transport.get_extra_info("sockname")
    way = {"remote_addr": address} if connected else {"local_addr": ("127.0.0.1", 0)}
    transport, recorder = loop.run_until_complete(
        loop.create_datagram_endpoint(DatagramRecorder, **way)
    )
    target = None if connected else address

    async def send(data):
        transport.sendto(data, target)
        await io_barrier(loop)

    run_with_failing_calls(
        lambda: loop.run_until_complete(send(b"lost")),
        SENDING,
        errno.ENOBUFS,
        transport.get_extra_info("socket").fileno(),
    )
    assert [error.errno for error in recorder.errors] == [errno.ENOBUFS]
    assert not transport.is_closing() and transport.get_write_buffer_size() == 0
    loop.run_until_complete(send(b"sent"))
    assert loop.run_until_complete(far.got(1)) == [b"sent"]
    assert faults == []
    for ending in (transport, far_transport):
        ending.close()
    loop.run_until_complete(recorder.happened("connection_lost"))
    loop.run_until_complete(far.happened("connection_lost"))
