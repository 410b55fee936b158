#!/usr/bin/env python3
"""Instructions per operation, and readings of the clock, by callgrind, for what they cost
that a loop measures itself: ``cost.py CASES [--loops NAMES]``.

``bare`` is a build of this tree that measures nothing; it is made when it is first needed, in
benchmarks/build/bare. ``armed`` has the watchdog of tidewire.watch(). Other loops and cases can
be compared, too, as with run.py. What Python and the loop do in user space is counted. The
clock is slowed down as the program is (load/clock.c), so that the loop decides nearly as it
does without callgrind. Readings are counted apart, in brackets, since each costs some 20 ns;
behind them those of the clock of ticks, of 4 ns each.
Run it on a quiet machine: callbacks that are interrupted are timed more often.
"""
import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from tide_bench import BUILD, ROOT, build, case, loops

CASES = "tcp/protocol/1KiB,tcp/streams/1KiB,tls/protocol/1KiB,sched/call_soon/chain,tasks/sleep0"
ARMED = loops.LoopSpec("armed", "tide_bench.counted:armed", loops.KNOWN["tidewire"].path)


def bare():
    """A build that measures nothing."""
    tree = BUILD / "bare"
    if not list(tree.glob("pkg/tidewire/_core*.so")):
        shutil.rmtree(tree, ignore_errors=True)
        for name in "csrc", "pkg":
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("*.so"))
        for name in "setup.py", "pyproject.toml", "README.rst":
            shutil.copy(ROOT / name, tree)
        header = tree / "csrc/core/metrics.h"
        header.write_text(header.read_text().replace("#define TW_METRICS 1",
                                                     "#define TW_METRICS 0"))
        subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=tree,
                       check=True)
    return loops.LoopSpec("bare", "tidewire:new_event_loop", str(tree / "pkg"))


def instructions(path):
    """All that one of callgrind's files has, but for the clock itself."""
    names, ours, called, total = {}, True, False, 0
    for line in path.read_text().splitlines():
        if line.startswith("ob="):
            number, name = re.match(r"ob=\((\d+)\)(?: (.*))?", line).groups()
            ours = not names.setdefault(number, name).endswith("/clock.so")
        elif line.startswith("cob="):
            number, name = re.match(r"cob=\((\d+)\)(?: (.*))?", line).groups()
            names.setdefault(number, name)
        elif line.startswith("calls="):
            called = True       # the next line is of the function that was called
        elif line[:1] in {*"0123456789+-*"}:
            if ours and not called:
                total += int(line.split()[1])
            called = False
    return total


def counted(spec, cases, directory):
    """{case: [instructions, readings of the clock, of that of ticks]} per operation."""
    out = pathlib.Path(directory) / f"{spec.name}.out"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", sys.executable,
               "-m", "tide_bench.counted", spec.factory, *(this.name for this in cases)]
    done = subprocess.run(
        command, env=dict(spec.environ(), LD_PRELOAD=str(build.preloaded("clock"))),
        text=True, capture_output=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    result = {}
    for i, line in enumerate(done.stdout.splitlines()):
        name, (few, *few_read), (more, *more_read) = json.loads(line)
        costs = [instructions(out.with_name(f"{out.name}.{4 * i + k}")) for k in (2, 4)]
        result[name] = [(b - a) / (more - few) for a, b in
                        zip((costs[0], *few_read[0]), (costs[1], *more_read[0]), strict=True)]
    return result


def parsed(name):
    return ARMED if name == "armed" else bare() if name == "bare" else loops.parse(name)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="?", default=CASES, help="globs, as run.py's --cases")
    parser.add_argument("--loops", default="bare,tidewire")
    parser.add_argument("--keep", metavar="FOLDER", help="callgrind's files stay there")
    args = parser.parse_args(argv)
    specs = [parsed(name) for name in args.loops.split(",")]
    cases = case.select(args.cases)
    with tempfile.TemporaryDirectory(prefix="tide-bench-") as directory:
        results = [counted(spec, cases, args.keep or directory) for spec in specs]
    print(f"{'':28}" + "".join(f"{spec.name:>24}" for spec in specs))
    for this in cases:
        row = [result[this.name] for result in results]
        print(f"{this.name:28}" + "".join(f"{n:10,.0f} ({read:5.3f} {ticks:5.3f})"
                                          for n, read, ticks in row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
