"""Datagrams that the kernel has no room for: they wait in order, and the protocol is told to pause.

Unix sockets say that there is no room; UDP over loopback drops instead.
"""

import asyncio
import random
import socket
import sys

import pytest

from support.datagrams import LARGEST_UDP, SENDS_EMPTY, DatagramRecorder, receive
from support.net import io_barrier

pytestmark = pytest.mark.real_driver("sends until the kernel takes no more")

HEADER_LEN = 8 if SENDS_EMPTY else 0


class Narrow:
    """A transport whose peer reads only what it is told to, and whose kernel buffer is full at first."""

    def __init__(self, transport, protocol, far):
        self.transport = transport
        self.protocol = protocol
        self.far = far
        self.sent = 0

    def send(self, size=1000):
        self.transport.sendto(b"%08d" % self.sent + bytes(size - 8))
        self.sent += 1

    def fill(self):
        """Sends until one datagram waits."""
        while not self.transport.get_write_buffer_size():
            self.send()

    async def drain(self, loop, already=0):
        """Reads everything at the far end; it must be what was sent, in order."""
        for number in range(already, self.sent):
            data = await loop.sock_recv(self.far, LARGEST_UDP)
            assert data[:8] == b"%08d" % number


@pytest.fixture
def narrow(loop, endpoints, tmp_path):
    path = str(tmp_path / "far")
    far = endpoints.socket(socket.AF_UNIX, path)
    made = loop.run_until_complete(endpoints.make(remote_addr=path, family=socket.AF_UNIX))
    return Narrow(*made, far)


def pauses(protocol):
    return [event for event in protocol.events if event.endswith("_writing")]


async def test_default_limits_are_asyncios(loop, narrow):
    assert narrow.transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({"high": 1000, "low": 10}, (10, 1000)),
        ({"high": 7}, (1, 7)),
        ({"low": 7}, (7, 28)),
        ({}, (16384, 65536)),
    ],
)
async def test_one_limit_gives_the_other(loop, narrow, given, limits):
    narrow.transport.set_write_buffer_limits(high=1, low=1)
    narrow.transport.set_write_buffer_limits(**given)
    assert narrow.transport.get_write_buffer_limits() == limits


@pytest.mark.parametrize("given", [{"high": 1, "low": 2}, {"high": -1}, {"low": -1}])
async def test_limits_in_the_wrong_order_are_refused(loop, narrow, given):
    with pytest.raises(ValueError, match=r"^high \(.*\) must be >= low \(.*\) must be >= 0$"):
        narrow.transport.set_write_buffer_limits(**given)


async def test_buffer_counts_headers_as_the_version_does(loop, narrow):
    narrow.fill()
    assert narrow.transport.get_write_buffer_size() == 1000 + HEADER_LEN
    narrow.send()
    assert narrow.transport.get_write_buffer_size() == 2 * (1000 + HEADER_LEN)
    if SENDS_EMPTY:
        narrow.transport.sendto(b"")
        assert narrow.transport.get_write_buffer_size() == 2 * 1000 + 3 * HEADER_LEN


@pytest.mark.asyncio_lacks(
    when=sys.version_info[:2] == (3, 13), reason="3.13 counts headers in and not out"
)
async def test_drained_buffer_is_empty_again(loop, narrow):
    narrow.fill()
    narrow.send()
    await narrow.drain(loop)
    await io_barrier(loop)
    assert narrow.transport.get_write_buffer_size() == 0


@pytest.mark.asyncio_lacks(
    when=sys.version_info[:2] == (3, 13), reason="3.13 counts headers in and not out"
)
async def test_pause_beyond_the_high_mark_and_resume_at_the_low_one(loop, narrow):
    narrow.transport.set_write_buffer_limits(high=10_000, low=0)
    narrow.fill()
    assert pauses(narrow.protocol) == []
    while narrow.transport.get_write_buffer_size() <= 10_000:
        assert pauses(narrow.protocol) == []
        narrow.send()
    assert pauses(narrow.protocol) == ["pause_writing"]
    narrow.send()
    assert pauses(narrow.protocol) == ["pause_writing"]
    await narrow.drain(loop)
    await io_barrier(loop)
    assert pauses(narrow.protocol) == ["pause_writing", "resume_writing"]


async def test_lower_limits_pause_at_once(loop, narrow):
    narrow.fill()
    narrow.transport.set_write_buffer_limits(high=0)
    assert pauses(narrow.protocol) == ["pause_writing"]


async def test_raising_pause_writing_is_reported(loop, narrow, faults):
    def fail():
        raise LookupError("pause")

    narrow.protocol.pause_writing = fail
    narrow.transport.set_write_buffer_limits(high=0)
    narrow.fill()
    (fault,) = faults
    assert fault["message"] == "protocol.pause_writing() failed"
    assert str(fault["exception"]) == "pause"


async def test_close_sends_what_waits(loop, narrow):
    narrow.fill()
    for _ in range(40):
        narrow.send()
    narrow.transport.close()
    assert narrow.transport.is_closing()
    assert "connection_lost" not in narrow.protocol.events
    await narrow.drain(loop)
    await narrow.protocol.happened("connection_lost")
    assert narrow.protocol.lost_with is None


async def test_abort_drops_what_waits(loop, narrow):
    narrow.fill()
    in_the_kernel = narrow.sent - 1
    narrow.send()
    narrow.transport.abort()
    await narrow.protocol.happened("connection_lost")
    narrow.sent = in_the_kernel
    await narrow.drain(loop)
    with pytest.raises(BlockingIOError):
        narrow.far.recv(1)


async def test_peer_that_goes_while_datagrams_wait_is_told(loop, narrow):
    narrow.fill()
    narrow.send()
    narrow.far.close()
    await narrow.protocol.until(lambda: len(narrow.protocol.errors) >= 2)
    assert all(isinstance(error, OSError) for error in narrow.protocol.errors)
    assert not narrow.transport.is_closing()


async def test_blocked_answers_of_a_delivery_wait_in_order(loop, endpoints, tmp_path):
    class Answering(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            for number in range(500):
                self.transport.sendto(b"%d" % number, addr)

    path = str(tmp_path / "near")
    _, protocol = await endpoints.make(Answering, local_addr=path, family=socket.AF_UNIX)
    far = endpoints.socket(socket.AF_UNIX, str(tmp_path / "far"))
    far.sendto(b"?", path)
    await protocol.got(1)
    assert await receive(loop, far, 500) == [b"%d" % number for number in range(500)]


@pytest.mark.parametrize("seed", range(5))
async def test_both_ways_whatever_is_paused_meanwhile(loop, endpoints, tmp_path, seed):
    """Two endpoints send bursts to each other, and pause and resume reading at random: nothing is lost or reordered."""
    chance = random.Random(seed)
    names = [str(tmp_path / "left"), str(tmp_path / "right")]
    made = [await endpoints.make(local_addr=name, family=socket.AF_UNIX) for name in names]
    sent = [[], []]
    for _ in range(60):
        for here, (transport, _protocol) in enumerate(made):
            action = chance.choice(("send", "send", "pause", "resume", "turn"))
            if action == "pause":
                transport.pause_reading()
            elif action == "resume":
                transport.resume_reading()
            elif action == "turn":
                await asyncio.sleep(0)
            else:
                for _ in range(chance.choice((1, 2, 40))):
                    data = b"%d:%d:" % (here, len(sent[here])) + bytes(chance.randrange(2000))
                    sent[here].append(data)
                    transport.sendto(data, names[1 - here])
    for transport, _protocol in made:
        transport.resume_reading()
    for here, (_transport, protocol) in enumerate(made):
        expected = sent[1 - here]
        assert await protocol.got(len(expected)) == expected
        assert {sender for _, sender in protocol.datagrams} <= {names[1 - here]}
