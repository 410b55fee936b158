#!/bin/sh
# Builds with counters, runs the suite room by room on both pollers, and reports: make coverage.
#
# With gcc 14 or newer conditions are counted, too.  DEBIAN=folder takes gcc-14 from another Debian
# (tools/in-debian; debootstrap --variant=minbase --include=gcc-14 trixie build/debian-trixie).
# A by-product is the record of which test runs what, for tests/mutation.
set -eu
cd "$(dirname "$0")/../.."
python=${PY:-.venv/bin/python}
case $python in /*) ;; *) python=$PWD/$python ;; esac
build=$PWD/build/coverage
mkdir -p "$build"
if [ -n "${DEBIAN:-}" ]; then
    CC="$PWD/tools/in-debian gcc-14" GCOV="$PWD/tools/in-debian gcov-14"
fi
export CC="${CC:-gcc}" GCOV="${GCOV:-gcov}" TIDEWIRE_TEST_SLOWER="${TIDEWIRE_TEST_SLOWER:-4}"

$CC -std=gnu11 -O1 -fPIC -c tests/coverage/trace.c -o "$build/trace.o"
linked=$build/trace.o
wrap=$("$python" tests/coverage/sites.py --wrappers "$build/wrappers.S")
if [ -n "$wrap" ]; then
    $CC -c "$build/wrappers.S" -o "$build/wrappers.o"
    $CC -std=gnu11 -O1 -fPIC -fvisibility=hidden \
        -I"$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')" \
        -c tests/coverage/failing.c -o "$build/failing.o"
    linked="$linked $build/wrappers.o $build/failing.o $wrap"
fi
TIDEWIRE_COVERAGE=1 CFLAGS=-fsanitize-coverage=trace-pc LDFLAGS="$linked" \
    "$python" -W ignore setup.py -q build --build-lib "$build/lib" --build-temp "$build/temp"
unset CC        # the tests' own libraries are for this system
find "$build" -name '*.gcda' -delete
rm -f "$build"/trace*.jsonl

failed=0
tests() { # poller, folders...: the counters are written when a process ends
    TIDEWIRE_POLLER=$1
    [ "$1" = libuv ] || unset TIDEWIRE_POLLER
    shift
    PYTHONPATH=$build/lib:$PWD/tests/coverage TW_TRACE=$build/trace.map \
        TW_TRACE_OUT=$build/trace${TIDEWIRE_POLLER:+-$TIDEWIRE_POLLER}.jsonl \
        "$python" -m pytest -q -p trace -p no:cacheprovider -m "not packaging" -o timeout=300 "$@" ||
        failed=1
}
export TIDEWIRE_POLLER
for room in core net ops tls hostile leaks parity examples operate machine kernel threads fault; do
    tests epoll "tests/$room"
done
tests epoll tests/test_*.py tests/ecosystem/test_nest_asyncio.py tests/ecosystem/test_gevent.py
tests libuv tests/core tests/net tests/hostile
# Each place that calls the C API fails once: in the programs, then in the suite's tests.
for step in ${wrap:+sites places}; do
    PYTHONPATH=$build/lib:$PWD/tests/coverage "$python" "tests/coverage/$step.py" \
        >"$build/$step.log" 2>&1 || { tail -n 20 "$build/$step.log"; failed=1; }
done
# A sample of the other errors of calls and allocations; what it finds wrong is for make faults to say.
PYTHONPATH=$build/lib:$PWD/tests/coverage "$python" tests/fault/run.py \
    --sample "${FAULTS:-1000}" >"$build/faults.log" 2>&1 || true
# shellcheck disable=SC2086
"$python" tests/coverage/report.py ${ARGS:-} --least 95 90 || failed=1
exit $failed
