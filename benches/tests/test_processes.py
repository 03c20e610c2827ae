"""The measured processes themselves, on asyncio and on the bare epoll server, at the smallest
sizes.
"""

import socket
import sys
import threading
from collections.abc import Iterator

import pytest

from benches.contender import FLOOR, Contender, MeasuredProcessError, probe, run_to_json
from benches.echo.cells import Cell
from benches.echo.native_build import program
from benches.echo.server_process import EchoServer
from benches.instructions import CACHEGRIND, PERF
from benches.plan import Plan, Settings
from benches.rounds import Rounds
from benches.samples import Results
from benches.workloads import ALL

ASYNCIO = Contender("asyncio", sys.executable, "asyncio")
BARE = Contender(FLOOR, sys.executable, FLOOR)
SMALLEST = Settings(rounds=2, repeats=1, window_s=0.02, warm_s=0.01, budget_s=60)


@pytest.fixture
def lying_server() -> Iterator[int]:
    """The port of a server that answers one connection with as many bytes as it was sent, all
    wrong.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def lie() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"?" * len(connection.recv(65536)))
                connection.recv(1)

        thread = threading.Thread(target=lie)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def test_a_probe_tells_versions() -> None:
    assert probe(ASYNCIO)["python"] == sys.version.split()[0]


def test_a_loop_that_is_not_there_fails_with_its_reason() -> None:
    with pytest.raises(MeasuredProcessError, match="no loop is called"):
        probe(Contender("none", sys.executable, "none"))


@pytest.mark.parametrize("name", ALL)
def test_every_workload_runs_on_asyncio(name: str) -> None:
    size = ALL[name].counted_sizes[0]
    ran = run_to_json(ASYNCIO.command("worker", "count", "asyncio", name, size), 20)
    assert ran == {"operations": size}


@pytest.mark.slow
def test_rounds_are_interleaved_and_filled() -> None:
    began: list[str] = []
    results = Results(["asyncio", FLOOR])
    cells = tuple(Cell(kind, 64, 2) for kind in ("tcp_protocol", "churn", "udp"))
    plan = Plan((ALL["loop_create_close"],), cells)
    assert Rounds([ASYNCIO, BARE], plan, SMALLEST, results, began.append).run() == 2
    assert began == [f"round {n}/2: {row}" for n in (1, 2) for row in plan.rows()]
    assert results.failures == {}
    assert set(results.series("loop_create_close", "asyncio")) == {0, 1}
    assert results.series("loop_create_close", FLOOR) == {}
    for cell in plan.cells:
        for name in ("asyncio", FLOOR):
            assert min(results.series(cell.name, name).values()) > 0


@pytest.mark.parametrize(
    "kind",
    [
        "tcp_buffered",
        "tcp_streams",
        "sock_calls",
        "tcp_pipelined",
        "udp",
        "unix_protocol",
        "tcp_one_write",
        "tcp_two_writes",
        "tls_protocol",
    ],
)
def test_every_server_echoes(kind: str) -> None:
    cell = Cell(kind, 1000, 3, depth=4)
    with EchoServer(ASYNCIO, kind) as server:
        assert server.measure(cell, 0.01, 0.02)["messages"] > 0


def test_a_server_that_echoes_something_else_fails(lying_server: int) -> None:
    command = [program("echoload"), "-a", str(lying_server), "-P", "1", "-s", "64", "-d", "5"]
    with pytest.raises(MeasuredProcessError, match="the echo differs from what was sent"):
        run_to_json(command, 20)


def test_counters_are_read() -> None:
    assert PERF.read("1234567,,instructions:u,1000,100.00,,\n") == 1234567
    assert CACHEGRIND.read("==5== \n==5== I   refs:      282,408,013\n") == 282408013
    with pytest.raises(MeasuredProcessError, match="perf gave no count"):
        PERF.read("<not supported>,,instructions:u,0,100.00,,")
