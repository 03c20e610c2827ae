#!/usr/bin/env bash
# Makes a virtual environment with dependency groups of pyproject.toml, or brings one up to date.
#
#   venv.sh PYTHON FOLDER GROUP...
#
# Does nothing when FOLDER was made from this interpreter and the same groups.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$1 venv=$2
shift 2
groups=$(printf ' --group %s' "$@")
stamp=$venv/.made-from
made_from=$("$python" -c 'import sys; print(sys.executable, sys.version)' &&
    echo "$groups" && sed -n '/^\[dependency-groups\]/,/^\[tool/p' pyproject.toml)
if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$made_from" ]; then
    exit
fi

echo "setting up $venv ($*) ..."
rm -rf "$venv"
# Debian's python3 has no ensurepip unless python3-venv is installed; its pip can fill the environment.
if "$python" -c 'import ensurepip' 2>/dev/null; then
    "$python" -m venv "$venv"
else
    "$python" -m venv --without-pip "$venv"
    "$python" -m pip --python "$venv/bin/python" install --quiet pip
fi
# --group came with pip 25.1.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
# shellcheck disable=SC2086 # words on purpose
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check $groups
echo "$made_from" >"$stamp"
