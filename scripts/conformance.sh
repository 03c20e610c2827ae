#!/usr/bin/env bash
# Runs CPython's own asyncio tests on antiphon, on every interpreter that scripts/pythons.sh finds.
# Arguments go to conformance/run.py, which judges them by the lists in conformance/.
set -euo pipefail
cd "$(dirname "$0")/.."

runner=../shared/conformance
[ -d "$runner" ] || { echo "conformance: there is no $runner beside this clone, which runs CPython's tests" >&2; exit 1; }

scripts/venv.sh "${PYTHON:-python3}" .venv tools examples
pythons=$(scripts/pythons.sh)
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

PYTHONDONTWRITEBYTECODE=1 .venv/bin/python conformance/run.py "$@" "${interpreters[@]}"
