"""TLS from connect to close on both ends of one loop: servers, clients, streams and upgrades together."""

import asyncio
import socket
import ssl

import pytest

from support.net import Echo, Recorder, io_barrier, others_done, pattern
from support.tls import tls_contexts


async def close(server):
    server.close()
    await server.wait_closed()
    await io_barrier(asyncio.get_running_loop())
    # Before 3.12 `wait_closed` does not wait for the server's half of a broken handshake.
    await others_done()


async def finish(transport, protocol):
    transport.close()
    await protocol.happened("connection_lost")


async def test_exchange_with_every_argument(loop):
    server_context, client_context = tls_contexts()
    limits = {"ssl_handshake_timeout": 10, "ssl_shutdown_timeout": 10}
    server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context, **limits)
    transport, protocol = await loop.create_connection(
        Recorder,
        *server.sockets[0].getsockname(),
        ssl=client_context,
        server_hostname="localhost",
        **limits,
    )
    data = pattern(1, 1 << 20)
    transport.write(data)
    assert await protocol.received(len(data)) == data
    assert transport.get_extra_info("ssl_object").version().startswith("TLS")
    assert transport.get_extra_info("peercert")["subject"] == ((("commonName", "localhost"),),)
    assert transport.get_extra_info("sslcontext") is client_context
    assert transport.get_extra_info("cipher")
    await finish(transport, protocol)
    assert protocol.events[0] == "connection_made"
    assert protocol.lost_with is None
    await close(server)


async def test_host_is_the_name_that_is_verified(loop):
    server_context, client_context = tls_contexts()
    server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context)
    # The certificate names 127.0.0.1 as well.
    transport, protocol = await loop.create_connection(
        Recorder, *server.sockets[0].getsockname(), ssl=client_context
    )
    transport.write(b"verified")
    assert await protocol.received(8) == b"verified"
    await finish(transport, protocol)
    await close(server)


async def test_wrong_name_is_refused_by_the_client_alone(loop, faults):
    server_context, client_context = tls_contexts()
    server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context)
    address = server.sockets[0].getsockname()
    with pytest.raises(ssl.SSLCertVerificationError):
        await loop.create_connection(
            Recorder, *address, ssl=client_context, server_hostname="elsewhere.invalid"
        )
    transport, protocol = await loop.create_connection(
        Recorder, *address, ssl=client_context, server_hostname="localhost"
    )
    transport.write(b"next")
    assert await protocol.received(4) == b"next"
    await finish(transport, protocol)
    await close(server)


async def test_start_tls_turns_a_plain_connection_over_on_both_ends(loop):
    server_context, client_context = tls_contexts()
    secret = loop.create_future()

    class Upgrading(asyncio.Protocol):
        """Answers "go" to "upgrade?", then speaks TLS."""

        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            if data == b"upgrade?":
                self.transport.write(b"go")
                self.upgrade = loop.create_task(self._upgrade())
            else:
                secret.set_result(data)

        async def _upgrade(self):
            secured = await loop.start_tls(self.transport, self, server_context, server_side=True)
            # The first data may have come before this task knew of the end of the handshake.
            secured.write((await secret)[::-1])

    server = await loop.create_server(Upgrading, "127.0.0.1", 0)
    transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
    transport.write(b"upgrade?")
    assert await protocol.received(2) == b"go"
    secured = await loop.start_tls(transport, protocol, client_context, server_hostname="localhost")
    secured.write(b"secret")
    assert await protocol.received(8) == b"goterces"
    assert secret.result() == b"secret"
    assert secured.get_extra_info("ssl_object").version().startswith("TLS")
    await finish(secured, protocol)
    await close(server)


async def test_streams_speak_tls(loop):
    server_context, client_context = tls_contexts()

    async def handle(reader, writer):
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=server_context)
    reader, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=client_context, server_hostname="localhost"
    )
    for number in range(50):
        writer.write(b"line %d\n" % number)
        await writer.drain()
        assert await reader.readline() == b"LINE %d\n" % number
    writer.close()
    await writer.wait_closed()
    await close(server)


async def test_sock_can_be_given_with_tls(loop):
    server_context, client_context = tls_contexts()
    near, far = socket.socketpair()
    accept = loop.create_task(loop.connect_accepted_socket(Echo, far, ssl=server_context))
    transport, protocol = await loop.create_connection(
        Recorder, sock=near, ssl=client_context, server_hostname="localhost"
    )
    await accept
    transport.write(b"over a pair")
    assert await protocol.received(11) == b"over a pair"
    await finish(transport, protocol)
    await io_barrier(loop)
