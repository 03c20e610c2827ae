"""Every workload, in the order of the reports: importing this package fills the registry."""

import importlib

from benches.workload import REGISTRY, Workload

MODULES = (
    "ready_queue",
    "timers",
    "threads",
    "lifecycle",
    "resolver",
    "readiness",
    "tasks",
    "locks",
    "groups",
    "processes",
)

for _module in MODULES:
    importlib.import_module(f"{__name__}.{_module}")

ALL: dict[str, Workload] = dict(REGISTRY)
