#!/usr/bin/env bash
# Measures asyncio, uvloop, rloop and antiphon; arguments are benches' own (--help lists them).
# Runs on CPython 3.13 where there is one, as the figures to compare with did; else on $PYTHON.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$(ANTIPHON_PYTHONS=3.13 scripts/pythons.sh | awk '$1 == "3.13" && $2 != "missing" { print $2 }')
if [ -z "$python" ]; then
    python=${PYTHON:-python3}
    echo "no CPython 3.13 at hand: measuring on $("$python" -V), which is not to be compared with other tables"
fi
scripts/venv.sh "${PYTHON:-python3}" .venv tools examples
scripts/venv.sh "$python" .venv-bench bench
scripts/install.sh .venv-bench release
.venv-bench/bin/python -m benches "$@"
# All of it: the pools' rows, too, which are wall times of several processes and stand apart.
[ $# -gt 0 ] || .venv-bench/bin/python -m benches.pools
