"""`Supervisor`: keeps workers serving, replaces those that end or hang, and restarts them one by one.

    SIGTERM, SIGINT   workers are asked to end, and have the drain time for the requests that they have
    SIGHUP            each worker is replaced: the new one serves before the old one is asked to end

A worker that ends by itself with status 0 has done its work and is not replaced.
"""

import asyncio
import logging
import signal
from collections.abc import Callable

from antiphon.cores.broker import Broker
from antiphon.cores.child import Child, Command

__all__ = ["Supervisor"]

logger = logging.getLogger("antiphon.serve")

#: Workers that end before they serve: after so many in a row there is no use in more.
_VAIN_STARTS = 3


class Supervisor:
    """Worker processes that run one program.

    Args:
        command: how a worker is started.
        workers: how many.
        hang_timeout: seconds without a sign of life, after which a worker is killed; None: never.
        drain: seconds that a worker has to end when it is asked to.
        start_timeout: seconds that a new worker has to serve in a restart.
    """

    def __init__(
        self,
        command: Command,
        workers: int,
        hang_timeout: float | None = 30.0,
        drain: float = 30.0,
        start_timeout: float = 60.0,
    ) -> None:
        self._command = command
        self._workers = workers
        self._hang_timeout = hang_timeout
        self._beat_s = (hang_timeout or 60.0) / 4
        self._drain = drain
        self._start_timeout = start_timeout
        self._broker = Broker()
        self._current: dict[int, Child] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._vain = 0
        self._status = 0

    async def run(self) -> int:
        """Supervises until a signal says stop, or all workers have ended by themselves.

        Returns:
            The exit status: 1 where workers do not start, else 0.

        Raises:
            OSError: the first worker cannot be started.
        """
        loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        restart = asyncio.Event()
        on_signal: dict[int, Callable[[], None]] = {
            signal.SIGTERM: self._stopping.set,
            signal.SIGINT: self._stopping.set,
            signal.SIGHUP: restart.set,
        }
        for signum, callback in on_signal.items():
            loop.add_signal_handler(signum, callback)
        helpers = [loop.create_task(self._restart_whenever(restart))]
        if self._hang_timeout is not None:
            helpers.append(loop.create_task(self._end_hanging(self._hang_timeout)))
        keepers = [loop.create_task(self._keep(place)) for place in range(self._workers)]
        stopping = loop.create_task(self._stopping.wait())
        try:
            everybody = asyncio.gather(*keepers)
            await asyncio.wait({stopping, everybody}, return_when=asyncio.FIRST_COMPLETED)  # type: ignore[type-var]
        finally:
            self._stopping.set()
            for task in (stopping, *helpers):
                task.cancel()
            await asyncio.gather(*(child.retire(self._drain) for child in self._current.values()))
            await asyncio.gather(*keepers, *self._retiring, return_exceptions=True)
            self._broker.close()
            for signum in on_signal:
                loop.remove_signal_handler(signum)
        for keeper in keepers:
            keeper.result()
        return self._status

    async def _keep(self, place: int) -> None:
        """Keeps one worker's place filled."""
        while not self._stopping.is_set():
            child = self._current[place] = await self._start(place)
            while (status := await self._end_of(child)) is None:
                child = self._current[place]  # it was replaced by a restart
            if self._stopping.is_set() or status == 0:
                break
            logger.warning("worker %d (pid %d) ended with status %d", place, child.pid, status)
            self._vain = 0 if child.serves else self._vain + 1
            if self._vain >= _VAIN_STARTS:
                logger.error("%d workers in a row ended before they served", self._vain)
                self._status = 1
                self._stopping.set()

    async def _end_of(self, child: Child) -> int | None:
        """Waits for a worker's end; gives its status, or None if another one has its place by then."""
        status = await asyncio.shield(child.ended)
        return status if self._current[child.place] is child else None

    async def _start(self, place: int) -> Child:
        child = Child(asyncio.get_running_loop(), place, self._broker)
        await child.start(self._command, self._beat_s, self._drain)
        logger.info("worker %d is pid %d", place, child.pid)
        return child

    async def _restart_whenever(self, restart: asyncio.Event) -> None:
        while True:
            await restart.wait()
            restart.clear()
            for place in range(self._workers):
                if not await self._replace(place):
                    logger.error("the restart ends here: the new worker does not serve")
                    break

    async def _replace(self, place: int) -> bool:
        """Puts a new worker in the place of one that serves; tells whether the new one serves."""
        old = self._current[place]
        new = await self._start(place)
        await asyncio.wait([new.ready], timeout=self._start_timeout)
        if not new.serves:
            await new.retire(0)
            return False
        self._current[place] = new
        retiring = asyncio.get_running_loop().create_task(old.retire(self._drain))
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)
        return True

    async def _end_hanging(self, hang_timeout: float) -> None:
        """Kills workers that give no sign of life; they are replaced as others that end."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._beat_s)
            for child in list(self._current.values()):
                sign = child.last_sign
                if (
                    sign is not None
                    and not child.ended.done()
                    and loop.time() - sign > hang_timeout
                ):
                    logger.error("worker %d (pid %d) hangs and is killed", child.place, child.pid)
                    child.last_sign = None
                    child.send_signal(signal.SIGKILL)
