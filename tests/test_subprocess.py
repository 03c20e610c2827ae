"""Child processes as programs see them: streams, transports and protocols, signals, the end."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import weakref

import pytest

from support.net import io_barrier, pattern, turns
from support.pipes import new_pipe
from support.processes import (
    SHELL,
    ProcessRecorder,
    has_children,
    is_zombie_or_gone,
    output_of,
    output_of_shell,
    start_shell,
)

pytestmark = pytest.mark.real_driver("children are the kernel's")

PIPE = subprocess.PIPE

waits_for_pipes = pytest.mark.asyncio_lacks(
    when=sys.version_info < (3, 14), reason="asyncio's wait() waited for the pipes, too (gh-119710)"
)

threads_reap = pytest.mark.asyncio_lacks(
    when=sys.version_info < (3, 12), reason="asyncio had a thread reap each child at any time"
)


@pytest.fixture(autouse=True)
def no_child_is_left():
    """A child that a test started must have been reaped when it ends."""
    yield
    assert not has_children()


async def test_communicate_exchanges_more_than_the_pipes_hold(loop):
    data = pattern(1, 1_000_000)
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    assert await process.communicate(data) == (data, None)
    assert process.returncode == 0


async def test_output_and_errors_come_separately_or_together(loop):
    script = "echo out; echo err >&2"
    process = await asyncio.create_subprocess_exec(SHELL, "-c", script, stdout=PIPE, stderr=PIPE)
    assert await process.communicate() == (b"out\n", b"err\n")
    together = await output_of_shell(script, stderr=subprocess.STDOUT)
    assert together == b"out\nerr\n"


async def test_files_descriptors_and_devnull_are_standard_files(loop, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"from a file")
    with open(source) as stdin, open(target, "wb") as stdout:
        process = await asyncio.create_subprocess_exec(
            "cat", stdin=stdin.fileno(), stdout=stdout, stderr=subprocess.DEVNULL
        )
        assert await process.wait() == 0
    assert target.read_bytes() == b"from a file"
    assert await output_of("cat", stdin=subprocess.DEVNULL) == b""


async def test_shell_command_has_the_shells_status(loop):
    process = await asyncio.create_subprocess_shell("exit 7")
    assert await process.wait() == 7
    process = await asyncio.create_subprocess_shell(b"printf %s $0", stdout=PIPE)
    assert await process.communicate() == (SHELL.encode(), None)


async def test_protocol_hears_everything_in_order(loop):
    transport, protocol = await start_shell(loop, "echo out; echo err >&2; exit 3")
    assert protocol.events[0] == "connection_made"
    assert isinstance(transport, asyncio.SubprocessTransport)
    await protocol.happened("exited")
    transport.get_pipe_transport(0).close()
    await protocol.happened("connection_lost")
    events = protocol.events
    assert events[-1] == "connection_lost"
    assert sorted(events[1:-1]) == ["data 1", "data 2", "exited", "lost 0", "lost 1", "lost 2"]
    for fd in (1, 2):
        assert events.index(f"data {fd}") < events.index(f"lost {fd}")
    assert protocol.lost_with is None
    assert (protocol.output[1], protocol.output[2]) == (b"out\n", b"err\n")
    assert transport.get_returncode() == 3
    transport.close()


async def test_connection_made_comes_before_the_news_of_a_child_that_ends_at_once(loop):
    for _ in range(10):
        transport, protocol = await start_shell(loop, "", stdin=None, stdout=None, stderr=None)
        await protocol.happened("connection_lost")
        assert protocol.events == ["connection_made", "exited", "connection_lost"]
        transport.close()


async def test_transport_knows_pid_pipes_popen_and_protocol(loop):
    transport, protocol = await start_shell(loop, "echo $$; read line", stderr=None)
    while protocol.output[1].count(b"\n") < 1:
        await protocol.until(lambda: b"\n" in protocol.output[1])
    assert transport.get_pid() == int(protocol.output[1])
    assert transport.get_returncode() is None
    assert isinstance(transport.get_pipe_transport(0), asyncio.WriteTransport)
    assert isinstance(transport.get_pipe_transport(1), asyncio.ReadTransport)
    assert transport.get_pipe_transport(2) is None
    assert transport.get_protocol() is protocol
    popen = transport.get_extra_info("subprocess")
    assert isinstance(popen, subprocess.Popen)
    assert (popen.pid, popen.returncode) == (transport.get_pid(), None)
    assert popen.args == (SHELL, "-c", "echo $$; read line")
    transport.get_pipe_transport(0).write(b"\n")
    await protocol.happened("exited")
    assert popen.returncode == popen.poll() == 0
    transport.close()
    await protocol.happened("connection_lost")


async def test_pipe_transports_control_the_flow(loop):
    transport, protocol = await start_shell(loop, "read line; cat")
    stdin, stdout = transport.get_pipe_transport(0), transport.get_pipe_transport(1)
    stdout.pause_reading()
    stdin.write(b"go\n" + b"x" * 1_000_000)
    await protocol.happened("pause_writing")
    stdout.resume_reading()
    await protocol.happened("resume_writing")
    stdin.close()
    await protocol.happened("lost 1")
    assert len(protocol.output[1]) == 1_000_000
    await protocol.happened("connection_lost")
    transport.close()


async def test_many_children_at_once_keep_their_outputs_apart(loop):
    outputs = await asyncio.gather(
        *(output_of_shell(f"echo {n}; cat", stdin=subprocess.DEVNULL) for n in range(30))
    )
    assert outputs == [f"{n}\n".encode() for n in range(30)]


@pytest.mark.parametrize("name", ["terminate", "kill", "send_signal"])
async def test_signals_end_a_child(loop, name):
    process = await asyncio.create_subprocess_exec("sleep", "1000")
    numbers = {"terminate": signal.SIGTERM, "kill": signal.SIGKILL, "send_signal": signal.SIGUSR1}
    arguments = [numbers[name]] if name == "send_signal" else []
    getattr(process, name)(*arguments)
    assert await process.wait() == -numbers[name]


async def test_child_that_ignores_signals_is_killed(loop):
    script = "trap '' TERM INT HUP; echo ready; while :; do sleep 1000; done"
    process = await asyncio.create_subprocess_exec(
        SHELL, "-c", script, stdout=PIPE, start_new_session=True
    )
    assert await process.stdout.readline() == b"ready\n"
    process.terminate()
    process.send_signal(signal.SIGINT)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(process.wait(), 0.01)
    os.killpg(process.pid, signal.SIGKILL)  # the sleeping grandchild, too
    assert await process.wait() == -signal.SIGKILL
    assert await process.stdout.read() == b""


async def test_child_killed_from_elsewhere_is_told(loop):
    process = await asyncio.create_subprocess_exec("sleep", "1000")
    os.kill(process.pid, signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL
    assert process.returncode == -signal.SIGKILL


async def test_signals_to_a_child_that_has_ended_go_nowhere(loop):
    transport, protocol = await start_shell(loop, "", stdin=None, stdout=None, stderr=None)
    await protocol.happened("connection_lost")
    await turns(2)
    for send in (
        transport.terminate,
        transport.kill,
        lambda: transport.send_signal(signal.SIGTERM),
    ):
        with pytest.raises(ProcessLookupError):
            send()
    transport.close()


@pytest.mark.asyncio_lacks(
    when=sys.version_info < (3, 13),
    reason="asyncio's own signal could take the exit status (gh-87744)",
)
async def test_signal_between_the_end_and_its_notice_does_no_harm(loop):
    with new_pipe() as pipe:
        process = await asyncio.create_subprocess_exec(
            SHELL, "-c", "read line; exit 5", stdin=pipe.reader
        )
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    process.kill()
    assert await process.wait() == 5


@waits_for_pipes
async def test_wait_ends_with_the_child_though_a_grandchild_keeps_the_pipe(loop):
    with new_pipe() as stop:
        script = "exec 3<&0; read line <&3 & echo started; exit 4"
        transport, protocol = await start_shell(loop, script, stdin=stop.reader)
        assert await transport._wait() == 4
        await protocol.happened("exited")
        await io_barrier(loop)
        assert "connection_lost" not in protocol.events
        stop.writer.close()
        await protocol.happened("connection_lost")
        assert protocol.output[1] == b"started\n"
        transport.close()


async def test_everybody_who_waits_gets_the_return_code(loop):
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
    waits = [asyncio.create_task(process.wait()) for _ in range(3)]
    await turns(2)
    waits[1].cancel()
    process.stdin.close()
    assert [await waits[0], await waits[2]] == [0, 0]
    with pytest.raises(asyncio.CancelledError):
        await waits[1]
    assert await process.wait() == 0


async def test_close_kills_a_running_child(loop):
    transport, protocol = await start_shell(loop, "exec sleep 1000")
    pid = transport.get_pid()
    assert not transport.is_closing()
    transport.close()
    transport.close()
    assert transport.is_closing()
    assert await transport._wait() == -signal.SIGKILL
    await protocol.happened("connection_lost")
    assert {"lost 0", "lost 1", "lost 2", "exited"} < set(protocol.events)
    assert is_zombie_or_gone(pid)


async def test_dropped_transport_warns_and_kills_its_child(loop, audit):
    class Forgetful(ProcessRecorder):
        transport = property(lambda self: None, lambda self, value: None)

    transport, protocol = await loop.subprocess_exec(
        Forgetful, "sleep", "1000", stdin=None, stdout=None, stderr=None
    )
    transport.__del__()
    audit.take_warning(ResourceWarning, "^unclosed transport <.*SubprocessTransport .*running")
    await protocol.happened("exited")
    assert transport.get_returncode() == -signal.SIGKILL
    transport.close()


@threads_reap
async def test_nothing_keeps_a_child_that_has_ended(loop):
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    await process.communicate(b"x")
    await turns(3)
    dead = weakref.ref(process._transport)
    popen = weakref.ref(process._transport.get_extra_info("subprocess"))
    del process
    await turns(1)
    gc.collect()
    assert dead() is None
    assert popen() is None


async def test_repr_says_what_the_child_does(loop):
    transport, protocol = await start_shell(loop, "read line; exit 2", stderr=None)
    text = repr(transport)
    assert f"pid={transport.get_pid()} running stdin=<" in text and " stdout=<" in text
    transport.get_pipe_transport(0).write(b"\n")
    await protocol.happened("exited")
    assert f"pid={transport.get_pid()} returncode=2" in repr(transport)
    transport.close()
    assert "closed" in repr(transport)
    await protocol.happened("connection_lost")


async def test_sigchld_can_have_a_handler_beside_children(loop):
    arrived = loop.create_future()
    loop.add_signal_handler(signal.SIGCHLD, lambda: arrived.done() or arrived.set_result(None))
    process = await asyncio.create_subprocess_exec(SHELL, "-c", "exit 6")
    assert await process.wait() == 6
    await arrived
    assert loop.remove_signal_handler(signal.SIGCHLD)


async def test_nobody_gets_a_sigchld_handler(loop):
    before = signal.getsignal(signal.SIGCHLD)
    assert await output_of_shell("echo x") == b"x\n"
    assert signal.getsignal(signal.SIGCHLD) == before


async def test_debug_mode_logs_the_life_of_a_child(loop, caplog):
    caplog.set_level("DEBUG", "asyncio")
    loop.set_debug(True)
    transport, protocol = await loop.subprocess_shell(
        ProcessRecorder, "exit 3", stdout=None, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
    )
    await protocol.happened("connection_lost")
    transport.close()
    texts = [record.getMessage() for record in caplog.records]
    for expected in (
        "run shell command 'exit 3' stdin=",
        "process 'exit 3' created: pid ",
        "run shell command 'exit 3': <",
        "exited with return code 3",
    ):
        assert any(expected in text for text in texts), (expected, texts)


def test_children_of_consecutive_loops(loop_factory):
    for number in range(3):
        loop = loop_factory()
        assert loop.run_until_complete(output_of_shell(f"echo {number}")) == f"{number}\n".encode()
        loop.close()


def test_loop_on_another_thread_has_children(loop_factory):
    outputs = []

    def run():
        loop = loop_factory()
        outputs.append(loop.run_until_complete(output_of_shell("echo here")))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert outputs == [b"here\n"]
