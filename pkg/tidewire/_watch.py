"""Reports of slow callbacks in production: watch(), and TIDEWIRE_SLOW.

The loop measures its callbacks anyway (csrc/core/watchdog.h).  While it runs, a thread of C
looks at it now and then, without the GIL, and comes back to Python only when a callback
has run for too long: then it takes the stack of the loop's thread.
"""
import asyncio
import dataclasses
import logging
import os
import sys
import sysconfig
import threading
import time
import traceback
from asyncio import events
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from . import _seam

if TYPE_CHECKING:
    from ._loop import Loop

logger = logging.getLogger('tidewire')

#: So many are kept for slowest().
SHOWN = 10

_HERE = os.path.dirname(__file__) + os.sep
_LIBRARY = tuple({sysconfig.get_path(name) + os.sep for name in ('stdlib', 'platstdlib')})
_PACKAGES = tuple({sysconfig.get_path(name) + os.sep for name in ('purelib', 'platlib')})


@dataclasses.dataclass(frozen=True)
class SlowCallback:
    """One callback that kept its loop from everything else."""

    #: The loop's name and number in stats().
    loop: str
    loop_id: int
    #: What the loop called: repr() as in asyncio's debug mode.
    callback: str
    #: Name and coroutine of the task that ran, or None.
    task: str | None
    coroutine: str | None
    #: How long it took, in seconds; or takes until now, unless `returned`.
    seconds: float
    returned: bool
    #: CPU time of the loop's thread meanwhile, in seconds, or None if that is not known.
    cpu_seconds: float | None
    #: For how long the thread was ready to run but had no processor, or None.
    queued_seconds: float | None
    #: What it did: "computing", "blocked", "waiting for the GIL", "waiting for a processor", or
    #: "unknown".  By these times, and by one look at the thread.
    state: str
    #: Where: file, line and function of the program's own code, the innermost; or None.
    file: str | None
    line: int | None
    function: str | None
    #: The stack of the loop's thread while it ran, outermost first, from the callback on.
    stack: tuple[traceback.FrameSummary, ...]
    #: So many reports before this one were left out.
    suppressed: int

    def as_dict(self) -> dict[str, Any]:
        """All of it in types of JSON."""
        values = dataclasses.asdict(self)
        values['stack'] = [[frame.filename, frame.lineno, frame.name] for frame in self.stack]
        return values

    def __str__(self) -> str:
        cpu = '' if self.cpu_seconds is None else f', {self.cpu_seconds:.3f} s of CPU time'
        verb = 'took' if self.returned else 'has not returned for'
        if (self.queued_seconds or 0) >= 0.0005:
            cpu += f', {self.queued_seconds:.3f} s without a processor'
        lines = [f'Callback {self.callback} {verb} {self.seconds:.3f} s ({self.state}{cpu})']
        if self.task is not None:
            lines[0] += f' in task {self.task} ({self.coroutine})'
        if self.file is not None:
            lines[0] += f' at {self.file}:{self.line}, in {self.function}'
        if self.suppressed:
            lines[0] += f'; {self.suppressed} reports before this one were left out'
        lines += (text.rstrip() for text in traceback.format_list(self.stack))
        return '\n'.join(lines)


def log(report: SlowCallback) -> None:
    """The handler of watch() unless there is another: a warning of the logger "tidewire"."""
    logger.warning('%s', report, extra={'tidewire': report.as_dict()})


class _Rate:
    """At most `burst` at once, and `rate` in a second."""

    def __init__(self, rate, burst):
        self._rate, self._burst = rate, burst
        self._left, self._when = burst, time.monotonic()
        self._suppressed = 0

    def take(self):
        """How many were left out since the last one; None: this one is."""
        now = time.monotonic()
        self._left = min(self._left + (now - self._when) * self._rate, self._burst)
        self._when = now
        if self._left < 1:
            self._suppressed += 1
            return None
        self._left -= 1
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed


class _State(NamedTuple):
    """Of the loop's thread, before the watchdog took the GIL, which took so long."""

    letter: str = ''
    gil_seconds: float = 0.0

    def name(self, threshold, seconds, cpu, queued):
        if cpu is None:
            return 'unknown'
        ran = seconds - (queued or 0)
        # Who waits for the GIL sleeps, but wakes up every few milliseconds.
        mostly_queued = ran < seconds / 2 and self.letter in ('', 'R')
        if ran < threshold or (mostly_queued and cpu < threshold):
            return 'waiting for a processor'    # or it had not been reported
        if cpu >= ran / 2:
            return 'computing'
        if not self.letter:
            return 'unknown'
        if self.letter == 'R':
            return 'waiting for a processor'
        # Another thread that computes in Python keeps the GIL for that long.
        if self.gil_seconds > sys.getswitchinterval() * 0.8:
            return 'waiting for the GIL'
        return 'blocked'


@dataclasses.dataclass
class _Capture:
    """What the watchdog saw of the callback behind `count` others."""

    count: int
    stack: tuple[traceback.FrameSummary, ...]
    task: str | None
    coroutine: str | None
    state: _State


class Watch:
    """A loop that is watched: see watch()."""

    def __init__(self, loop: 'Loop', threshold: float,
                 handler: Callable[[SlowCallback], object] | None, rate: float,
                 burst: int) -> None:
        self.loop, self.threshold = loop, threshold
        self._handler = log if handler is None else handler
        self._rate = _Rate(rate, burst)
        self._capture = None
        self._slowest: list[SlowCallback] = []
        self._lock = threading.Lock()
        self._begin()
        if not loop.is_running():
            loop._watch_end(False)

    def stop(self) -> None:
        """Watch no more.  Idempotent."""
        if self.loop._watch is self:
            self.loop._watch = None
            self.loop._watch_end(True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    # -- the watchdog: a thread for each run of the loop -----------------------

    def _begin(self):
        generation = self.loop._watch_begin(self.threshold, self._returned)
        if self.loop.is_running():
            self._start(generation)

    def _start(self, generation):
        thread = threading.Thread(target=self._run, args=(generation,), daemon=True,
                                  name=f'tidewire-watch-{self.loop.stats()["id"]}')
        try:
            thread.start()
        except RuntimeError:    # no thread can be started: reports have no stack
            pass

    def _run(self, generation):
        while (found := self.loop._watch_wait(generation)) is not None:
            again, count, *times, letter, gil = found
            try:
                self._look(count, times, _State(letter, gil), again)
            except Exception:
                logger.exception('A slow callback could not be reported')

    def _look(self, count, times, state, again):
        thread_id = self.loop._thread_id
        frame = sys._current_frames().get(thread_id)
        if frame is None or self.loop._watch_count() != count:
            return      # it has returned
        task = _current_task(self.loop)
        self._capture = capture = _Capture(
            count, _stack(frame), task and task.get_name(), task and _coroutine_name(task),
            state)
        del frame
        if again:
            self._report('(running)', capture, *times, returned=False)

    # -- reports -----------------------------------------------------------------

    def _returned(self, facts):
        # Called by the loop, after a callback that took long.  item is None between callbacks:
        # then only the stack says whether Python code ran (a finalizer, a handler of
        # signal.signal()), or the machine was busy.
        item, count, *times, letter, gil = facts
        capture, self._capture = self._capture, None
        if capture is None or capture.count != count:
            capture = _Capture(count, (), None, None, _State(letter, gil))
        if item is None and not capture.stack:
            return
        try:
            self._report(_describe(item), capture, *times, returned=True, item=item)
        except Exception:
            logger.exception('A slow callback could not be reported')

    def _report(self, callback, capture, seconds, cpu, queued, returned, item=None):
        with self._lock:
            suppressed = self._rate.take()
        if suppressed is None:
            return
        file, line, function = _place(capture.stack) or _place_of_item(item)
        stats = self.loop.stats()
        report = SlowCallback(
            loop=stats['name'], loop_id=stats['id'], callback=callback, task=capture.task,
            coroutine=capture.coroutine, seconds=seconds, returned=returned, cpu_seconds=cpu,
            queued_seconds=queued,
            state=capture.state.name(self.threshold, seconds, cpu, queued), file=file, line=line,
            function=function, stack=capture.stack, suppressed=suppressed)
        if returned:
            self._remember(report)
        self._handler(report)

    def _remember(self, report):
        with self._lock:
            self._slowest = sorted([*self._slowest, report], key=lambda one: -one.seconds)[:SHOWN]

    def slowest(self) -> list[SlowCallback]:
        """The slowest callbacks that were reported and have returned, ten at most."""
        return list(self._slowest)


def _current_task(loop):
    try:
        return asyncio.current_task(loop)
    except RuntimeError:
        return None


def _coroutine_name(task):
    coro = task.get_coro()
    return getattr(coro, '__qualname__', None) or repr(coro)


def _is_ours(filename):
    return filename.startswith(_HERE)


def _stack(frame):
    """Outermost first, without the frames that run the loop."""
    frames = []
    while frame is not None:
        if _is_ours(frame.f_code.co_filename) and frame.f_code.co_name in ('_run', 'run_forever'):
            break
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    stack = traceback.StackSummary.extract(reversed(frames), lookup_lines=False)
    return tuple(stack)


def _place(stack):
    """The innermost frame of the program's own code; or of a package, or of any."""
    for excluded in ((*_LIBRARY, _HERE), (_HERE,)):
        for frame in reversed(stack):
            name = frame.filename
            if not name.startswith(excluded) or (
                    name.startswith(_PACKAGES) and not _is_ours(name)):
                return frame.filename, frame.lineno, frame.name
    return None


def _place_of_item(item):
    """Where a callback that left no stack is defined."""
    callback = getattr(item, '_callback', None)
    while hasattr(callback, 'func'):
        callback = callback.func
    code = getattr(getattr(callback, '__func__', callback), '__code__', None)
    if code is None:
        return None, None, None
    return code.co_filename, code.co_firstlineno, code.co_qualname


def _describe(item):
    """As asyncio's debug mode describes a handle."""
    if item is None:
        return '(between callbacks)'
    if isinstance(item, events.Handle):
        return _seam.format_handle(item)
    protocol = getattr(item, 'get_protocol', lambda: None)()
    return repr(item) if protocol is None else f'{item!r} of {protocol!r}'


def watch(loop: 'Loop | None' = None, threshold: float = 0.1,
          handler: Callable[[SlowCallback], object] | None = None, *, rate: float = 1.0,
          burst: int = 10) -> Watch:
    """Report callbacks of the loop that take `threshold` seconds or longer; returns the watch.

    loop: None for the running one.  handler(report) gets a SlowCallback; without one
    reports are warnings of the logger "tidewire", with a dict as the record's `tidewire`.
    At most `burst` reports at once, then `rate` in a second.  The watch ends with its
    stop(), as a context manager, or with the loop; a loop has one, the last.
    """
    if loop is None:
        loop = cast('Loop', asyncio.get_running_loop())
    if loop.is_closed():
        raise RuntimeError('Event loop is closed')
    loop._watch = new = Watch(loop, threshold, handler, rate, burst)
    return new
