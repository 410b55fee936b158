"""tidewire as asyncio's default loop, for ``python -m tidewire`` and the children of its programs.

These make tidewire's loop: asyncio's policy (up to Python 3.15), asyncio.new_event_loop(), and
the names of the default loop, asyncio.SelectorEventLoop and asyncio.EventLoop.
"""

import asyncio
from asyncio import events, unix_events
from typing import Any

from tidewire import _seam
from tidewire._loop import Loop, new_event_loop

_AsyncioLoop = _seam.SelectorEventLoop


def _make(selector: Any = None) -> Any:
    return new_event_loop() if selector is None else _AsyncioLoop(selector)


class _DefaultLoopType(type(_AsyncioLoop)):
    """What isinstance(), issubclass() and a call of asyncio.SelectorEventLoop mean."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is SelectorEventLoop:
            return _make(*args, **kwargs)
        return super().__call__(*args, **kwargs)    # a program's subclass

    def __instancecheck__(cls, instance: Any) -> bool:
        if cls is not SelectorEventLoop:
            return bool(super().__instancecheck__(instance))
        return isinstance(instance, (_AsyncioLoop, Loop))

    def __subclasscheck__(cls, subclass: type) -> bool:
        if cls is not SelectorEventLoop:
            return bool(super().__subclasscheck__(subclass))
        return issubclass(subclass, (_AsyncioLoop, Loop))


class SelectorEventLoop(_AsyncioLoop, metaclass=_DefaultLoopType):
    __doc__ = _AsyncioLoop.__doc__


# Pickle finds classes by these.
SelectorEventLoop.__module__ = "asyncio"
SelectorEventLoop.__qualname__ = "SelectorEventLoop"


def use_tidewire() -> None:
    """Make asyncio's default loop a tidewire loop, without a deprecation warning."""
    for module in (asyncio, unix_events):
        for name in ("SelectorEventLoop", "EventLoop"):
            if name in vars(module):
                setattr(module, name, SelectorEventLoop)
    if _seam.DefaultEventLoopPolicy is None:
        asyncio.new_event_loop = events.new_event_loop = new_event_loop
        return
    # A program that sets asyncio's own policy also means the default loop.
    _seam.DefaultEventLoopPolicy._loop_factory = staticmethod(new_event_loop)
    from tidewire import _policy

    _policy.set_policy()
