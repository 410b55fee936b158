"""tidewire in the place of uvloop: see tidewire.as_uvloop()."""

import sys
from typing import Any

import tidewire
from tidewire import Loop, install, new_event_loop, run

from ._version import __version__

__all__ = ["Loop", "__version__", "install", "new_event_loop", "run"]
if sys.version_info < (3, 14):
    __all__ += ["EventLoopPolicy"]


def __getattr__(name: str) -> Any:
    if name != "EventLoopPolicy":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return tidewire.EventLoopPolicy
