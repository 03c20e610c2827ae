"""What a child is given: every argument of `subprocess.Popen`, and those that asyncio refuses."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from support.pipes import new_pipe
from support.processes import SHELL, has_children, output_of, output_of_shell

pytestmark = pytest.mark.real_driver("children are the kernel's")

PIPE = subprocess.PIPE


@pytest.fixture(autouse=True)
def no_child_is_left():
    """A child that a test started must have been reaped when it ends."""
    yield
    assert not has_children()


async def test_directory_may_be_a_path(loop, tmp_path):
    for cwd in (tmp_path, str(tmp_path), os.fsencode(tmp_path)):
        assert await output_of_shell("pwd -P", cwd=cwd) == os.fsencode(tmp_path.resolve()) + b"\n"


async def test_environment_is_the_given_one_or_the_present_one(loop, monkeypatch):
    assert await output_of("/usr/bin/env", env={"A": "ä", b"B": b"2"}) == "A=ä\nB=2\n".encode()
    assert await output_of("/usr/bin/env", env={}) == b""
    monkeypatch.setenv("ANTIPHON_TEST", "before")
    starting = asyncio.create_task(output_of_shell("echo $ANTIPHON_TEST"))
    await asyncio.sleep(0)
    monkeypatch.setenv("ANTIPHON_TEST", "after")
    assert await starting == b"before\n"


async def test_program_is_looked_for_in_the_childs_path(loop, tmp_path):
    program = tmp_path / "hello"
    program.write_text("#!/bin/sh\necho hello\n")
    program.chmod(0o755)
    assert await output_of("hello", env={"PATH": f"/nowhere:{tmp_path}"}) == b"hello\n"
    assert await output_of(Path(program)) == b"hello\n"
    assert await output_of(os.fsencode(program)) == b"hello\n"


async def test_executable_replaces_the_program_and_not_its_name(loop):
    assert await output_of("zero", "-c", "echo $0", executable=SHELL) == b"zero\n"
    process = await asyncio.create_subprocess_shell("echo $0", executable="/bin/sh", stdout=PIPE)
    assert (await process.communicate())[0] == b"/bin/sh\n"


async def test_umask_session_and_group(loop):
    assert await output_of_shell("umask", umask=0o27) == b"0027\n"
    script = "set -- $(cat /proc/$$/stat); echo $1 $5 $6"  # its number, group, session
    pid, group, session = (await output_of_shell(script)).split()
    assert int(group) == os.getpgrp() and int(session) == os.getsid(0)
    pid, group, session = (await output_of_shell(script, start_new_session=True)).split()
    assert pid == group == session
    pid, group, session = (await output_of_shell(script, process_group=0)).split()
    assert pid == group != session


async def test_only_what_is_passed_on_is_inherited(loop):
    with new_pipe() as kept, new_pipe() as lost:
        for pipe in (kept, lost):
            os.set_inheritable(pipe.writer.fileno(), True)
        numbers = f"{kept.writer.fileno()} {lost.writer.fileno()}"
        script = f"for n in {numbers}; do test -e /proc/$$/fd/$n && echo open || echo closed; done"
        passed = await output_of_shell(script, pass_fds=[kept.writer.fileno()])
        assert passed == b"open\nclosed\n"
        assert await output_of_shell(script, close_fds=False) == b"open\nopen\n"
        assert await output_of_shell(script) == b"closed\nclosed\n"


async def test_standard_files_may_be_each_others(loop):
    with new_pipe() as pipe:
        process = await asyncio.create_subprocess_exec(
            SHELL, "-c", "echo out; echo err >&2", stdout=pipe.writer, stderr=pipe.writer
        )
        assert await process.wait() == 0
        pipe.writer.close()
        assert pipe.reader.read() == b"out\nerr\n"


async def test_ignored_signals_are_restored_unless_told_otherwise(loop):
    async def ignored(**options):
        status = await output_of("grep", "SigIgn", "/proc/self/status", **options)
        return int(status.split()[1], 16) & (1 << (signal.SIGPIPE - 1))

    assert not await ignored()
    assert await ignored(restore_signals=False)


async def test_child_blocks_the_signals_that_the_loops_thread_blocks(loop):
    async def blocked():
        status = await output_of("grep", "SigBlk", "/proc/self/status")
        return int(status.split()[1], 16) & (1 << (signal.SIGUSR1 - 1))

    assert not await blocked()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        assert await blocked()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    assert not await blocked()


async def test_preexec_fn_runs_in_the_child_before_the_program(loop):
    here = os.getpid()

    def before():
        assert os.getpid() != here
        os.environ["MARK"] = "set in the child"
        os.setsid()
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    script = "echo $MARK; set -- $(cat /proc/$$/stat); test $1 = $6 && echo leader"
    assert await output_of_shell(script, preexec_fn=before) == b"set in the child\nleader\n"
    assert "MARK" not in os.environ


async def test_raising_preexec_fn_is_a_subprocess_error(loop):
    def fail():
        raise ZeroDivisionError

    with pytest.raises(subprocess.SubprocessError, match=r"^Exception occurred in preexec_fn\.$"):
        await asyncio.create_subprocess_exec("true", preexec_fn=fail, stdin=PIPE, stdout=PIPE)


async def test_user_and_groups(loop):
    if os.getuid() == 0:
        options = {"user": 65534, "group": 65534, "extra_groups": [65533]}
        assert await output_of("id", "-u", **options) == b"65534\n"
        assert (await output_of("id", "-G", **options)).split() == [b"65534", b"65533"]
    else:
        assert await output_of("id", "-u", user=os.getuid()) == f"{os.getuid()}\n".encode()


async def test_pipe_size(loop):
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, pipesize=4096)
    assert await process.communicate(b"x" * 100_000) == (b"x" * 100_000, None)


async def test_replaced_popen_is_used(loop):
    made = []

    class Popen(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            made.append(args)
            super().__init__(*args, **kwargs)

    with mock.patch("subprocess.Popen", Popen):
        assert await output_of("echo", "hi") == b"hi\n"
    assert made == [(("echo", "hi"),)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"universal_newlines": True}, "universal_newlines must be False"),
        ({"shell": True}, "shell must be False"),
        ({"bufsize": 1}, "bufsize must be 0"),
        ({"text": True}, "text must be False"),
        ({"encoding": "utf-8"}, "encoding must be None"),
        ({"errors": "strict"}, "errors must be None"),
    ],
)
async def test_arguments_about_text_are_refused(loop, options, words):
    with pytest.raises(ValueError, match=f"^{words}$"):
        await loop.subprocess_exec(asyncio.SubprocessProtocol, "true", **options)
    if "shell" in options:
        options, words = {"shell": False}, "shell must be True"
    with pytest.raises(ValueError, match=f"^{words}$"):
        await loop.subprocess_shell(asyncio.SubprocessProtocol, "true", **options)


async def test_shell_command_must_be_a_string(loop):
    with pytest.raises(ValueError, match="^cmd must be a string$"):
        await loop.subprocess_shell(asyncio.SubprocessProtocol, ["ls", "-l"])


@pytest.mark.parametrize(
    ("args", "options", "kind", "words"),
    [
        (["true", "a\0b"], {}, ValueError, "embedded null byte"),
        (["true"], {"cwd": "a\0b"}, ValueError, "embedded null byte"),
        (["true"], {"env": {"A=B": "1"}}, ValueError, "illegal environment variable name"),
        (["true"], {"env": {"A": "1\0"}}, ValueError, "embedded null byte"),
        (["true"], {"pass_fds": [-1]}, ValueError, r"bad value\(s\) in fds_to_keep"),
        (["true", 7], {}, TypeError, "expected str, bytes or os.PathLike object, not int"),
        (["true"], {"cwd": 7.5}, TypeError, "expected str, bytes or os.PathLike object, not float"),
        (["true"], {"flavour": 1}, TypeError, "unexpected keyword argument 'flavour'"),
        (["true"], {"user": -2}, ValueError, "User ID cannot be negative, got -2"),
    ],
)
async def test_bad_arguments_are_popens_own_errors(loop, args, options, kind, words):
    given = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE, **options}
    with pytest.raises(kind, match=words) as caught:
        await asyncio.create_subprocess_exec(*args, **given)
    with pytest.raises(kind) as expected:
        subprocess.Popen(args, **given)
    assert str(caught.value) == str(expected.value)


async def test_output_cannot_go_where_it_goes(loop):
    with pytest.raises((ValueError, OSError)) as caught:  # since 3.13 a ValueError
        await asyncio.create_subprocess_exec("true", stdout=subprocess.STDOUT)
    with pytest.raises(type(caught.value)) as expected:
        subprocess.Popen(["true"], stdout=subprocess.STDOUT)
    assert str(caught.value) == str(expected.value)


@pytest.mark.parametrize(
    ("args", "options"),
    [
        (["/nowhere/at/all"], {}),
        (["surely-no-program-is-called-this"], {}),
        (["/etc/passwd"], {}),
        (["/etc/passwd/x"], {}),
        (["/"], {}),
        (["true"], {"cwd": "/nowhere/at/all"}),
        (["true"], {"cwd": "/etc/passwd"}),
        (["true"], {"env": {"PATH": "/nowhere"}}),
        (["true"], {"stdin": 987_654}),
        (["true"], {"process_group": 1}),
    ],
)
async def test_child_that_cannot_be_started_is_popens_own_error(loop, args, options):
    given = {"stdout": PIPE, "stderr": PIPE, **options}
    with pytest.raises(OSError) as caught:
        await asyncio.create_subprocess_exec(*args, **given)
    with pytest.raises(OSError) as expected:
        subprocess.Popen(args, **given)
    for attribute in ("errno", "strerror", "filename"):
        found, wanted = getattr(caught.value, attribute), getattr(expected.value, attribute)
        assert found == wanted, attribute
    assert type(caught.value) is type(expected.value)


async def test_audit_hook_hears_of_the_child(loop):
    events = []
    listening = True

    def hook(event, arguments):
        if listening and event == "subprocess.Popen":
            events.append(arguments)

    sys.addaudithook(hook)
    try:
        await output_of("echo", "hi", cwd="/")
    finally:
        listening = False
    assert events == [("echo", ["echo", "hi"], "/", None)]
