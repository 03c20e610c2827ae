"""Addresses that are answered without asking anybody must be answered as `socket.getaddrinfo` would."""

import itertools
import socket

import pytest

resolve = pytest.importorskip(
    "antiphon.resolve", reason="the package is not built", exc_type=ImportError
)
literal_addrinfo = resolve.literal_addrinfo

HOSTS = [
    "127.0.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "::",
    "::1",
    "0:0:0:0:0:0:0:1",
    "2001:DB8::00ff",
    "::ffff:1.2.3.4",
    "fe80::1",
    "ff02::1",
]
PORTS = [0, 80, 65535, None, "0", "80", "00080", "65535"]
FAMILIES = [socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6]
KINDS = [0, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET]
PROTOS = [0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMP]
FLAGS = [0, socket.AI_PASSIVE, socket.AI_NUMERICHOST, socket.AI_NUMERICSERV | socket.AI_PASSIVE]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("proto", PROTOS)
def test_every_answer_is_the_one_of_getaddrinfo(family: int, kind: int, proto: int) -> None:
    answered = 0
    for host, port, flags in itertools.product(HOSTS, PORTS, FLAGS):
        answer = literal_addrinfo(host, port, family, kind, proto, flags)
        if answer is not None:
            answered += 1
            assert answer == socket.getaddrinfo(host, port, family, kind, proto, flags), (
                host,
                port,
                flags,
            )
    if (kind, proto) in [(0, 0), (socket.SOCK_STREAM, 0), (socket.SOCK_STREAM, socket.IPPROTO_TCP)]:
        assert answered >= len(HOSTS) * len(PORTS) * len(FLAGS) * (0.2 if family else 1)


@pytest.mark.parametrize(
    ("host", "port", "flags"),
    [
        ("localhost", 80, 0),
        ("", 80, 0),
        (None, 80, 0),
        (b"127.0.0.1", 80, 0),
        ("127.1", 80, 0),
        ("0x7f.0.0.1", 80, 0),
        ("127.0.0.01", 80, 0),
        ("127.0.0.1\0", 80, 0),
        ("::1%lo", 80, 0),
        ("127.0.0.\N{ARABIC-INDIC DIGIT ONE}", 80, 0),
        ("127.0.0.1", -1, 0),
        ("127.0.0.1", 65536, 0),
        ("127.0.0.1", True, 0),
        ("127.0.0.1", "http", 0),
        ("127.0.0.1", "", 0),
        ("127.0.0.1", " 80", 0),
        ("127.0.0.1", "\N{ARABIC-INDIC DIGIT ONE}", 0),
        ("127.0.0.1", 80, socket.AI_CANONNAME),
        ("127.0.0.1", 80, socket.AI_ADDRCONFIG),
        ("127.0.0.1", 80, socket.AI_V4MAPPED),
    ],
)
def test_what_is_not_certain_is_left_to_getaddrinfo(host: object, port: object, flags: int) -> None:
    assert literal_addrinfo(host, port, 0, socket.SOCK_STREAM, 0, flags) is None


def test_family_that_the_literal_is_not_of_is_left_to_getaddrinfo() -> None:
    assert literal_addrinfo("127.0.0.1", 80, socket.AF_INET6, socket.SOCK_STREAM, 0, 0) is None
    assert literal_addrinfo("::1", 80, socket.AF_INET, socket.SOCK_STREAM, 0, 0) is None


def test_every_answer_is_a_list_of_its_own() -> None:
    first = literal_addrinfo("127.0.0.1", 80, 0, 0, 0, 0)
    first.clear()
    assert literal_addrinfo("127.0.0.1", 80, 0, 0, 0, 0) == socket.getaddrinfo("127.0.0.1", 80)


def test_endpoint_keeps_spelling_flow_and_scope() -> None:
    endpoint = resolve.literal_endpoint
    assert endpoint(("0::1", "7", 5, 6), 0, socket.SOCK_STREAM, 0)[3:] == ("", ("0::1", 7, 5, 6))
    assert endpoint((b"127.0.0.1", None), 0, socket.SOCK_DGRAM, 0)[2:] == (
        socket.IPPROTO_UDP,
        "",
        ("127.0.0.1", 0),
    )
    assert endpoint(("127.0.0.1", "http"), 0, socket.SOCK_STREAM, 0) is None
    assert endpoint(("localhost", 1), 0, socket.SOCK_STREAM, 0) is None
    assert endpoint(("127.0.0.1", 1), socket.AF_INET6, socket.SOCK_STREAM, 0) is None
    assert endpoint(("127.0.0.1", 1), 0, socket.SOCK_RAW, 0) is None
