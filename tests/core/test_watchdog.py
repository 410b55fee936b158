"""tidewire.watch(): reports of callbacks that keep the loop, with the line that is to blame."""
import asyncio
import collections
import ctypes
import importlib.util
import itertools
import json
import logging
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tidewire
from parity import certificates

pytestmark = pytest.mark.tidewire

HERE = Path(__file__)
THRESHOLD = 0.04


def run(loop, coro, seconds=60):
    return loop.run_until_complete(asyncio.wait_for(coro, seconds))


def line_of(mark, path=HERE):
    """The number of the line that ends with that comment."""
    (number,) = [i for i, line in enumerate(path.read_text().splitlines(), 1)
                 if line.rstrip().endswith(f"# here: {mark}")]
    return number


# -- what blocks: each for about so many seconds ------------------------------

def block_by_sleep(seconds):
    time.sleep(seconds)     # here: sleep


def block_by_computing(seconds):
    end = time.perf_counter() + seconds
    any(time.perf_counter() > end for _ in itertools.repeat(None))      # here: computing


def block_by_getaddrinfo(seconds):
    socket.getaddrinfo("blocked.example", seconds)      # here: getaddrinfo


def block_by_lock(seconds):
    lock = threading.Lock()
    lock.acquire()
    lock.acquire(timeout=seconds)       # here: lock


def block_by_c_call(seconds):
    """A function of C that keeps the GIL."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))       # here: c-call


def block_by_file(seconds):
    r, w = os.pipe()
    timer = threading.Timer(seconds, os.close, (w,))
    timer.start()
    with open(r, "rb") as file:
        file.read()     # here: file
    timer.join()


def block_by_json(seconds):
    n = 10_000
    while True:
        text = "[" + "1.5," * n + "1]"
        start = time.perf_counter()
        json.loads(text)        # here: json
        if time.perf_counter() - start > seconds:
            return
        n *= 4


def block_by_library(seconds):
    LIBRARY.connect(seconds)


class SlowHandler(logging.Handler):
    seconds = 0.0

    def emit(self, record):
        time.sleep(self.seconds)        # here: logging


def block_by_logging(seconds):
    log = logging.Logger("test_watchdog")
    log.addHandler(SlowHandler())
    log.handlers[0].seconds = seconds
    log.warning("slow")


def block_by_subprocess(seconds):
    subprocess.run(["sleep", str(seconds)], check=True)     # here: subprocess


BLOCKERS = {name.removeprefix("block_by_").replace("_", "-"): function
            for name, function in dict(globals()).items() if name.startswith("block_by_")}


@pytest.fixture(scope="module", autouse=True)
def library(tmp_path_factory):
    """A module in a file of its own, that looks up a name."""
    global LIBRARY
    path = tmp_path_factory.mktemp("library") / "client.py"
    path.write_text("import socket\n\n\ndef connect(seconds):\n"
                    "    return socket.getaddrinfo('db.example', seconds)      # here: library\n")
    spec = importlib.util.spec_from_file_location("client", path)
    LIBRARY = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(LIBRARY)


@pytest.fixture
def blocking_lookups(monkeypatch):
    """socket.getaddrinfo() that waits for a server that does not answer."""
    real = socket.getaddrinfo
    ours, theirs = socket.socketpair()

    def lookup(host, port, *args, **kwargs):
        if not host.endswith(".example"):
            return real(host, port, *args, **kwargs)
        ours.settimeout(port)       # the seconds
        with pytest.raises(TimeoutError):
            ours.recv(1)
        return []

    lookup.__code__ = lookup.__code__.replace(co_filename=socket.__file__)
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    yield
    ours.close()
    theirs.close()


# -- where it blocks ----------------------------------------------------------

async def in_callback(loop, block):
    loop.call_soon(block)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def in_task(loop, block):
    async def work():
        block()

    await loop.create_task(work(), name="the worker")


class Blocking(asyncio.Protocol):
    def __init__(self, block, done):
        self.block, self.done = block, done

    def data_received(self, data):
        try:
            self.block()
        finally:
            self.done.set_result(None)


async def in_protocol(loop, block):
    a, b = socket.socketpair()
    done = loop.create_future()
    transport, _ = await loop.create_connection(lambda: Blocking(block, done), sock=a)
    b.send(b"x")
    await done
    transport.close()
    b.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def in_signal_handler(loop, block):
    done = loop.create_future()

    def handler():
        block()
        done.set_result(None)

    loop.add_signal_handler(signal.SIGUSR1, handler)
    os.kill(os.getpid(), signal.SIGUSR1)
    await done
    loop.remove_signal_handler(signal.SIGUSR1)


async def over_tls(loop, block):
    server_context, client_context = certificates.contexts()
    done = loop.create_future()
    lost = loop.create_future()

    class Server(Blocking):
        def connection_lost(self, exc):
            lost.set_result(None)

    server = await loop.create_server(lambda: Server(block, done), "127.0.0.1", 0,
                                      ssl=server_context)
    transport, _ = await loop.create_connection(
        asyncio.Protocol, *server.sockets[0].getsockname(), ssl=client_context,
        server_hostname="localhost")
    transport.write(b"x")
    await done
    transport.close()
    await lost
    server.close()
    await asyncio.sleep(0)


PLACES = [in_callback, in_task, in_protocol, in_signal_handler, over_tls]


@pytest.mark.parametrize("kind", BLOCKERS)
@pytest.mark.parametrize("place", PLACES, ids=[place.__name__ for place in PLACES])
def test_planted(loop, place, kind, blocking_lookups):
    """Whatever blocks, and wherever: the report has its line."""
    path = Path(LIBRARY.__file__) if kind == "library" else HERE
    where = str(path), line_of(kind, path)
    reports = []

    async def main():
        # A busy machine may not let the watchdog run while a short one blocks.
        for seconds in (0.1, 0.2, 0.4, 0.8, 1.6):
            await place(loop, lambda: BLOCKERS[kind](seconds))
            if found():
                return

    def found():
        return [report for report in reports
                if report.returned and (report.file, report.line) == where]

    with tidewire.watch(loop, THRESHOLD, reports.append, rate=1000):
        run(loop, main())
    assert found(), [str(report) for report in reports]
    report = found()[0]
    assert report.seconds >= THRESHOLD
    assert any((frame.filename, frame.lineno) == where for frame in report.stack)
    if place is in_task:
        assert report.task == "the worker"
        assert report.coroutine.endswith("in_task.<locals>.work")


# -- no report without a reason -----------------------------------------------

class BusyLoad:
    """Callbacks of any length under the threshold, and quick ones between them.

    Each is measured from the end of the one before it to the begin of the next.  Where a busy
    machine makes one take longer, a report of it is true.
    """

    def __init__(self, threshold):
        self.threshold = threshold
        self.number, self.took, self.reports = 0, {}, []
        self.ended = [0.0, 0.0]     # the last two

    def begins(self, number):
        now = time.perf_counter()
        if now - self.ended[0] >= self.threshold * 0.9:
            self.took[number - 1] = now - self.ended[0]
        return now

    def work(self, share, number):
        start = self.begins(number)
        while time.perf_counter() - start < self.threshold * share:
            pass
        self.ended = [self.ended[1], time.perf_counter()]

    def named(self, share, number):
        def work():
            self.work(share, number)

        work.__qualname__ = f"work_{number}"    # from 3.14 on reports have no arguments
        return work

    async def run(self, seconds):
        loop, end = asyncio.get_running_loop(), time.monotonic() + seconds
        shares = itertools.cycle([0, 0, 0, 0.001, 0.02, 0, 0.3, 0.85, 0, 0.85, 0.01, 0, 0.6])
        self.ended = [time.perf_counter()] * 2
        while time.monotonic() < end:
            for _ in range(200):
                loop.call_soon(int)
            for share in itertools.islice(shares, 7):
                self.number += 1
                loop.call_soon(self.named(share, self.number))
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.begins(self.number + 1)

    def false(self):
        """Reports of a callback that did not take so long by these clocks.

        The quick ones between them have none: none computes for so long."""
        found = []
        for report in self.reports:
            number = re.search(r"work_(\d+)", report.callback)
            if number and report.returned:
                took = self.took.get(int(number[1]), 0)
                if took < report.seconds - self.threshold / 10:
                    found.append(report)
            elif (report.cpu_seconds or 0) >= self.threshold:
                found.append(report)
            if number and report.state in ("computing", "blocked"):
                # None computes for so long, nor sleeps.
                found.append(report)
        return found

    def __str__(self):
        over = [took for took in self.took.values() if took >= self.threshold]
        states = collections.Counter(report.state for report in self.reports)
        unnamed = sum("work" not in report.callback for report in self.reports)
        lines = [f"threshold {self.threshold} s: {self.number} callbacks, {len(over)} of them took "
                 f"longer ({max(over, default=0):.3f} s at most); {len(self.reports)} reports "
                 f"({dict(states)}; {unnamed} not of these); {len(self.false())} of them false"]
        return "\n".join([*lines, *map(repr, self.false())])


def test_busy(loop, pytestconfig):
    """No report but of a callback that did take longer, by the test's clock.

    With --long (and -s -o timeout=4000) an hour of it; with --long=300 five minutes."""
    seconds = pytestconfig.getoption("--long", None) or 1.5
    each = min(seconds / 2, 60)
    loads = [BusyLoad(0.05), BusyLoad(0.5)]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for load in loads:
            with tidewire.watch(loop, load.threshold, load.reports.append, rate=1000):
                run(loop, load.run(each), 4000)
            print(load, flush=True)
    for load in loads:
        assert load.number
        assert not load.false(), [str(report) for report in load.false()]


def test_batch_without_watchdog(loop):
    """A busy machine does not let the watchdog run: a report names the slow callback, not a
    quick one of the same batch; only the first is missed, before the loop knows."""
    reports = []
    loop._watch_begin(0.02, lambda facts: reports.append(facts[0]))

    async def main():
        for number in range(20):
            for _ in range(1500):       # batches of 64 again
                loop.call_soon(id, None)
            loop.call_soon(time.sleep, 0.03)
            for _ in range(100):
                loop.call_soon(id, None)
            await asyncio.sleep(0)

    run(loop, main())
    loop._watch_end(True)
    assert sum(" sleep(" in repr(item) for item in reports) >= 19, reports


def test_batch_of_two_below_the_threshold(loop):
    """Two callbacks of one batch that together take longer are no slow callback."""
    reports, took = [], []
    loop._watch_begin(0.05, lambda facts: reports.append(facts[:3]))

    def work():
        start = time.perf_counter()
        time.sleep(0.04)
        took.append(time.perf_counter() - start)

    async def main():
        for number in range(30):
            for _ in range(1500):
                loop.call_soon(id, None)
            loop.call_soon(work)
            loop.call_soon(work)
            for _ in range(100):
                loop.call_soon(id, None)
            await asyncio.sleep(0)

    run(loop, main())
    loop._watch_end(True)
    assert len(took) == 60
    assert len(reports) <= sum(seconds > 0.045 for seconds in took), reports


WITHOUT_PROCESSOR = """
import asyncio, os, sys, time
import tidewire
cpu = min(os.sched_getaffinity(0))
os.sched_setaffinity(0, {cpu})
hogs = []
for _ in range(3):
    if not (pid := os.fork()):
        while os.getppid() != 1:
            pass
        os._exit(0)
    hogs.append(pid)
reports = []
def work():
    start = time.thread_time()
    while time.thread_time() - start < 0.03:
        pass
async def main():
    loop = asyncio.get_running_loop()
    with tidewire.watch(loop, 0.05, reports.append, rate=1000):
        for _ in range(20):
            loop.call_soon(work)
            await asyncio.sleep(0)
        await asyncio.sleep(0)
tidewire.run(main())
for pid in hogs:
    os.kill(pid, 9)
    os.waitpid(pid, 0)
mine = [report for report in reports if "work" in report.callback]
assert len(mine) >= 5, reports
for report in mine:
    assert report.state == "waiting for a processor", report
    assert report.queued_seconds > report.seconds / 3, report
    assert 0.02 < report.cpu_seconds < 0.045, report
    assert " s without a processor" in str(report)
"""


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="needs schedstat")
def test_without_a_processor():
    """Other programs have the processor: a callback that computes for less than the threshold
    is reported as one that waited for it, whether the watchdog could look or not."""
    done = script(WITHOUT_PROCESSOR)
    assert done.returncode == 0, done.stderr


def test_gil_between_callbacks(loop):
    """A thread keeps the GIL while the loop calls nothing: that is no callback's time."""
    reports = []
    hold = ctypes.PyDLL(None).usleep

    def work():
        while not done.is_set():
            hold(60_000)
            hold(1)
            time.sleep(0.001)

    async def main():
        end = loop.time() + 1.5
        while loop.time() < end:
            for _ in range(50):
                loop.call_soon(id, None)
            await asyncio.sleep(0)

    done = threading.Event()
    thread = threading.Thread(target=work)
    with tidewire.watch(loop, 0.04, reports.append, rate=1000):
        thread.start()
        run(loop, main())
        done.set()
        thread.join()
    assert not [str(report) for report in reports
                if " id(" in report.callback and report.state != "waiting for a processor"]


def test_idle_watchdog_sleeps(loop):
    """While the loop waits its watchdog does not wake up."""
    def switches():
        (thread,) = [t for t in threading.enumerate() if t.name.startswith("tidewire-watch")]
        status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
        return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.MULTILINE)[1])

    async def main():
        counts = []

        def later(n):
            counts.append(switches())
            if n:
                loop.call_later(0.2, later, n - 1)
            else:
                done.set_result(None)

        done = loop.create_future()
        loop.call_later(0.2, later, 3)
        await done
        return min(b - a for a, b in itertools.pairwise(counts))

    with tidewire.watch(loop, 0.02):       # it looks every 2.5 ms of work
        assert run(loop, main()) <= 6


# -- reports ------------------------------------------------------------------

def test_callback_that_does_not_return(loop):
    """It is reported while it blocks, from another thread."""
    reports, go_on = [], threading.Event()

    def handler(report):
        reports.append(report)
        if not report.returned:
            go_on.set()

    def block():
        assert go_on.wait(60)       # here: no-return

    async def main():
        loop.call_soon(block)
        await asyncio.sleep(0.001)

    with tidewire.watch(loop, 0.02, handler, rate=1000):
        run(loop, main())
    first = next(report for report in reports if not report.returned)
    assert (first.file, first.line, first.function) == (__file__, line_of("no-return"), "block")
    assert first.seconds >= 0.2
    assert any(report.returned and "block" in report.callback for report in reports)


def test_cpu_time(loop):
    reports = {}

    def handler(report):
        if report.returned and report.state != "unknown":
            reports.setdefault(report.callback.split("(")[0].split()[-1], report)

    async def main():
        for seconds in (0.1, 0.4, 1.6):
            loop.call_soon(block_by_sleep, seconds)
            loop.call_soon(block_by_computing, seconds)
            await asyncio.sleep(0.001)
            if len(reports) == 2:
                return

    with tidewire.watch(loop, THRESHOLD, handler, rate=1000):
        run(loop, main())
    slept, computed = reports["block_by_sleep"], reports["block_by_computing"]
    assert slept.cpu_seconds < slept.seconds / 2
    assert slept.state != "computing"
    assert computed.cpu_seconds > slept.cpu_seconds
    assert computed.state in ("computing", "waiting for a processor")


def test_gil(loop):
    """Another thread keeps the GIL."""
    reports = []

    def wait_for_gil(seconds):
        thread = threading.Thread(target=ctypes.PyDLL(None).usleep, args=(int(seconds * 1e6),))
        thread.start()
        thread.join()

    async def main():
        for seconds in (0.2, 0.4, 0.8, 1.6):
            loop.call_soon(wait_for_gil, seconds)
            await asyncio.sleep(0.001)
            if any(report.state == "waiting for the GIL" for report in reports):
                return

    with tidewire.watch(loop, THRESHOLD, reports.append, rate=1000):
        run(loop, main())
    assert any(report.state == "waiting for the GIL" for report in reports), reports


async def block_some(loop, n, seconds=0.03):
    for _ in range(n):
        loop.call_soon(time.sleep, seconds)
        await asyncio.sleep(0)
    await asyncio.sleep(0)


def test_log_records(loop, caplog):
    """Without a handler: structured records of the logger "tidewire"."""
    with tidewire.watch(loop, 0.02):
        run(loop, block_some(loop, 1))
    record = next(r for r in caplog.records if r.name == "tidewire")
    assert record.levelno == logging.WARNING
    assert "sleep(" in record.tidewire["callback"]      # 3.14: without the arguments
    assert record.tidewire["loop_id"] == loop.stats()["id"]
    assert json.loads(json.dumps(record.tidewire)) == record.tidewire
    assert "sleep(" in record.getMessage() and " took 0." in record.getMessage()


def test_rate(loop):
    reports = []
    with tidewire.watch(loop, 0.02, reports.append, rate=1e-6, burst=3):
        run(loop, block_some(loop, 6))
    assert len(reports) == 3
    reports.clear()
    with tidewire.watch(loop, 0.02, reports.append, rate=1000, burst=1):
        run(loop, block_some(loop, 6))
    assert sum(1 + report.suppressed for report in reports) >= 6


def test_handler_that_raises(loop, caplog):
    def handler(report):
        raise ZeroDivisionError

    with tidewire.watch(loop, 0.02, handler):
        run(loop, block_some(loop, 2))
    records = [r for r in caplog.records if r.name == "tidewire"]
    assert records and all(r.exc_info[0] is ZeroDivisionError for r in records)


def test_exception_of_the_callback_is_kept(loop):
    reports, contexts = [], []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    def fail():
        time.sleep(0.03)
        raise ZeroDivisionError

    def leave():
        time.sleep(0.03)
        raise SystemExit(3)

    with tidewire.watch(loop, 0.02, reports.append, rate=1000):
        loop.call_soon(fail)
        run(loop, asyncio.sleep(0.001))
        loop.call_soon(leave)
        with pytest.raises(SystemExit, match="3"):
            loop.run_forever()
    assert isinstance(contexts[0]["exception"], ZeroDivisionError)
    assert {"fail", "leave"} <= {name for name in ("fail", "leave")
                                 for report in reports if name in report.callback}


def test_stop(loop):
    reports = []
    watch = tidewire.watch(loop, 0.02, reports.append, rate=1000)
    run(loop, block_some(loop, 1))
    assert reports
    watch.stop()
    watch.stop()
    reports.clear()
    run(loop, block_some(loop, 2))
    assert not reports
    assert not [t for t in threading.enumerate() if t.name.startswith("tidewire-watch")
                and t.is_alive() and t.join(10)]


def test_stop_in_handler(loop):
    reports = []

    def handler(report):
        reports.append(report)
        watch.stop()

    watch = tidewire.watch(loop, 0.02, handler, rate=1000)
    run(loop, block_some(loop, 3))
    assert len(reports) == 1


def test_second_watch_replaces_the_first(loop):
    first, second = [], []
    one = tidewire.watch(loop, 0.02, first.append, rate=1000)
    tidewire.watch(loop, 0.02, second.append, rate=1000)
    one.stop()
    run(loop, block_some(loop, 1))
    assert not first and second


def test_running_loop(loop):
    reports = []

    async def main():
        watch = tidewire.watch(threshold=0.02, handler=reports.append)
        assert watch.loop is loop
        await block_some(loop, 1)

    run(loop, main())
    assert reports
    with pytest.raises(RuntimeError):
        tidewire.watch()


@pytest.mark.parametrize("threshold", [0, -1, float("nan"), float("inf")])
def test_bad_threshold(loop, threshold):
    with pytest.raises(ValueError, match="threshold"):
        tidewire.watch(loop, threshold)


def test_closed(loop):
    watch = tidewire.watch(loop, 0.02)
    run(loop, asyncio.sleep(0))
    loop.close()
    watch.stop()
    with pytest.raises(RuntimeError, match="closed"):
        tidewire.watch(loop)


def test_several_loops():
    """Each report is of the right loop and thread."""
    reports = {}

    def work(number):
        async def main():
            loop = asyncio.get_running_loop()
            loop.name = f"loop of {number}"
            reports[number] = mine = []
            tidewire.watch(loop, 0.02, mine.append, rate=1000)
            for seconds in (0.05, 0.2, 0.8):
                loop.call_soon(globals()["block_by_sleep" if number % 2 else "block_by_lock"],
                               seconds)
                await asyncio.sleep(0.001)
                if any(report.stack for report in mine):
                    break

        tidewire.run(main())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, mine in reports.items():
        assert {report.loop for report in mine} == {f"loop of {number}"}
        line = line_of("sleep" if number % 2 else "lock")
        assert line in [report.line for report in mine]


# -- processes ----------------------------------------------------------------

def script(code, env=None):
    return subprocess.run([sys.executable, "-X", "dev", "-c", code], text=True, timeout=120,
                          capture_output=True, env={**os.environ, **(env or {})})


def test_environment():
    done = script("""if 1:
        import asyncio, time, tidewire
        async def main():
            time.sleep(0.3)
        tidewire.run(main())
    """, {"TIDEWIRE_SLOW": "0.1"})
    assert done.returncode == 0, done.stderr
    assert re.search(r"Callback <Task .*main\(\).* took 0\.\d+ s", done.stderr), done.stderr
    quiet = script("import asyncio, time, tidewire\nasync def main(): time.sleep(0.3)\n"
                   "tidewire.run(main())", {"TIDEWIRE_SLOW": "off"})
    assert (quiet.returncode, "Callback" in quiet.stderr) == (0, False)


def test_fork():
    """A daemon: the loop is made and watched before the fork, and runs in the child."""
    done = script("""if 1:
        import asyncio, os, time, tidewire
        loop = tidewire.new_event_loop()
        reports = []
        tidewire.watch(loop, 0.02, reports.append, rate=1000)
        pid = os.fork()
        if pid:
            loop.close()
            os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        async def main():
            for seconds in (0.1, 0.4, 1.6):
                time.sleep(seconds)
                await asyncio.sleep(0)
                if any(report.stack for report in reports):
                    return
        loop.run_until_complete(main())
        loop.close()
        os._exit(7 if any(report.stack for report in reports) else 1)
    """)
    assert done.returncode == 7, done.stderr


def test_fork_while_it_runs():
    """The child of a watched loop that runs only ends; the parent goes on."""
    done = script("""if 1:
        import asyncio, os, time, tidewire
        async def main():
            reports = []
            tidewire.watch(threshold=0.02, handler=reports.append, rate=1000)
            pid = os.fork()
            if not pid:
                os._exit(3)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
            await asyncio.sleep(0)
            time.sleep(0.1)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert reports
        tidewire.run(main())
    """)
    assert done.returncode == 0, done.stderr


def test_shutdown():
    """The interpreter ends while a watched loop runs, or blocks, in a daemon thread."""
    done = script("""if 1:
        import asyncio, threading, time, tidewire
        async def main():
            tidewire.watch(threshold=0.02)
            began.set()
            while True:
                time.sleep(0.05)
                await asyncio.sleep(0.001)
        began = threading.Event()
        for _ in range(3):
            threading.Thread(target=tidewire.run, args=(main(),), daemon=True).start()
        began.wait()
        time.sleep(0.1)
    """)
    assert done.returncode == 0, done.stderr
    assert "Fatal" not in done.stderr


def test_loop_is_collected():
    """A watch does not keep a loop alive that does not run."""
    done = script("""if 1:
        import asyncio, gc, weakref, tidewire
        loop = tidewire.new_event_loop()
        tidewire.watch(loop)
        loop.run_until_complete(asyncio.sleep(0))
        ref = weakref.ref(loop)
        del loop
        for _ in range(100):
            gc.collect()
            if ref() is None:
                break
            import time
            time.sleep(0.05)
        assert ref() is None
    """)
    assert done.returncode == 0, done.stderr
    assert "unclosed event loop" in done.stderr


# -- probes -------------------------------------------------------------------

def sdt_notes(path):
    """{name: (provider, number of arguments, semaphore)}: the ELF notes of <sys/sdt.h>."""
    data = Path(path).read_bytes()
    assert data[:5] == b"\x7fELF\x02", "64 bits"
    (at,), (size, n) = struct.unpack_from("<Q", data, 0x28), struct.unpack_from("<HH", data, 0x3A)
    found = {}
    for i in range(n):
        kind, start, length = struct.unpack_from("<4xI16xQQ", data, at + i * size)
        end = start + length
        while kind == 7 and start + 12 <= end:      # SHT_NOTE
            name_size, note_size, number = struct.unpack_from("<3I", data, start)
            note = start + 12 + (name_size + 3) // 4 * 4
            start = note + (note_size + 3) // 4 * 4
            if number == 3 and data[note - 8:note] == b"stapsdt\0":
                (semaphore,) = struct.unpack_from("<Q", data, note + 16)
                provider, name, arguments, _ = data[note + 24:note + note_size].split(b"\0", 3)
                found.setdefault(name.decode(), set()).add(
                    (provider.decode(), len(arguments.split()), semaphore))
    return found


PROBES = {"turn": 3, "callback__begin": 2, "callback__end": 2, "read": 2, "write": 2, "accept": 2}

needs_probes = pytest.mark.skipif(not list(Path("/usr/include").glob("**/sys/sdt.h")),
                                  reason="no <sys/sdt.h>: apt-get install systemtap-sdt-dev")


@needs_probes
def test_probes():
    """A build that found <sys/sdt.h> has the probes of docs/observability.rst, which no tracer
    has to enable before the program runs."""
    found = sdt_notes(tidewire._core.__file__)
    assert found == {name: {("tidewire", n, 0)} for name, n in PROBES.items()}


def test_probes_are_documented():
    """Each probe, and no other one in the recipes; nor more arguments than it has."""
    text = (HERE.parents[2] / "docs" / "observability.rst").read_text()
    assert set(re.findall(r"^``tidewire:(\w+)``", text, re.MULTILINE)) == PROBES.keys()
    recipes = re.findall(r"(?:usdt:\$so:tidewire|sdt_tidewire):(\w+)(.*)", text)
    assert {"turn", "callback__begin", "callback__end", "read"} <= {name for name, _ in recipes}
    for name, rest in recipes:
        used = [int(number) for number in re.findall(r"arg(\d)", rest)]
        assert max(used, default=0) < PROBES[name], (name, rest)


PROBED = """
import asyncio, socket
import tidewire
async def main():
    loop = asyncio.get_running_loop()
    a, b = socket.socketpair()
    b.send(b"x" * 77)
    reader, writer = await asyncio.open_connection(sock=a)
    await reader.readexactly(77)
    writer.write(b"y" * 55)
    await asyncio.sleep(0)
    writer.close()
    b.close()
tidewire.run(main())
"""


@needs_probes
@pytest.mark.skipif(not shutil.which("gdb"), reason="needs gdb")
@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="gdb does not run under ASan")
@pytest.mark.parametrize("name, value", [("read", 77), ("write", 55)])
def test_a_probe_is_reached(name, value):
    """gdb stops there, and reads the arguments."""
    commands = ["set breakpoint pending on", f"break -probe-stap tidewire:{name}", "run",
                "print $_probe_argc", "print (long)$_probe_arg1"]
    done = subprocess.run(
        ["gdb", "-q", "-nx", "-batch", *itertools.chain(*(("-ex", line) for line in commands)),
         "--args", sys.executable, "-c", PROBED], text=True, timeout=120, capture_output=True)
    if "ptrace" in done.stderr:
        pytest.skip("gdb may not trace")
    assert re.findall(r"^\$\d = (\d+)", done.stdout, re.MULTILINE) == ["2", str(value)], done
