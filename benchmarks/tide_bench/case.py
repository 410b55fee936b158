"""A case: what runs in the loop's process, and the load that goes at it."""
import dataclasses
import fnmatch
import importlib
import sys
from collections.abc import Callable
from typing import Any

FAMILIES = ("tcp", "tls", "udp", "pipes", "sched", "tasks", "ops", "process", "http",
            "websockets", "databases", "quic", "gil", "memory", "size")

KIB = 1024
SIZES = {"64B": 64, "1KiB": KIB, "10KiB": 10 * KIB, "100KiB": 100 * KIB, "1MiB": KIB * KIB}


@dataclasses.dataclass(frozen=True)
class Case:
    """Server cases: ``body(env)`` is a coroutine function that listens and returns
    where. Process cases: ``body(env)`` measures in its own process and returns
    ``{"ops", "cpu", "wall"}`` (or ``{"bytes"}``, of which less is better)."""
    name: str
    title: str
    body: Callable[..., Any]
    server: bool = False
    args: dict = dataclasses.field(default_factory=dict)
    load: tuple = ()            # the load generator's mode and options
    floor: tuple = ()           # the floor's program and its arguments
    clock: str = "cpu"          # "cpu" or "wall": what operations are divided by;
                                # "p99_us": the cost is that latency
    unit: str = "message"       # what is counted
    targets: dict = dataclasses.field(default_factory=dict)     # loop: at least so many times it
    limit: int | None = None    # at most so many bytes
    main: bool = True           # false: only with --all or when named
    pinned: bool = True
    rounds: int = 0             # more tell nothing new (0: as many as are asked for)

    def seconds(self, asked):
        """Of the window: with many connections, long enough for several messages on each."""
        return max(asked, self.conns * 1e-4)

    @property
    def conns(self):
        """The load's connections; 0 if it has none, or none that stay."""
        if "--conns" not in self.load or self.load[0] not in ("echo", "send", "recv"):
            return 0
        return self.load[self.load.index("--conns") + 1]


REGISTRY: dict[str, Case] = {}


def add(case):
    if case.name in REGISTRY:
        raise ValueError(f"two cases named {case.name}")
    REGISTRY[case.name] = case
    return case


def server(name, title, body, load, target=None, **kw):
    """``target``: times uvloop; more of them by ``targets``."""
    if target:
        kw["targets"] = {"uvloop": target, **kw.get("targets", {})}
    return add(Case(name, title, body, server=True, load=tuple(load), **kw))


def process(name, title, body, target=None, unit="operation", **kw):
    if target:
        kw["targets"] = {"uvloop": target, **kw.get("targets", {})}
    return add(Case(name, title, body, unit=unit, **kw))


def load_all():
    for family in FAMILIES:
        importlib.import_module(f"tide_bench.cases.{family}")
    return REGISTRY


# The rows of the table that tidewire has to reach, in its order.
TABLE = (
    "tcp/protocol/1KiB", "tcp/protocol/10KiB", "tcp/protocol/100KiB", "tcp/protocol/1MiB",
    "tcp/protocol/1KiB/c500", "tcp/protocol/1KiB/x16", "tcp/two-writes", "tcp/three-writes",
    "tcp/ten-writes", "tcp/relay/1KiB", "tcp/relay/100KiB", "tcp/buffered/1KiB",
    "tcp/buffered/100KiB", "tcp/streams/1KiB", "tcp/streams/100KiB", "tcp/streams/1KiB/x16",
    "tcp/sock/1KiB", "unix/protocol/1KiB", "udp/1KiB", "udp/1KiB/x16", "udp/bulk",
    "tls/protocol/1KiB", "tls/protocol/16KiB", "tls/protocol/100KiB", "tls/protocol/1MiB",
    "tls/buffered/100KiB", "tls/streams/1KiB", "tcp/churn", "unix/churn",
    "tcp/receive/protocol", "tcp/receive/buffered", "tcp/receive/streams",
    "sched/call_soon/chain", "sched/call_soon/chain/idle250", "sched/call_soon/batch",
    "sched/call_later/cancel", "sched/call_later/fire", "tasks/sleep0", "tasks/sleep0/idle250",
    "tasks/gather", "tasks/wait_for", "sched/threadsafe/thread", "sched/threadsafe/own",
    "sched/executor", "sched/executor/many", "ops/add_reader", "ops/ping-pong", "ops/connect",
    "process/spawn", "http/uvicorn", "http/uvicorn/100KiB", "http/uvicorn/tls", "http/aiohttp",
    "http/aiohttp/client", "db/asyncpg/one", "db/redis/pipeline", "websockets/echo",
    "quic/receive", "quic/send", "tcp/latency", "tcp/latency/c1", "tls/latency",
    "memory/pair", "memory/tls", "memory/tls/10000",
)
# Connections of the plots; handshakes of more would take longer than the measurement.
SWEEP = {"tcp": (1, 10, 100, 500, 1000, 2000, 5000, 10000),
         "tls": (1, 10, 100, 500, 1000, 2000)}


def swept(over):
    """(connections, case's name) of a plot."""
    return [(n, f"{over}/protocol/1KiB" + (f"/c{n}" if n != 10 else "")) for n in SWEEP[over]]


# Names for --cases besides globs.
GROUPS = {
    "table": TABLE,
    "curves": (*(name for over in SWEEP for _, name in swept(over)),
               *(f"{over}/protocol/{size}" for over in ("tcp", "unix", "tls")
                 for size in SIZES)),
    # where it matters how malloc serves blocks of 256 KiB
    "malloc": ("tcp/*/100KiB", "tcp/*/1MiB", "tls/*/1KiB", "tls/*/100KiB", "tls/*/1MiB",
               "t*/send", "t*/receive*"),
}


def _named(cases, pattern):
    if pattern in ("main", "rest", "all"):
        return {c.name for c in cases if pattern == "all" or c.main == (pattern == "main")}
    return {c.name for glob in GROUPS.get(pattern, (pattern,))
            for c in cases if fnmatch.fnmatchcase(c.name, glob)}


def select(patterns, everything=False):
    """By comma-separated globs and groups; without any, the main ones."""
    cases = list(load_all().values())
    patterns = patterns or ("all" if everything else "main")
    chosen = set().union(*(_named(cases, p) for p in patterns.split(",")))
    return [c for c in cases if c.name in chosen]


def before(version, target):
    """A target for older Pythons only."""
    return target if sys.version_info < version else None
