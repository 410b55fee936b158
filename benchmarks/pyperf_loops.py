#!/usr/bin/env python3
"""What happens in one process, by pyperf: ``pyperf_loops.py --event-loop NAME [pyperf's options]``.

A second opinion on the cases ``sched`` and ``tasks``: the same bodies, under
pyperf's runner, calibration and statistics; wall time, each value from one of
many processes. ``python -m pyperf compare_to uvloop.json tidewire.json`` compares
two files; report.py shows them side by side.
"""
import fnmatch
import os
import sys
import time

import pyperf
from tide_bench import case, loops

CASES = ("sched/call_soon/*", "sched/call_later/*", "sched/threadsafe/own", "tasks/*")


class Env:
    """What a case's body sees; keeps what it would measure."""

    def __init__(self, loop):
        self.loop = loop
        self.batch = self.n = None

    def measure(self, batch, n):
        self.batch, self.n = batch, n


def timed(this, env):
    """A function for pyperf, and how many operations one turn of it makes."""
    this.body(env)

    async def turns(count):
        began = time.perf_counter()
        for _ in range(count):
            await env.batch(env.n)
        return time.perf_counter() - began

    return lambda count: env.loop.run_until_complete(turns(count)), env.n


def pass_on(command, args):
    command += ["--event-loop", args.event_loop]


def main():
    runner = pyperf.Runner(add_cmdline_args=pass_on)
    runner.argparser.add_argument("--event-loop", default="tidewire", help="a name run.py knows")
    args = runner.parse_args()
    spec = loops.parse(args.event_loop)
    if spec.path and spec.path not in sys.path:
        sys.path.insert(0, spec.path)
    runner.metadata["event_loop"] = spec.name
    if args.inherit_environ is None:
        args.inherit_environ = [name for name in os.environ if name == "PYTHONPATH"]
    for name, this in case.load_all().items():
        if any(fnmatch.fnmatchcase(name, glob) for glob in CASES):
            function, n = timed(this, Env(loops.make(spec.factory)))
            runner.bench_time_func(this.title, function, inner_loops=n)


if __name__ == "__main__":
    main()
