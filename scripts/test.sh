#!/usr/bin/env bash
# Runs every test: the Rust crates', the loom models, pytest on each interpreter of scripts/pythons.sh, and what tells
# most of CPython's own asyncio tests on the oldest and the newest of them, on the newest with antiphon.install() as
# well (make conformance runs all, on all, both ways).
#
#   test.sh [PYTEST ARGUMENT...]        with arguments only pytest runs, with these
#
# On the newest the suite runs again with antiphon.install(), and on one interpreter under each of antiphon's hidden switches
# (scripts/switches.sh; SWITCHES=all: more of them, and with install() on the oldest, too).
# All of them run, whatever fails before; the last line counts as pytest's own does. Output of what passed is not shown.
set -euo pipefail
cd "$(dirname "$0")/.."

summary=$(mktemp) log=$(mktemp)
trap 'rm -f "$summary" "$log"' EXIT
failed=0
begun=$SECONDS

# step NAME COMMAND...: runs it, shows its output if it fails (less what passed), leaves the output in $log.
step() {
    echo "-- $1"
    shift
    "$@" >"$log" 2>&1 || { failed=1; grep -vE ' PASSED( |$)' "$log" || true; return 1; }
}

# note NAME TEXT: a line of the summary.
note() { printf '%-11s %s\n' "$1" "$2" >>"$summary"; }

# rust_step NAME TITLE COMMAND...: a step that runs `cargo test`, and its line of the summary.
rust_step() {
    local name=$1 status=0
    shift
    step "$@" || status=$?
    note "$name" "$(awk -v status=$status '
        /^test result:/ { passed += $4; failed += $6; ignored += $8 }
        END { printf "%d passed", passed
              if (failed) printf ", %d failed", failed
              if (ignored) printf ", %d skipped", ignored
              if (status && !failed) printf ", 1 error: see above" }' "$log")"
}

rust_tests() {
    # What is linked into extension modules has pytest's tests.
    local crates=(--quiet --locked --no-fail-fast --workspace --all-features
        --exclude antiphon-python --exclude antiphon-pyo3 --exclude antiphon-pyo3-example)
    rust_step crates "crates: unit, property and documentation tests" cargo test "${crates[@]}"
    # The same build: another choice of crates would be another one.
    rust_step crates-sw "crates: sockets under the hidden switches" \
        env ANTIPHON_FORCE=partial-writes ANTIPHON_DISABLE=accept4,eventfd,epoll_pwait2 cargo test "${crates[@]}" \
        --test switches --test tcp --test streams --test copying --test datagrams_and_unix --test ecosystem

    # loom replaces the atomics in the whole crate, so its models are a build of their own. The Python door's are those of an
    # interpreter without a GIL.
    rust_step loom "engine, Python door: loom models" env RUSTFLAGS="--cfg loom --cfg Py_GIL_DISABLED" \
        CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/loom" cargo test --quiet --locked --no-fail-fast --release \
        --package antiphon-engine --package antiphon-python-models --test 'loom_*'
    rust_step loom-task "task cells: loom models" env RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/loom" \
        cargo test --quiet --locked --no-fail-fast --release --package antiphon --lib models
}

# result: the last line of pytest's in $log.
result() {
    sed -nE 's/^=+ ([0-9]+ (passed|failed|error|skipped).* in [0-9.]+s.*) =+$/\1/p' "$log" | tail -n 1 |
        grep . || echo '1 error: pytest gave no result'
}

# pytest_on RELEASE PYTHON ARGUMENT...
pytest_on() {
    local release=$1 python=$2 venv=.venv-$1
    shift 2
    step "CPython $release: environment" scripts/venv.sh "$python" "$venv" test &&
        step "CPython $release: build" scripts/install.sh "$venv" test-release &&
        step "CPython $release: extension of Rust futures" scripts/build-extension.sh "$venv" test-release ||
        { note "$release" "1 error: not built"; return; }
    # Every test by name, so that the log of a run that native code ended says which one it was.
    step "CPython $release: pytest" env PYTHONDONTWRITEBYTECODE=1 timeout --kill-after=10 900 \
        "$venv/bin/python" -m pytest --verbose --color=no -o cache_dir=".pytest_cache/$release" \
        --numprocesses "${JOBS:-0}" "$@" || true
    note "$release" "$(result)"
    grep -E '^SKIPPED' "$log" | sed 's/^/            /' >>"$summary" || true
}

# conformance "ARGUMENT..." RELEASE...: of the environments that pytest_on has made; one line of the summary.
conformance() {
    local arguments=$1 release interpreters=()
    shift
    if [ ! -d ../shared/conformance ]; then
        note conformance "CPYTHON'S TESTS DID NOT RUN: no ../shared/conformance beside this clone"
        return
    fi
    for release in "$@"; do
        [ ! -x ".venv-$release/bin/python" ] || interpreters+=("$release=$PWD/.venv-$release/bin/python")
    done
    # shellcheck disable=SC2086 # arguments are words
    step "CPython's own asyncio tests, the quick part ($*) $arguments" env PYTHONDONTWRITEBYTECODE=1 \
        timeout --kill-after=10 600 .venv/bin/python conformance/run.py --quick $arguments "${interpreters[@]}" || true
    note conformance "$(tail -n 1 "$log" | grep -E '[0-9]+ passed' || echo '1 error: no result'), on $* $arguments"
}

# installed_on RELEASE: what runs on antiphon's loop, once more with antiphon.install().
installed_on() {
    local release=$1
    step "CPython $release: pytest, installed" env PYTHONDONTWRITEBYTECODE=1 timeout --kill-after=10 600 \
        ".venv-$release/bin/python" -m pytest --verbose --color=no -o cache_dir=".pytest_cache/$release" \
        --numprocesses "${JOBS:-0}" --install --loop antiphon tests || true
    note installed "$(result), on $release"
}

# switched_on RELEASE PYTHON-OF-ITS-ENVIRONMENT: the suite under each switch; one line of the summary each.
switched_on() {
    local release=$1 python=$2 name setting arguments
    while read -r name setting arguments <&4; do
        # shellcheck disable=SC2086 # arguments are words
        step "CPython $release: pytest, $setting" env PYTHONDONTWRITEBYTECODE=1 "$setting" timeout --kill-after=10 600 \
            "$python" -m pytest --verbose --color=no -o cache_dir=".pytest_cache/$release" \
            --numprocesses "${JOBS:-0}" $arguments || true
        note "$name" "$(result), on $release"
    done 4< <(scripts/switches.sh "${SWITCHES:-}")
}

total() {
    awk -v seconds=$((SECONDS - begun)) '
        !/^ / { while (match($0, /[0-9]+ (passed|failed|skipped|xfailed|error)/)) {
              split(substr($0, RSTART, RLENGTH), word, " "); count[word[2]] += word[1]
              $0 = substr($0, RSTART + RLENGTH) } }
        END { text = count["failed"] + 0 ? count["failed"] " failed, " : ""
              text = text count["passed"] + 0 " passed"
              if (count["skipped"]) text = text ", " count["skipped"] " skipped"
              if (count["xfailed"]) text = text ", " count["xfailed"] " xfailed"
              if (count["error"]) text = text ", " count["error"] " errors"
              printf "==== %s in %ds ====\n", text, seconds }' "$summary"
}

scripts/venv.sh "${PYTHON:-python3}" .venv tools examples
pythons=$(scripts/pythons.sh) || failed=1
[ $# -gt 0 ] || rust_tests
tested=()
while read -r release python <&3; do
    if [ "$python" != missing ]; then
        pytest_on "$release" "$python" "$@"
        [[ $release == *t ]] || tested+=("$release")
    elif [[ $release == *t ]]; then
        note "$release" "no free-threaded interpreter at hand: its tests did not run"
    else
        note "$release" "NO CPYTHON $release AT HAND: its tests did not run"
    fi
done 3<<<"$pythons" # not standard input, which the commands inside may read
if [ $# -eq 0 ]; then
    # Of one release, if there is only one.
    ends=$(printf '%s\n' "${tested[@]}" | sort -V | sed -n '1p;$p' | uniq)
    for release in $ends; do
        # The oldest's takes three minutes, and CPython's own tests run there with install() in `make conformance`.
        [ "$release" = "${ends##*$'\n'}" ] || [ "${SWITCHES:-}" = all ] || continue
        [ ! -x ".venv-$release/bin/python" ] || installed_on "$release"
    done
    conformance "" $ends
    conformance --install "${ends##*$'\n'}"
    # On 3.13 where it is tested, else the last one.
    release=$(printf '%s\n' "${tested[@]}" | sort -V | sed -n '/^3[.]13$/{p;q};$p')
    [ ! -x ".venv-$release/bin/python" ] || switched_on "$release" ".venv-$release/bin/python"
    step "CPython 3.14t: wheel" scripts/build-free-threaded.sh && note 3.14t "wheel compiled" ||
        note 3.14t "1 error: the wheel did not compile"
fi

echo
cat "$summary"
total
exit "$failed"
