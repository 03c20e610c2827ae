#!/usr/bin/env bash
# Formatting, lints and types of everything; stops at the first that fails.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/venv.sh "${PYTHON:-python3}" .venv tools examples
cargo fmt --all --check
PYO3_PYTHON=$PWD/.venv/bin/python cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
cargo clippy --quiet --locked --package antiphon --all-features --all-targets -- -D warnings
.venv/bin/ruff check --quiet .
.venv/bin/ruff format --quiet --check .
.venv/bin/mypy --no-error-summary
for script in scripts/*.sh .ci/run; do
    bash -n "$script"
done
echo "lint: no complaints"
