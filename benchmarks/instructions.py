#!/usr/bin/env python3
"""Instructions per message or operation, by callgrind: ``instructions.py CASES [LOOPS]``.

Each loop does a few and then more of the same; the difference of what callgrind
counted, by the difference of the operations. Python and the loop, user space
only: the kernel's part is not in it, nor are cache misses. Stable on a busy
machine, where times are not; and slow, a minute a case.
"""
import json
import re
import signal
import subprocess
import sys
import tempfile

from tide_bench import build, case, loops, rounds

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
        options = {"seconds": 0, "batches": count // FEW, "core": server, "malloc": "natural",
                   "cores": (server, load), "directory": directory}
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


def main(argv):
    if not argv:
        print(__doc__, file=sys.stderr)
        return 2
    names = argv[1] if len(argv) > 1 else "stock,uvloop,tidewire"
    specs = [spec for spec in map(loops.parse, names.split(",")) if spec.factory]
    for this in case.select(argv[0]):
        if this.load[:1] == ("wrk",):
            continue    # it cannot send a given number of requests
        for spec in specs:
            try:
                print(f"{this.name:32} {spec.name:12} {per_operation(this, spec):12,.0f}",
                      flush=True)
            except rounds.SampleFailed as exc:
                print(f"{this.name:32} {spec.name:12} {exc}"[:120], flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
