"""Running other people's programs, unchanged, on tidewire."""

import asyncio
import os
import runpy
import sys

from tidewire import Loop, _policy


def use_tidewire() -> None:
    """Make asyncio's default loop a tidewire loop, without a deprecation warning."""
    _policy.set_policy()
    if sys.version_info >= (3, 13):
        vars(asyncio)["EventLoop"] = Loop


def run_script(path: str, args: list[str]) -> int | str | None:
    """Do as ``python PATH ARGS`` does."""
    if not os.path.exists(path):
        return f"tidewire: can't open file {path!r}: no such file or directory"
    use_tidewire()
    sys.argv[:] = [path, *args]
    if os.path.isfile(path) and not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    runpy.run_path(path, run_name="__main__")
    return None


def run_module(name: str, args: list[str]) -> int | str | None:
    """Do as ``python -m NAME ARGS`` does; sys.path is right already."""
    use_tidewire()
    sys.argv[:] = [name, *args]
    runpy.run_module(name, run_name="__main__", alter_sys=True)
    return None
