"""The environment variables that tidewire reads at run time, and their values."""

import os
import sys
import warnings
from typing import NamedTuple

_ON = ("1", "on", "yes", "true")
_OFF = ("0", "off", "no", "false")
_SECONDS = "a number of seconds"


class Setting(NamedTuple):
    values: tuple[str, ...]
    default: str


SETTINGS = {
    "TIDEWIRE_TLS": Setting(("direct", "memorybio"), "direct"),
    "TIDEWIRE_CORK": Setting(_ON + _OFF, "on"),
    "TIDEWIRE_GRO": Setting(_ON + _OFF, "on"),
    "TIDEWIRE_CHILD_WATCHER": Setting(("pidfd", "thread"), "pidfd"),
    "TIDEWIRE_POLLER": Setting(("epoll", "libuv"),
                               "epoll" if sys.platform.startswith("linux") else "libuv"),
    "TIDEWIRE_SLOW": Setting(("off", _SECONDS), "off"),
    "TIDEWIRE_AS_UVLOOP": Setting(_ON + _OFF, "off"),
    "TIDEWIRE_EXPOSE": Setting(_ON + _OFF, "off"),
}


def _normalized(name: str) -> str:
    value = os.environ.get(name, "")
    # Words for on and off may be written in any case; C compares the others as they are.
    return value.lower() if _ON[0] in SETTINGS[name].values else value


def is_known(name: str) -> bool:
    """Whether the variable is unset, empty, or has a value that tidewire knows."""
    if _normalized(name) in ("", *SETTINGS[name].values):
        return True
    return _SECONDS in SETTINGS[name].values and _number(name) is not None


def _number(name: str) -> float | None:
    try:
        number = float(os.environ.get(name, ""))
    except ValueError:
        return None
    return number if 0 <= number < 1e6 else None


def seconds(name: str) -> float | None:
    """The number that it is set to; None if it is off."""
    return _number(name) or None


def is_on(name: str) -> bool:
    """The state of a switch; its default if the value is not known."""
    value = _normalized(name)
    if value in _ON or value in _OFF:
        return value in _ON
    return SETTINGS[name].default == "on"


def choice(name: str) -> str | None:
    """The value, if it is set to one that tidewire knows."""
    return os.environ[name] if os.environ.get(name) and is_known(name) else None


def describe(name: str) -> str:
    """The value in effect, and why: for ``python -m tidewire info``."""
    value, default = os.environ.get(name), SETTINGS[name].default
    if not value:
        return f"{default} ({name} is not set)"
    if not is_known(name):
        return f"{default} ({_complaint(name)})"
    shown = _normalized(name)
    if _ON[0] in SETTINGS[name].values:
        shown = "on" if is_on(name) else "off"
    return f"{shown} ({name}={value})"


def _complaint(name: str) -> str:
    return (f"{name}={os.environ[name]!r} is not known and has no effect; "
            f"known are {', '.join(SETTINGS[name].values)}")


def others() -> list[str]:
    """Variables that look like tidewire's, but that it does not read at run time."""
    return sorted(name for name in os.environ
                  if name.startswith("TIDEWIRE_") and name not in SETTINGS)


def check(stacklevel: int) -> None:
    """Warn of each variable whose value has no effect."""
    for name in SETTINGS:
        if name in os.environ and not is_known(name):
            warnings.warn(_complaint(name), RuntimeWarning, stacklevel=stacklevel + 1)
