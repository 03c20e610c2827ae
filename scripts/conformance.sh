#!/usr/bin/env bash
# Runs CPython's own asyncio tests on antiphon's loop, on every interpreter that scripts/pythons.sh finds.
# Arguments go to ../shared/conformance/run_cpython.py, which names the tests that fail.
set -euo pipefail
cd "$(dirname "$0")/.."

runner=../shared/conformance/run_cpython.py
[ -f "$runner" ] || { echo "conformance: no $runner beside this clone" >&2; exit 1; }

scripts/venv.sh "${PYTHON:-python3}" .venv tools examples
pythons=$(scripts/pythons.sh)
while read -r release python <&3; do
    if [ "$python" = missing ]; then
        echo "no CPython $release at hand: conformance was not measured on it"
        continue
    fi
    scripts/venv.sh "$python" ".venv-$release" test
    scripts/install.sh ".venv-$release" test-release
    # The runner lies in a folder that is not ours: no byte code there.
    PYTHONDONTWRITEBYTECODE=1 "${PYTHON:-python3}" "$runner" --loop antiphon --python "$PWD/.venv-$release/bin/python" "$@"
done 3<<<"$pythons" # not standard input, which the commands inside may read
