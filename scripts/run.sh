#!/usr/bin/env bash
# Builds antiphon into .venv and runs the example programs on it.
#
#   run.sh [COUNT]          what the first program counts down from
set -euo pipefail
cd "$(dirname "$0")/.."

count=${1:-5000000}
scripts/venv.sh "${PYTHON:-python3}" .venv tools examples
scripts/install.sh .venv release
antiphon=.venv/bin/antiphon
$antiphon --version

echo
echo "== examples/countdown.py: five tasks that count down from $count (the article: 100000000)"
$antiphon examples/countdown.py "$count"

echo
echo "== examples/pool.py: the same on all cores"
$antiphon examples/pool.py "$count"

echo
echo "== examples/generator.py: stepped past its end, so a traceback and exit status 1 are what it should give"
status=0
$antiphon examples/generator.py || status=$?
[ "$status" -eq 1 ] || { echo "run: it ended with status $status" >&2; exit 1; }

echo
echo "== examples/exchange.py: aiohttp server and client in one program, on asyncio and on antiphon"
.venv/bin/python scripts/compare_exchange.py
