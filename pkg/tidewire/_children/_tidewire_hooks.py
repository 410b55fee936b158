"""Import hooks for asyncio and uvloop in a child.

A child that imports neither pays nothing, so nothing here imports tidewire before.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys

TYPE_CHECKING = False       # the real one is in typing, which takes long to import
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_STAND_IN = os.path.join(_PACKAGE, "_stand_in")


def is_built() -> bool:
    """Whether this Python has an extension module in the package."""
    return any(os.path.exists(os.path.join(_PACKAGE, "_core" + suffix))
               for suffix in importlib.machinery.EXTENSION_SUFFIXES)


def _import_default() -> ModuleType:
    # The package of the parent, if the child's own path does not lead to one.
    home = os.path.dirname(_PACKAGE)
    added = [] if home in sys.path else [home]
    sys.path += added
    try:
        from tidewire import _default
    finally:
        for folder in added:
            sys.path.remove(folder)
    return _default


def _put_in_place() -> None:
    try:
        _import_default().use_tidewire()
    except ImportError as exc:
        import warnings

        warnings.warn("this process runs on asyncio's own loop, as tidewire cannot be imported: %s"
                      % exc, RuntimeWarning)


class OnAsyncio:
    """Finds asyncio as the other finders do, and installs tidewire when it is loaded."""

    @classmethod
    def find_spec(cls, name: str, path: Sequence[str] | None = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "asyncio":
            return None
        sys.meta_path.remove(cls)
        spec = None
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                break
        if spec is None or spec.loader is None:
            return spec
        loader = spec.loader

        def exec_module(module: ModuleType) -> None:
            del vars(loader)["exec_module"]     # look up in the class again
            loader.exec_module(module)
            _put_in_place()

        vars(loader)["exec_module"] = exec_module
        return spec


class AsUvloop:
    """Finds tidewire's replacement when uvloop is imported."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "uvloop":
            return None
        return importlib.machinery.PathFinder.find_spec(name, [_STAND_IN], target)


def install() -> None:
    """Install tidewire: now if asyncio is loaded, else when it is imported."""
    if os.environ.get("TIDEWIRE_AS_UVLOOP", "").lower() in ("1", "on", "yes", "true"):
        sys.meta_path.insert(0, AsUvloop)
    if "asyncio" in sys.modules:
        _put_in_place()
    else:
        sys.meta_path.insert(0, OnAsyncio)
