"""`eager_task_factory`: asyncio's own function around antiphon's tasks.

anyio compares the code of a loop's task factory with that of `asyncio.eager_task_factory`, and takes the class of the
tasks from its closure. So it has to be a function of asyncio's making, with both; the native one has neither.

Source: Lib/asyncio/tasks.py (`create_eager_task_factory`, from 3.12 on); anyio/_backends/_asyncio.py (`TaskGroup`).
"""

import asyncio
import sys

from antiphon._antiphon import Task

__all__: list[str] = []

if sys.version_info >= (3, 12):
    eager_task_factory = asyncio.create_eager_task_factory(Task)
    __all__ += ["eager_task_factory"]
