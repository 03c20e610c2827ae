"""The switches that make services of the kernel look missing: each fallback does the same work.

The whole suite runs under them, too: `make test` (scripts/switches.sh, support/switches.py).
"""

import pytest

from support.children import Child, run_child

PROGRAM = """
import fcntl, socket

def kinds():
    "The kinds of this process's descriptors, as the kernel names them."
    names = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{fd}").split("[")[-1].strip("]").split(":")[0])
        except FileNotFoundError:
            pass  # that of the list itself
    return sorted(set(names))

async def exchange():
    "A server and a client; what the accepted descriptor is like."
    flags = {}
    class Answer(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            fd = transport.get_extra_info("socket").fileno()
            flags["blocking"] = os.get_blocking(fd)
            flags["inheritable"] = os.get_inheritable(fd)
            self.received = b""
        def data_received(self, data):
            self.received += data
            if len(self.received) == 5:
                self.transport.write(self.received.upper())
                self.transport.close()
    server = await loop.create_server(Answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello")
    flags["answer"] = (await reader.read()).decode()
    writer.close()
    server.close()
    return flags

async def main():
    flags = await exchange()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        client = socket.create_connection(listener.getsockname())
        accepted, _ = await loop.sock_accept(listener)
        flags["accepted_blocking"] = os.get_blocking(accepted.fileno())
        client.close()
        accepted.close()
    # From a thread while the loop sleeps, and a timer finer than a millisecond.
    woken = loop.create_future()
    loop.run_in_executor(None, loop.call_soon_threadsafe, woken.set_result, "woken")
    flags["woken"] = await woken
    before = loop.time()
    await asyncio.sleep(0.0003)
    flags["slept"] = loop.time() - before >= 0.0003
    process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "exit 3")
    return {**flags, "kinds": kinds(), "code": await process.wait()}

loop = new_event_loop()
facts = loop.run_until_complete(main())
loop.close()
report(**facts)
"""


@pytest.mark.loops("antiphon")  # the switches are antiphon's own
@pytest.mark.parametrize(
    "disabled",
    ["", "pidfd", "eventfd", "epoll_pwait2", "accept4", "pidfd,eventfd,epoll_pwait2,accept4"],
)
def test_the_same_happens_without(loop_name, disabled):
    facts = run_child(loop_name, PROGRAM, ANTIPHON_DISABLE=disabled)
    assert facts["answer"] == "HELLO"
    assert (facts["blocking"], facts["inheritable"], facts["accepted_blocking"]) == (False,) * 3
    assert (facts["woken"], facts["slept"], facts["code"]) == ("woken", True, 3)
    assert ("eventfd" in facts["kinds"]) == ("eventfd" not in disabled)


@pytest.mark.loops("antiphon")
def test_unknown_name_is_an_error(loop_name):
    with Child(loop_name, "new_event_loop()", ANTIPHON_DISABLE="pidfs") as child:
        result = child.finish()
    assert result.returncode != 0
    assert "ANTIPHON_DISABLE" in result.stderr and '"pidfs" is not one of' in result.stderr


@pytest.mark.loops("antiphon")
def test_unknown_behaviour_is_an_error(loop_name):
    with Child(loop_name, "new_event_loop()", ANTIPHON_FORCE="simulated") as child:
        result = child.finish()
    assert result.returncode != 0
    assert "ANTIPHON_FORCE" in result.stderr and '"simulated" is not one of' in result.stderr


@pytest.mark.loops("antiphon")
def test_partial_writes_take_less_than_there_is_and_bring_all(loop_name):
    facts = run_child(
        loop_name,
        """
        import socket
        data = bytes(range(256)) * 40

        async def main():
            near, far = socket.socketpair()
            far.setblocking(False)
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
            transport.writelines([data[:5000], data[5000:]])
            transport.close()
            pieces = []
            while piece := await loop.sock_recv(far, len(data)):
                pieces.append(piece)
            far.close()
            return pieces

        loop = new_event_loop()
        pieces = loop.run_until_complete(main())
        loop.close()
        report(pieces=len(pieces), whole=b"".join(pieces) == data)
        """,
        ANTIPHON_FORCE="partial-writes",
    )
    assert facts["whole"] and facts["pieces"] > 1


@pytest.mark.loops("antiphon")
def test_simulated_loop_sleeps_for_weeks_and_watches_nothing(loop_name):
    facts = run_child(
        loop_name,
        """
        async def main():
            order = []
            loop.call_later(2e6, order.append, "late")
            loop.call_later(1e6, order.append, "early")
            await asyncio.to_thread(order.append, "thread")
            await asyncio.sleep(3e6)
            return order, loop.time()

        loop = new_event_loop()
        order, now = loop.run_until_complete(main())
        refusals = []
        for watch in (
            lambda: loop.add_reader(0, print),
            lambda: loop.add_signal_handler(signal.SIGUSR1, print),
        ):
            try:
                watch()
            except PermissionError as error:
                refusals.append(str(error))
        report(order=order, now=now, refusals=len(refusals), wakeup_fd=signal.set_wakeup_fd(-1))
        loop.close()
        """,
        ANTIPHON_FORCE="simulated-driver",
    )
    assert facts["order"] == ["thread", "early", "late"]
    assert facts["now"] >= 3e6
    assert (facts["refusals"], facts["wakeup_fd"]) == (2, -1)
