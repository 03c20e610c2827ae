# Every target sets up what it needs by itself; the second time that takes no time.
# scripts/ has one step a file; .ci/run calls the targets below and nothing else.

PYTHON ?= python3
JOBS ?= 0
export PYTHON JOBS SWITCHES TESTS

.DEFAULT_GOAL := help
.PHONY: help run test lint fmt bench conformance sanitize soak clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@awk '/^# Settings/, /^$$/ { sub(/^# ?/, ""); print }' Makefile

# Settings (make TARGET NAME=value):
#   PYTHON              the interpreter of .venv, which has the tools and a release build (python3)
#   ANTIPHON_PYTHONS    the releases that are tested ("3.11 3.13 3.14"); 3.15 is there for the asking
#   ANTIPHON_PYTHON_FT  a free-threaded interpreter to test on as well (python3.14t, where there is one)
#   SWITCHES            all: make test runs the suite under each hidden switch alone, too
#   JOBS                processes that pytest spreads the tests over (0: none but its own)
#   COUNT               what make run's first program counts down from (5000000; the article: 100000000)
#   TESTS, BENCH, CONF  further arguments to pytest, to the benchmarks, to the conformance run
#   PARTS               what make sanitize runs: address, thread, module (all three)
#   SOAK                further arguments to the soak (--minutes 60 --seed 7)

run: ## build the package and run the example programs on it
	@scripts/run.sh $(COUNT)

test: ## run every test, on every interpreter
	@scripts/test.sh $(TESTS)

lint: ## check formatting, lints and types
	@scripts/lint.sh

fmt: ## format the Rust and the Python code
	@scripts/fmt.sh

bench: ## measure asyncio, uvloop, rloop and antiphon; the table goes to benches/results/
	@scripts/bench.sh $(BENCH)

conformance: ## run all of CPython's own asyncio tests on antiphon, on 3.11 to 3.14, with and without install()
	@scripts/conformance.sh $(CONF)

sanitize: ## run the Rust crates and the extension module under a nightly toolchain's sanitizers
	@scripts/sanitize.sh $(PARTS)

soak: ## random connections and faults for three minutes, every byte checked
	@scripts/soak.sh $(SOAK)

clean: ## remove builds and virtual environments (interpreters in .pythons stay)
	rm -rf target .venv .venv-* .pytest_cache .ruff_cache .mypy_cache
