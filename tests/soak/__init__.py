"""The soak: a random mix of connections and faults, from one seed, whose every byte is checked.

    PYTHONPATH=tests python -m soak --minutes 3 --seed 7

A run is a row of *lives*. A life is a new event loop with servers of every kind and a crowd of
visitors; each visitor plays one scene after the other, drawn from the seed: an exchange over TCP,
TLS, a Unix socket, datagrams, pipes or a child process, or one of the faults of `soak.faults`.
Every other life is ended in order, the rest by `loop.close()` with everything open.

Invariant Q1: every byte that arrives is the one that its sender's pattern has at that place
(`soak.keystream`); where nobody interfered, every byte arrives.
Invariant Q2: after a life the process has the descriptors, threads, children, tasks and objects that it
had before (`soak.census`).

What breaks either, or reaches the loop's exception handler unasked, fails the run.
"""
