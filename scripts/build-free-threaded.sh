#!/usr/bin/env bash
# Compiles and links the wheel for the free-threaded CPython 3.14; needs no such interpreter.
#
#   build-free-threaded.sh [FOLDER]         where the wheel goes (target/wheels)
#
# With an explicit --target, maturin describes the interpreter to PyO3 from the build settings that it has
# collected (a PYO3_CONFIG_FILE with Py_GIL_DISABLED), instead of asking one.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${1:-${CARGO_TARGET_DIR:-target}/wheels}
scripts/venv.sh "${PYTHON:-python3}" .venv tools examples
target=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/python-3.14t
.venv/bin/maturin build --quiet --locked --profile test-release --auditwheel skip \
    --target "$target" --interpreter python3.14t --out "$folder" 2>&1 | sed '/^[^ -~]/d' >&2

wheel=$(ls -t "$folder"/antiphon-*-cp314-cp314t-*.whl | head -n 1)
# A wheel without the native module, or with one of another ABI, would be no proof of anything. (`grep -q` would end before
# it has read all, and the list fail to be written.)
.venv/bin/python -m zipfile -l "$wheel" | grep '_antiphon\.cpython-314t-.*\.so' >/dev/null ||
    { echo "$wheel holds no module for the free-threaded interpreter" >&2; exit 1; }
echo "$wheel"
