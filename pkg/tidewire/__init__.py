"""asyncio's event loop and transports in C, on libuv and OpenSSL.

Any of these puts a program on tidewire; nothing else in it changes::

    tidewire.run(main())
    tidewire.install()                                            # then asyncio.run(main())
    asyncio.set_event_loop_policy(tidewire.EventLoopPolicy())
    asyncio.Runner(loop_factory=tidewire.new_event_loop)
    asyncio.run(main(), loop_factory=tidewire.new_event_loop)     # Python 3.12 and later
"""

import sys as _sys
import typing as _typing

from tidewire import _absent
from tidewire._version import __version__

_absent.check_python()
try:
    from tidewire._loop import Loop, new_event_loop
    from tidewire._runners import run
except ImportError as _error:
    _absent.reason = _absent.explain(_error)
    if not _absent.reason:
        raise
    if not _absent.is_command():    # "python -m tidewire info" tells it
        raise ImportError(_absent.reason, name="tidewire._core") from None

if _typing.TYPE_CHECKING:
    from tidewire._policy import EventLoopPolicy as EventLoopPolicy

__all__ = ["Loop", "__version__", "install", "new_event_loop", "run"]
if _sys.version_info < (3, 14):
    __all__ += ["EventLoopPolicy"]


def install() -> None:
    """Make every loop that asyncio creates from now on in this process a tidewire loop."""
    from tidewire import _policy

    _policy.warn_if_deprecated("tidewire.install", stacklevel=3)
    _policy.set_policy()


def __getattr__(name: str) -> _typing.Any:
    # From 3.14 on policies are deprecated: the class is made when it is asked
    # for, and a program that does without it hears nothing of it.
    if name != "EventLoopPolicy":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tidewire import _policy

    _policy.warn_if_deprecated("tidewire.EventLoopPolicy", stacklevel=3)
    return _policy.EventLoopPolicy


def __dir__() -> list[str]:
    return sorted({*globals(), "EventLoopPolicy"})
