"""asyncio's event loop and transports in C, on epoll or libuv, and OpenSSL.

Any of these puts a program on tidewire; nothing else in it changes::

    tidewire.run(main())
    asyncio.run(main(), loop_factory=tidewire.new_event_loop)     # Python 3.12 and later
    asyncio.Runner(loop_factory=tidewire.new_event_loop)
    tidewire.install()                                            # then asyncio.run(main())

The last one needs asyncio's policies, which Python 3.14 deprecates and Python 3.16 removes.
"""

import sys as _sys
import typing as _typing
from asyncio import events as _events

from tidewire import _absent
from tidewire._version import __version__

_absent.check_python()
try:
    from tidewire import _seam
    from tidewire._loop import Loop, new_event_loop
    from tidewire._runners import run
    from tidewire._watch import SlowCallback, Watch, watch
except ImportError as _error:
    _absent.reason = _absent.explain(_error)
    if not _absent.reason:
        raise
    if not _absent.is_command():    # "python -m tidewire info" shows it
        raise ImportError(_absent.reason, name="tidewire._core") from None
else:
    _has_policies = _seam.DefaultEventLoopPolicy is not None

if _typing.TYPE_CHECKING:
    from tidewire._policy import EventLoopPolicy as EventLoopPolicy

__all__ = ["Loop", "SlowCallback", "Watch", "__version__", "as_uvloop", "expose", "install",
           "is_running", "new_event_loop", "run", "watch"]
if _sys.version_info < (3, 14):
    __all__ += ["EventLoopPolicy"]


def is_running() -> bool:
    """Whether the caller runs in a tidewire loop."""
    return isinstance(_events._get_running_loop(), Loop)


def as_uvloop() -> None:
    """From now on in this process, ``import uvloop`` finds tidewire, which has uvloop's names."""
    from tidewire import _children

    _children.stand_in_for_uvloop()


def expose() -> str:
    """Let ``python -m tidewire top`` of the same user see this process.

    The result is the path of the Unix socket by which it looks.  A thread answers, also while
    a loop is blocked.  Calling this again changes nothing.  OSError if the socket cannot be made.
    """
    from tidewire import _expose

    return _expose.expose()


def install() -> None:
    """Make every loop that asyncio creates from now on in this process a tidewire loop.

    A loop that runs already is not replaced.  This sets a policy, so it gives a
    DeprecationWarning from Python 3.14 on; Python 3.16 has no policies.
    """
    if not _has_policies:
        raise RuntimeError(
            "Python 3.16 has no event loop policies: use tidewire.run(), a loop_factory "
            "(tidewire.new_event_loop), or python -m tidewire")
    from tidewire import _policy

    _policy.warn_if_deprecated("tidewire.install", stacklevel=3)
    _policy.set_policy()


def __getattr__(name: str) -> _typing.Any:
    # From 3.14 on policies are deprecated: the class is made at its first use,
    # and a program that does not use it gets no warning.
    if name != "EventLoopPolicy" or not _has_policies:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tidewire import _policy

    _policy.warn_if_deprecated("tidewire.EventLoopPolicy", stacklevel=3)
    return _policy.EventLoopPolicy


def __dir__() -> list[str]:
    return sorted({*globals(), *(["EventLoopPolicy"] if _has_policies else [])})
