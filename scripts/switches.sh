#!/usr/bin/env bash
# Prints the runs of the test suite under antiphon's hidden switches, one a line: name, environment, pytest arguments.
#
#   switches.sh            the runs that are part of `make test`: every fallback of the kernel's at once, partial writes,
#                          and the simulated driver; each over the whole suite, since that takes half a minute
#   switches.sh all        also each fallback alone
#
# Whatever needs no loop of antiphon's is not run again, nor what is about pools and servers of several processes: that takes
# minutes, and their loops do what all others do. But torn messages between a pool and its workers are looked at. On the
# simulated driver most tests have no verdict
# (tests/support/switches.py), so that run says how many must pass at least.
set -euo pipefail

features=pidfd,eventfd,epoll_pwait2,accept4
antiphon="--loop antiphon --deselect tests/test_cli.py --ignore tests/programs --ignore benches --ignore tests/test_serve.py --ignore tests/test_pool_executors.py --ignore tests/test_pool_faults.py --ignore tests/test_pool_transfer.py tests"
no_pools="--ignore tests/test_pool.py --ignore tests/test_pool_map.py"

printf '%s\n' \
    "fallbacks ANTIPHON_DISABLE=$features $antiphon $no_pools --at-least 1700" \
    "partial ANTIPHON_FORCE=partial-writes $antiphon --at-least 1700" \
    "simulated ANTIPHON_FORCE=simulated-driver -o timeout=20 $antiphon $no_pools --at-least 560"
if [ "${1:-}" = all ]; then
    for feature in ${features//,/ }; do
        echo "$feature ANTIPHON_DISABLE=$feature $antiphon $no_pools --at-least 1700"
    done
fi
