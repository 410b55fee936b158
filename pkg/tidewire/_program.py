"""Runs programs, unchanged, on tidewire."""

import code
import functools
import importlib.machinery
import io
import linecache
import os
import pkgutil
import runpy
import sys
import types
import zipfile
from collections.abc import Callable
from typing import Any, NoReturn

from tidewire import _children, _default, _settings, as_uvloop


def run(kind: str, name: str, args: list[str], *, children: bool, uvloop: bool) -> int:
    """Do what ``python NAME ARGS`` does, or ``python -m``, ``-c`` or ``-``, depending on kind."""
    if kind == "script" and (error := _cannot_open(name)):
        print(f"tidewire: can't open file {name!r}: {error}", file=sys.stderr)
        return 2
    uvloop = uvloop or _settings.is_on("TIDEWIRE_AS_UVLOOP")
    if children:
        _children.reach(uvloop)
    else:
        _children.leave_alone()
    if uvloop:
        as_uvloop()
    _default.use_tidewire()
    _without_our_frames({"script": _run_script, "-m": _run_module, "-c": _run_code,
                         "-": _run_stdin}[kind], name, args)
    return 0


def restart(options: list[str], args: list[str]) -> NoReturn:
    """Start this Python anew, with options of its own; args are those of ``python -m tidewire``."""
    began = sys.orig_argv[1:len(sys.orig_argv) - len(sys.argv[1:])]
    os.execv(sys.executable, [sys.executable, *options, *began, *args])


# -- the programs --------------------------------------------------------------

def _cannot_open(path: str) -> str | None:
    try:
        if not os.path.isdir(path):
            open(path, "rb").close()
    except OSError as exc:
        return f"[Errno {exc.errno}] {exc.strerror}"
    return None


def _run_script(path: str, args: list[str]) -> None:
    sys.argv[:] = [path, *args]
    if os.path.isdir(path) or zipfile.is_zipfile(path):
        _put_on_path(path, always=True)
        _new_main()
        runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]
        return
    _put_on_path(os.path.dirname(os.path.realpath(path)))
    path = os.path.abspath(path)
    main = _new_main()
    main.__file__ = path
    with io.open_code(path) as file:
        if path.endswith(".pyc"):
            loader: Any = importlib.machinery.SourcelessFileLoader("__main__", path)
            program = pkgutil.read_code(file)
        else:
            loader = importlib.machinery.SourceFileLoader("__main__", path)
            program = compile(file.read(), path, "exec", dont_inherit=True)
    main.__loader__ = loader
    exec(program, main.__dict__)


def _run_module(name: str, args: list[str]) -> None:
    # sys.path is right already.
    sys.argv[:] = [name, *args]
    _new_main()
    # This is what -m calls: it finds the code, sets argv[0], and explains what is missing.
    runpy._run_module_as_main(name)  # type: ignore[attr-defined]


def _run_code(source: str, args: list[str]) -> None:
    sys.argv[:] = ["-c", *args]
    _put_on_path("")
    main = _new_main()
    if sys.version_info >= (3, 13):     # whose tracebacks show the lines
        linecache.cache["<string>"] = (
            len(source), None, source.splitlines(keepends=True), "<string>")
    exec(compile(source, "<string>", "exec", dont_inherit=True), main.__dict__)


def _run_stdin(name: str, args: list[str]) -> None:
    sys.argv[:] = ["-", *args]
    _put_on_path("")
    main = _new_main()
    if sys.stdin.isatty():
        code.interact(local=main.__dict__, exitmsg="")
        return
    main.__file__ = "<stdin>"
    exec(compile(sys.stdin.read(), "<stdin>", "exec", dont_inherit=True), main.__dict__)


def _put_on_path(folder: str, *, always: bool = False) -> None:
    """Replace the first entry of sys.path, which -m has set, by the one that Python would set."""
    if not sys.flags.safe_path:
        sys.path[0] = folder
    elif always:
        sys.path.insert(0, folder)


def _new_main() -> types.ModuleType:
    """A fresh __main__, which stays: threads and atexit may outlive the program's last line."""
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__package__ = None
    return main


# -- tracebacks ----------------------------------------------------------------

def _without_our_frames(program: Callable[..., None], *args: Any) -> None:
    """Call the program; a report of the exception that ends it begins with its own frames."""
    try:
        program(*args)
    except SystemExit:
        raise
    except BaseException:
        sys.excepthook = functools.partial(_report, sys.excepthook)
        raise


def _report(hook: Callable[..., Any], kind: Any, exc: BaseException, tb: Any) -> None:
    sys.excepthook = hook
    beyond = tb
    while tb is not None:
        ours = tb.tb_frame.f_globals is globals()
        tb = tb.tb_next
        if ours:
            beyond = tb
    sys.last_traceback = beyond
    hook(kind, exc.with_traceback(beyond), beyond)
