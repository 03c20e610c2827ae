"""Runs examples/exchange.py on asyncio and on antiphon, in turns, and prints the figures side by side.

Each round is a process of its own. The loops change places from round to round, so that neither always finds the
machine as the other left it; the best round of each counts, for whatever else the machine does only ever slows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

EXCHANGE = Path(__file__).parent.parent / "examples" / "exchange.py"
COMMANDS = {
    "asyncio": [sys.executable],
    "antiphon": [str(Path(sysconfig.get_path("scripts")) / "antiphon")],
}


def run_once(loop: str, arguments: list[str]) -> dict[str, Any]:
    """Runs the exchange on `loop` in a process of its own; gives what it reports.

    Raises:
        SystemExit: it failed, or ran on another loop than it should have.
    """
    command = [*COMMANDS[loop], str(EXCHANGE), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120)
    if done.returncode != 0:
        sys.exit(f"the exchange on {loop} ended with status {done.returncode}")
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if facts["loop"].split(".")[0] != loop or facts["verified"] != facts["requests"]:
        sys.exit(f"the exchange on {loop} is not what was asked for: {facts}")
    return facts


def table(rounds: dict[str, list[dict[str, Any]]]) -> Table:
    """The figures of each loop, and antiphon's in proportion to asyncio's."""
    result = Table()
    result.add_column("loop")
    result.add_column("requests/s", justify="right")
    result.add_column("CPU seconds", justify="right")
    speed, cpu = {}, {}
    for loop, figures in rounds.items():
        speed[loop] = max(figure["requests_per_second"] for figure in figures)
        cpu[loop] = min(figure["cpu_seconds"] for figure in figures)
        result.add_row(loop, f"{speed[loop]:.0f}", f"{cpu[loop]:.2f}")
    result.add_section()
    result.add_row(
        "antiphon / asyncio",
        f"{speed['antiphon'] / speed['asyncio']:.2f}",
        f"{cpu['antiphon'] / cpu['asyncio']:.2f}",
    )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    options, arguments = parser.parse_known_args()
    rounds: dict[str, list[dict[str, Any]]] = {loop: [] for loop in COMMANDS}
    for number in range(options.rounds):
        for loop in list(COMMANDS) if number % 2 == 0 else reversed(COMMANDS):
            rounds[loop].append(run_once(loop, arguments))
    facts = rounds["asyncio"][0]
    print(
        f"{facts['requests']} requests over {facts['connections']} connections, "
        f"the best of {options.rounds} rounds:"
    )
    Console().print(table(rounds))


if __name__ == "__main__":
    main()
