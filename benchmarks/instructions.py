#!/usr/bin/env python3
"""Instructions per message or operation, by callgrind: ``instructions.py CASES [--loops NAMES]``,
or ``instructions.py --close RESULTS.json``: of the cases in which tidewire is within 15 %
of what is wanted there, and into that file, from which report.py takes them.

Each loop does a few and then more of the same; the difference of what callgrind
counted, by the difference of the operations. Python and the loop, user space
only: the kernel's part is not in it, nor are cache misses. Stable on a busy
machine, where times are not; and slow, a minute a case.
"""
import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

from tide_bench import build, case, loops, rounds, verdict

FEW, MORE = 200, 600
VALGRIND = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]


def collected(process):
    """What callgrind says at the process's end."""
    said = process.communicate(timeout=120)[1]
    return int(re.search(r"Collected : (\d+)", said).group(1))


def run(this, spec, count):
    """(operations, instructions) of one run."""
    server, load = rounds.cores()
    with tempfile.TemporaryDirectory(prefix="tide-bench-") as directory:
        options = {"seconds": 0, "warm": 0, "batches": count // FEW, "core": server,
                   "malloc": "settled", "cores": (server, load), "directory": directory}
        command = [*VALGRIND, sys.executable, "-m", "tide_bench.child", this.name, spec.factory,
                   json.dumps(options)]
        process = subprocess.Popen(command, env=spec.environ(), text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        line = process.stdout.readline()
        if not line:
            raise rounds.SampleFailed(process.communicate()[1].strip().splitlines()[-1])
        said = json.loads(line)
        if not this.server:
            return said["ops"], collected(process)
        address = ["--port", said["port"]] if "port" in said else ["--unix", said["unix"]]
        subprocess.run([str(c) for c in (build.program("load"), *this.load, *address,
                                         "--warm", 0, "--count", count)],
                       check=True, stdout=subprocess.DEVNULL, timeout=300)
        process.send_signal(signal.SIGTERM)
        return count, collected(process)


def per_operation(this, spec):
    few_ops, few = run(this, spec, FEW)
    more_ops, more = run(this, spec, MORE)
    return (more - few) / (more_ops - few_ops)


def counted(this, specs):
    """{loop: instructions per operation}, printed as they come."""
    counts = {}
    for spec in specs:
        if not spec.factory or not rounds.takes(this, spec):
            continue
        try:
            counts[spec.name] = per_operation(this, spec)
            print(f"{this.name:32} {spec.name:12} {counts[spec.name]:12,.0f}", flush=True)
        except (rounds.SampleFailed, subprocess.SubprocessError) as exc:
            print(f"{this.name:32} {spec.name:12} {exc}"[:120], flush=True)
    return counts


def into(path, specs, ours="tidewire"):
    results = json.loads(path.read_text())
    for name, result in results["cases"].items():
        this = case.REGISTRY.get(name)
        if this and countable(this) and verdict.close(result, ours):
            result["instructions"] = counted(this, specs)
            part = path.with_suffix(".part")
            part.write_text(json.dumps(results, indent=1))
            os.replace(part, path)


def countable(this):
    """wrk cannot send a given number of requests; children and bytes are not counted so."""
    return this.load[:1] != ("wrk",) and this.clock == "cpu" and not this.name.startswith(
        ("memory/", "process/", "import", "wheel"))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="?", help="globs and groups, as run.py's --cases")
    parser.add_argument("--loops", default="stock,uvloop,tidewire")
    parser.add_argument("--close", metavar="FILE", type=pathlib.Path, help="results of run.py")
    args = parser.parse_args(argv)
    if bool(args.cases) == bool(args.close):
        parser.error("either cases or --close")
    specs = [loops.parse(name) for name in args.loops.split(",")]
    chosen = case.select(args.cases)
    if args.close:
        into(args.close, specs)
        return 0
    for this in filter(countable, chosen):
        counted(this, specs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
