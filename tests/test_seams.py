"""Names of asyncio's own modules that a program replaces: whatever loop runs takes the replacement."""

import asyncio
import asyncio.base_events
import asyncio.tasks
import asyncio.unix_events
import logging
import signal
import socket
import sys
from types import SimpleNamespace
from typing import ClassVar

import pytest


class Recorded(socket.socket):
    """A socket that says that it was made."""

    made: ClassVar[list] = []

    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        self.made.append(self)


@pytest.fixture
def replace(monkeypatch):
    """Replaces a module in one of asyncio's by one that has another idea of some names."""

    def replace(module, name, **changes):
        real = getattr(module, name)
        stand_in = SimpleNamespace(**{**vars(real), **changes})
        monkeypatch.setattr(module, name, stand_in)

    return replace


@pytest.fixture
def recorded(monkeypatch):
    monkeypatch.setattr(Recorded, "made", [])
    return Recorded.made


def test_connections_and_servers_are_made_of_the_programs_sockets(loop, replace, recorded):
    replace(asyncio.base_events, "socket", socket=Recorded)

    async def main():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        assert len(recorded) == 1
        transport, _ = await loop.create_connection(
            asyncio.Protocol, *server.sockets[0].getsockname()
        )
        assert len(recorded) == 2
        transport.close()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())


def test_datagrams_leave_by_the_programs_sockets(loop, replace, recorded):
    replace(asyncio.base_events, "socket", socket=Recorded)

    async def main():
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        transport.close()
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert len(recorded) == 1


def test_unix_sockets_are_the_programs(loop, replace, recorded, tmp_path):
    replace(asyncio.unix_events, "socket", socket=Recorded)

    async def main():
        server = await loop.create_unix_server(asyncio.Protocol, tmp_path / "server")
        server.close()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "listener"))
            listener.listen()
            transport, _ = await loop.create_unix_connection(
                asyncio.Protocol, str(tmp_path / "listener")
            )
            transport.close()
        await server.wait_closed()

    loop.run_until_complete(main())
    assert len(recorded) == 2


def test_names_are_resolved_by_the_programs_resolver(loop, replace):
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 7))]
    replace(asyncio.base_events, "socket", getaddrinfo=lambda *_args, **_keywords: answer)
    assert loop.run_until_complete(loop.getaddrinfo("name.invalid", 7)) == answer


def test_reuse_port_is_refused_where_the_program_hides_it(loop, monkeypatch):
    hidden = {name: value for name, value in vars(socket).items() if name != "SO_REUSEPORT"}
    monkeypatch.setattr(asyncio.base_events, "socket", SimpleNamespace(**hidden))
    with pytest.raises(ValueError, match="reuse_port not supported by socket module"):
        loop.run_until_complete(
            loop.create_server(asyncio.Protocol, "127.0.0.1", 0, reuse_port=True)
        )


def test_signal_handlers_are_set_by_the_programs_functions(loop, replace):
    calls = []

    def set_handler(sig, handler):
        calls.append(sig)
        return signal.signal(sig, handler)

    replace(asyncio.unix_events, "signal", signal=set_handler)
    loop.add_signal_handler(signal.SIGUSR1, print)
    assert loop.remove_signal_handler(signal.SIGUSR1)
    assert calls == [signal.SIGUSR1, signal.SIGUSR1]


def test_slow_callbacks_are_logged_by_the_programs_logger(loop, monkeypatch, caplog):
    monkeypatch.setattr(asyncio.base_events, "logger", logging.getLogger("elsewhere"))
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert {record.name for record in caplog.records if "Executing" in record.message} == {
        "elsewhere"
    }


def test_tls_transports_are_made_by_the_programs_method(loop, monkeypatch):
    asked = []

    class Refused(Exception):
        pass

    def make(*_args, **keywords):
        asked.append(keywords)
        raise Refused

    monkeypatch.setattr(loop, "_make_ssl_transport", make)
    near, far = socket.socketpair()
    with near, far, pytest.raises(Refused):
        loop.run_until_complete(
            loop.create_connection(asyncio.Protocol, sock=near, ssl=True, server_hostname="name")
        )
    assert asked == [
        {
            "server_side": False,
            "server_hostname": "name",
            "ssl_handshake_timeout": None,
            "ssl_shutdown_timeout": None,
        }
    ]


@pytest.mark.parametrize("debug", [False, True])
def test_tasks_are_of_the_programs_class(loop, monkeypatch, debug):
    class Task(asyncio.Task):
        pass

    async def main():
        pass

    loop.set_debug(debug)
    monkeypatch.setattr(asyncio.tasks, "Task", Task)
    task = loop.create_task(main())
    assert type(task) is Task
    loop.run_until_complete(task)


@pytest.mark.asyncio_lacks(
    when=sys.version_info < (3, 14), reason="the error of close() takes the other's place"
)
def test_socket_that_cannot_be_closed_does_not_hide_what_went_wrong(loop, replace):
    class Unclosable(socket.socket):
        def close(self):
            super().close()
            raise OSError("close")

    class Wrong(Exception):
        pass

    async def fail(*_args):
        raise Wrong

    replace(asyncio.base_events, "socket", socket=Unclosable)
    loop.sock_connect = fail
    with pytest.raises(Wrong):
        loop.run_until_complete(loop.create_connection(asyncio.Protocol, "127.0.0.1", 9))


@pytest.mark.asyncio_lacks(
    when=sys.version_info >= (3, 13), reason="transports say who they are since 3.13"
)
def test_server_waits_for_transports_of_others_that_only_count_themselves(loop):
    async def main():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        server._attach()
        server.close()
        waiting = loop.create_task(server.wait_closed())
        await asyncio.sleep(0)
        # Before 3.12.1 a closed server was not waited for.
        assert waiting.done() == (sys.version_info < (3, 12, 1))
        server._detach()
        await waiting

    loop.run_until_complete(main())
