"""Child watchers (until Python 3.13): `asyncio.get_child_watcher()` and watchers that a program installs."""

import asyncio
import subprocess
import sys
import warnings

import pytest

from support.processes import has_children, output_of_shell, start_shell

pytestmark = [
    pytest.mark.real_driver("children are the kernel's"),
    pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python 3.14 has no child watchers"),
]


@pytest.fixture
def use_watcher(loop):
    """Installs a watcher in the policy for the time of the test."""

    def install(watcher):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            asyncio.set_child_watcher(watcher)
        watcher.attach_loop(loop)
        return watcher

    yield install
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_child_watcher(None)  # closes the one that was there


def make(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return getattr(asyncio, name)()


@pytest.mark.parametrize("name", ["SafeChildWatcher", "FastChildWatcher", "MultiLoopChildWatcher"])
def test_installed_watcher_reaps_the_loops_children(loop, use_watcher, name):
    use_watcher(make(name))

    async def main():
        assert await output_of_shell("echo hi") == b"hi\n"
        transport, protocol = await start_shell(loop, "exit 3", stdout=None, stderr=None)
        await protocol.happened("exited")
        assert transport.get_returncode() == 3
        transport.close()
        await protocol.happened("connection_lost")

    loop.run_until_complete(main())
    assert not has_children()


def test_watcher_of_the_program_is_told_of_each_child(loop, use_watcher):
    told = []

    class Watcher(asyncio.PidfdChildWatcher):
        def add_child_handler(self, pid, callback, *args):
            told.append(pid)
            super().add_child_handler(pid, callback, *args)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        use_watcher(Watcher())

    async def main():
        process = await asyncio.create_subprocess_exec("true")
        assert await process.wait() == 0
        return process.pid

    assert loop.run_until_complete(main()) == told[0]
    assert len(told) == 1


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python 3.12 asks the watcher itself")
def test_what_entering_a_watcher_gives_is_asked(loop, use_watcher):
    """A watcher may be a means to get at another one."""
    told = []

    class Entered:
        def __init__(self, is_active):
            self.active = is_active

        def is_active(self):
            return self.active

        def add_child_handler(self, pid, callback, *args):
            told.append(pid)
            outer.add_child_handler(pid, callback, *args)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)

        class Watcher(asyncio.PidfdChildWatcher):
            inner = Entered(False)

            def __enter__(self):
                return self.inner

        outer = use_watcher(Watcher())

    with pytest.raises(RuntimeError, match="is not activated"):
        loop.run_until_complete(asyncio.create_subprocess_exec("true"))
    outer.inner = Entered(True)

    async def main():
        process = await asyncio.create_subprocess_exec("true")
        assert await process.wait() == 0
        return process.pid

    assert [loop.run_until_complete(main())] == told


def test_inactive_watcher_refuses_children(loop, use_watcher):
    watcher = use_watcher(make("SafeChildWatcher"))
    watcher.attach_loop(None)
    words = (
        r"^asyncio.get_child_watcher\(\) is not activated, subprocess support is not installed\.$"
    )
    with pytest.raises(RuntimeError, match=words):
        loop.run_until_complete(asyncio.create_subprocess_exec("true"))
    assert not has_children()


@pytest.mark.loops("antiphon")  # asyncio leaves the child running, and nobody to reap it
def test_watcher_that_fails_leaves_no_child(loop, use_watcher):
    class Watcher(asyncio.PidfdChildWatcher):
        def add_child_handler(self, pid, callback, *args):
            raise ZeroDivisionError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        use_watcher(Watcher())
    with pytest.raises(ZeroDivisionError):
        loop.run_until_complete(asyncio.create_subprocess_exec("sleep", "1000"))
    assert not has_children()


@pytest.mark.parametrize("name", ["PidfdChildWatcher", "ThreadedChildWatcher"])
def test_default_watchers_work_for_processes_that_the_program_starts(loop, use_watcher, name):
    watcher = use_watcher(make(name))

    async def main():
        ended = loop.create_future()
        popen = subprocess.Popen(["sh", "-c", "exit 5"])
        watcher.add_child_handler(
            popen.pid, lambda *told: loop.call_soon_threadsafe(ended.set_result, told)
        )
        assert await ended == (popen.pid, 5)
        popen.returncode = 5
        assert await output_of_shell("echo beside") == b"beside\n"

    loop.run_until_complete(main())


def test_policy_has_a_watcher(loop):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert isinstance(asyncio.get_child_watcher(), asyncio.AbstractChildWatcher)
        asyncio.set_child_watcher(None)
