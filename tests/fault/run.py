"""Faults in turn: each call of each program fails, with each error that it may have.

    python tests/fault/run.py [--kinds once,always,...] [--programs tcp,udp] [--jobs 2]
    python tests/fault/run.py --case "tcp once recv #3 ENOMEM" [--loop stock]

Kinds:

    once     the nth call fails, once            always   all calls from the nth on fail
    cut      the nth call moves few bytes        late     the nth call comes late
    short    all calls move few bytes            chance   each call fails by chance
    limit    few descriptors are free            signals  a signal comes all the time
    nomem    the nth allocation of Python's fails (_testcapi.set_nomemory)
    malloc   the nth malloc() of the extension, libuv or OpenSSL fails

What is wrong on this loop is tried on the stock loop; what is wrong there in the same way is "as
stock", and not counted.  A line begins with WRONG for each different thing; the exit status is 1 then.
"""
import argparse
import collections
import gc
import json
import multiprocessing
import os
import pathlib
import re
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from fault import benign, judge, plan, programs, shim  # noqa: E402

# How many allocations a program makes at most, by the thousand: more points add nothing.
ALLOCATIONS = {"nomem": 2500, "malloc": 400}
POLLER = os.environ.get("TIDEWIRE_POLLER", "")


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loop", default="tidewire")
    parser.add_argument("--programs", default="")
    parser.add_argument("--kinds", default=",".join(plan.KINDS))
    parser.add_argument("--calls", default="", help="only faults of these calls")
    parser.add_argument("--most", type=int, default=9, help="so many calls of each kind, at most")
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--allocations", type=int, default=120, help="so many points of each")
    parser.add_argument("--sample", type=int, default=0, help="only so many faults, the same ones")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--case", action="append", default=[],
                        help="one fault, as its text says, and all about it; more than once: some")
    parser.add_argument("--log", help="a file for each result, as JSON; a run goes on where it ended")
    return parser.parse_args()


SHORTER = [re.compile(pattern, re.S) for pattern in (
    r"^((double-close|use-after-close|close-of-nothing) \w+).*",
    r"^((stalled: it|odd|reported|unraisable) \w+).*",
    r"^(stuck|the loop is broken afterwards).*")]


def class_of(line):
    """What is wrong, without its details: for a comparison, and to show it once."""
    if line.startswith("leaked "):
        line = "leaked " + ", ".join(sorted(set(line[7:].split(", "))))
    for short in SHORTER:
        line = short.sub(r"\1", line)
    return re.sub(r"0x[0-9a-f]+|\d+", "N", line)[:300]


class Comparison:
    """What the stock loop does with the same fault, asked once for each."""

    def __init__(self, noise):
        self.noise, self.known = noise, {}

    def cases(self, case):
        if case.kind in ("once", "always", "cut", "late"):
            return [plan.Case(case.program, case.kind, case.call, n, case.value) for n in range(1, 7)]
        if case.kind == "nomem":
            near = range(max(1, case.nth - 30), case.nth + 30, 3)
            return [plan.Case(case.program, case.kind, nth=n) for n in (*range(1, 600, 10), *near)]
        if case.kind == "malloc":
            return [plan.Case(case.program, case.kind, nth=n) for n in range(1, 40)]
        return [case]

    def of(self, case):
        """The kinds of wrong, and the outcomes, on the stock loop."""
        key = case.program, case.kind, case.call, case.value, {
            "chance": case.nth, "nomem": case.nth // 30}.get(case.kind)
        if key not in self.known:
            wrong, outcomes = set(), set()
            for other in self.cases(case):
                result = judge.run(other, "stock", self.noise)
                wrong |= {class_of(line) for line in result["bad"]}
                outcomes.add(result["outcome"])
            self.known[key] = wrong, outcomes
        return self.known[key]


def has_expected_error(case, result):
    """Is the outcome one that this fault explains?  If not, the stock loop is asked."""
    if case.kind not in ("once", "always"):
        return True
    name = plan.errno.errorcode[case.value]
    # The other end of a connection that was closed for the error sees a reset, or an end.
    return result["outcome"] in ("ok", f"raised OSError({name})", "raised ConnectionError",
                                 "raised ConnectionResetError", "raised OSError(ECONNRESET)")


class Worker:
    """Runs cases one by one, each in a child of its own."""

    def __init__(self, target):
        self.target = target
        self.noise = tempfile.TemporaryFile(mode="w+")
        self.stock = Comparison(self.noise)

    def run(self, case):
        result = judge.run(case, self.target, self.noise)
        if any(line.startswith(("stalled", "stuck", "hang")) for line in result["bad"]):
            result = judge.run(case, self.target, self.noise, patience=6)      # a busy machine?
        result["wrong"], result["excused"] = [], []
        for line in result["bad"]:
            reason = benign.why(case, line)
            if reason is None and self.target != "stock" and class_of(line) in self.stock.of(case)[0]:
                reason = "as stock"
            result["excused" if reason else "wrong"].append(reason or line)
        if self.target != "stock" and not has_expected_error(case, result):
            self.compare_outcome(case, result)
        return case, result

    def compare_outcome(self, case, result):
        outcome = result["outcome"]
        if not outcome.startswith("raised"):
            return
        expected = self.stock.of(case)[1]
        if outcome not in expected:
            line = f"another error than on the stock loop: {outcome}, not one of {sorted(expected)}"
            reason = benign.why(case, line)
            result["excused" if reason else "wrong"].append(reason or line)


worker = None


def run_case(case):
    return worker.run(case)


def baseline(program, target, noise):
    """How often each call is made when nothing fails."""
    result = judge.run(plan.Case(program, "none"), target, noise, tuple(plan.ERRORS))
    wrong = [line for line in result["bad"] if benign.why(program, line) is None]
    if result["outcome"] != "ok" or wrong:
        print(f"WRONG {program}: without any fault: {result['outcome']} {wrong}", flush=True)
    counts = {}
    for call, by_whom in result.get("counts", {}).items():
        who = plan.who_calls(call, target)
        counts[call] = sum(n for w, n in by_whom.items() if int(w) & who)
    return counts


def cases_of(options, noise):
    wanted = options.programs.split(",") if options.programs else list(programs.PROGRAMS)
    kinds = set(options.kinds.split(","))
    calls = set(filter(None, options.calls.split(",")))
    allocations = {kind: n for kind, n in ALLOCATIONS.items()
                   if kind == "nomem" or judge.SHIM.memory is not None}
    for program in wanted:
        counts = baseline(program, options.loop, noise)
        for case in plan.calls_of(program, counts, options.most):
            if case.kind in kinds and (not calls or case.call in calls):
                yield case
        for case in plan.others_of(program, options.seeds, allocations, options.allocations):
            if case.kind in kinds:
                yield case


class Tally:
    def __init__(self, log):
        self.injected = self.runs = 0
        self.outcomes = collections.Counter()
        self.excused = collections.Counter()
        self.wrong = {}
        self.log = open(log, "a+") if log else None
        self.start = time.monotonic()

    def known(self):
        """Count what the log has; which cases these are."""
        if not self.log:
            return set()
        self.log.seek(0)
        results = [result for result in map(json.loads, self.log) if result["poller"] == POLLER]
        for result in results:
            self.count(plan.Case.parse(result["case"]), result)
        return {result["case"] for result in results}

    def add(self, case, result):
        self.count(case, result)
        if self.log:
            self.log.write(json.dumps({"case": str(case), "poller": POLLER, **result}) + "\n")
            self.log.flush()

    def count(self, case, result):
        self.runs += 1
        self.injected += 1 if case.kind in ("limit", "signals", "nomem", "short") else min(
            result.get("fired", 1), 1)
        self.outcomes[result["outcome"]] += 1
        self.excused.update(result["excused"])
        for line in result["wrong"]:
            key = case.program, case.kind, case.call, case.value if case.call else 0, class_of(line)
            if key not in self.wrong:
                self.wrong[key] = case
                text = f"WRONG {case}: {line[:700]} {result.get('text', '')[-400:]}"
                print(text.rstrip(), flush=True)

    def end(self):
        print(f"\n{self.runs} runs in {time.monotonic() - self.start:.0f} s:")
        for outcome, n in self.outcomes.most_common():
            print(f"    {n:6} {outcome}")
        for reason, n in self.excused.most_common():
            print(f"    {n:6} not counted: {reason}")
        print(f"{self.injected} faults injected, {len(self.wrong)} findings")
        return 1 if self.wrong else 0


def prepare(target):
    """What is made once in a process is made before anything is counted."""
    programs.load()
    from fault import programs_streams
    programs_streams.contexts()
    import encodings.idna  # noqa: F401
    for name in {target, "stock"}:
        import asyncio
        loop = judge.support.factory(name)()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    judge.SHIM.scan()
    gc.collect()
    gc.freeze()


def main():
    global worker
    options = arguments()
    if shim.INSIDE not in os.environ:
        is_sanitized = judge.support.is_sanitized()
        shim.start_again(["fault.so"] if is_sanitized else ["fault.so", "nomalloc.so"])
    os.environ.pop("LD_PRELOAD", None)      # not for children
    prepare(options.loop)
    worker = Worker(options.loop)
    tally = Tally(options.log)
    if options.case:
        results = {text: run_case(plan.Case.parse(text))[1] for text in options.case}
        print(json.dumps(results, indent=1))
        return 1 if any(result["wrong"] for result in results.values()) else 0
    cases = list(cases_of(options, worker.noise))
    if options.sample:
        cases = plan.sample(cases, options.sample, 1)
    known = tally.known()
    cases = [case for case in cases if str(case) not in known]
    print(f"{len(cases)} faults, {options.jobs} at a time", flush=True)
    with multiprocessing.get_context("fork").Pool(
            options.jobs, lambda: globals().update(worker=Worker(options.loop))) as pool:
        for case, result in pool.imap_unordered(run_case, cases, chunksize=20):
            tally.add(case, result)
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
