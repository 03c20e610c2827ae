"""The measured process of a workload: runs one workload on one loop and prints one JSON line.

    python -m benches.worker probe LOOP                      versions, to see that the loop is there
    python -m benches.worker time LOOP WORKLOAD REPEATS      CPU and wall time per operation
    python -m benches.worker count LOOP WORKLOAD SIZE        one bare call, for an instruction
    counter around it

The parent kills a worker that takes too long; LIFETIME_S ends one whose parent died.
"""

import gc
import json
import os
import platform
import signal
import sys
import sysconfig
import time

from benches import loops
from benches.workload import Run, Workload
from benches.workloads import ALL

LIFETIME_S = 300
#: The warm-up call has this share of the measured call's operations.
WARM_UP_SHARE = 10


def probe(loop_name: str) -> dict[str, object]:
    """Returns the versions of interpreter and loop, having opened and closed one."""
    loops.factory(loop_name)().close()
    options = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return {
        "loop": loops.version(loop_name),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "profile_guided": "--enable-optimizations" in options,
        "free_threaded": not getattr(sys, "_is_gil_enabled", lambda: True)(),
    }


def time_workload(workload: Workload, loop_name: str, repeats: int) -> dict[str, float]:
    """Returns the best CPU time and the best wall time per operation, in nanoseconds.

    CPU time is that of the whole process: every thread, user and system. A smaller call warms the
    loop up first. Where the workload says what is to be measured, only that counts.
    """
    new_loop = loops.factory(loop_name)
    loop = new_loop()
    workload.function(Run(loop, max(1, workload.size // WARM_UP_SHARE), new_loop))
    run = Run(loop, workload.size, new_loop)
    cpu_ns, wall_ns = [], []
    for _ in range(min(repeats, workload.repeats_at_most or repeats)):
        gc.collect()
        run.windows.clear()
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        workload.function(run)
        whole = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
        for times, taken in zip(
            (cpu_ns, wall_ns), zip(*(run.windows or [whole]), strict=True), strict=True
        ):
            times.append(sum(taken))
    loop.close()
    return {"cpu_ns": min(cpu_ns) / workload.size, "wall_ns": min(wall_ns) / workload.size}


def run_bare(workload: Workload, loop_name: str, size: int) -> dict[str, float]:
    """Runs ``size`` operations and nothing beside them."""
    new_loop = loops.factory(loop_name)
    loop = new_loop()
    workload.function(Run(loop, size, new_loop))
    loop.close()
    return {"operations": size}


def main(arguments: list[str]) -> None:
    """Does what the arguments say (see the module's text) and prints the result."""
    signal.alarm(LIFETIME_S)
    match arguments:
        case ["probe", loop_name]:
            result: dict[str, object] = probe(loop_name)
        case ["time", loop_name, name, repeats]:
            result = dict(time_workload(ALL[name], loop_name, int(repeats)))
        case ["count", loop_name, name, size]:
            result = dict(run_bare(ALL[name], loop_name, int(size)))
        case _:
            raise SystemExit(__doc__)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
    # Interpreter shutdown is not measured, and a loop that crashes there has measured well before.
    os._exit(0)
