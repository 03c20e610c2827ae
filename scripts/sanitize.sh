#!/usr/bin/env bash
# Runs tests under the address and thread sanitizers of a nightly toolchain ($NIGHTLY, else nightly).
#
#   sanitize.sh [PART...]       all three parts, or these:
#     address    the Rust crates' tests, under the address sanitizer, which finds leaks as well
#     thread     the Rust crates' tests, under the thread sanitizer; needs the toolchain's rust-src
#     module     pytest with the extension module under the address sanitizer; $TESTS: further arguments to pytest
#
# What cannot run here is skipped, and the last lines say so. Exit status 1: something was found, or a test failed.
set -euo pipefail
cd "$(dirname "$0")/.."

nightly=${NIGHTLY:-nightly}
host=$(rustc -vV | sed -n 's/^host: //p')
target=${CARGO_TARGET_DIR:-target}/sanitize
packages="--package antiphon --package antiphon-core --package antiphon-engine"
failed=0 summary=""

note() { summary+=$(printf '%-9s %s' "$1" "$2")$'\n'; }

# part NAME COMMAND...: runs it, and notes how it ended. The shell does not end a command here at its first failure.
part() {
    local name=$1
    shift
    echo "-- $name"
    if "$@"; then note "$name" "no complaints"; else note "$name" "FAILED: see above" && failed=1; fi
}

# cargo_with SANITIZER COMMAND CARGO-ARGUMENT...: cargo, for the crates.
cargo_with() {
    local sanitizer=$1 command=$2
    shift 2
    # Memory that is kept for the next task would hide who uses the last one's.
    # shellcheck disable=SC2086 # packages are words
    RUSTFLAGS="-Zsanitizer=$sanitizer --cfg antiphon_unpooled" CARGO_TARGET_DIR=$target/$sanitizer \
        cargo "+$nightly" "$command" --quiet --target "$host" $packages "$@"
}

# Tests start the examples, which are built before.
address() {
    cargo_with address build --locked --examples && cargo_with address test --locked --no-fail-fast --lib --tests
}

# Without -Zbuild-std the locks of std are not seen, and what they protect looks like a race. A child before its program runs
# (clone with CLONE_VM, invariant B1) is a thread that the sanitizer knows nothing of, and it gives up.
thread() {
    local test tests=()
    for test in crates/antiphon*/tests/*.rs crates/antiphon*/tests/*/main.rs; do
        test=${test%/main.rs} test=$(basename "${test%.rs}")
        case $test in spawn | spawn_stdio | processes | loom_*) ;; *) tests+=(--test "$test") ;; esac
    done
    cargo_with thread build -Zbuild-std --examples &&
        cargo_with thread test -Zbuild-std --no-fail-fast --lib "${tests[@]}" -- --skip spawn
}

# The module is not linked with the sanitizer's runtime: the process that loads it has to bring that, and the interpreter's
# own allocator must not hide who asked for what. Leaks are pytest's business: the interpreter keeps much until its end.
module() {
    local python=$1 release=$2 built package=$PWD/$target/package
    scripts/venv.sh "$python" ".venv-$release" test || return
    PYO3_PYTHON=$python PYO3_BUILD_EXTENSION_MODULE=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=$target/module \
        CARGO_PROFILE_DEV_OPT_LEVEL=1 cargo "+$nightly" build --quiet --locked --target "$host" --package antiphon-python ||
        return
    built=$target/module/$host/debug/lib_antiphon.so
    rm -rf "$package"
    mkdir -p "$package" && cp -r python/antiphon "$package/" || return
    rm -f "$package"/antiphon/*.so
    cp "$built" "$package/antiphon/_antiphon$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')" || return
    # shellcheck disable=SC2086 # TESTS are words
    PYTHONPATH=$package PYTHONMALLOC=malloc PYTHONDONTWRITEBYTECODE=1 LD_PRELOAD=$runtime \
        ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 \
        "$PWD/.venv-$release/bin/python" -m pytest --quiet -p no:cacheprovider --loop antiphon ${TESTS:-tests}
}

parts=${*:-address thread module}
if ! cargo "+$nightly" --version >/dev/null 2>&1; then
    echo "no Rust toolchain $nightly at hand: nothing ran (rustup toolchain install nightly --component rust-src)"
    exit
fi
for name in $parts; do
    case $name in
        address) part address address ;;
        thread)
            if [ -d "$(rustc "+$nightly" --print sysroot)/lib/rustlib/src/rust/library" ]; then
                part thread thread
            else
                note thread "skipped: the toolchain $nightly has no rust-src (rustup component add rust-src)"
            fi
            ;;
        module)
            runtime=$(cc -print-file-name=libasan.so)
            found=$(ANTIPHON_PYTHONS=${ANTIPHON_PYTHONS:-3.13} scripts/pythons.sh | grep -v ' missing$' | head -n 1)
            if [ ! -e "$runtime" ]; then
                note module "skipped: the C compiler has no libasan.so"
            elif [ -z "$found" ]; then
                note module "skipped: no such interpreter"
            else
                part module module "${found#* }" "${found%% *}"
            fi
            ;;
        *) echo "no such part: $name" >&2 && exit 2 ;;
    esac
done
printf '\n%s' "$summary"
exit "$failed"
