"""A case: what runs in the loop's process, and the load that goes at it."""
import dataclasses
import fnmatch
import importlib
from collections.abc import Callable
from typing import Any

FAMILIES = ("tcp", "tls", "udp", "sched", "tasks", "ops", "process", "http", "gil",
            "memory")

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
    clock: str = "cpu"          # "cpu" or "wall": what operations are divided by
    unit: str = "message"       # what is counted
    targets: dict = dataclasses.field(default_factory=dict)     # loop: at least so many times it
    limit: int | None = None    # at most so many bytes
    main: bool = True           # false: only with --all or when named
    pinned: bool = True


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


def select(patterns, everything=False):
    """By comma-separated globs; without any, the main ones."""
    cases = list(load_all().values())
    if not patterns:
        return [c for c in cases if c.main or everything]
    globs = patterns.split(",")
    return [c for c in cases if any(fnmatch.fnmatchcase(c.name, g) for g in globs)]
