"""The loops that are compared: each a factory ``module:callable``."""
import dataclasses
import fnmatch
import importlib
import json
import os
import subprocess
import sys

from . import BENCHMARKS, ROOT


@dataclasses.dataclass(frozen=True)
class LoopSpec:
    name: str
    factory: str            # "module:callable"; "" is the floor in C
    path: str = ""          # put before PYTHONPATH in the loop's processes
    package: str = ""       # whose version is reported
    only: tuple = ()        # globs of the cases that it has anything of its own for

    def does(self, case):
        return not self.only or any(fnmatch.fnmatchcase(case, glob) for glob in self.only)

    def environ(self, seed=0):
        """The seed is the round's: all loops of a round hash alike, rounds do not."""
        env = dict(os.environ, PYTHONHASHSEED=str(seed))
        parts = [self.path, str(BENCHMARKS), env.get("PYTHONPATH", "")]
        env["PYTHONPATH"] = os.pathsep.join(filter(None, parts))
        return env


def _tree():
    pkg = ROOT / "pkg"
    return str(pkg) if any(pkg.glob("tidewire/_core*.so")) else ""


def aiofastnet_on_uvloop():
    import aiofastnet
    import uvloop
    return aiofastnet.loop_factory(uvloop.new_event_loop)()


KNOWN = {spec.name: spec for spec in (
    LoopSpec("stock", "asyncio:SelectorEventLoop"),
    LoopSpec("uvloop", "uvloop:new_event_loop", package="uvloop"),
    LoopSpec("tidewire", "tidewire:new_event_loop", _tree(), "tidewire"),
    LoopSpec("aiofastnet", "tide_bench.loops:aiofastnet_on_uvloop", package="aiofastnet",
             only=("tcp/*", "unix/*", "tls/*", "http/*", "memory/tls")),
    LoopSpec("rloop", "rloop:new_event_loop", package="rloop"),
    LoopSpec("rsloop", "rsloop:new_event_loop", package="rsloop"),
    LoopSpec("zuvloop", "zuvloop:new_event_loop", package="zuvloop"),
    LoopSpec("floor", ""),
)}


def parse(text):
    """A known name, or ``name=module:callable[@path]``."""
    if "=" not in text:
        if text not in KNOWN:
            raise ValueError(f"unknown loop {text!r}; known: {', '.join(KNOWN)}")
        return KNOWN[text]
    name, _, rest = text.partition("=")
    factory, _, path = rest.partition("@")
    return LoopSpec(name, factory, path, factory.partition(":")[0].partition(".")[0])


def make(factory):
    module, _, attribute = factory.partition(":")
    return getattr(importlib.import_module(module), attribute)()


PROBE = """
import importlib.metadata as m, json, sys
from tide_bench.loops import make
loop = make(sys.argv[1])
loop.close()
module = sys.modules.get(sys.argv[2])
try: version = m.version(sys.argv[2])
except Exception: version = getattr(module, '__version__', '')
told = {'version': version}
if sys.argv[2] == 'uvloop':
    n = sys.modules['uvloop.loop'].libuv_get_version()
    told['libuv'] = f'{n >> 16}.{n >> 8 & 255}.{n & 255}'
if sys.argv[2] == 'tidewire':
    from tidewire import _core
    told.update(_core.build_info())
print(json.dumps(told))
"""


def probe(spec):
    """({"version": …, what else it says of itself}, None), or (None, why it cannot be used)."""
    if not spec.factory:
        return {"version": ""}, None
    done = subprocess.run([sys.executable, "-c", PROBE, spec.factory, spec.package],
                          env=spec.environ(), capture_output=True, text=True, timeout=60)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        return None, lines[-1]
    return json.loads(done.stdout.splitlines()[-1]), None
