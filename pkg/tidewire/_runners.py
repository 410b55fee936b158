"""asyncio.run() on a tidewire loop."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tidewire._loop import new_event_loop

T = TypeVar("T")


def run(
    main: Coroutine[Any, Any, T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = new_event_loop,
    **kwargs: Any,
) -> T:
    """Do what the running Python's asyncio.run() does, on a tidewire loop."""
    if sys.version_info >= (3, 12):
        return asyncio.run(main, debug=debug, loop_factory=loop_factory, **kwargs)
    return _run_3_11(main, debug=debug, loop_factory=loop_factory, **kwargs)


def _run_3_11(
    main: Coroutine[Any, Any, T],
    *,
    debug: bool | None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> T:
    # asyncio.run() of 3.11 takes no loop_factory, but its Runner does.
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("asyncio.run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)
