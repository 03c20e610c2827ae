"""The command line: runs a Python program with antiphon in asyncio's place.

A program finds here what it would find under `python`: its own `__main__` module, `sys.argv`, `sys.path[0]`, exit
status, death by Ctrl-C, and tracebacks that begin at its own first frame. The one difference is made before its first
import: all of asyncio is antiphon's (`antiphon.install`).

    antiphon app.py argument...
    antiphon -m package argument...
    antiphon -c 'import asyncio; print(asyncio.new_event_loop())'
    antiphon --on-block=report app.py

Source: the Python documentation, "Command line and environment"; CPython's Modules/main.c.
"""

from __future__ import annotations

import argparse
import builtins
import linecache
import os
import pkgutil
import runpy
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.abc import FileLoader
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader

import antiphon
from antiphon import blocking

# What makes a process a worker of `antiphon --workers`: antiphon.cores.member's, which only workers import.
ENVIRONMENT = "ANTIPHON_WORKER"

# The module whose place `_run` takes. When an exception has ended it, the interpreter goes on using its
# namespace without owning it (PyRun_SimpleFile): if nobody else does, that is a use after free.
_COMMAND = sys.modules["__main__"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the program that the command line names.

    Args:
        arguments: the words after the command's own name; `None` takes those of this process.

    Returns:
        When the program has come to its end.

    Raises:
        BaseException: whatever ended the program, `SystemExit` included.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    options = parser.parse_args(_detach_value(words))
    if options.module:
        module, *rest = options.module
        program = _module_program(module, rest)
    elif options.code:
        code, *rest = options.code
        program = _code_program(code, rest)
    elif options.program:
        path, *rest = options.program
        program = _stdin_program(rest) if path == "-" else _path_program(path, rest)
    else:
        parser.error("a program is needed: a file, -m module, -c code, or - for standard input")
    try:
        blocking.set_defaults(options.on_block, options.block_after)
        blocking.resolve_options()
    except ValueError as error:
        parser.error(str(error))
    if options.workers is not None or ENVIRONMENT in os.environ:
        _join_or_supervise(options.workers or 0, words)
    antiphon.install()
    _run(program)


def _parser() -> argparse.ArgumentParser:
    """The options; everything after the program's name belongs to the program."""
    parser = argparse.ArgumentParser(
        prog="antiphon",
        description="Run a Python program with antiphon as asyncio's event loop.",
        usage="antiphon [-h] [-V] [--on-block how] [--block-after seconds] [--workers N]\n"
        "                (-m module | -c code | file | -) [argument ...]",
        allow_abbrev=False,
    )
    parser.add_argument(
        "-V",
        "--version",
        action="version",
        version=f"antiphon {antiphon.__version__} (CPython {sys.version.split()[0]})",
    )
    parser.add_argument(
        "--on-block",
        metavar="how",
        help=f"what is done about code that blocks the event loop: {', '.join(blocking.MODES)}",
    )
    parser.add_argument(
        "--block-after",
        metavar="seconds",
        help=f"from how long on code blocks it ({blocking.DEFAULT_BLOCK_AFTER})",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="run the program in N processes that share its listening sockets; SIGHUP restarts them one by one",
    )
    rest = argparse.REMAINDER
    parser.add_argument("-m", dest="module", nargs=rest, help="run a module, as python -m does")
    parser.add_argument("-c", dest="code", nargs=rest, help="run the code in the next argument")
    parser.add_argument(
        "program",
        nargs=rest,
        help="a script, or a folder or zip file with a __main__.py; - is standard input",
    )
    return parser


def _join_or_supervise(workers: int, words: list[str]) -> None:
    """Makes this process a worker if a supervisor has started it; else it is one, and ends as such."""
    from antiphon.cores.child import Command
    from antiphon.cores.member import Member
    from antiphon.cores.shared_bind import share
    from antiphon.cores.supervisor import Supervisor

    member = Member.of_this_process()
    if member is not None:
        share(member)
        member.begin()
        return
    if workers < 1:
        _parser().error(f"--workers takes a number from 1 on, not {workers}")
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
    command = Command([sys.executable, *flags, "-m", "antiphon", *words])
    sys.exit(antiphon.run(Supervisor(command, workers).run()))


def _detach_value(words: list[str]) -> list[str]:
    """Splits `-mmodule` and `-ccode` in two, which argparse cannot do for an option that takes all the rest."""
    for index, word in enumerate(words):
        if index and words[index - 1] in ("--on-block", "--block-after", "--workers"):
            continue
        if word[:2] in ("-m", "-c"):
            value = [word[2:]] if word[2:] else []
            return [*words[:index], word[:2], *value, *words[index + 1 :]]
        if not word.startswith("-") or word == "-":
            break
    return words


@dataclass(frozen=True)
class _Program:
    """What is to become `__main__`.

    Attributes:
        argv: `sys.argv`.
        folder: `sys.path[0]`.
        start: fills and runs the module that it is given, which is `sys.modules["__main__"]`.
        always_on_path: `folder` is where the program itself lies, so it goes on the path in safe mode (`-P`) too.
    """

    argv: list[str]
    folder: str
    start: Callable[[types.ModuleType], None]
    always_on_path: bool = False


def _module_program(name: str, arguments: list[str]) -> _Program:
    """`-m name`. `sys.argv[0]` becomes the module's file once that is found."""

    def start(_main: types.ModuleType) -> None:
        # What python itself calls for -m. Unlike run_module() it leaves __main__ in place, for threads and exit
        # handlers that outlive the program's last line.
        runpy._run_module_as_main(name)  # type: ignore[attr-defined]  # private, but main.c's own way

    return _Program(["-m", *arguments], os.getcwd(), start)


def _code_program(source: str, arguments: list[str]) -> _Program:
    """`-c source`."""

    def start(main: types.ModuleType) -> None:
        text = textwrap.dedent(source) if sys.version_info >= (3, 14) else source
        if sys.version_info >= (3, 13):  # from here on, tracebacks quote it
            lines = text.splitlines(keepends=True)
            linecache.cache["<string>"] = (len(text), None, lines, "<string>")
        main.__loader__ = BuiltinImporter
        exec(compile(text, "<string>", "exec", dont_inherit=True), main.__dict__)

    return _Program(["-c", *arguments], "", start)


def _stdin_program(arguments: list[str]) -> _Program:
    """`-`: standard input, read to its end."""

    def start(main: types.ModuleType) -> None:
        source = sys.stdin.buffer.read()
        main.__loader__ = BuiltinImporter
        _set_file(main, "<stdin>")
        exec(compile(source, "<stdin>", "exec", dont_inherit=True), main.__dict__)

    return _Program(["-", *arguments], "", start)


def _path_program(path: str, arguments: list[str]) -> _Program:
    """A script, or what python can import from (a folder, a zip file) with a `__main__` in it."""
    argv = [path, *arguments]
    whole_path = os.path.join(os.getcwd(), path)

    def start_script(main: types.ModuleType) -> None:
        loader = SourceFileLoader("__main__", whole_path)
        source = _read(loader, whole_path)
        main.__loader__ = loader
        _set_file(main, whole_path)
        exec(compile(source, whole_path, "exec", dont_inherit=True), main.__dict__)

    def start_compiled(main: types.ModuleType) -> None:
        loader = SourcelessFileLoader("__main__", whole_path)
        _read(loader, whole_path)  # get_code() would end a missing file with a traceback
        main.__loader__ = loader
        _set_file(main, whole_path)
        code = loader.get_code("__main__")
        assert code is not None  # only a package made of folders alone has no code
        exec(code, main.__dict__)

    def start_importable(_main: types.ModuleType) -> None:
        runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]  # as above

    if pkgutil.get_importer(whole_path) is not None:
        return _Program(argv, whole_path, start_importable, always_on_path=True)
    start = start_compiled if path.endswith(".pyc") else start_script
    return _Program(argv, os.path.dirname(os.path.realpath(path)), start)


def _set_file(main: types.ModuleType, path: str) -> None:
    """Sets what `__main__` says about where it came from."""
    main.__file__ = path
    if sys.version_info < (3, 15):
        main.__dict__["__cached__"] = None


def _read(loader: FileLoader, path: str) -> bytes:
    """The file's bytes, or python's own complaint and exit status."""
    try:
        return loader.get_data(path)
    except OSError as error:
        reason = f"[Errno {error.errno}] {error.strerror}"
        print(f"antiphon: can't open file {path!r}: {reason}", file=sys.stderr)
        sys.exit(2)


def _run(program: _Program) -> None:
    """Puts `program` in the place of this command and runs it to its end."""
    # A new module: what this command's own start left in the old one is none of the program's business.
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    if sys.version_info < (3, 14):
        main.__annotations__ = {}
    sys.modules["__main__"] = main
    sys.argv[:] = program.argv
    if not sys.flags.safe_path:
        sys.path[0] = program.folder
    elif program.always_on_path:
        sys.path.insert(0, program.folder)
    try:
        program.start(main)
    except SystemExit:
        raise
    except BaseException as error:
        _begin_report_at_program(error)
        raise


def _begin_report_at_program(error: BaseException) -> None:
    """Hides this file's frames from the report of `error`, which is about to end the process.

    The report stays the interpreter's work, for it is also what knows the exit status, death by Ctrl-C, and what to do
    when the program's own `sys.excepthook` fails. So the hook is wrapped for this one call.
    """
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals is globals():
        traceback = traceback.tb_next
    hook = sys.excepthook

    def report(
        kind: type[BaseException], value: BaseException, _whole: types.TracebackType | None
    ) -> None:
        sys.excepthook = hook
        sys.last_traceback = traceback
        hook(kind, value.with_traceback(traceback), traceback)

    sys.excepthook = report
