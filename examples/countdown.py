"""Five tasks that each count down; nothing in one gives way to another, so they run in turn."""

import asyncio
import sys
import time

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 100000000


async def run(x):
    subStartTime = time.time()

    n = COUNT
    while True:
        n -= 1
        if n < 0:
            break

    subEndTime = time.time()
    print("subFunction during time: %s" % (subEndTime - subStartTime))


if __name__ == "__main__":
    startTime = time.time()

    if sys.version_info >= (3, 14):  # get_event_loop() no longer makes the first loop
        asyncio.set_event_loop(asyncio.new_event_loop())
    tasks = [asyncio.ensure_future(run(i)) for i in range(5)]
    loop = asyncio.get_event_loop()
    loop.run_until_complete(asyncio.wait(tasks))

    endTime = time.time()
    print("during time: %s" % (endTime - startTime))
