"""Children when things go wrong: cancelled starts, loops that close, exit codes that others take."""

import asyncio
import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading

import pytest

from support.children import run_child
from support.loops import run_ready
from support.net import io_barrier, turns
from support.pipes import new_pipe
from support.processes import (
    ProcessRecorder,
    has_children,
    output_of,
    output_of_shell,
    start_shell,
)

pytestmark = pytest.mark.real_driver("children are the kernel's")

PIPE = subprocess.PIPE
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


@pytest.mark.parametrize("steps", range(8))
@pytest.mark.parametrize("options", [{}, {"preexec_fn": os.getpid}], ids=["native", "python"])
async def test_start_cancelled_at_any_point_leaves_no_child(loop, steps, options):
    task = asyncio.create_task(
        asyncio.create_subprocess_exec("sleep", "1000", stdin=PIPE, stdout=PIPE, **options)
    )
    await turns(steps)
    cancelled = task.cancel()
    if cancelled:
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        process = task.result()
        process.kill()
        await process.wait()
        process._transport.close()
    await turns(5)
    assert not has_children()


async def test_start_cancelled_twice_still_ends_the_child(loop):
    child_has_ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGCHLD, child_has_ended.set)
    task = asyncio.create_task(asyncio.create_subprocess_exec("sleep", "1000", stdin=PIPE))
    for _ in range(2):
        await turns(1)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await child_has_ended.wait()
    while has_children():
        await io_barrier(loop)
    loop.remove_signal_handler(signal.SIGCHLD)


@pytest.mark.loops("antiphon")  # asyncio's loop stands still until the program is executed
async def test_loop_runs_while_a_child_is_being_started(loop):
    with new_pipe() as pipe:
        reader = pipe.reader.fileno()
        starting = asyncio.create_task(
            output_of("echo", "started", preexec_fn=lambda: os.read(reader, 1))
        )
        await turns(10)
        assert not starting.done()
        pipe.writer.write(b"x")  # only now the child can go on to its program
        assert await starting == b"started\n"


@pytest.mark.loops("antiphon")  # asyncio starts a child within one turn
@pytest.mark.parametrize("options", [{}, {"preexec_fn": os.getpid}], ids=["native", "python"])
def test_loop_closed_while_a_child_is_being_started_leaves_none(loop, audit, options):
    task = loop.create_task(asyncio.create_subprocess_exec("sleep", "1000", stdin=PIPE, **options))
    run_ready(loop)
    loop.close()
    for thread in threading.enumerate():
        if thread.name == "antiphon-popen":
            thread.join()  # it gives its child up by itself
    del task
    gc.collect()
    audit.take_log("^Task was destroyed but it is pending!")
    assert not has_children()


@pytest.mark.loops("antiphon")  # asyncio leaves the descriptor that it watches the child with open
def test_child_outlives_its_loop(loop):
    with new_pipe() as pipe:
        transport, protocol = loop.run_until_complete(
            start_shell(loop, "cat", stdin=pipe.reader, stdout=None, stderr=None)
        )
        popen = transport.get_extra_info("subprocess")
        loop.close()
        assert popen.poll() is None
        pipe.writer.close()
        assert popen.wait() == 0
        transport.close()
        assert "exited" not in protocol.events
    assert not has_children()


@pytest.mark.loops("antiphon")  # asyncio leaves the descriptor that it watches the child with open
@pytest.mark.parametrize("first", ["process", "pipe"])
def test_dropped_transport_of_a_closed_loop_kills_its_child(loop, audit, monkeypatch, first):
    connect_write_pipe = loop.connect_write_pipe

    async def connect(*args):
        if first == "pipe":
            # The collector finalizes what has survived a young collection after what has not.
            gc.collect(0)
        return await connect_write_pipe(*args)

    monkeypatch.setattr(loop, "connect_write_pipe", connect)
    transport, protocol = loop.run_until_complete(
        start_shell(loop, "exec sleep 1000", stdout=None, stderr=None)
    )
    popen = transport.get_extra_info("subprocess")
    monkeypatch.undo()
    loop.close()
    del transport, protocol
    gc.collect()
    # The process's transport closes its pipe's, which has nothing to tell then, unless its turn came first.
    audit.drop_warnings(ResourceWarning, "^unclosed transport <WritePipeTransport")
    audit.take_warning(ResourceWarning, "^unclosed transport .*SubprocessTransport")
    assert popen.wait() == -signal.SIGKILL
    assert popen.stdin.closed


@pytest.mark.asyncio_lacks(
    when=sys.version_info < (3, 12), reason="asyncio had a thread reap each child at any time"
)
async def test_exit_code_that_somebody_else_took_is_255(loop, audit):
    with new_pipe() as pipe:
        transport, protocol = await start_shell(
            loop, "read line; exit 3", stdin=pipe.reader, stdout=None, stderr=None
        )
    os.waitpid(transport.get_pid(), 0)
    await protocol.happened("exited")
    assert transport.get_returncode() == 255
    audit.take_log("will report returncode 255")
    transport.close()


@pytest.mark.loops("antiphon")  # asyncio reports 255 and warns
async def test_exit_code_that_the_popen_object_took_is_kept(loop, audit):
    with new_pipe() as pipe:
        transport, protocol = await start_shell(
            loop, "read line; exit 3", stdin=pipe.reader, stdout=None, stderr=None
        )
    assert transport.get_extra_info("subprocess").wait() == 3
    await protocol.happened("exited")
    assert transport.get_returncode() == 3
    assert audit.log.records == []
    transport.close()


@pytest.mark.parametrize("method", ["connection_made", "process_exited", "connection_lost"])
async def test_protocol_method_that_raises_is_reported(loop, faults, method):
    class Raising(ProcessRecorder):
        pass

    def fail(self, *args):
        getattr(ProcessRecorder, method)(self, *args)
        raise ZeroDivisionError

    setattr(Raising, method, fail)
    transport, protocol = await loop.subprocess_exec(Raising, "true", stdin=None, stdout=None)
    await protocol.happened("connection_lost")
    await turns(2)
    assert [type(fault["exception"]) for fault in faults] == [ZeroDivisionError]
    transport.close()


async def test_protocol_factory_that_raises_starts_nothing(loop):
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await loop.subprocess_exec(fail, "true")
    assert not has_children()


async def test_output_after_the_reader_has_gone_ends_the_child(loop):
    transport, protocol = await start_shell(loop, "while echo line; do :; done")
    await protocol.happened("data 1")
    transport.get_pipe_transport(1).close()
    await protocol.happened("exited")
    assert transport.get_returncode() != 0
    transport.close()
    await protocol.happened("connection_lost")


async def test_input_for_a_child_that_does_not_read_is_a_broken_pipe(loop):
    process = await asyncio.create_subprocess_exec("true", stdin=PIPE)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while True:
            process.stdin.write(b"x" * 100_000)
            await process.stdin.drain()
    assert await process.wait() == 0


@pytest.mark.loops("antiphon")  # asyncio starts the child and then finds that it has no loop
@pytest.mark.parametrize("options", [{}, {"preexec_fn": os.getpid}], ids=["native", "python"])
def test_closed_loop_starts_no_children(loop, options):
    loop.close()
    starting = loop.subprocess_exec(asyncio.SubprocessProtocol, "true", **options)
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        starting.send(None)
    assert not has_children()


@pytest.mark.loops("antiphon")  # asyncio leaves the descriptor that it watches the child with open
def test_child_that_is_to_die_with_its_parent_lives_as_long_as_that(loop_factory):
    """The kernel takes the thread that started a child for its parent (prctl(2), PR_SET_PDEATHSIG)."""
    loop = loop_factory()
    with new_pipe() as request, new_pipe() as answer:
        start = start_shell(
            loop,
            "echo ready; read line; echo $line",
            preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
            stdin=request.reader,
            stdout=answer.writer,
            stderr=None,
        )
        transport, _ = loop.run_until_complete(start)
        answer.writer.close()
        assert answer.reader.read(6) == b"ready\n"
        assert loop.run_until_complete(output_of_shell("echo other")) == b"other\n"
        loop.close()
        gc.collect()
        request.writer.write(b"alive\n")
        assert answer.reader.read(6) == b"alive\n"
        popen = transport.get_extra_info("subprocess")
        assert popen.wait() == 0
        transport.close()


FALLBACK = """
import subprocess

def name_of(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return "that of the list itself"

async def main():
    run = asyncio.create_subprocess_exec
    process = await run("cat", stdin=-1, stdout=-1)
    echoed, _ = await process.communicate(b"x" * 200_000)
    several = await asyncio.gather(*(run("/bin/sh", "-c", f"exit {n}") for n in range(20)))
    codes = [await process.wait() for process in several]
    sleeper = await run("sleep", "1000")
    threads = [open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")]
    pidfds = [fd for fd in os.listdir("/proc/self/fd") if "pidfd" in name_of(fd)]
    # The child has ended, and nobody may reap it before the loop does: its number is still its own.
    os.kill(sleeper.pid, signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    sleeper.kill()
    killed = await sleeper.wait()
    in_python = await run("/bin/sh", "-c", "exit 9", preexec_fn=os.getpid)
    report(
        echoed=len(echoed), codes=codes, killed=killed, in_python=await in_python.wait(),
        waiters=sum(name.startswith("antiphon-waitpi") for name in threads), pidfds=len(pidfds),
    )

loop = new_event_loop()
loop.run_until_complete(main())
loop.close()
"""


@pytest.mark.loops("antiphon")  # the switch is antiphon's own
def test_without_pidfd_a_thread_waits_for_each_child(loop_name):
    facts = run_child(loop_name, FALLBACK, ANTIPHON_DISABLE="pidfd")
    assert facts["echoed"] == 200_000
    assert facts["codes"] == list(range(20))
    assert (facts["killed"], facts["in_python"]) == (-signal.SIGKILL, 9)
    assert facts["waiters"] >= 1
    assert facts["pidfds"] == 0


@pytest.mark.loops("antiphon")
def test_with_pidfd_no_thread_waits(loop_name):
    facts = run_child(loop_name, FALLBACK, ANTIPHON_DISABLE="")
    assert facts["codes"] == list(range(20))
    assert facts["waiters"] == 0
    assert facts["pidfds"] >= 1


def test_program_may_end_with_children_alive(loop_name):
    source = """
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
        process._transport._closed = True  # or it is killed by its transport's finalizer
        report(pid=process.pid)
    loop = new_event_loop()
    loop.run_until_complete(main())
    sys.stdout.flush()
    os._exit(0)
    """
    assert run_child(loop_name, source)["pid"] > 0


async def test_children_while_descriptors_run_out(loop):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    await output_of_shell("true")
    held = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, hard))
    try:
        with pytest.raises(OSError):
            while True:
                held.append(os.dup(0))
        with pytest.raises(OSError):
            await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        os.close(held.pop())
        with pytest.raises(OSError):
            await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert await output_of_shell("echo again") == b"again\n"
    assert not has_children()


async def test_hundreds_of_children_one_after_the_other_leave_nothing(loop):
    for _ in range(100):
        process = await asyncio.create_subprocess_exec("true", stdin=PIPE, stdout=PIPE)
        assert await process.communicate() == (b"", None)
    assert not has_children()
    await turns(3)
    gc.collect()
    assert sys.getrefcount(loop) < 100
