"""The types of the loop: those that typeshed has for asyncio's, and what is ours."""

import asyncio

from . import _core
from ._stats import Stats
from ._watch import Watch

class Loop(_core.Loop, asyncio.BaseEventLoop):
    _thread_id: int | None
    _watch: Watch | None
    def __init__(self, *, poller: str | None = None) -> None: ...
    def stats(self, reset: bool = False) -> Stats: ...  # type: ignore[override]

def new_event_loop(*, poller: str | None = None) -> Loop: ...
def _loops() -> list[Loop]: ...
