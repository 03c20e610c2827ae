"""Fixtures and hooks of the whole suite: two loops, coroutine tests, the audit after every test."""

import asyncio
import gc
import inspect
import os
import sys
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

# The suite's helpers are a plain package beside this file, whatever import mode pytest is told to use.
sys.path.insert(0, os.path.dirname(__file__))

from support import switches
from support.audit import Audit
from support.datagrams import Endpoints
from support.groups import functions
from support.loops import LOOP_NAMES, loop_class_named, loop_factory_named
from support.net import Link, connect_recorder, stream_pair, tcp_pair
from support.processes import child_numbers, end_children
from support.streams import KINDS, Connections

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
CALL_FAILED = pytest.StashKey[bool]()
FAILED = pytest.StashKey[bool]()
CHILDREN = pytest.StashKey[set[int]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loop",
        action="append",
        choices=LOOP_NAMES,
        help="run only on this loop (may be given more than once; default: every loop)",
    )
    parser.addoption(
        "--install",
        action="store_true",
        help="tests on antiphon's loop run with antiphon.install()",
    )
    parser.addoption(
        "--at-least",
        type=int,
        default=0,
        metavar="N",
        help="fail where fewer tests pass: for runs that leave tests out by a rule",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "loops(*names): runs on these loops alone; the reason stands beside it"
    )
    config.addinivalue_line(
        "markers",
        "asyncio_lacks(when, reason): where `when` holds, asyncio itself fails this; skipped there, and said",
    )
    config.addinivalue_line(
        "markers",
        "antiphon_lacks(reason): a difference that docs/differences.md tells; passing is a failure",
    )
    config.addinivalue_line(
        "markers", "installed_lacks(reason): the same, with antiphon.install() (`--install`)"
    )
    for marker in switches.MARKERS:
        config.addinivalue_line("markers", marker)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "loop_name" not in metafunc.fixturenames:
        return
    chosen = metafunc.config.getoption("--loop") or LOOP_NAMES
    mark = metafunc.definition.get_closest_marker("loops")
    lacks = metafunc.definition.get_closest_marker("asyncio_lacks")
    parameters = []
    for name in LOOP_NAMES:
        if name not in chosen or (mark is not None and name not in mark.args):
            continue
        skips = lacks is not None and name == "asyncio" and lacks.kwargs["when"]
        marks = [pytest.mark.skip(reason=lacks.kwargs["reason"])] if skips else []
        differs = metafunc.definition.get_closest_marker("antiphon_lacks")
        if differs is None and metafunc.config.getoption("--install"):
            differs = metafunc.definition.get_closest_marker("installed_lacks")
        if differs is not None and name == "antiphon":
            marks.append(pytest.mark.xfail(reason=differs.kwargs["reason"], strict=True))
        parameters.append(pytest.param(name, marks=marks))
    metafunc.parametrize("loop_name", parameters)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselects what `--loop` leaves without a loop, and what a switch leaves out: neither is a skip."""
    kept, dropped = [], []
    for item in items:
        runs_on_a_loop = "loop_name" in getattr(item, "fixturenames", ())
        # An empty set of parameters becomes one item with a placeholder instead of a name.
        has_one = runs_on_a_loop and item.callspec.params.get("loop_name") in LOOP_NAMES
        keeps = (has_one or not runs_on_a_loop) and not switches.leaves_out(item)
        (kept if keeps else dropped).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs `async def` tests on the `loop` fixture, which they must ask for."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    pyfuncitem.funcargs["loop"].run_until_complete(pyfuncitem.obj(**arguments))
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    if report.when == "teardown" and FAILED in item.stash:
        # What a test has left would fail all later ones that ask for children.
        end_children(but=item.stash[CHILDREN])
    if report.when == "call":
        item.stash[CALL_FAILED] = report.failed or switches.asked_for_descriptor(item)
    if switches.asked_for_descriptor(item):
        switches.withhold_verdict(report)
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[CHILDREN] = child_numbers()
    switches.note_begin(item)


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Tests without a verdict are a kind of their own, not skips."""
    if switches.without_verdict(report):
        return "without verdict", "-", "WITHOUT VERDICT"
    return None


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:  # a worker of pytest-xdist
        return
    wrong = switches.shortfall(
        reporter.stats.get("passed", ()), session.config.getoption("--at-least")
    )
    if wrong:
        reporter.write_line(f"ERROR: {wrong}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def audit(request: pytest.FixtureRequest) -> Iterator[Audit]:
    """The audit of this test (`support.audit`), and the way to take out what a test provokes.

    A test that failed is not audited: what it left open is a consequence, and the frames of its
    traceback hold it. They go before the next test is measured.
    """
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        sys.__dict__.pop(name, None)
    gc.collect()
    # What lives now outlives the test (modules, pytest's reports); out of the collector's sight, the
    # collection after the test costs microseconds instead of tens of milliseconds.
    gc.freeze()
    with Audit() as audit:
        yield audit
        findings = audit.findings()
    if not request.node.stash.get(CALL_FAILED, False):
        assert not findings, "\n".join(findings)


@pytest.fixture(autouse=True)
def installed(request: pytest.FixtureRequest, audit: Audit) -> Iterator[None]:
    """With `--install`, what runs on antiphon's loop has antiphon's tasks, locks and streams as well.

    In every case the names are asyncio's own again after the test: `antiphon.run` swaps them.
    """
    parameters = getattr(getattr(request.node, "callspec", None), "params", {})
    if request.config.getoption("--install") and parameters.get("loop_name") == "antiphon":
        import antiphon

        antiphon.install()
    yield
    if "antiphon.installation" in sys.modules:
        sys.modules["antiphon.installation"].uninstall()


@pytest.fixture
def loop_factory(loop_name: str, audit: Audit) -> LoopFactory:
    """Makes new loops of the kind under test; the audit sees to it that the test closes them."""
    make = loop_factory_named(loop_name)

    def factory() -> asyncio.AbstractEventLoop:
        loop = make()
        audit.loops.add(loop)
        return loop

    return factory


@pytest.fixture
def loop_class(loop_name: str) -> type[asyncio.AbstractEventLoop]:
    """The loop's class, for tests that derive from it."""
    return loop_class_named(loop_name)


@pytest.fixture
def loop(
    loop_factory: LoopFactory, request: pytest.FixtureRequest
) -> Iterator[asyncio.AbstractEventLoop]:
    """A new loop, closed after the test, which must leave no task unfinished."""
    loop = loop_factory()
    yield loop
    if loop.is_closed():
        return
    unfinished = asyncio.all_tasks(loop)
    for task in unfinished:
        task.cancel()
    try:
        if unfinished:
            loop.run_until_complete(asyncio.gather(*unfinished, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    if not request.node.stash.get(CALL_FAILED, False):
        assert not unfinished, f"tasks left unfinished: {unfinished}"


@pytest.fixture
def faults(loop: asyncio.AbstractEventLoop) -> list[dict[str, Any]]:
    """Collects what reaches the loop's exception handler instead of logging it."""
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: contexts.append(context))
    return contexts


@pytest.fixture
def streams(loop_name: str) -> Any:
    """The module whose streams are under test: asyncio's own, or antiphon's."""
    if loop_name == "asyncio":
        return asyncio.streams
    import antiphon.streams

    return antiphon.streams


@pytest.fixture(params=KINDS)
def connections(
    loop: asyncio.AbstractEventLoop, streams: Any, request: pytest.FixtureRequest
) -> Iterator[Connections]:
    """Makes streams over TCP, Unix sockets and TLS, each with a raw peer."""
    connections = Connections(loop, streams, request.param)
    yield connections
    loop.run_until_complete(connections.close())


@pytest.fixture(params=["tcp", "unix"])
def link(loop: asyncio.AbstractEventLoop, request: pytest.FixtureRequest) -> Iterator[Link]:
    """A transport over TCP and over a Unix socket, with the raw socket at its other end."""
    near, far = tcp_pair() if request.param == "tcp" else stream_pair()
    link = Link(loop, *loop.run_until_complete(connect_recorder(loop, near)), far)
    yield link
    far.close()
    if "connection_lost" not in link.protocol.events:
        link.transport.abort()
        loop.run_until_complete(link.protocol.happened("connection_lost"))
    assert link.protocol.events.count("connection_lost") == 1
    assert link.protocol.events[-1] == "connection_lost"


@pytest.fixture
def endpoints(loop: asyncio.AbstractEventLoop) -> Iterator[Endpoints]:
    """Makes datagram endpoints and sockets, which are closed after the test."""
    endpoints = Endpoints(loop)
    yield endpoints
    if not loop.is_closed():
        loop.run_until_complete(endpoints.close())


@pytest.fixture
def aio(loop_name: str) -> Any:
    """`gather`, `TaskGroup`, `Lock`, `Queue` and the like: asyncio's own, or antiphon's."""
    return functions(loop_name)
