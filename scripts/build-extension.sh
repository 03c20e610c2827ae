#!/usr/bin/env bash
# Builds the example extension module of Rust futures (crates/antiphon-pyo3/example) into a virtual environment.
#
#   build-extension.sh VENV PROFILE
set -euo pipefail
cd "$(dirname "$0")/.."

venv=$1 profile=$2
python=$PWD/$venv/bin/python
[[ $venv != /* ]] || python=$venv/bin/python
tag=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2] + sys.abiflags)')
# The same folder as install.sh's, so that pyo3 is built once.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/python-$tag PYO3_PYTHON=$python PYO3_BUILD_EXTENSION_MODULE=1
cargo build --quiet --locked --profile "$profile" --package antiphon-pyo3-example
place=$("$python" -c 'import sysconfig; print(sysconfig.get_path("platlib") + "/rust_futures" + sysconfig.get_config_var("EXT_SUFFIX"))')
cp "$CARGO_TARGET_DIR/$profile/librust_futures.so" "$place.new"
mv "$place.new" "$place" # a process that has loaded the former one keeps it
