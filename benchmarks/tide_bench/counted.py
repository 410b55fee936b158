"""The process that cost.py counts: ``python -m tide_bench.counted FACTORY CASE...``.

Prints a line of JSON for each case: operations, and readings of the clock and of that of ticks,
of a few and of more of the same. Between them it has callgrind write what it counted.
"""
import asyncio
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile

from . import build, case, child, loops

FEW, MORE = 1_000, 4_000
SLOWER = {True: 8, False: 50}   # a server's time is mostly the kernel's, which is not slowed down


def armed():
    """A loop with its watchdog."""
    import tidewire
    loop = tidewire.new_event_loop()
    tidewire.watch(loop, threshold=0.1)
    return loop


class Counter:
    def __init__(self):
        self.lib = ctypes.CDLL(build.preloaded("clock"))
        self.readings = ctypes.c_ulong.in_dll(self.lib, "cost_readings")
        self.ticks = ctypes.c_ulong.in_dll(self.lib, "cost_ticks")
        self.slower = ctypes.c_long.in_dll(self.lib, "cost_slower")

    def count(self, function, n):
        """Run it for n operations; callgrind writes a file of what was before, and one of it."""
        self.lib.cost_dump()
        ops = function(n)
        read = self.readings.value, self.ticks.value
        self.lib.cost_dump()
        return ops, read


def served(this, env, n):
    """The load sends n messages to the loop, which runs meanwhile."""
    address = (["--port", env.said["port"]] if "port" in env.said else
               ["--unix", env.said["unix"]])
    command = [build.program("load"), *this.load, *address, "--warm", 0, "--count", n]
    load = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE)
    env.loop.add_reader(load.stdout, env.loop.stop)
    env.loop.run_forever()
    env.loop.remove_reader(load.stdout)
    load.communicate()
    return n


def one(this, counter, factory, directory):
    options = {"seconds": 0, "warm": 0, "cores": (None, None), "directory": directory}
    env = child.Env(this.args, options, factory)
    env.loop = loops.make(factory)
    asyncio.set_event_loop(env.loop)
    counter.slower.value = SLOWER[this.server]
    if this.server:
        env.said = env.loop.run_until_complete(this.body(env))

        def run(n):
            return served(this, env, n)
    else:
        def run(n):
            env.batches = n // FEW
            return this.body(env)["ops"]
    for _ in range(2):
        run(FEW)
    return [counter.count(run, n) for n in (FEW, MORE)]


def main(factory, *names):
    os.environ.pop("LD_PRELOAD")
    cases = case.load_all()
    counter = Counter()
    gc.disable()
    with tempfile.TemporaryDirectory(prefix="tide-bench-") as directory:
        for name in names:
            print(json.dumps([name, *one(cases[name], counter, factory, directory)]), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
