"""Places that call something that can fail: there it fails once more, within the suite's own tests.

    python tests/coverage/places.py [--jobs 12] [--seconds 0.3]

A part of make coverage, after sites.py, which has the words and the build.  The programs there do
not use all of the extension; the tests do.  A place is here the call and the one that led to it.
Those count that stand before a branch that was not taken so far.  By the record of the suite's run
(trace.jsonl) some quick tests are chosen that pass them; each is run once to see which it passes,
and then once for each that has not failed before.  Such a test may fail, and may be stopped by its
timeout: the loop reports an error, and what the test waits for never comes.  It may not crash.
"""
import argparse
import contextlib
import fcntl
import heapq
import importlib.metadata
import json
import math
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import time

import pytest
import report
import sites

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "coverage"
ROOMS = "core", "net", "ops", "tls", "parity", "operate"
LOW = (1 << 21) - 1
BEFORE = 5      # a call's result is looked at so many lines below it, at most
LIMIT = 4       # seconds for a test in which something fails
PATIENCE = 90   # then it hangs


def lines_of(addresses):
    """{address: (file, line)} of the extension that counts."""
    extension = next((BUILD / "lib" / "tidewire").glob("_core*.so"))
    told = subprocess.run(["addr2line", "-e", str(extension)], capture_output=True, text=True,
                          input="".join(f"{address - 1:#x}\n" for address in addresses)).stdout
    found = {}
    for address, line in zip(addresses, told.splitlines()):
        match = re.match(r".*?(csrc/\S+):(\d+)", line)
        if match:
            found[address] = match[1], int(match[2])
    return found


def wanted_lines():
    """Those in front of a branch that was not taken, where the condition ran."""
    return {(file, number - back) for file, lines in report.read().items()
            for number, (count, branches, _) in lines.items() if count and 0 in branches.values()
            for back in range(BEFORE)}


def choose(seconds, wanted):
    """Names of tests that run all blocks of these lines that any test as quick runs; the most useful
    first."""
    records = []
    for line in open(BUILD / "trace.jsonl"):
        name, took, passed, ran = json.loads(line)
        if passed and took <= seconds and "0x" not in name and name.split("/")[1] in ROOMS:
            records.append((name, took, ran))
    where = lines_of(sorted(set().union(*(ran for _, _, ran in records))))
    number = {block: bit for bit, block in enumerate(b for b, line in where.items() if line in wanted)}
    ran_by = {name: sum(1 << number[block] for block in set(ran) if block in number)
              for name, _, ran in records}
    cost = {name: 0.1 + took for name, took, _ in records}
    chosen, left = [], (1 << len(number)) - 1
    # What a test adds only shrinks: so one that was the best by what it added once is asked again.
    waiting = [(-math.inf, name) for name in ran_by]
    while left:
        _, name = heapq.heappop(waiting)
        use = -(ran_by[name] & left).bit_count() / cost[name]
        if waiting and use > waiting[0][0]:
            heapq.heappush(waiting, (use, name))
        else:
            chosen.append(name)
            left &= ~ran_by[name]
    return chosen


class Arm:
    """A plugin: notes, or lets fail, while a test runs."""

    def __init__(self, place):
        self.place = place

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item):
        with open(os.environ["TW_SITES"], "r+b") as file:
            armed = sites.Sites(file)
        armed.arm(self.place)
        yield
        armed.lib.tw_site_disarm()


def child(name, place):
    os.setsid()
    os.chdir(ROOT)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    status = pytest.main(
        ["-q", "-p", "no:cacheprovider", "-o", f"timeout={LIMIT}",
         "-W", "ignore::pytest.PytestAssertRewriteWarning", name], plugins=[Arm(place)])
    os._exit(int(status))


def run(name, place=0):
    """How it ended: a status, or "hang"."""
    pid = os.fork()
    if pid == 0:
        child(name, place)
    pidfd = os.pidfd_open(pid)
    ended = select.select([pidfd], [], [], PATIENCE)[0]
    os.close(pidfd)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)      # and what it left behind
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status) if ended else "hang"


def is_new(place):
    """Nobody has tried it: now somebody does."""
    with open(sites.TRIED, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        line = f"{place & sites.TWO:x}\n"
        if line in file.readlines():
            return False
        file.write(line)
        return True


def of_wanted(places, wanted):
    """Those whose call, or the one that led to it, stands in such a line."""
    calls = {place: (place & LOW, place >> 21 & LOW) for place in places}
    where = lines_of(sorted(set().union(*calls.values())))
    return [place for place, pair in calls.items() if any(where.get(call) in wanted for call in pair)]


def work(names, wanted):
    """In a process of its own, with a table of places of its own, which its tests fill."""
    file = open(os.environ["TW_SITES"], "rb")
    known, bad = set(), 0
    for name in names:
        run(name)
        file.seek(0)
        here = {int.from_bytes(word, "little") for word in iter(lambda: file.read(8), b"")} - known
        known |= here
        for place in of_wanted(here - {0}, wanted):
            if is_new(place):
                how = run(name, place)
                if how == "hang" or how < 0:
                    bad += 1
                    print(f"{how}: {name} {sites.where(place)}", flush=True)
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=6 * (os.cpu_count() or 1), help="they wait much")
    parser.add_argument("--seconds", type=float, default=0.3, help="how quick a test has to be")
    options = parser.parse_args()
    for entry in importlib.metadata.entry_points(group="pytest11"):
        entry.load()
    wanted = wanted_lines()
    names = choose(options.seconds, wanted)
    print(f"{len(names)} tests", flush=True)
    start, pids = time.monotonic(), []
    for number in range(options.jobs):
        pid = os.fork()
        if pid == 0:
            table = BUILD / f"places-{number}"
            table.write_bytes(bytes(sites.SITES * 8))
            os.environ["TW_SITES"] = str(table)
            os._exit(min(work(names[number::options.jobs], wanted), 100))
        pids.append(pid)
    bad = sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)
    print(f"{len(sites.TRIED.read_text().split())} places failed once, "
          f"in {time.monotonic() - start:.0f} s; {bad} crashes and hangs")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
