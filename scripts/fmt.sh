#!/usr/bin/env bash
# Formats the Rust and the Python code in place.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/venv.sh "${PYTHON:-python3}" .venv tools examples
cargo fmt --all
.venv/bin/ruff check --quiet --select I --fix .
.venv/bin/ruff format --quiet .
