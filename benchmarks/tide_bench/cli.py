"""The command line: which cases, which loops, how long; results and tables."""
import argparse
import json
import os
import signal
import sys
import time

from . import build, loops, machine, rounds, table, verdict
from . import case as cases

DEFAULT_LOOPS = "stock,uvloop,tidewire,aiofastnet,rloop,rsloop,zuvloop,floor"
TOLD = ("title", "clock", "unit", "main", "targets", "limit", "conns")


def parser():
    p = argparse.ArgumentParser(prog="run.py", description="Event loops, side by side.")
    p.add_argument("--cases", metavar="CASES", help="globs (see --list) or "
                   f"main, rest, all, {', '.join(cases.GROUPS)}; comma-separated")
    p.add_argument("--all", action="store_true", help="the whole matrix, not only the main cases")
    p.add_argument("--loops", default=DEFAULT_LOOPS,
                   help="names, or name=module:callable[@path], comma-separated")
    p.add_argument("--base", default="uvloop", help="the loop that ratios refer to")
    p.add_argument("--ours", default="tidewire", help="the loop that has to reach the targets")
    p.add_argument("--rounds", type=int, default=6)
    p.add_argument("--settle", type=int, nargs="?", const=verdict.PAIRS, default=0,
                   metavar="ROUNDS", help="then more rounds, up to so many (%(const)s), of the "
                   "cases that are within 15 %% of what is wanted")
    p.add_argument("--seconds", type=float, default=0.3, help="of each sample")
    p.add_argument("--warm", type=float, default=0.1, help="seconds before it is counted")
    p.add_argument("--malloc", choices=["settled", "fresh"], default="settled",
                   help="glibc's state: as in a service, or as in a new small program")
    p.add_argument("--json", metavar="FILE", help="write the results here after every case")
    p.add_argument("--table", choices=["plain", "rst"], default="plain")
    p.add_argument("--details", action="store_true", help="throughput, latency, spread, memory")
    p.add_argument("--list", action="store_true", help="list the cases and end")
    return p


def usable(texts):
    """The loops that are here, and a line for each that is not."""
    specs, versions = [], {}
    for text in texts.split(","):
        spec = loops.parse(text)
        told, why = loops.probe(spec)
        if why:
            print(f"without {spec.name}: {why}", file=sys.stderr)
            continue
        specs.append(spec)
        versions[spec.name] = told
    return specs, versions


class Progress:
    """One line on a terminal; a line per case elsewhere."""

    def __init__(self):
        self.at = self.phase = ""
        self.live = sys.stderr.isatty()

    def __call__(self, case, spec, turn, trouble=None):
        if trouble:
            print(f"{chr(13) if self.live else ''}{case.name} on {spec.name}: {trouble[:150]}",
                  file=sys.stderr)
        elif self.live:
            print(f"\r{self.phase} {self.at} {case.name} round {turn + 1} {spec.name}\x1b[K",
                  end="", file=sys.stderr, flush=True)

    def each(self, phase, entries):
        """The entries, and a line when one is done."""
        self.phase = phase
        for number, entry in enumerate(entries, 1):
            self.at = f"[{number}/{len(entries)}]"
            began = time.monotonic()
            yield entry
            if not self.live:
                print(f"{phase} {self.at} {entry[0].name} {time.monotonic() - began:.0f} s",
                      file=sys.stderr, flush=True)
        if self.live:
            print("\r\x1b[K", end="", file=sys.stderr)


def describe(versions, args):
    return {
        **machine.describe(), "command": machine.command(sys.argv, args.json),
        "rounds": args.rounds, "settle": args.settle, "seconds": args.seconds,
        "warm": args.warm, "malloc": args.malloc, "base": args.base, "ours": args.ours,
        "loops": {name: told["version"] for name, told in versions.items()},
        "builds": versions, "cases": {},
    }


def save(results, path):
    results["ended"] = machine.moment()
    if path:
        with open(path + ".part", "w") as out:
            json.dump(results, out, indent=1)
        os.replace(path + ".part", path)


class Run:
    """All cases; first as many rounds as are asked for, then more for the close ones."""

    def __init__(self, chosen, specs, args, results):
        server, load = rounds.cores()
        options = {"seconds": args.seconds, "warm": args.warm, "core": server,
                   "cores": (server, load), "malloc": args.malloc}
        self.args, self.results, self.progress = args, results, Progress()
        self.samples = [rounds.Samples(case, specs, options, self.progress) for case in chosen]

    def record(self, samples):
        case = samples.case
        told = {key: getattr(case, key) for key in TOLD}
        self.results["cases"][case.name] = dict(
            told, samples=samples.result(), failed=samples.failed)
        save(self.results, self.args.json)

    def first(self):
        entries = [(s.case, s) for s in self.samples]
        for case, samples in self.progress.each("", entries):
            samples.play(range(min(self.args.rounds, case.rounds or self.args.rounds)))
            self.record(samples)

    def settle(self):
        """A fixed number of rounds: to stop when a row is reached would favour it."""
        entries = []
        for samples in self.samples:
            close = verdict.close(self.results["cases"][samples.case.name], self.args.ours)
            if close and not samples.case.rounds:
                entries.append((samples.case, samples, {self.args.ours, *close}))
        for _, samples, names in self.progress.each("settle", entries):
            samples.play(range(self.args.rounds, self.args.settle), names)
            self.record(samples)


def show(results, args):
    form = getattr(table, args.table)
    print(form(*table.rows(results, args.base, args.ours)))
    for line in table.below(results, args.ours):
        print(line)
    if not args.details:
        return
    head = ["case", "loop", *table.DETAILS]
    body = []
    for result in results["cases"].values():
        for loop in result["samples"]:
            d = table.details(result, loop)
            body.append([result["title"], loop, *table.words(d)])
    print(form(head, body))


def main(argv=None):
    args = parser().parse_args(argv)
    chosen = cases.select(args.cases, args.all)
    if args.list:
        for case in chosen:
            print(f"{case.name:34} {case.title}{'' if case.main else '  (--all)'}")
        return 0
    if not chosen:
        print("no such case", file=sys.stderr)
        return 2
    try:
        build.program("load")
        build.certificate()
        specs, versions = usable(args.loops)
    except (build.Unbuildable, ValueError) as exc:
        print(exc, file=sys.stderr)
        return 2
    results = describe(versions, args)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run = Run(chosen, specs, args, results)
    try:
        run.first()
        if args.settle > args.rounds:
            run.settle()
    except KeyboardInterrupt:
        print("interrupted; what is done:", file=sys.stderr)
    print(machine.circumstances(results))
    show(results, args)
    return 0
