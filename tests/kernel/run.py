#!/usr/bin/env python3
"""Random programs on a kernel that lies: ``run.py FACTORY [--seeds FROM-TO] [--shrink]``.

    run.py tidewire:new_event_loop --seeds 0-1000          each seed is a program
    run.py tidewire:new_event_loop --steps 1000000         until the kernel was asked so often
    run.py tidewire:new_event_loop --seeds 17-18 --shrink  the fewest operations that still fail
    run.py tidewire:new_event_loop --with asyncio:SelectorEventLoop   compare what both show

A line for each seed that goes wrong; the last line counts.  Exit status 1 if any did.
"""
import argparse
import concurrent.futures
import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
SECONDS = 20        # for one program; they take some milliseconds
BATCH = 400


def library():
    """The preloaded library, compiled where its text is newer."""
    made = pathlib.Path(tempfile.gettempdir()) / f"tidewire-lying-{os.getuid()}.so"
    source = HERE / "lying.c"
    if not made.exists() or made.stat().st_mtime < source.stat().st_mtime:
        part = made.with_suffix(f".{os.getpid()}")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", part, source, "-ldl", "-lpthread"],
                       check=True)
        part.rename(made)
    return made


# -- in the process that lies -------------------------------------------------------------


def too_long(signum, frame):
    raise TimeoutError(f"still running after {SECONDS} s")


def one(seed, factory, kernel, tls, directory, without=()):
    from programs import Program
    program = Program(seed, tls, without)
    signal.alarm(SECONDS)
    try:
        counts = program.run(factory, kernel, directory)
    except BaseException as exc:
        program.wrong.append(f"{type(exc).__name__}: {exc}")
        counts = {"steps": 0}
    signal.alarm(0)
    return {"seed": seed, "wrong": program.wrong, "summary": program.summary(),
            "ops": len(program.ops), **counts}


def inside(target, seeds, without):
    """Run the seeds, a line of JSON for each."""
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    from parity.certificates import contexts
    from programs import Kernel
    module, _, name = target.partition(":")
    factory = getattr(importlib.import_module(module), name)
    signal.signal(signal.SIGALRM, too_long)
    kernel, tls = Kernel(), contexts()
    factory().close()       # what a process has once is no program's
    with tempfile.TemporaryDirectory() as directory:
        for seed in seeds:
            print(json.dumps({"begin": seed}), flush=True)
            print(json.dumps(one(seed, factory, kernel, tls, directory, without)), flush=True)


# -- outside ----------------------------------------------------------------------------------


def results(target, seeds, without=()):
    """Of each seed; a process that died counts for the seed that it was at."""
    command = [sys.executable, str(HERE / "run.py"), target, "--inside",
               json.dumps([list(seeds), sorted(without)])]
    preloaded = [os.environ.get("KERNEL_PRELOAD"), str(library())]
    path = [str(HERE), os.environ.get("PYTHONPATH")]
    env = dict(os.environ, PYTHONHASHSEED="0", LD_PRELOAD=" ".join(filter(None, preloaded)),
               PYTHONPATH=os.pathsep.join(filter(None, path)))
    done = subprocess.run(command, env=env, capture_output=True, text=True,
                          timeout=SECONDS * 10 + len(seeds) * 2)
    got = [json.loads(line) for line in done.stdout.splitlines()]
    ended = {line["seed"]: line for line in got if "seed" in line}
    for line in got:
        if "begin" in line and line["begin"] not in ended:
            ended[line["begin"]] = {
                "seed": line["begin"], "summary": None, "steps": 0,
                "wrong": [f"the process ended with {done.returncode}: {done.stderr[-2000:]}"]}
    if not got:
        raise RuntimeError(done.stderr[-2000:])
    return list(ended.values())


def differences(target, other, seeds):
    """Add to the results of `target` where `other` showed something else."""
    mine, theirs = results(target, seeds), results(other, seeds)
    for a, b in zip(mine, theirs, strict=False):
        for number, (x, y) in enumerate(zip(a["summary"] or (), b["summary"] or (),
                                            strict=False)):
            if x is not None and y is not None and x != y:
                a["wrong"].append(f"link {number}: {x}, and {y} on {other}")
    return mine


def shrink(target, seed):
    """The operations that a seed needs to fail, by leaving out all others."""
    [whole] = results(target, [seed])
    without, n = set(), whole.get("ops", 60)
    step = max(n // 2, 1)
    while step:
        for start in range(0, n, step):
            more = without | set(range(start, min(start + step, n)))
            if more != without and results(target, [seed], more)[0]["wrong"]:
                without = more
        step //= 2
    return sorted(set(range(n)) - without), results(target, [seed], without)[0]


def batches(args):
    at, end = args.seeds
    while args.steps or at < end:
        yield range(at, at + BATCH if args.steps else min(at + BATCH, end))
        at += BATCH


def run(args):
    def batch(seeds):
        if args.other:
            return differences(args.target, args.other, seeds)
        return results(args.target, seeds)

    began, programs, steps, lies, failed = time.monotonic(), 0, 0, 0, 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        todo, waiting = batches(args), []
        while True:
            while len(waiting) < args.jobs and (seeds := next(todo, None)):
                waiting.append(pool.submit(batch, seeds))
            if not waiting:
                break
            for got in waiting.pop(0).result():
                programs += 1
                steps += got["steps"]
                lies += sum(got.get(name, 0) for name in
                            ("short", "again", "reset", "nobufs", "emfile", "delay", "jump"))
                failed += bool(got["wrong"])
                for what in got["wrong"][:3]:
                    print(f"seed {got['seed']}: {what}", flush=True)
            if args.steps and steps >= args.steps:
                todo = iter(())
    print(f"{programs:,} programs, {steps:,} system calls, {lies:,} lies, {failed} went wrong, "
          f"{time.monotonic() - began:.0f} s")
    return failed


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("target")
    p.add_argument("--seeds", default="0-1000",
                   type=lambda text: tuple(int(part) for part in text.split("-")))
    p.add_argument("--steps", type=int, default=0)
    p.add_argument("--jobs", type=int, default=os.cpu_count())
    p.add_argument("--with", dest="other")
    p.add_argument("--shrink", action="store_true")
    p.add_argument("--inside", help=argparse.SUPPRESS)
    args = p.parse_args(argv)
    if args.inside:
        seeds, without = json.loads(args.inside)
        inside(args.target, seeds, without)
        return 0
    if args.shrink:
        for seed in range(*args.seeds):
            needed, got = shrink(args.target, seed)
            print(f"seed {seed}: operations {needed}: {got['wrong']}")
        return 0
    return bool(run(args))


if __name__ == "__main__":
    sys.exit(main())
