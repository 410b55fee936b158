"""The command line: which cases, which loops, how long; results and tables."""
import argparse
import datetime
import json
import os
import platform
import signal
import ssl
import subprocess
import sys
import time

from . import ROOT, build, loops, rounds, table
from . import case as cases

DEFAULT_LOOPS = "stock,uvloop,tidewire,aiofastnet,rloop,zuvloop,floor"
TOLD = ("title", "clock", "unit", "main", "targets", "limit")


def parser():
    p = argparse.ArgumentParser(prog="run.py", description="Event loops, side by side.")
    p.add_argument("--cases", help="globs, comma-separated (see --list)")
    p.add_argument("--all", action="store_true", help="the whole matrix, not only the main cases")
    p.add_argument("--loops", default=DEFAULT_LOOPS,
                   help="names, or name=module:callable[@path], comma-separated")
    p.add_argument("--base", default="uvloop", help="the loop that ratios refer to")
    p.add_argument("--ours", default="tidewire", help="the loop that has to reach the targets")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=1.0, help="of each sample")
    p.add_argument("--warm", type=float, default=0.2, help="seconds before a load is counted")
    p.add_argument("--malloc", choices=["fresh", "settled", "natural"], default="fresh",
                   help="glibc's state: as in a new small program, or as after a large free")
    p.add_argument("--json", metavar="FILE", help="write the results here after every case")
    p.add_argument("--table", choices=["plain", "rst"], default="plain")
    p.add_argument("--details", action="store_true", help="throughput, latency, spread, memory")
    p.add_argument("--list", action="store_true", help="list the cases and end")
    return p


def cpu_model():
    try:
        with open("/proc/cpuinfo") as info:
            return next((line.split(":", 1)[1].strip() for line in info
                         if line.startswith("model name")), platform.machine())
    except OSError:
        return platform.machine()


def commit():
    done = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"],
                          capture_output=True, text=True)
    return done.stdout.strip()


def usable(texts):
    """The loops that are here, and a line for each that is not."""
    specs, versions = [], {}
    for text in texts.split(","):
        spec = loops.parse(text)
        version, why = loops.probe(spec)
        if why:
            print(f"without {spec.name}: {why}", file=sys.stderr)
            continue
        specs.append(spec)
        versions[spec.name] = version
    return specs, versions


class Progress:
    """One line on a terminal; a line per case elsewhere."""

    def __init__(self, total, count):
        self.total, self.count, self.at = total, count, 0
        self.live = sys.stderr.isatty()

    def __call__(self, case, spec, turn, trouble=None):
        if trouble:
            print(f"{chr(13) if self.live else ''}{case.name} on {spec.name}: {trouble[:150]}",
                  file=sys.stderr)
        elif self.live:
            print(f"\r[{self.at}/{self.total}] {case.name} round {turn + 1}/{self.count} "
                  f"{spec.name}\x1b[K", end="", file=sys.stderr, flush=True)

    def done(self, case, took):
        if not self.live:
            print(f"[{self.at}/{self.total}] {case.name} {took:.0f} s",
                  file=sys.stderr, flush=True)

    def end(self):
        if self.live:
            print("\r\x1b[K", end="", file=sys.stderr)


def describe(versions, args):
    return {
        "date": datetime.date.today().isoformat(), "commit": commit(),
        "command": "benchmarks/run.py " + " ".join(
            os.path.basename(a) if a == args.json else a for a in sys.argv[1:]),
        "python": platform.python_version(), "machine": cpu_model(),
        "cores": os.cpu_count(), "system": platform.release(),
        "openssl": ssl.OPENSSL_VERSION, "rounds": args.rounds, "seconds": args.seconds,
        "malloc": args.malloc, "base": args.base, "ours": args.ours, "loops": versions,
        "cases": {},
    }


def run_cases(chosen, specs, args, results, progress):
    server, load = rounds.cores()
    options = {"seconds": args.seconds, "warm": args.warm, "core": server,
               "cores": (server, load), "malloc": args.malloc}
    for number, case in enumerate(chosen, 1):
        progress.at = number
        began = time.monotonic()
        samples, failed = rounds.rounds(case, specs, args.rounds, options, progress)
        told = {key: getattr(case, key) for key in TOLD}
        results["cases"][case.name] = dict(told, samples=samples, failed=failed)
        progress.done(case, time.monotonic() - began)
        if args.json:
            with open(args.json + ".part", "w") as out:
                json.dump(results, out, indent=1)
            os.replace(args.json + ".part", args.json)


def show(results, args):
    form = getattr(table, args.table)
    print(form(*table.rows(results, args.base, args.ours)))
    for title, base, ratio in table.below(results, args.ours):
        print(f"below {base}: {title}, {ratio:.2f}x")
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
    progress = Progress(len(chosen), args.rounds)
    try:
        run_cases(chosen, specs, args, results, progress)
    except KeyboardInterrupt:
        print("interrupted; what is done:", file=sys.stderr)
    progress.end()
    show(results, args)
    return 0
