"""Looking at a thread from outside: is it asleep in the kernel's poll yet?"""

import time

# epoll_wait, epoll_pwait and epoll_pwait2 on x86-64; epoll_pwait on AArch64 (epoll_pwait2 has one number on both).
POLL_CALLS = {"232", "281", "441", "22"}
LIMIT_SECONDS = 15.0


def wait_until_polling(native_id: int) -> None:
    """Returns once the thread is inside a call of the epoll family.

    This is how a test knows that a loop sleeps, instead of hoping so after some time. A thread that
    polls without sleeping is seen sooner or later too, so only use it on a loop with nothing to do.

    Args:
        native_id: the kernel's number of a thread of this process (`Thread.native_id`).

    Raises:
        TimeoutError: the thread did not get there.

    Source: proc(5), /proc/pid/task/tid/syscall.
    """
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        with open(f"/proc/self/task/{native_id}/syscall") as file:
            if file.read().split()[0] in POLL_CALLS:
                return
        time.sleep(0.0002)
    raise TimeoutError(f"thread {native_id} does not poll")
