"""What a reader must know to judge figures: machine, interpreters, loops, settings, and how busy
the machine was.
"""

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

from benches.contender import Contender, MeasuredProcessError, probe
from benches.plan import Settings


def processor() -> str:
    """Returns the processor's model name as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def machine() -> dict[str, str]:
    """Returns the date, the machine and its load before the run."""
    one, five, fifteen = os.getloadavg()
    return {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "machine": f"{os.cpu_count()} processors ({processor()})",
        "system": f"{platform.system()} {platform.release()}",
        "load before": f"{one:.1f} (1 min), {five:.1f} (5 min), {fifteen:.1f} (15 min)",
    }


def describe(
    contenders: Sequence[Contender], settings: Settings
) -> tuple[dict[str, str], dict[str, str]]:
    """Probes every contender.

    Returns:
        What to print about machine and contenders, and the reason of each contender that is not
        there, by label.
    """
    about = machine()
    missing = {}
    for contender in contenders:
        if contender.native:
            about[contender.label] = "a bare epoll server in C, the floor of the echo rows"
            continue
        try:
            found = probe(contender)
        except MeasuredProcessError as error:
            missing[contender.label] = str(error)
            continue
        build = "PGO" if found["profile_guided"] else "no PGO"
        threads = ", free-threaded" if found["free_threaded"] else ""
        python = f"{found['implementation']} {found['python']} ({build}{threads})"
        about[contender.label] = f"{contender.loop} {found['loop']} on {python}"
    about["settings"] = (
        f"best of {settings.repeats} in a process, echo windows of {settings.window_s:g} s, "
        f"at most {settings.rounds} rounds or {settings.budget_s:.0f} s"
    )
    return about, missing
