"""One sample: one case on one loop, once; and rounds of them."""
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time

from . import build, proc, wrk

MANY = 100      # connections from which on memory is told per connection


class SampleFailed(Exception):
    """The loop cannot do the case, or the run went wrong; the text says what."""


def cores():
    """(server's core, load's core); both None where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[-1]) if len(usable) > 1 else (None, None)


def _pinned(command, core):
    return command if core is None else ["taskset", "-c", str(core), *map(str, command)]


def _first_line(process, timeout):
    """The child's line of JSON; its error's last line if it has none."""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(timeout):
            raise SampleFailed(f"nothing said in {timeout:.0f} s")
    line = process.stdout.readline()
    if not line:
        with open(process.errors) as file:
            said = file.read().strip().splitlines()
        raise SampleFailed(said[-1] if said else "ended without a word")
    return json.loads(line)


def _end(process):
    process.kill()
    process.communicate()


def _start(case, spec, options, directory):
    server_core = options["core"]
    if spec.factory:
        command = [sys.executable, "-m", "tide_bench.child", case.name, spec.factory,
                   json.dumps(dict(options, directory=directory))]
    else:
        program, *args = case.floor
        args = [os.path.join(directory, "floor.sock") if a == "PATH" else a for a in args]
        if program == "floor-tls":
            args += build.certificate()
        command = _pinned([build.program(program), *args], server_core)
    errors = os.path.join(directory, "stderr")
    with open(errors, "w") as file:     # no pipe: nobody would read what fills it
        process = subprocess.Popen(
            [str(c) for c in command], env=spec.environ(options["seed"]), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=file, cwd=directory)
    process.errors = errors
    return process


def _wrk(case, where, pid, options):
    if not wrk.available():
        raise SampleFailed("needs wrk")
    command = wrk.command(where, options["seconds"], case.load[1:])
    got = wrk.run(_pinned(command, options["cores"][1]), pid, options["seconds"] * 5 + 60)
    if got is None:
        raise SampleFailed("wrk: a request failed")
    return got


def _load(case, where, pid, options):
    if case.load[0] == "wrk":
        return _wrk(case, where, pid, options)
    address = ["--port", where["port"]] if "port" in where else ["--unix", where["unix"]]
    command = [build.program("load"), *case.load, *address, "--pid", pid,
               "--seconds", options["seconds"], "--warm", options["warm"]]
    done = subprocess.run([str(c) for c in _pinned(command, options["cores"][1])],
                          capture_output=True, text=True,
                          timeout=options["seconds"] * 5 + 60)
    if done.returncode:
        raise SampleFailed((done.stderr.strip().splitlines() or ["load failed"])[-1])
    return json.loads(done.stdout)


def _server_sample(case, process, options):
    where = _first_line(process, 30)
    before = proc.resident_kib(process.pid)
    got = _load(case, where, process.pid, options)
    if not got["messages"]:
        raise SampleFailed("no message was answered")
    for ours, theirs in (("ops", "messages"), ("cpu", "server_cpu"), ("wall", "seconds")):
        got[ours] = got.pop(theirs)
    if case.conns >= MANY and got.get("resident_kib"):
        got["conn_bytes"] = (got["resident_kib"] - before) * 1024 / case.conns
    got["peak_kib"] = proc.peak_kib(process.pid)
    return got


def sample(case, spec, options):
    """{"rate": more is better, "cost_us" or "bytes", "throughput", …}."""
    options = dict(options, seconds=case.seconds(options["seconds"]))
    with tempfile.TemporaryDirectory(prefix="tide-bench-") as directory:
        process = _start(case, spec, options, directory)
        try:
            if case.server:
                got = _server_sample(case, process, options)
            else:
                got = _first_line(process, options["seconds"] * 5 + 60)
        except subprocess.TimeoutExpired:
            raise SampleFailed("the load did not end") from None
        finally:
            _end(process)
    if "bytes" in got:
        return dict(got, rate=1 / max(got["bytes"], 1))
    got["throughput"] = got["ops"] / got["wall"]
    if case.clock == "p99_us":
        got["rate"] = 1e6 / got["p99_us"]
    else:
        got["rate"] = got["ops"] / got[case.clock]
    got["cost_us"] = 1e6 / got["rate"]
    return got


def order(specs, turn):
    """Every second round is the one before it backwards, then the first place moves on.

    So each loop comes before each other one as often as after it, and has each
    place as often.
    """
    shift = turn // 2 % len(specs)
    turned = [*specs[shift:], *specs[:shift]]
    return turned[::-1] if turn % 2 else turned


def takes(case, spec):
    """Whether a loop has anything to do with a case."""
    return bool(case.floor) if not spec.factory else spec.does(case.name)


class Samples:
    """A case's samples: {loop: [sample or None, …]}, an entry per round it took part in."""

    def __init__(self, case, specs, options, progress):
        self.case, self.options, self.progress = case, options, progress
        self.specs = [spec for spec in specs if takes(case, spec)]
        self.got = {spec.name: [] for spec in self.specs}
        self.failed = {}        # loop: why it has none

    def play(self, turns, names=None):
        """More rounds, of all loops or of those named."""
        specs = [s for s in self.specs if names is None or s.name in names]
        for turn in turns:
            for spec in order(specs, turn):
                if spec.name not in self.failed:
                    self._one(spec, turn)
                    time.sleep(0.02)

    def _one(self, spec, turn):
        got = self.got[spec.name]
        self.progress(self.case, spec, turn)
        try:
            got.append(sample(self.case, spec, dict(self.options, seed=turn)))
        except SampleFailed as exc:
            got.append(None)
            if not any(got) and len(got) == 2:
                self.failed[spec.name] = str(exc)   # it cannot, it was not an accident
            self.progress(self.case, spec, turn, str(exc))

    def result(self):
        """What there is; a loop that never could is not in it."""
        return {name: got for name, got in self.got.items() if any(got)}
