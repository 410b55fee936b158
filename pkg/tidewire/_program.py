"""Running other people's programs, unchanged, on tidewire."""

import asyncio
import importlib.machinery
import io
import os
import runpy
import sys
import types
import zipfile

from tidewire import Loop, _policy


def use_tidewire() -> None:
    """Make asyncio's default loop a tidewire loop, without a deprecation warning."""
    _policy.set_policy()
    if sys.version_info >= (3, 13):
        vars(asyncio)["EventLoop"] = Loop


def run_script(path: str, args: list[str]) -> int:
    """Do as ``python PATH ARGS`` does."""
    if not os.path.exists(path):
        print(f"tidewire: can't open file {path!r}: no such file or directory", file=sys.stderr)
        return 2
    use_tidewire()
    sys.argv[:] = [path, *args]
    if os.path.isdir(path) or path.endswith(".pyc") or zipfile.is_zipfile(path):
        runpy.run_path(path, run_name="__main__")
        return 0
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    path = os.path.abspath(path)
    with io.open_code(path) as file:
        code = compile(file.read(), path, "exec")
    main = new_main()
    main.__file__ = path
    main.__loader__ = importlib.machinery.SourceFileLoader("__main__", path)
    exec(code, main.__dict__)
    return 0


def run_module(name: str, args: list[str]) -> int:
    """Do as ``python -m NAME ARGS`` does; sys.path is right already."""
    use_tidewire()
    sys.argv[:] = [name, *args]
    new_main()
    # This is what -m calls: it finds the code, sets argv[0], and explains what is missing.
    runpy._run_module_as_main(name)  # type: ignore[attr-defined]
    return 0


def new_main() -> types.ModuleType:
    """A fresh __main__, which stays: threads and atexit may outlive the program's last line."""
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__package__ = None
    return main
