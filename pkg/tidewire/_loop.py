"""The Loop: C code for what runs often, asyncio.BaseEventLoop for the rest."""
import asyncio
import concurrent.futures
import functools
import os
import signal
import sys
import threading
import time
import types
import warnings
import weakref
from asyncio import constants, events
from asyncio.log import logger

from . import _conn, _core, _dns, _nest, _process, _seam, _settings, _tls, _watch

_live = {}      # id: weak reference; list() of its values cannot be interrupted by a thread


def _loops():
    return [loop for loop in [ref() for ref in list(_live.values())] if loop is not None]


def _before_fork():
    # Send held writes now; otherwise both processes would send them.
    for loop in _loops():
        loop._flush_held()


def _after_fork_in_child():
    for loop in _loops():
        loop._forget_wakeup()
        loop._after_fork()


os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)


def _is_main_thread():
    return threading.get_ident() == threading.main_thread().ident


def _expose_or_warn():
    from . import _expose
    try:
        _expose.expose()
    except OSError as exc:
        warnings.warn(f'TIDEWIRE_EXPOSE has no effect: {exc}', RuntimeWarning, stacklevel=3)


class _SignalEnd:
    def __init__(self, loop):
        self._loop = weakref.ref(loop)

    def fileno(self):
        loop = self._loop()
        loop._swap_wakeup(loop._signal_fd())
        return loop._signal_fd()

    def note(self, signum, frame):
        loop = self._loop()
        if loop is not None:
            loop._note_signal(signum)


class Loop(_core.Loop, asyncio.BaseEventLoop):
    """An asyncio event loop with its transports in C.

    It has everything that asyncio documents for an event loop, as of the running
    Python's version; see library/asyncio-eventloop.
    """

    def __init__(self, *, poller=None):
        super().__init__()
        self._signal_handlers = {}
        self._has_wakeup = False
        _settings.check(stacklevel=2)
        self._open(poller or _settings.choice('TIDEWIRE_POLLER'), _is_main_thread())
        self._unix_server_sockets = {}
        self._made_executor = None
        self._jobs = set()      # futures of the executors
        self._watch = None
        self._never_hold = not _settings.is_on('TIDEWIRE_CORK')
        self._never_merge = not _settings.is_on('TIDEWIRE_GRO')
        self._nests = False
        if _seam.is_nest_patched():
            self._allow_nesting()
        self._csock = _SignalEnd(self)      # the seam's add_signal_handler() asks its fileno()
        slow = _settings.seconds('TIDEWIRE_SLOW')
        if slow is not None:
            _watch.watch(self, slow)
        key = id(self)
        _live[key] = weakref.ref(self, lambda ref: _live.pop(key, None))
        if _settings.is_on('TIDEWIRE_EXPOSE'):
            _expose_or_warn()

    def __repr__(self):
        # asyncio's, with the module: tasks and warnings show which loop it is.
        cls = type(self)
        return (f'<{cls.__module__}.{cls.__qualname__} running={self.is_running()} '
                f'closed={self.is_closed()} debug={self.get_debug()}>')

    def __del__(self):
        if '_csock' in vars(self):      # else __init__() failed, and nothing is open
            super().__del__()

    @property
    def _nest_patched(self):
        # apply() asks for this when it has patched asyncio, and changes nothing of a loop
        # that has it: tidewire's nests by itself.
        if not _seam.is_nest_patched():
            raise AttributeError('_nest_patched')
        self._allow_nesting()
        return True

    def _allow_nesting(self):
        self._nests = True
        # For this loop only: the others keep asyncio's method, and its tracebacks.
        self.run_until_complete = types.MethodType(_nest.run_until_complete, self)

    # -- running -------------------------------------------------------------

    def run_forever(self):
        """Run until stop() is called.  See library/asyncio-eventloop."""
        self._check_closed()
        self._check_running()
        if self._nests:
            _nest.run_forever(self)
        else:
            self._run(None)

    def _check_running(self):
        if not self._nests:
            super()._check_running()

    def _run(self, future):
        self._old_agen_hooks = None     # nothing to restore yet
        try:
            self._install_wakeup()
            self._select_patched = _seam.is_select_patched()
            self._run_forever_setup()
            if self._watch is not None:
                self._watch._begin()
            self._run_turns(future)
        finally:
            self._run_forever_cleanup()
            if self._watch is not None:
                self._watch_end(False)
            if not self._signal_handlers:   # otherwise a signal that arrives now is kept
                self._forget_wakeup()

    if not hasattr(asyncio.BaseEventLoop, '_run_forever_setup'):

        def _run_forever_setup(self):
            self._set_coroutine_origin_tracking(self._debug)
            self._old_agen_hooks = sys.get_asyncgen_hooks()
            self._thread_id = threading.get_ident()
            sys.set_asyncgen_hooks(firstiter=self._asyncgen_firstiter_hook,
                                   finalizer=self._asyncgen_finalizer_hook)
            events._set_running_loop(self)

        def _run_forever_cleanup(self):
            self._stopping = False
            self._thread_id = None
            events._set_running_loop(None)
            self._set_coroutine_origin_tracking(False)
            if self._old_agen_hooks is not None:
                sys.set_asyncgen_hooks(*self._old_agen_hooks)
                self._old_agen_hooks = None

    def _set_coroutine_origin_tracking(self, enabled):
        # asyncio's, in an order that can be interrupted anywhere.
        if bool(enabled) == bool(self._coroutine_origin_tracking_enabled):
            return
        if enabled:
            self._coroutine_origin_tracking_saved_depth = (
                sys.get_coroutine_origin_tracking_depth())
            self._coroutine_origin_tracking_enabled = True
            sys.set_coroutine_origin_tracking_depth(constants.DEBUG_STACK_DEPTH)
        else:
            sys.set_coroutine_origin_tracking_depth(
                self._coroutine_origin_tracking_saved_depth)
            self._coroutine_origin_tracking_enabled = False

    def close(self):
        """Close the loop without running what waits.  Idempotent.

        RuntimeError if it runs.  See library/asyncio-eventloop.
        """
        if self.is_running():
            raise RuntimeError('Cannot close a running event loop')
        if self.is_closed():
            return
        if self._debug:
            logger.debug('Close %r', self)
        self._forget_wakeup()
        self._close_signals()
        self._closed = True
        if self._watch is not None:
            self._watch.stop()
        self._shut()
        self._executor_shutdown_called = True
        executor = self._default_executor
        if executor is not None:
            self._default_executor = self._made_executor = None
            executor.shutdown(wait=False)

    # -- signals -------------------------------------------------------------

    _handle_signal = _seam._handle_signal
    _check_signal = _seam._check_signal

    def add_signal_handler(self, sig, callback, *args):
        """Call callback(*args) in the loop when the process gets a signal.

        ValueError or RuntimeError if it cannot be caught.  See library/asyncio-eventloop.
        """
        _seam.add_signal_handler(self, sig, callback, *args)
        self._has_wakeup = True
        # asyncio's handler does nothing; ours notes a signal for which the wakeup
        # descriptor has no room.
        signal.signal(sig, self._csock.note)
        signal.siginterrupt(sig, False)
        self._set_wakeup()

    def remove_signal_handler(self, sig):
        """Remove the handler of a signal: True if there was one.

        See library/asyncio-eventloop.
        """
        if list(self._signal_handlers) == [sig] and _is_main_thread():
            self._swap_wakeup(-1)
        removed = _seam.remove_signal_handler(self, sig)
        if removed and not self._signal_handlers:
            self._has_wakeup = False
            if self.is_running():
                self._install_wakeup()
        return removed

    def _set_wakeup(self):
        # A full buffer wakes the loop as well: no line on stderr for each signal of a
        # profiler's timer while a callback computes.
        return signal.set_wakeup_fd(self._signal_fd(), warn_on_full_buffer=False)

    def _swap_wakeup(self, fd):
        # As asyncio does in this place, whatever descriptor is set.
        self._note_displaced(signal.set_wakeup_fd(fd, warn_on_full_buffer=False))

    def _note_displaced(self, fd):
        # Another loop's: its number is not the program's, and is not kept open.
        if fd in (-1, self._signal_fd()):
            return
        for loop in _loops():
            if loop is not self and loop._has_wakeup and loop._signal_fd() == fd:
                loop._has_wakeup = False

    def _install_wakeup(self):
        # Signals end a blocked poll through Python's wakeup descriptor, unless
        # the program has set one: asyncio does not change it either until a handler
        # is added.
        if not _is_main_thread():
            return      # signals are not for us
        self._has_wakeup = None     # perhaps: an exception may come in between
        try:
            previous = self._set_wakeup()
        except ValueError:
            self._has_wakeup = False
            return      # not the main interpreter
        if previous in (-1, self._signal_fd()) or self._signal_handlers:
            self._has_wakeup = True
            self._note_displaced(previous)
            return
        try:
            signal.set_wakeup_fd(previous)
        except (ValueError, OSError):
            return      # it was closed
        self._has_wakeup = False

    def _forget_wakeup(self):
        if self._has_wakeup is False:
            return
        try:
            current = signal.set_wakeup_fd(-1)
            if current != self._signal_fd():
                # The program's, or another loop's; it has received our number.
                self._signal_fd_is_kept = self._has_wakeup is True
                signal.set_wakeup_fd(current)
        except (ValueError, OSError):
            pass
        self._has_wakeup = False

    def _handle_signals(self, numbers):
        for signum in numbers:
            self._handle_signal(signum)

    def _add_callback_signalsafe(self, handle):
        # asyncio calls no method of the program here.
        made = _core.Loop.call_soon(self, handle._callback, *handle._args,
                                    context=handle._context)
        if made._source_traceback and handle._source_traceback:
            # Where the program added the handler.
            made._source_traceback[:] = handle._source_traceback

    def _close_signals(self):
        if sys.is_finalizing():
            if self._signal_handlers:
                warnings.warn(f'Closing the loop {self!r} on interpreter '
                              'shutdown stage, skipping signal handlers '
                              'removal', ResourceWarning, source=self)
                self._signal_handlers.clear()
            return
        for sig in list(self._signal_handlers):
            self.remove_signal_handler(sig)

    # -- executors -----------------------------------------------------------

    def run_in_executor(self, executor, func, *args):
        """Run func(*args) in an executor (None: the default one); a future of its result."""
        self._check_closed()
        self._flush_held()
        if self._debug:
            self._check_callback(func, 'run_in_executor')
        if executor is None:
            executor = self._default_executor
            self._check_default_executor()
            if executor is None:
                executor = self._default_executor = concurrent.futures.ThreadPoolExecutor(
                    thread_name_prefix='asyncio')
                self._made_executor = executor
        job = executor.submit(func, *args)
        if isinstance(job, concurrent.futures.Future):
            self._count('jobs')
            self._jobs.add(job)
            job.add_done_callback(functools.partial(self._job_done, time.monotonic_ns()))
        return _seam.wrap_future(job, self)

    _plain_run_in_executor = run_in_executor

    def _job_done(self, start, job):
        self._jobs.discard(job)
        self._count('jobs_done')
        self._count('jobs_ns', time.monotonic_ns() - start)

    # -- observability -------------------------------------------------------

    def stats(self, reset=False):
        """Counters and measurements of the loop since it was made, as a dict.

        reset: later calls count from this one on.  Works in any thread, and on a closed
        loop.  docs/observability.rst says what each key means.
        """
        stats = super().stats(reset)
        running = sum(job.running() for job in list(self._jobs))
        for work, waiting in ((stats['executor'], len(self._jobs) - running),
                              (stats['lookups'], self._lookups_waiting())):
            work['waiting'] = waiting
            work['running'] = max(work.pop('pending') - waiting, 0)
        return stats

    # -- servers and connections ---------------------------------------------

    create_connection = _conn.create_connection
    create_unix_connection = _conn.create_unix_connection
    create_datagram_endpoint = _conn.create_datagram_endpoint
    connect_accepted_socket = _conn.connect_accepted_socket
    create_unix_server = _seam.create_unix_server

    _make_subprocess_transport = _process._make_subprocess_transport

    _sendfile_native = _seam.sendfile_native

    getaddrinfo = _dns.getaddrinfo
    getnameinfo = _dns.getnameinfo

    _make_ssl_transport = _tls._make_ssl_transport
    start_tls = _tls.start_tls


Loop.__module__ = 'tidewire'        # where users find it, and what repr() shows
_seam.take_stop_serving(Loop)


def new_event_loop(*, poller=None):
    """A new Loop.

    poller: "epoll" or "libuv", as far as the build has them; by default the value
    of the environment variable TIDEWIRE_POLLER, or the first of them.
    """
    return Loop(poller=poller)


