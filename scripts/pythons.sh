#!/usr/bin/env bash
# Finds the interpreters to test on; one line each: its release, then its path, or "missing".
#
# The releases are those of $ANTIPHON_PYTHONS, else 3.11 3.13 3.14. Each is looked for as $PYTHON, on the
# path, among pyenv's and in .pythons, and at last fetched into .pythons by ../shared/tools/debian-python.sh.
# A free-threaded one ($ANTIPHON_PYTHON_FT, else python3.14t on the path) comes last, as 3.14t.
# Exit status 1: CI=true, and a release is missing that nothing here could even try to fetch.
set -euo pipefail
cd "$(dirname "$0")/.."

fetch=../shared/tools/debian-python.sh

# Prints "3.13 /path/of/it" (free-threaded: "3.14t /path/of/it"), or nothing if it is no working interpreter.
describe() {
    "$1" -I -c 'import sys
print("%d.%d" % sys.version_info[:2] + sys.abiflags.replace("d", ""), sys.executable)' 2>/dev/null || true
}

# Prints the line of release $1, or nothing if this machine has none.
find_installed() {
    local candidate line
    for candidate in "${PYTHON:-python3}" "python$1" \
        $(printf '%s\n' "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python3 | sort -rV) \
        "$PWD/.pythons/$1/bin/python3"; do
        line=$(describe "$candidate")
        if [ "${line%% *}" = "$1" ]; then
            echo "$line"
            return
        fi
    done
}

status=0
for release in ${ANTIPHON_PYTHONS:-3.11 3.13 3.14}; do
    line=$(find_installed "$release")
    if [ -n "$line" ]; then
        echo "$line"
    elif [ ! -x "$fetch" ]; then
        echo "no CPython $release at hand, and no $fetch to fetch it with" >&2
        [ "${CI:-}" != true ] || status=1
        echo "$release missing"
    else
        echo "fetching CPython $release into .pythons/$release ..." >&2
        "$fetch" "$release" ".pythons/$release" >&2 || echo "CPython $release could not be fetched" >&2
        line=$(find_installed "$release")
        echo "${line:-$release missing}"
    fi
done

line=$(describe "${ANTIPHON_PYTHON_FT:-python3.14t}")
case ${line%% *} in
    *t) echo "$line" ;;
    *) echo "3.14t missing" ;;
esac
exit $status
