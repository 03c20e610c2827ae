"""`getaddrinfo` and `getnameinfo`: the same answers as the `socket` module's, without blocking."""

import asyncio
import itertools
import socket
import threading

import pytest

# Nothing here may reach a name server: what is not an address is asked for with AI_NUMERICHOST, and
# of names only localhost, which stands in the machine's own hosts file, for IPv4.
ADDRESSES = [
    "127.0.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "::1",
    "::",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "fe80::1%lo",
    "127.1",
    "127.0.0.01",
    "0x7f000001",
    b"127.0.0.1",
    b"::1",
    None,
]
NO_ADDRESSES = ["1.2.3.4.5", "::1::", "[::1]", " 127.0.0.1", "127.0.0.1 ", "", "a.test", b"\xff", 7]
PORTS = [0, 80, 65535, "80", "http", None, b"80", ""]
FAMILIES = [socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6]
TYPES = [0, socket.SOCK_STREAM, socket.SOCK_DGRAM]


def outcome(function, *args, **kwargs):
    """Gives what a call returns, or the type and number of what it raises."""
    try:
        return function(*args, **kwargs)
    except OSError as error:
        return type(error), error.errno
    except Exception as error:
        return type(error)


async def outcome_of(awaitable):
    try:
        return await awaitable
    except OSError as error:
        return type(error), error.errno
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("host", ADDRESSES, ids=repr)
async def test_answers_are_those_of_the_socket_module(loop, host):
    for port, family, kind in itertools.product(PORTS, FAMILIES, TYPES):
        arguments = {"family": family, "type": kind}
        ours = await outcome_of(loop.getaddrinfo(host, port, **arguments))
        theirs = outcome(socket.getaddrinfo, host, port, **arguments)
        assert ours == theirs, (host, port, arguments)


@pytest.mark.parametrize("host", NO_ADDRESSES, ids=repr)
async def test_what_is_no_address_fails_as_in_the_socket_module(loop, host):
    for port, family in itertools.product(PORTS, FAMILIES):
        arguments = {"family": family, "flags": socket.AI_NUMERICHOST}
        ours = await outcome_of(loop.getaddrinfo(host, port, **arguments))
        theirs = outcome(socket.getaddrinfo, host, port, **arguments)
        assert ours == theirs, (host, port, arguments)


async def test_localhost_is_answered_as_by_the_socket_module(loop):
    for port, kind in itertools.product(PORTS, TYPES):
        arguments = {"family": socket.AF_INET, "type": kind}
        ours = await outcome_of(loop.getaddrinfo("localhost", port, **arguments))
        assert ours == outcome(socket.getaddrinfo, "localhost", port, **arguments)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", None], ids=repr)
@pytest.mark.parametrize(
    "flags",
    [
        socket.AI_PASSIVE,
        socket.AI_NUMERICHOST,
        socket.AI_NUMERICSERV,
        socket.AI_CANONNAME,
        socket.AI_ADDRCONFIG,
        socket.AI_V4MAPPED | socket.AI_ALL,
        socket.AI_PASSIVE | socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    ],
)
async def test_flags_and_protocols_are_honoured(loop, host, flags):
    for family, kind, proto in itertools.product(
        FAMILIES, TYPES, (0, socket.IPPROTO_TCP, socket.IPPROTO_UDP)
    ):
        arguments = {"family": family, "type": kind, "proto": proto, "flags": flags}
        ours = await outcome_of(loop.getaddrinfo(host, 80, **arguments))
        theirs = outcome(socket.getaddrinfo, host, 80, **arguments)
        assert ours == theirs, arguments


async def test_ports_out_of_range_are_answered_as_by_the_socket_module(loop):
    for port in (-1, 65536, 1 << 40, "65536", "-1", "no-such-service"):
        ours = await outcome_of(loop.getaddrinfo("127.0.0.1", port))
        assert ours == outcome(socket.getaddrinfo, "127.0.0.1", port), port


async def test_kinds_of_results_are_the_socket_modules_enums(loop):
    ((family, kind, *_),) = await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    assert isinstance(family, socket.AddressFamily)
    assert isinstance(kind, socket.SocketKind)


async def test_international_names_are_encoded(loop):
    for host in ("bücher.test", "x" * 64 + ".é.test", "straße"):
        ours = await outcome_of(loop.getaddrinfo(host, 80, flags=socket.AI_NUMERICHOST))
        assert ours == outcome(socket.getaddrinfo, host, 80, flags=socket.AI_NUMERICHOST)


async def test_arguments_but_host_and_port_are_keywords(loop):
    with pytest.raises(TypeError):
        await loop.getaddrinfo("127.0.0.1", 80, socket.AF_INET)


async def test_loop_goes_on_while_a_name_is_looked_up(loop, monkeypatch):
    asked, answer = threading.Event(), threading.Event()

    def slow_getaddrinfo(*args, **kwargs):
        asked.set()
        answer.wait(10)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.9", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", slow_getaddrinfo)
    lookup = asyncio.ensure_future(loop.getaddrinfo("slow.test", 80))
    while not asked.is_set():
        await asyncio.sleep(0)
    assert not lookup.done()
    answer.set()
    assert (await lookup)[0][4] == ("127.0.0.9", 80)


# asyncio asks a thread for everything; a literal needs nobody's help.
@pytest.mark.loops("antiphon")
async def test_literal_is_answered_without_a_thread(loop):
    before = threading.active_count()
    for host in ("127.0.0.1", "::1"):
        assert await loop.getaddrinfo(host, 80, type=socket.SOCK_STREAM)
    assert await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    "address",
    [("127.0.0.1", 80), ("::1", 80), ("::1", 80, 0, 0), ("127.0.0.1", 65000)],
    ids=repr,
)
@pytest.mark.parametrize("flags", [0, socket.NI_NUMERICSERV, socket.NI_DGRAM])
async def test_getnameinfo_answers_as_the_socket_module(loop, address, flags):
    flags |= socket.NI_NUMERICHOST
    ours = await outcome_of(loop.getnameinfo(address, flags))
    assert ours == outcome(socket.getnameinfo, address, flags)


@pytest.mark.parametrize(
    "bad",
    [("localhost", 80), ("127.0.0.1", 70000), ("127.0.0.1",), "127.0.0.1", None, ("1.2.3.4.5", 1)],
    ids=repr,
)
async def test_getnameinfo_of_a_bad_address_fails_as_the_socket_module(loop, bad):
    flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    ours = await outcome_of(loop.getnameinfo(bad, flags))
    assert ours == outcome(socket.getnameinfo, bad, flags)


async def test_closed_loop_refuses(loop_factory, loop):
    other = loop_factory()
    other.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        await other.getaddrinfo("localhost", 80, family=socket.AF_INET)
