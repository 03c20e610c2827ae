"""Starting a child: what `subprocess.Popen` does, with its blocking half on another thread.

Two ways. The short one: a `Popen` checks its arguments and opens its pipes here (`DeferredPopen`), then
a native thread starts the child without the interpreter, and the `Popen` learns its number. The
long one, for a child that needs Python code or another user before its program: the whole `Popen`
is made in a Python thread (`PopenThread`). Either way the `Popen` is a real one, and errors are
those that it raises itself.

Source: Lib/subprocess.py, Modules/_posixsubprocess.c.
"""

import contextvars
import inspect
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Command", "DeferredPopen", "PopenThread", "abandon", "can_defer"]

_Popen = subprocess.Popen

# The descriptors of C are ints.
_LARGEST_FD = 2**31 - 1


class Command(NamedTuple):
    """What the native thread starts; the fields are read by crates/antiphon-python/src/child/request.rs."""

    programs: list[bytes]
    """Paths to try in turn."""
    arguments: list[bytes]
    environment: list[bytes] | None
    """`NAME=value` each; None: this process's."""
    directory: bytes | None
    stdio: tuple[int, int, int]
    """Descriptors; -1: this process's."""
    keep: list[int]
    """Descriptors that the child inherits besides."""
    close_others: bool
    restore_signals: bool
    new_session: bool
    process_group: int
    """-1: this process's."""
    umask: int
    """Negative: this process's."""


class DeferredPopen(_Popen):  # type: ignore[type-arg]
    """A `Popen` whose child somebody else starts: first `command`, then `started` or `failed`."""

    command: Command
    _program: Any
    _directory: Any
    # The pipes' descriptors, while the child's ends are open here.
    _pipe_fds: tuple[int, ...] | None = None

    def _execute_child(
        self,
        args: Any,
        executable: Any,
        preexec_fn: None,
        close_fds: bool,
        pass_fds: Iterable[int],
        cwd: Any,
        env: Mapping[Any, Any] | None,
        startupinfo: None,
        creationflags: int,
        shell: bool,
        p2cread: int,
        p2cwrite: int,
        c2pread: int,
        c2pwrite: int,
        errread: int,
        errwrite: int,
        restore_signals: bool,
        gid: None,
        gids: None,
        uid: None,
        umask: int,
        start_new_session: bool,
        process_group: int,
    ) -> None:
        """Notes what `Popen.__init__` has worked out; what this raises is cleaned up there."""
        arguments, executable = _program_of(args, executable, shell)
        sys.audit("subprocess.Popen", executable, arguments, cwd, env)
        self._program, self._directory = executable, cwd
        self.command = Command(
            programs=_paths(os.fsencode(executable), env),
            arguments=[os.fsencode(argument) for argument in arguments],
            environment=None if env is None else _variables(env),
            directory=None if cwd is None else os.fsencode(cwd),
            stdio=(p2cread, c2pwrite, errwrite),
            keep=_inherited(pass_fds),
            close_others=bool(close_fds),
            restore_signals=bool(restore_signals),
            new_session=bool(start_new_session),
            process_group=process_group,
            umask=umask,
        )
        self._pipe_fds = (p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)

    def started(self, pid: int) -> None:
        """Takes over the child."""
        self.pid = pid
        self._child_created = True
        self._close_childs_ends()

    def failed(self, stage: str, number: int) -> OSError:
        """Gives up: there is no child.

        Args:
            stage: how far it came: "create", "prepare", "chdir", "execute".
            number: errno.

        Returns:
            The error that `Popen` raises in this case.
        """
        self.give_up()
        path = {"chdir": self._directory, "execute": self._program}.get(stage)
        if path is None:
            return OSError(number, os.strerror(number))
        return OSError(number, os.strerror(number), path)

    def give_up(self) -> None:
        """Closes everything: there is no child."""
        self._close_childs_ends()
        _close_pipes(self)

    def __del__(self, *args: Any) -> None:
        if self._pipe_fds is not None:
            self.give_up()  # the loop was closed before the child was started
        super().__del__(*args)

    def _close_childs_ends(self) -> None:
        pipe_fds, self._pipe_fds = self._pipe_fds, None
        if pipe_fds is not None:
            self._close_pipe_fds(*pipe_fds)  # type: ignore[attr-defined]


# The parameters of `Popen._execute_child` since 3.11.
_KNOWN_PARAMETERS = tuple(inspect.signature(DeferredPopen._execute_child).parameters)
_IS_KNOWN = (
    tuple(inspect.signature(_Popen._execute_child).parameters) == _KNOWN_PARAMETERS  # type: ignore[attr-defined]
    and hasattr(_Popen, "_close_pipe_fds")
)


def can_defer(keywords: Mapping[str, Any]) -> bool:
    """Tells whether a child can be started the short way.

    Args:
        keywords: what `Popen` is to be given.

    Returns:
        False for a child that runs Python code first or changes user or groups (another user's
        process must not share this one's memory, not even for a moment), and where the program
        replaced `subprocess.Popen` or switched vfork(2) off.
    """
    return (
        _IS_KNOWN
        and subprocess.Popen is _Popen
        and getattr(subprocess, "_USE_VFORK", True)
        and all(
            keywords.get(name) is None
            for name in ("preexec_fn", "user", "group", "extra_groups", "startupinfo")
        )
        and not keywords.get("creationflags")
    )


def abandon(popen: Any) -> None:
    """Kills and reaps a child that nobody is going to know of."""
    _close_pipes(popen)
    popen.kill()
    popen.wait()


def _close_pipes(popen: Any) -> None:
    """Closes this process's ends of a `Popen`'s pipes."""
    for pipe in (popen.stdin, popen.stdout, popen.stderr):
        if pipe is not None:
            pipe.close()


def _program_of(args: Any, executable: Any, shell: bool) -> tuple[list[Any], Any]:
    """Gives the arguments as a list, and the program: by `Popen`'s rules."""
    if isinstance(args, (str, bytes)):
        arguments: list[Any] = [args]
    elif isinstance(args, os.PathLike):
        if shell:
            raise TypeError("path-like args is not allowed when shell is true")
        arguments = [args]
    else:
        arguments = list(args)
    if shell:
        arguments = ["/bin/sh", "-c", *arguments]
        if executable:
            arguments[0] = executable
    return arguments, arguments[0] if executable is None else executable


def _paths(program: bytes, env: Mapping[Any, Any] | None) -> list[bytes]:
    """Gives where a program may be: itself, or in each directory of the child's PATH."""
    if os.path.dirname(program):
        return [program]
    return [os.path.join(os.fsencode(place), program) for place in os.get_exec_path(env)]


def _variables(env: Mapping[Any, Any]) -> list[bytes]:
    variables = []
    for name, value in env.items():
        name = os.fsencode(name)
        if b"=" in name:
            raise ValueError("illegal environment variable name")
        variables.append(name + b"=" + os.fsencode(value))
    return variables


def _inherited(pass_fds: Iterable[int]) -> list[int]:
    fds = sorted({int(fd) for fd in pass_fds})
    if fds and not (fds[0] >= 0 and fds[-1] <= _LARGEST_FD):
        raise ValueError("bad value(s) in fds_to_keep")
    return fds


class PopenThread:
    """One thread that makes a loop's `Popen` objects the long way.

    Like the native thread it outlives the children that it starts: one that asked for a signal at
    the end of its parent (prctl(2), PR_SET_PDEATHSIG) means the thread that started it. It is a
    daemon, so that a child which never ends does not keep the interpreter.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._children: list[int] = []
        self._thread: threading.Thread | None = None

    def start(
        self,
        args: Any,
        keywords: Mapping[str, Any],
        tell: Callable[[Any, BaseException | None], None],
    ) -> None:
        """Makes a `Popen` in the thread.

        Args:
            args, keywords: what it is given.
            tell: called in the thread with the `Popen` or the exception that it raised.
        """
        context = contextvars.copy_context()
        make: Any = subprocess.Popen  # what holds at the time of this call, if it is replaced

        def job() -> None:
            try:
                popen = context.run(make, args, **keywords)
            except BaseException as error:
                tell(None, error)
                return
            if isinstance(popen, _Popen):
                self._children.append(popen.pid)
            tell(popen, None)

        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="antiphon-popen", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def close(self) -> None:
        """Takes no more jobs; the thread ends once its children have."""
        if self._thread is not None:
            self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # or it would keep its child's transport until the next one comes
        _await_ends(self._children)


def _await_ends(children: Sequence[int]) -> None:
    """Returns when none of the processes runs any more; reaps none of them."""
    for pid in children:
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            continue
