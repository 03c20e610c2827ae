"""`eager_task_factory` for antiphon's tasks (3.12 on).

Source: Lib/asyncio/tasks.py (`create_eager_task_factory`), which takes the class.
"""

import asyncio
import sys

from antiphon._antiphon import Task

__all__: list[str] = []

if sys.version_info >= (3, 12):
    __all__ += ["eager_task_factory"]

    eager_task_factory = asyncio.create_eager_task_factory(Task)
