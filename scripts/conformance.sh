#!/usr/bin/env bash
# Runs CPython's own asyncio tests on antiphon, on CPython 3.11 to 3.14 ($ANTIPHON_PYTHONS: other releases), both ways:
# on its loop, and with antiphon.install().
# Arguments go to conformance/run.py in place of --both; it judges by the lists in conformance/: --quick for the part that
# make test runs, --install to put all of antiphon in asyncio's place first, --module test_events for one module.
set -euo pipefail
cd "$(dirname "$0")/.."

runner=../shared/conformance
[ -d "$runner" ] || { echo "conformance: there is no $runner beside this clone, which runs CPython's tests" >&2; exit 1; }

scripts/venv.sh "${PYTHON:-python3}" .venv tools examples
pythons=$(ANTIPHON_PYTHONS=${ANTIPHON_PYTHONS:-3.11 3.12 3.13 3.14} scripts/pythons.sh)
interpreters=()
while read -r release python <&3; do
    if [ "$python" = missing ]; then
        echo "no CPython $release at hand: conformance was not measured on it"
        continue
    fi
    scripts/venv.sh "$python" ".venv-$release" test
    scripts/install.sh ".venv-$release" test-release
    interpreters+=("$release=$PWD/.venv-$release/bin/python")
done 3<<<"$pythons" # not standard input, which the commands inside may read

PYTHONDONTWRITEBYTECODE=1 .venv/bin/python conformance/run.py "${@:---both}" "${interpreters[@]}"
