"""How ``python -m tidewire`` reaches the Python processes that its program starts.

This folder stands first on their PYTHONPATH.  Each of them imports the sitecustomize in it when
it starts; that module installs tidewire when asyncio is imported.
"""

import os
import sys
import warnings

from tidewire import _settings
from tidewire._children import _tidewire_hooks

_FOLDER = os.path.dirname(os.path.abspath(__file__))


def _others() -> list[str]:
    path = os.environ.get("PYTHONPATH")
    return [folder for folder in path.split(os.pathsep) if folder != _FOLDER] if path else []


def reach(as_uvloop: bool) -> None:
    """Children that inherit the environment from now on run on tidewire."""
    os.environ["PYTHONPATH"] = os.pathsep.join([_FOLDER, *_others()])
    if as_uvloop:
        os.environ["TIDEWIRE_AS_UVLOOP"] = "1"


def leave_alone() -> None:
    """Children do not get tidewire, even if this process did."""
    if os.environ.get("PYTHONPATH"):
        others = os.pathsep.join(_others())
        if others:
            os.environ["PYTHONPATH"] = others
        else:
            del os.environ["PYTHONPATH"]
    if _settings.is_on("TIDEWIRE_AS_UVLOOP"):
        del os.environ["TIDEWIRE_AS_UVLOOP"]


def stand_in_for_uvloop() -> None:
    """From now on, ``import uvloop`` in this process finds tidewire."""
    if _tidewire_hooks.AsUvloop in sys.meta_path:
        return
    if "uvloop" in sys.modules:
        warnings.warn("uvloop was imported before tidewire.as_uvloop(): modules that have it keep it",
                      RuntimeWarning, stacklevel=3)
        for name in [name for name in sys.modules if name.partition(".")[0] == "uvloop"]:
            del sys.modules[name]
    sys.meta_path.insert(0, _tidewire_hooks.AsUvloop)
