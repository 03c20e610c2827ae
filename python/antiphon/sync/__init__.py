"""Locks, events, semaphores, queues and channels for several loops and plain threads at once.

    queue = antiphon.sync.Queue(100)

    item = await queue.get()         # in a task, of whatever loop
    queue.put_blocking(item)         # in a thread without a loop

Names and manners are asyncio's; what waits in a thread is called `..._blocking` and takes a `timeout` in seconds.
Whoever waits first is served first, task or thread. Nobody polls: what is waited for is handed over, with one
wake-up.
"""

from antiphon.sync.channel import Channel, ChannelClosed
from antiphon.sync.event import Event
from antiphon.sync.queue import Queue, QueueShutDown
from antiphon.sync.semaphore import BoundedSemaphore, Lock, Semaphore

__all__ = [
    "BoundedSemaphore",
    "Channel",
    "ChannelClosed",
    "Event",
    "Lock",
    "Queue",
    "QueueShutDown",
    "Semaphore",
]
