# The front door.  `make` alone lists the targets.
#
#   PYTHON=python3.12 make test      another interpreter
#   make test ARGS="-k echo"         arguments for pytest

VENV ?= .venv
BIN = $(VENV)/bin
PY = $(BIN)/python
CC ?= cc
ARGS ?=
N ?= 10
STEPS ?= 10000000
CALLS ?= 1000000
DEBUG_VENV = .venv-dbg
ECOSYSTEM_VENV = .venv-ecosystem
ASAN_BUILD = build/asan
TSAN_BUILD = build/tsan
SECONDS ?= 3600

.DEFAULT_GOAL = help
.PHONY: help dev demo test test-ecosystem test-modes test-repeat bench bench-peers bench-pyperf bench-compare conformance asan fuzz kernel leaks proofs coverage mutants lint fmt docs stubs wheel wheels wheels-test clean ci setup

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' Makefile

setup:
	@VENV=$(VENV) tools/setup.sh dev

dev:  ## .venv with a debug build (assertions, warnings) and every tool
	@TIDEWIRE_DEBUG=1 VENV=$(VENV) tools/setup.sh dev

demo:  ## install what is missing, build, run every transport, compare with the stock loop
	@VENV=$(VENV) tools/setup.sh demo
	@$(PY) tools/demo.py

test: setup  ## the tests
	$(PY) -m pytest $(ARGS)

test-modes: setup  ## the tests in asyncio's debug mode, -X dev, -W error, and all three at once
	PYTHONASYNCIODEBUG=1 $(PY) -m pytest $(ARGS)
	PYTHONDEVMODE=1 $(PY) -m pytest $(ARGS)
	PYTHONWARNINGS=error $(PY) -m pytest $(ARGS)
	PYTHONASYNCIODEBUG=1 PYTHONDEVMODE=1 PYTHONWARNINGS=error $(PY) -m pytest $(ARGS)

test-ecosystem:  ## servers, frameworks and databases on tidewire, in an environment of their own (5 minutes)
	@VENV=$(ECOSYSTEM_VENV) tools/ecosystem.sh
	TIDEWIRE_TEST_ECOSYSTEM=1 $(ECOSYSTEM_VENV)/bin/python -m pytest tests/ecosystem \
		-p no:asyncio -p no:aiohttp -p no:anyio $(ARGS)

test-repeat: setup  ## the tests N=10 times in a row, each time in another order, until one fails
	@mkdir -p build/repeat; for n in $$(seq $(N)); do \
		PYTHONHASHSEED=$$n $(PY) -m pytest -q -x --order=$$n $(ARGS) >build/repeat/$$n.log 2>&1 \
			&& ended=0 || ended=1; \
		echo "run $$n of $(N): $$(tail -n 1 build/repeat/$$n.log)"; \
		[ $$ended = 0 ] || { cat build/repeat/$$n.log; exit 1; }; done

bench: setup bench-peers  ## the benchmark suite: every loop that is here, side by side (40 minutes)
	$(PY) benchmarks/run.py --settle --details --json benchmarks/build/results.json $(ARGS)

bench-peers:
	@grep -v '^#' benchmarks/requirements.txt | while read -r peer; do \
		$(PY) -m pip install -qq --disable-pip-version-check --only-binary :all: "$$peer" \
			|| echo "without $$peer"; done

bench-pyperf: setup bench-peers  ## what happens in one process, by pyperf (10 minutes)
	@for loop in stock uvloop tidewire; do rm -f benchmarks/build/pyperf-$$loop.json; \
		$(PY) benchmarks/pyperf_loops.py --event-loop $$loop --fast -q $(ARGS) \
			-o benchmarks/build/pyperf-$$loop.json || exit 1; done

bench-compare: setup  ## two commits side by side: make bench-compare A=main~1 B=main
	$(PY) benchmarks/compare.py $(A) $(B) $(ARGS)

conformance:  ## asyncio's own tests and its documentation's examples, on every Python found
	@python3 tools/conformance.py $(ARGS)

kernel: setup  ## random programs on a kernel that lies, and beside the stock loop (STEPS=10000000 system calls)
	$(PY) tests/kernel/run.py tidewire:new_event_loop --steps $(STEPS)
	$(PY) tests/kernel/run.py tidewire:new_event_loop --seeds 1000000-1003000 --with asyncio:SelectorEventLoop

fuzz: setup  ## any method with any arguments, and TLS records in pieces, beside the stock loop (CALLS=1000000)
	$(PY) tests/machine/machine.py --calls $(CALLS)
	TIDEWIRE_TEST_EXAMPLES=500 $(PY) -m pytest -q -o timeout=3000 tests/tls/test_fuzz.py tests/parity/test_random.py

# libFuzzer is in the package atheris.
FUZZ_BUILD = build/fuzz
CLANG ?= $(firstword $(shell which clang clang-19 clang-14 2>/dev/null) clang)
FUZZ_SITE = $(FUZZ_BUILD)/venv/lib/python3*/site-packages

.PHONY: fuzz-deep
fuzz-deep: SECONDS = 600
fuzz-deep: setup  ## libFuzzer on TLS, addresses and arguments, SECONDS=600 each (clang, AddressSanitizer)
	@[ -d $(FUZZ_BUILD)/venv ] || $(PY) -m venv $(FUZZ_BUILD)/venv
	@$(FUZZ_BUILD)/venv/bin/python -m pip install -q --disable-pip-version-check -r tools/requirements-fuzz.txt
	CC=$(CLANG) TIDEWIRE_SANITIZE=address,fuzzer-no-link \
		$(PY) -W ignore setup.py -q build --build-lib $(FUZZ_BUILD)/lib --build-temp $(FUZZ_BUILD)/temp
	@for target in tls addresses arguments; do \
		mkdir -p $(FUZZ_BUILD)/$$target; echo "== $$target"; \
		PYTHONPATH="$(FUZZ_BUILD)/lib:$$(echo $(FUZZ_SITE))" PYTHONMALLOC=malloc \
		LD_PRELOAD="$$(echo $(FUZZ_SITE)/asan_with_fuzzer.so)" \
		ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 \
		$(PY) tests/fuzz/fuzz.py $$target $(FUZZ_BUILD)/$$target -max_len=600 -timeout=60 -rss_limit_mb=3000 \
			-artifact_prefix=$(FUZZ_BUILD)/ -max_total_time=$(SECONDS) $(ARGS) >$(FUZZ_BUILD)/$$target.log 2>&1 \
			|| { tail -n 40 $(FUZZ_BUILD)/$$target.log; exit 1; }; \
		tail -n 1 $(FUZZ_BUILD)/$$target.log; done

asan: setup  ## the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@rm -f $(ASAN_BUILD)/report.*
	TIDEWIRE_SANITIZE=address,undefined $(PY) setup.py -q build \
		--build-lib $(ASAN_BUILD)/lib --build-temp $(ASAN_BUILD)/temp
	PYTHONPATH=$(ASAN_BUILD)/lib PYTHONMALLOC=malloc \
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libstdc++.so.6)" \
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:log_path=$(CURDIR)/$(ASAN_BUILD)/report \
	UBSAN_OPTIONS=print_stacktrace=1:log_path=$(CURDIR)/$(ASAN_BUILD)/report \
	TIDEWIRE_TEST_SLOWER=4 $(PY) -m pytest -m "not packaging" -o timeout=240 $(ARGS) \
		|| { cat $(ASAN_BUILD)/report.* 2>/dev/null; exit 1; }
	@! cat $(ASAN_BUILD)/report.* 2>/dev/null

.PHONY: faults
faults: setup  ## each system call and allocation of 29 programs fails in turn (an hour)
	$(PY) tests/fault/run.py $(ARGS)
	TIDEWIRE_POLLER=libuv $(PY) tests/fault/run.py --most 4 --seeds 20 --allocations 20 $(ARGS)

.PHONY: tsan soak
tsan: setup  ## loops in 64 threads under ThreadSanitizer, with each poller
	@rm -f $(TSAN_BUILD)/report.*
	TIDEWIRE_SANITIZE=thread TIDEWIRE_DEBUG=1 $(PY) setup.py -q build \
		--build-lib $(TSAN_BUILD)/lib --build-temp $(TSAN_BUILD)/temp
	@for poller in epoll libuv; do \
		TIDEWIRE_POLLER=$$poller PYTHONPATH=$(TSAN_BUILD)/lib LD_PRELOAD="$$($(CC) -print-file-name=libtsan.so)" \
		TSAN_OPTIONS=die_after_fork=0:report_signal_unsafe=0:suppressions=$(CURDIR)/tests/threads/tsan.supp:log_path=$(CURDIR)/$(TSAN_BUILD)/report \
		$(PY) tests/threads/stress.py $(ARGS) || exit 1; done
	@! cat $(TSAN_BUILD)/report.* 2>/dev/null

soak: setup  ## an hour of connections, children, names, forks (SECONDS=600: ten minutes): nothing grows
	$(PY) tests/soak/soak.py --seconds $(SECONDS) $(ARGS)

leaks:  ## reference counts, descriptors and live objects, under Debian's python3-dbg
	@PYTHON=python3-dbg VENV=$(DEBUG_VENV) TIDEWIRE_DEBUG=1 tools/setup.sh dev
	$(DEBUG_VENV)/bin/python -m pytest tests/leaks -o timeout=240 $(ARGS)

proofs:  ## CBMC on csrc/base, Spin on models of threads and forks, each also broken (DEBIAN=: cbmc's)
	@python3 tests/proofs/prove.py $(ARGS)

coverage: setup  ## lines, branches and conditions of csrc/ by the tests (DEBIAN=: gcc-14's)
	@PY=$(PY) ARGS="$(ARGS)" tests/coverage/run.sh

mutants: setup  ## how many small wrong changes of csrc/ the tests find (hours; goes on where it was)
	@[ -e build/coverage/trace.jsonl ] || $(MAKE) coverage
	$(PY) tests/mutation/mutate.py run $(ARGS)
	$(PY) tests/mutation/mutate.py report

lint: setup  ## ruff, mypy, typed programs, and the rules of this code base
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PY) -m pytest -q tests/rules

fmt: setup  ## let ruff repair what it can
	$(BIN)/ruff check --fix .

stubs: setup  ## compare the types with the extension and the loop
	$(PY) -m mypy.stubtest tidewire._core tidewire._loop --mypy-config-file pyproject.toml

docs: setup  ## the documentation, in docs/_build/html
	$(PY) -m sphinx -q -W -n -b html docs docs/_build/html

wheel: setup  ## source distribution and wheel, in dist/
	$(PY) -m build --no-isolation

wheels: setup build/wheels/venv  ## the wheels for PyPI, in dist/wheels, and checked (ARGS=--again: twice)
	build/wheels/venv/bin/python tools/wheels.py $(ARGS)

build/wheels/venv: tools/requirements-wheels.txt
	$(PY) -m venv --clear $@
	$@/bin/python -m pip install -q --disable-pip-version-check -r $<
	touch $@

wheels-test:  ## the wheels of dist/wheels, each in a Debian without compiler and libuv (root)
	@for suite in bookworm trixie sid; do tools/debian-python $$suite wheel || exit 1; done

clean:  ## remove what was built (and .venv*)
	rm -rf build dist docs/_build benchmarks/build .venv .venv-* pkg/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f pkg/tidewire/*.so

ci:  ## what continuous integration runs
	@.ci/run
