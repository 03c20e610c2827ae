"""`antiphon.install()`: asyncio's names, wherever they were imported, and back again."""

import asyncio
import asyncio.locks
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

import antiphon
from antiphon import natives
from antiphon.installation import install_names, is_installed


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Whatever a test installs is gone after it."""
    was_installed = is_installed()
    antiphon.uninstall()
    yield
    antiphon.uninstall()
    if was_installed:
        antiphon.install()


def snapshot() -> dict[str, dict[str, Any]]:
    """Every name that `install()` may touch, by module."""
    return {name: dict(sys.modules[name].__dict__) for name in ("asyncio", *natives.NAMES)}


def native_names() -> list[tuple[str, str]]:
    return [
        (module, name)
        for module, names in natives.NAMES.items()
        for name in names
        if hasattr(sys.modules[module], name)
    ]


@pytest.mark.parametrize(("module", "name"), native_names())
def test_every_name_is_swapped_in_its_module_and_in_asyncio(module: str, name: str) -> None:
    antiphon.install()
    ours = getattr(sys.modules[module], name)
    assert ours is getattr(asyncio, name)
    assert ours is natives.ours(name)


def test_uninstall_restores_every_name() -> None:
    before = snapshot()
    antiphon.install()
    assert snapshot() != before
    antiphon.uninstall()
    assert snapshot() == before


def test_installing_twice_is_installing_once() -> None:
    before = snapshot()
    antiphon.install()
    once = snapshot()
    antiphon.install()
    assert snapshot() == once
    antiphon.uninstall()
    assert snapshot() == before
    antiphon.uninstall()
    assert snapshot() == before


def test_names_imported_earlier_are_swapped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    early = types.ModuleType("early")
    exec(
        "from asyncio import Future, sleep as pause, gather\nfrom asyncio.locks import Lock",
        early.__dict__,
    )
    monkeypatch.setitem(sys.modules, "early", early)
    theirs = (early.Future, early.pause, early.gather, early.Lock)
    antiphon.install()
    assert early.Future is asyncio.Future
    assert early.pause is asyncio.sleep
    assert early.gather is asyncio.gather
    assert early.Lock is asyncio.Lock
    antiphon.uninstall()
    assert (early.Future, early.pause, early.gather, early.Lock) == theirs


def test_a_module_that_came_later_is_swapped_by_the_next_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = asyncio.Lock
    antiphon.install()
    late = types.ModuleType("late")
    late.__dict__["Lock"] = theirs
    monkeypatch.setitem(sys.modules, "late", late)
    antiphon.install()
    assert late.Lock is asyncio.Lock is not theirs
    antiphon.uninstall()
    assert late.Lock is theirs


def test_each_run_swaps_in_modules_that_came_or_grew_since(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = asyncio.Lock
    half = types.ModuleType("half")  # its import has not finished
    monkeypatch.setitem(sys.modules, "half", half)
    antiphon.run(asyncio.sleep(0))
    half.__dict__["Lock"] = theirs
    late = types.ModuleType("late")
    late.__dict__["Lock"] = theirs
    monkeypatch.setitem(sys.modules, "late", late)
    antiphon.run(asyncio.sleep(0))
    assert half.Lock is late.Lock is asyncio.Lock is natives.ours("Lock")
    # What a program puts back is left to it by the next run; install() is thorough.
    late.Lock = theirs  # type: ignore[attr-defined]
    antiphon.run(asyncio.sleep(0))
    assert late.Lock is theirs
    antiphon.install()
    assert late.Lock is asyncio.Lock
    antiphon.uninstall()
    assert half.Lock is late.Lock is theirs
    antiphon.run(asyncio.sleep(0))
    assert half.Lock is late.Lock is asyncio.Lock


def test_uninstall_leaves_what_others_put_there() -> None:
    theirs = asyncio.sleep

    async def patched(delay: float) -> None: ...

    antiphon.install()
    asyncio.sleep = patched  # as a test of a user's does
    try:
        antiphon.uninstall()
        assert asyncio.sleep is patched
    finally:
        asyncio.sleep = theirs


def test_what_a_program_patched_before_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = asyncio.sleep

    async def patched(delay: float) -> str:
        return "patched"

    async def main() -> str:
        return str(await asyncio.sleep(3600))

    with monkeypatch.context() as patching:
        patching.setattr(asyncio, "sleep", patched)
        patching.setattr(asyncio.tasks, "sleep", patched)
        for _ in range(2):
            assert antiphon.run(main()) == "patched"
    assert asyncio.sleep is theirs
    antiphon.install()
    assert asyncio.sleep is natives.ours("sleep") is not theirs


def test_the_interpreters_own_stay_what_they_are() -> None:
    antiphon.install()
    assert asyncio.futures._CFuture is sys.modules["_asyncio"].Future
    assert asyncio.tasks._PyTask.__module__ == "asyncio.tasks"


def test_new_loops_are_antiphons_and_asyncios_again() -> None:
    def kind() -> type[asyncio.AbstractEventLoop]:
        with asyncio.Runner() as runner:
            return type(runner.get_loop())

    theirs = kind()
    antiphon.install()
    assert kind() is antiphon.Loop
    antiphon.uninstall()
    assert kind() is theirs


def test_install_names_leaves_the_default_loop() -> None:
    install_names()
    with asyncio.Runner() as runner:
        assert not isinstance(runner.get_loop(), antiphon.Loop)
        assert isinstance(runner.run(asyncio.sleep(0, "done")), str)


def test_isinstance_holds_for_what_was_made_before_and_after() -> None:
    async def main() -> None:
        task = asyncio.ensure_future(asyncio.sleep(0))
        assert isinstance(task, asyncio.Task)
        assert isinstance(task, asyncio.Future)
        assert isinstance(asyncio.get_running_loop().create_future(), asyncio.Future)
        await task

    asyncio.run(main(), **loop_factory())
    antiphon.install()
    asyncio.run(main())


def loop_factory() -> dict[str, Any]:
    """`asyncio.run`'s argument for antiphon's loop, where it has one."""
    return {"loop_factory": antiphon.new_event_loop} if sys.version_info >= (3, 12) else {}


def test_a_class_derived_earlier_stays_asyncios_and_works() -> None:
    class Early(asyncio.Queue[int]):
        pass

    theirs = asyncio.Queue

    async def main() -> int:
        queue = Early(1)
        getter = asyncio.ensure_future(queue.get())
        await queue.put(1)
        return await getter

    antiphon.install()
    assert asyncio.run(main()) == 1
    assert issubclass(Early, theirs)
    assert not issubclass(Early, asyncio.Queue)


def test_install_from_many_threads_at_once() -> None:
    from concurrent.futures import ThreadPoolExecutor

    before = snapshot()
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            list(pool.map(lambda _: antiphon.install(), range(8)))
            assert is_installed()
            list(pool.map(lambda _: antiphon.uninstall(), range(8)))
    assert snapshot() == before


async def _run_uses_all() -> tuple[type, type]:
    return type(asyncio.current_task()), asyncio.Lock


def test_run_uses_all_of_it() -> None:
    theirs = asyncio.Lock
    task, lock = antiphon.run(_run_uses_all())
    assert task is natives.ours("Task")
    assert lock is natives.ours("Lock") is not theirs


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_eager_tasks_are_antiphons() -> None:
    async def kind() -> type:
        return type(asyncio.current_task())

    async def main() -> tuple[type, bool]:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        task = asyncio.create_task(kind())
        return task.result(), task.done()  # it has ended already

    assert antiphon.run(main()) == (natives.ours("Task"), True)


def test_create_task_asks_the_running_loop() -> None:
    class Own(antiphon.Loop):
        def create_task(self, coro: Any, **keywords: Any) -> Any:
            given.append(keywords)
            return super().create_task(coro, **keywords)

    async def main() -> None:
        given.clear()
        await asyncio.create_task(asyncio.sleep(0), name="one")
        assert given == [{"name": "one"}]
        for arguments in ((), (asyncio.sleep, "name")):
            with pytest.raises(TypeError):
                asyncio.create_task(*arguments)  # noqa: RUF006  # makes none

    given: list[dict[str, Any]] = []
    with antiphon.Runner(loop_factory=Own) as runner:
        runner.run(main())
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.create_task(None)  # noqa: RUF006  # makes none


@pytest.mark.skipif(sys.version_info < (3, 14), reason="call graphs came with CPython 3.14")
def test_call_graphs_take_everybodys_futures_whatever_is_installed() -> None:
    import asyncio.graph

    async def body() -> list[Any]:
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        tasks = [
            kind(waiter_of(waiter), loop=loop) for kind in (asyncio.tasks._CTask, asyncio.Task)
        ]
        await asyncio.sleep(0)
        graphs = [asyncio.capture_call_graph(future) for future in (*tasks, waiter)]
        text = asyncio.format_call_graph(tasks[0])
        assert "waiter_of" in text
        with pytest.raises(TypeError, match="compatible with asyncio.Future"):
            asyncio.capture_call_graph(object())
        waiter.set_result(None)
        await asyncio.gather(*tasks)
        return [graph.future for graph in graphs] + tasks

    async def waiter_of(future: asyncio.Future[None]) -> None:
        await future

    module_before = asyncio.graph.futures
    antiphon.install()
    shown = antiphon.run(body())
    assert shown[:2] == shown[3:]
    antiphon.uninstall()
    assert asyncio.graph.futures is module_before
