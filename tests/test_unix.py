"""Unix sockets: `create_unix_connection`, `create_unix_server`; and `connect_accepted_socket`."""

import os
import socket
import stat
import sys

import pytest

from support.net import Echo, Recorder, io_barrier, listening_socket, stream_pair

removes_its_file = sys.version_info >= (3, 13)  # `cleanup_socket` came with 3.13


async def close(server):
    server.close()
    await server.wait_closed()


async def exchange(loop, path):
    transport, protocol = await loop.create_unix_connection(Recorder, path)
    transport.write(b"through the file")
    assert await protocol.received(16) == b"through the file"
    transport.close()
    await protocol.happened("connection_lost")
    await io_barrier(loop)


@pytest.mark.parametrize(
    "kind", [str, os.fsencode, lambda path: path], ids=["str", "bytes", "path"]
)
async def test_client_and_server_meet_at_a_path(loop, tmp_path, kind):
    path = tmp_path / "socket"
    server = await loop.create_unix_server(Echo, kind(path))
    assert stat.S_ISSOCK(path.stat().st_mode)
    await exchange(loop, kind(path))
    await close(server)


async def test_abstract_address_needs_no_file(loop):
    path = f"\0antiphon-test-{os.getpid()}"
    server = await loop.create_unix_server(Echo, path)
    await exchange(loop, path)
    await close(server)


async def test_file_goes_with_the_server_from_its_version_on(loop, tmp_path):
    path = tmp_path / "socket"
    await close(await loop.create_unix_server(Echo, path))
    assert path.exists() is not removes_its_file
    if removes_its_file:
        await close(await loop.create_unix_server(Echo, path, cleanup_socket=False))
        assert path.exists()


async def test_file_of_another_server_is_left_alone(loop, tmp_path):
    path = tmp_path / "socket"
    first = await loop.create_unix_server(Echo, path)
    path.unlink()
    second = await loop.create_unix_server(Echo, path)
    await close(first)
    await exchange(loop, path)
    await close(second)


async def test_stale_socket_file_is_replaced_and_other_files_are_not(loop, tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    server = await loop.create_unix_server(Echo, path)
    await exchange(loop, path)
    await close(server)
    plain = tmp_path / "plain"
    plain.write_text("precious")
    with pytest.raises(OSError, match=r"^\[Errno 98\] Address .*plain' is already in use$"):
        await loop.create_unix_server(Echo, plain)
    assert plain.read_text() == "precious"


async def test_missing_path_raises(loop, tmp_path):
    with pytest.raises(FileNotFoundError):
        await loop.create_unix_connection(Recorder, str(tmp_path / "nobody"))


async def test_sock_is_adopted(loop, tmp_path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    server = await loop.create_unix_server(Echo, sock=listener)
    near = socket.socket(socket.AF_UNIX)
    near.connect(str(tmp_path / "socket"))
    transport, protocol = await loop.create_unix_connection(Recorder, sock=near)
    transport.write(b"adopted")
    assert await protocol.received(7) == b"adopted"
    transport.close()
    await protocol.happened("connection_lost")
    await io_barrier(loop)
    await close(server)


@pytest.mark.parametrize("method", ["create_unix_connection", "create_unix_server"])
async def test_wrong_arguments_get_asyncios_words(loop, method):
    call = getattr(loop, method)
    unix, tcp = socket.socket(socket.AF_UNIX), socket.socket()
    with unix, tcp:
        with pytest.raises(ValueError, match="^path and sock can not be specified at the same"):
            await call(Recorder, "path", sock=unix)
        with pytest.raises(ValueError, match="^A UNIX Domain Stream Socket was expected, got "):
            await call(Recorder, sock=tcp)
    with pytest.raises(ValueError, match="^(no path and sock were|path was not) specified"):
        await call(Recorder)
    for name in ("ssl_handshake_timeout", "ssl_shutdown_timeout"):
        with pytest.raises(ValueError, match=f"^{name} is only meaningful with ssl$"):
            await call(Recorder, "path", **{name: 1})


async def test_accepted_socket_is_put_under_a_transport(loop):
    with listening_socket() as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, address = await loop.sock_accept(listener)
    transport, protocol = await loop.connect_accepted_socket(Recorder, accepted)
    assert protocol.events == ["connection_made"]
    assert transport.get_extra_info("peername") == address
    client.send(b"hello")
    assert await protocol.received(5) == b"hello"
    client.close()
    await protocol.happened("connection_lost")


async def test_accepted_socket_must_be_a_stream(loop):
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with datagram, pytest.raises(ValueError, match="^A Stream Socket was expected, got <socket"):
        await loop.connect_accepted_socket(Recorder, datagram)
    near, far = stream_pair()
    with near, far, pytest.raises(ValueError, match="^ssl_handshake_timeout is only meaningful"):
        await loop.connect_accepted_socket(Recorder, near, ssl_handshake_timeout=1)
