"""The command `antiphon`: a program finds what it would find under `python`, except for the loop.

Most tests run one program under both and compare all that can be seen from outside: output, errors, status.
"""

from __future__ import annotations

import functools
import json
import os
import py_compile
import signal
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPT = [os.path.join(sysconfig.get_path("scripts"), "antiphon")]
MODULE = [sys.executable, "-m", "antiphon"]
PYTHON = [sys.executable]

# Everything that a program can ask about how it was started.
SHOW = """\
import json, sys
main = {name: repr(value).split(" at 0x")[0] for name, value in list(globals().items())}
facts = [sys.argv, sys.path, main, __import__("__main__").__dict__ is globals()]
print(json.dumps(facts, indent=1, sort_keys=True))
"""
FAIL = """\
def fail():
    raise ValueError("no reason")
fail()
"""


pytestmark = pytest.mark.slow  # every one of them starts processes


def start(command, *arguments, cwd, stdin="", env=None):
    """Starts `command`; gives a function that waits for it and tells its exit status, output and errors."""
    process = subprocess.Popen(
        [*command, *arguments],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def outcome():
        with process:
            try:
                output, errors = process.communicate(stdin, timeout=45)
            finally:
                process.kill()
        return process.returncode, output, errors

    return outcome


def run(command, *arguments, **how):
    return start(command, *arguments, **how)()


@pytest.fixture(params=[SCRIPT, MODULE], ids=["antiphon", "python-m-antiphon"])
def antiphon(request):
    return request.param


def compare(commands, *arguments, **how):
    """Runs `python` and `commands` side by side; gives their common outcome."""
    started = [start(command, *arguments, **how) for command in (PYTHON, *commands)]
    expected, *found = [outcome() for outcome in started]
    # python says which executable complains.
    said = expected[2].replace(f"{sys.executable}: can't open", "antiphon: can't open")
    for outcome in found:
        assert outcome == (*expected[:2], said)
    return expected


@pytest.fixture
def same_as_python(tmp_path):
    return functools.partial(compare, [SCRIPT], cwd=tmp_path)


@pytest.fixture
def both_same_as_python(tmp_path):
    """For what depends on how this command was started, too."""
    return functools.partial(compare, [SCRIPT, MODULE], cwd=tmp_path)


class TestProgram:
    """What `__main__`, `sys.argv` and `sys.path` are."""

    def test_script(self, both_same_as_python, tmp_path):
        (tmp_path / "show.py").write_text(SHOW)
        status, output, _ = both_same_as_python("show.py", "one", "-m", "--help", "--", "-")
        assert status == 0
        assert '"--help"' in output

    def test_script_in_a_folder(self, same_as_python, tmp_path):
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder/show.py").write_text(SHOW)
        same_as_python("./folder/../folder/show.py")
        same_as_python(str(tmp_path / "folder/show.py"))

    def test_script_through_a_link_imports_beside_its_target(self, same_as_python, tmp_path):
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder/show.py").write_text("import beside\n" + SHOW)
        (tmp_path / "folder/beside.py").write_text("")
        (tmp_path / "link.py").symlink_to("folder/show.py")
        assert same_as_python("link.py")[0] == 0

    def test_script_in_another_encoding(self, same_as_python, tmp_path):
        text = "# coding: latin-1\nprint(ascii('\xe9'))\n"
        (tmp_path / "latin.py").write_bytes(text.encode("latin-1"))
        assert same_as_python("latin.py")[1] == "'\\xe9'\n"

    def test_compiled_script(self, same_as_python, tmp_path):
        (tmp_path / "show.py").write_text(SHOW)
        py_compile.compile(str(tmp_path / "show.py"), cfile=str(tmp_path / "shown.pyc"))
        assert same_as_python("shown.pyc", "one")[0] == 0

    def test_folder_and_zip_file(self, both_same_as_python, tmp_path):
        (tmp_path / "application").mkdir()
        (tmp_path / "application/__main__.py").write_text(SHOW)
        with zipfile.ZipFile(tmp_path / "application.zip", "w") as archive:
            archive.writestr("__main__.py", SHOW)
        assert both_same_as_python("application", "one")[0] == 0
        assert both_same_as_python("application.zip", "one")[0] == 0

    def test_module_and_package(self, both_same_as_python, tmp_path):
        (tmp_path / "package").mkdir()
        (tmp_path / "package/__init__.py").write_text("import sys; print(sys.argv)")
        (tmp_path / "package/__main__.py").write_text(SHOW)
        (tmp_path / "package/part.py").write_text(SHOW)
        assert both_same_as_python("-m", "package", "one", "-c", "--version")[0] == 0
        assert both_same_as_python("-mpackage.part", "one")[0] == 0

    def test_code(self, both_same_as_python):
        both_same_as_python("-c", SHOW, "one", "-m", "two")
        both_same_as_python("-c" + SHOW)
        assert both_same_as_python("-c", "")[0] == 0

    def test_indented_code(self, same_as_python):
        # 3.14 takes the common indentation away; before, it is an error.
        status, _, _ = same_as_python("-c", "\n  import sys\n  print(sys.argv)\n")
        assert status == (0 if sys.version_info >= (3, 14) else 1)

    def test_standard_input(self, both_same_as_python):
        assert both_same_as_python("-", "one", "-c", stdin=SHOW)[0] == 0

    def test_safe_path(self, both_same_as_python, tmp_path):
        (tmp_path / "application").mkdir()
        (tmp_path / "application/__main__.py").write_text(SHOW)
        safe = {"PYTHONSAFEPATH": "1"}
        both_same_as_python("application/__main__.py", env=safe)
        both_same_as_python("application", env=safe)
        both_same_as_python("-c", SHOW, env=safe)

    def test_main_outlives_the_last_line(self, both_same_as_python, tmp_path):
        (tmp_path / "late.py").write_text(
            "import atexit, pickle, threading\n"
            "class Thing: pass\n"
            "def late():\n"
            "    threading.main_thread().join()\n"
            "    print(pickle.loads(pickle.dumps(Thing())).__class__ is Thing)\n"
            "atexit.register(lambda: print(__import__('__main__').Thing is Thing))\n"
            "threading.Thread(target=late).start()\n"
        )
        assert both_same_as_python("late.py")[1] == "True\nTrue\n"
        assert both_same_as_python("-m", "late")[1] == "True\nTrue\n"

    def test_spawned_process_finds_main(self, same_as_python, tmp_path):
        (tmp_path / "spawn.py").write_text(
            "import multiprocessing\n"
            "def double(n): return 2 * n\n"
            "if __name__ == '__main__':\n"
            "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
            "        print(pool.map(double, [1, 2]))\n"
        )
        assert same_as_python("spawn.py")[1] == "[2, 4]\n"
        assert same_as_python("-m", "spawn")[1] == "[2, 4]\n"


class TestEnd:
    """Exit status and what is said about errors."""

    @pytest.mark.parametrize("code", ["", "0", "3", "'a message'", "None", "[1]"])
    def test_exit(self, same_as_python, code):
        same_as_python("-c", f"import sys; sys.exit({code})")

    def test_traceback_begins_at_the_program(self, both_same_as_python, tmp_path):
        (tmp_path / "fail.py").write_text(FAIL)
        assert both_same_as_python("fail.py")[0] == 1
        assert both_same_as_python("-m", "fail")[0] == 1
        assert both_same_as_python("-c", FAIL)[0] == 1
        assert both_same_as_python("-", stdin=FAIL)[0] == 1

    def test_traceback_of_a_chain_and_of_a_group(self, same_as_python, tmp_path):
        (tmp_path / "chain.py").write_text(
            "import asyncio\n"
            "async def fail(): 1 / 0\n"
            "async def main():\n"
            "    try:\n"
            "        {}['missing']\n"
            "    except KeyError:\n"
            "        async with asyncio.TaskGroup() as group:\n"
            "            group.create_task(fail())\n"
            "try:\n"
            "    asyncio.run(main())\n"
            "except ExceptionGroup as group:\n"
            "    raise RuntimeError('the end') from group.exceptions[0].with_traceback(None)\n"
        )
        assert "the end" in same_as_python("chain.py")[2]

    @pytest.mark.parametrize("source", ["x = = 1", "def f(:\n", "  x\n y", "return"])
    def test_syntax_error(self, same_as_python, tmp_path, source):
        (tmp_path / "wrong.py").write_text(source)
        assert "Error" in same_as_python("wrong.py")[2]
        same_as_python("-", stdin=source)
        same_as_python("-c", source)

    def test_what_cannot_be_found(self, same_as_python, tmp_path):
        (tmp_path / "empty").mkdir()
        assert same_as_python("missing.py")[0] == 2
        assert same_as_python("missing.pyc")[0] == 2
        assert same_as_python("missing/")[0] == 2
        assert same_as_python("empty")[0] == 1
        assert same_as_python("-m", "no_such_module")[0] == 1
        assert same_as_python("-m", "json")[0] == 1

    def test_interrupt_kills(self, both_same_as_python):
        status, _, errors = both_same_as_python("-c", "raise KeyboardInterrupt")
        assert status == -signal.SIGINT
        assert errors.endswith("KeyboardInterrupt\n")

    def test_own_excepthook_sees_its_own_frames_only(self, same_as_python):
        hook = (
            "import sys, traceback\n"
            "def hook(kind, value, tb):\n"
            "    print(kind, value.__traceback__ is tb, sys.excepthook is hook)\n"
            "    traceback.print_tb(tb)\n"
            "    traceback.print_tb(sys.last_traceback)\n"
            "sys.excepthook = hook\n"
        )
        assert "True True" in same_as_python("-c", hook + FAIL)[1]

    def test_excepthook_that_exits(self, same_as_python):
        exiting = "import sys\nsys.excepthook = lambda *_: sys.exit(7)\n"
        assert same_as_python("-c", exiting + FAIL)[0] == 7

    def test_excepthook_that_fails(self, antiphon, tmp_path):
        # Not compared: the hook's own traceback has a frame more here, that of its caller.
        failing = "import sys\ndef hook(*_): 1 / 0\nsys.excepthook = hook\n"
        status, _, errors = run(antiphon, "-c", failing + FAIL, cwd=tmp_path)
        assert status == 1
        hooks, _, originals = errors.partition("Original exception was:\n")
        assert "ZeroDivisionError" in hooks
        assert originals == run(PYTHON, "-c", "\n" * failing.count("\n") + FAIL, cwd=tmp_path)[2]


class TestLoop:
    """Which loops are antiphon's."""

    NAMES = (
        "import asyncio\n"
        "def name(loop):\n"
        "    kind = f'{type(loop).__module__}.{type(loop).__qualname__}'.split('.')[0]\n"
        "    loop.close()\n"
        "    return kind\n"
        "async def running(): return type(asyncio.get_running_loop()).__module__.split('.')[0]\n"
    )

    def outcome(self, antiphon, tmp_path, code):
        strict = {"PYTHONWARNINGS": "error"}
        return run(antiphon, "-c", self.NAMES + code, cwd=tmp_path, env=strict)

    @pytest.mark.parametrize(
        "code",
        [
            "print(asyncio.run(running()))",
            "with asyncio.Runner() as runner: print(runner.run(running()))",
            "print(name(asyncio.new_event_loop()))",
            "asyncio.set_event_loop(asyncio.new_event_loop()); print(name(asyncio.get_event_loop()))",
            "import threading\n"
            "thread = threading.Thread(target=lambda: print(asyncio.run(running())))\n"
            "thread.start(); thread.join()",
        ],
        ids=["run", "Runner", "new_event_loop", "get_event_loop", "another thread"],
    )
    def test_unnamed_loop_is_antiphons(self, antiphon, tmp_path, code):
        # Warnings are errors here, so none comes of how the loop was put in place.
        assert self.outcome(antiphon, tmp_path, code) == (0, "antiphon\n", "")

    @pytest.mark.skipif(sys.version_info < (3, 13), reason="asyncio.EventLoop came with 3.13")
    def test_most_efficient_loop_is_antiphons(self, antiphon, tmp_path):
        code = "print(asyncio.run(running(), loop_factory=asyncio.EventLoop))"
        assert self.outcome(antiphon, tmp_path, code) == (0, "antiphon\n", "")

    def test_loop_that_is_named_is_that_loop(self, antiphon, tmp_path):
        code = "print(name(asyncio.SelectorEventLoop()))"
        assert self.outcome(antiphon, tmp_path, code) == (0, "asyncio\n", "")

    def test_loop_is_an_asyncio_loop(self, antiphon, tmp_path):
        code = (
            "loop = asyncio.new_event_loop()\n"
            "print(isinstance(loop, asyncio.AbstractEventLoop)); loop.close()"
        )
        assert self.outcome(antiphon, tmp_path, code) == (0, "True\n", "")

    @pytest.mark.skipif(
        sys.version_info >= (3, 14), reason="get_event_loop() makes no loop from 3.14 on"
    )
    def test_loop_of_a_program_that_never_made_one(self, antiphon, tmp_path):
        code = "import asyncio\nprint(type(asyncio.get_event_loop()).__module__)"
        status, output, _ = run(antiphon, "-c", code, cwd=tmp_path)
        assert (status, output.split(".")[0].strip()) == (0, "antiphon")


class TestOptions:
    def test_version(self, antiphon, tmp_path):
        status, output, errors = run(antiphon, "--version", cwd=tmp_path)
        assert (status, errors) == (0, "")
        assert output.startswith("antiphon ")
        assert output.endswith(f"(CPython {sys.version.split()[0]})\n")

    def test_help(self, antiphon, tmp_path):
        status, output, errors = run(antiphon, "--help", cwd=tmp_path)
        assert (status, errors) == (0, "")
        assert output.startswith("usage: antiphon ")

    @pytest.mark.parametrize("words", [[], ["-m"], ["-c"], ["--no-such-option", "app.py"]])
    def test_no_program(self, antiphon, tmp_path, words):
        status, output, errors = run(antiphon, *words, cwd=tmp_path)
        assert (status, output) == (2, "")
        assert errors.startswith("usage: antiphon ")


class TestExamples:
    """The programs under examples/, on asyncio and on antiphon."""

    @pytest.fixture(params=["asyncio", "antiphon"])
    def command(self, request):
        return PYTHON if request.param == "asyncio" else SCRIPT

    def test_countdown(self, command, tmp_path):
        status, output, errors = run(command, str(EXAMPLES / "countdown.py"), "10", cwd=tmp_path)
        assert status == 0, errors
        lines = output.splitlines()
        assert [line.rsplit(" ", 1)[0] for line in lines] == [
            *["subFunction during time:"] * 5,
            "during time:",
        ]
        parts = [float(line.rsplit(" ", 1)[1]) for line in lines]
        assert sum(parts[:5]) <= parts[5]

    def test_pool(self, command, tmp_path):
        status, output, errors = run(command, str(EXAMPLES / "pool.py"), "10", cwd=tmp_path)
        assert status == 0, errors
        lines = [line.split(" ")[0] for line in output.splitlines()]
        assert lines == ["one", *["worker"] * 5, str(len(os.sched_getaffinity(0)))]

    def test_generator(self, command, tmp_path):
        status, output, errors = run(command, str(EXAMPLES / "generator.py"), cwd=tmp_path)
        assert (status, output) == (1, "1\n2\n")
        assert errors.startswith("Traceback (most recent call last):\n")
        assert errors.endswith("\nStopIteration\n")
        assert errors.count("File ") == 1

    def test_exchange(self, command, tmp_path):
        few = ["--requests", "200", "--connections", "10"]
        status, output, errors = run(command, str(EXAMPLES / "exchange.py"), *few, cwd=tmp_path)
        assert status == 0, errors
        facts = json.loads(output)
        assert facts["loop"].split(".")[0] == ("antiphon" if command is SCRIPT else "asyncio")
        assert (facts["requests"], facts["verified"]) == (200, 200)
