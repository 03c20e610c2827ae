#!/usr/bin/env bash
# Soaks antiphon in random connections and faults from one seed, and checks every byte; arguments are the soak's own
# (--help lists them). Runs on CPython 3.13 where there is one, else on $PYTHON.
set -euo pipefail
cd "$(dirname "$0")/.."

release=3.13
python=$(ANTIPHON_PYTHONS=$release scripts/pythons.sh | awk -v release=$release '$1 == release && $2 != "missing" { print $2 }')
if [ -z "$python" ]; then
    python=${PYTHON:-python3}
    release=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
fi
scripts/venv.sh "${PYTHON:-python3}" .venv tools examples
scripts/venv.sh "$python" ".venv-$release" test
scripts/install.sh ".venv-$release" test-release
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=tests exec ".venv-$release/bin/python" -X faulthandler -m soak "$@"
