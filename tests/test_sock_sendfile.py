"""`sock_sendfile`: what the kernel copies, what is sent by hand, and where the file's position is afterwards.

CPython's own tests of this drive asyncio's private methods step by step; these ask for the same from outside.
"""

import asyncio
import io
import os
import socket
import tempfile

import pytest

from support.net import pattern, tcp_pair, turns

SIZE_BYTES = 4 << 20  # more than both sockets hold


@pytest.fixture
def pair():
    near, far = tcp_pair()
    with near, far:
        yield near, far


@pytest.fixture
def file():
    with tempfile.TemporaryFile() as file:
        file.write(pattern(5, SIZE_BYTES))
        file.flush()
        file.seek(0)
        yield file


@pytest.fixture
def kernel(monkeypatch):
    """Answers `os.sendfile` from a list; what is callable there is called, the last one for ever."""

    def script(*answers):
        left = list(answers)

        def sendfile(out, file, offset, count):
            answer = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(answer, Exception):
                raise answer
            return answer(out, file, offset, count)

        monkeypatch.setattr(os, "sendfile", sendfile)

    return script


def a_thousand(out, file, offset, count):
    """Copies at most 1000 bytes."""
    return REAL(out, file, offset, min(count, 1000))


REAL = os.sendfile


async def receive(loop, sock, size_bytes):
    received = bytearray()
    while len(received) < size_bytes:
        received += await loop.sock_recv(sock, 1 << 20)
    return received


async def test_whole_file_arrives_through_a_full_socket(loop, pair, file):
    near, far = pair
    sending = loop.create_task(loop.sock_sendfile(near, file, fallback=False))
    assert await receive(loop, far, SIZE_BYTES) == pattern(5, SIZE_BYTES)
    assert await sending == SIZE_BYTES
    assert file.tell() == SIZE_BYTES


async def test_call_that_would_block_is_made_again(loop, pair, file, kernel):
    near, far = pair
    kernel(BlockingIOError(), InterruptedError(), a_thousand)
    assert await loop.sock_sendfile(near, file, 0, 2500, fallback=False) == 2500
    assert await receive(loop, far, 2500) == pattern(5, SIZE_BYTES)[:2500]
    assert file.tell() == 2500


async def test_error_of_the_first_call_means_that_the_kernel_cannot(loop, pair, file, kernel):
    near, far = pair
    kernel(OSError("no"))
    with pytest.raises(asyncio.SendfileNotAvailableError, match="os.sendfile call failed"):
        await loop.sock_sendfile(near, file, 100, fallback=False)
    assert await loop.sock_sendfile(near, file, 100, 50) == 50  # by hand
    assert await receive(loop, far, 50) == pattern(5, SIZE_BYTES)[100:150]
    assert file.tell() == 150


async def test_error_of_a_later_call_is_raised_and_the_position_tells_what_was_sent(
    loop, pair, file, kernel
):
    near, far = pair
    error = OSError("later")
    kernel(a_thousand, error)
    with pytest.raises(OSError) as raised:
        await loop.sock_sendfile(near, file, 500)
    assert raised.value is error
    assert file.tell() == 1500
    assert await receive(loop, far, 1000) == pattern(5, SIZE_BYTES)[500:1500]


async def test_exceptions_of_other_kinds_are_raised_as_they_are(loop, pair, file, kernel):
    class Strange(Exception):
        pass

    near, _ = pair
    kernel(a_thousand, Strange())
    with pytest.raises(Strange):
        await loop.sock_sendfile(near, file)
    assert file.tell() == 1000


async def test_peer_that_leaves_is_a_connection_error(loop, pair, file):
    near, far = pair
    sending = loop.create_task(loop.sock_sendfile(near, file))
    await turns(2)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    far.close()
    with pytest.raises(ConnectionError):
        await sending


async def cancelled_after_a_part(loop, near, file):
    """Sends until the socket is full, and cancels that."""
    sending = loop.create_task(loop.sock_sendfile(near, file))
    await turns(2)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending


async def test_cancelled_call_waits_for_nothing_any_more(loop, pair, file):
    near, far = pair
    await cancelled_after_a_part(loop, near, file)
    assert not loop.remove_writer(near)
    near.shutdown(socket.SHUT_WR)
    received = bytearray()
    while data := await loop.sock_recv(far, 1 << 20):
        received += data
    assert 0 < len(received) < SIZE_BYTES
    assert received == pattern(5, SIZE_BYTES)[: len(received)]


@pytest.mark.asyncio_lacks(when=True, reason="its file stays where it was")
async def test_position_after_cancelling_is_behind_what_was_sent(loop, pair, file):
    near, far = pair
    await cancelled_after_a_part(loop, near, file)
    assert 0 < file.tell() < SIZE_BYTES
    assert len(await receive(loop, far, file.tell())) == file.tell()


async def test_what_is_no_file_of_the_kernel_is_sent_by_hand(loop, pair):
    near, far = pair
    file = io.BytesIO(pattern(6, 5000))
    with pytest.raises(asyncio.SendfileNotAvailableError, match="not a regular file"):
        await loop.sock_sendfile(near, file, fallback=False)
    assert await loop.sock_sendfile(near, file, 1000, 3000) == 3000
    assert await receive(loop, far, 3000) == pattern(6, 5000)[1000:4000]
    assert file.tell() == 4000
