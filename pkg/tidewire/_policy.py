"""The event loop policy: the running Python's own one, with tidewire's loop.

Everything but the loop is inherited, so get_event_loop() makes a loop, warns
or raises as this Python's does, and 3.11 to 3.13 keep their child watchers
(which tidewire's subprocesses do not need).

Python 3.16 has no policies: there this module cannot be imported.
"""

import os
import sys
import warnings
import weakref

from tidewire import _seam
from tidewire._loop import new_event_loop

_policies: "weakref.WeakSet[EventLoopPolicy]" = weakref.WeakSet()


class EventLoopPolicy(_seam.DefaultEventLoopPolicy):
    """asyncio's default policy, whose loops are tidewire's."""

    _loop_factory = staticmethod(new_event_loop)

    def __init__(self) -> None:
        super().__init__()
        _policies.add(self)


def _forget_loops() -> None:
    # A loop made before a fork can only be closed in the child.  From 3.12 on
    # asyncio does this too, but only for the policy that is set.
    for policy in _policies:
        policy._local = policy._Local()  # type: ignore[attr-defined]


os.register_at_fork(after_in_child=_forget_loops)


def set_policy() -> None:
    """Set the policy, silently in every version."""
    _seam.set_event_loop_policy(EventLoopPolicy())


def warn_if_deprecated(name: str, stacklevel: int) -> None:
    """Warn of the use of a policy where asyncio does."""
    if sys.version_info >= (3, 14):
        warnings.warn(
            f"{name!r} is deprecated and slated for removal in Python 3.16, as asyncio's policies "
            "are: use a loop_factory",
            DeprecationWarning,
            stacklevel=stacklevel,
        )
