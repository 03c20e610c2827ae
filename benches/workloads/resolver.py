"""Name resolution of what needs none: a numeric host and port."""

import socket

from benches.workload import Run, workload

GROUP = "lifecycle"
LITERAL = ("127.0.0.1", 80)


@workload(
    "getaddrinfo_literal", group=GROUP, title="getaddrinfo of a literal", unit="call", size=5_000
)
def getaddrinfo_literal(run: Run) -> None:
    """``await loop.getaddrinfo("127.0.0.1", 80)``, and the answer is checked."""

    async def main() -> None:
        wanted = socket.getaddrinfo(*LITERAL, type=socket.SOCK_STREAM)
        getaddrinfo = run.loop.getaddrinfo
        for _ in range(run.size):
            answer = await getaddrinfo(*LITERAL, type=socket.SOCK_STREAM)
        if answer != wanted:
            raise AssertionError(f"getaddrinfo answered {answer!r}, not {wanted!r}")

    run.complete(main())
