#!/usr/bin/env bash
# Builds antiphon's wheel for the interpreter of a virtual environment and installs it there.
#
#   install.sh VENV PROFILE
#
# PROFILE is one of Cargo.toml's: release (users, benchmarks) or test-release (tests).
# Does nothing when the sources are those that VENV's copy was built from. Needs .venv, for maturin.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=$1 profile=$2
stamp=$venv/.built-from
built_from=$(echo "$profile" && find crates python Cargo.toml Cargo.lock rust-toolchain.toml pyproject.toml \
    -type f ! -name '*.so' ! -path '*/__pycache__/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" = "$built_from" ]; then
    exit
fi

tag=$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2] + sys.abiflags)')
echo "building antiphon for CPython $tag ($profile) ..."
rm -f "$stamp"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# A target folder for each interpreter: in a shared one they would evict each other's pyo3 builds.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/python-$tag
.venv/bin/maturin build --quiet --locked --profile "$profile" --auditwheel skip \
    --interpreter "$venv/bin/python" --out "$work" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --force-reinstall "$work"/*.whl
echo "$built_from" >"$stamp"
