"""Subprocess transports: asyncio's own, with the waiting done by the loop.

The transport is the running Python's ``_UnixSubprocessTransport`` (spawning by
``subprocess.Popen``, the order of the callbacks, close, repr).  Its pipes are
tidewire's pipe transports, and the child is watched through a pidfd in the
loop's poll: no child watcher, no thread, no SIGCHLD.

Where the system has no pidfd (seccomp, gVisor, Linux before 5.4) a thread
waits for each child, as asyncio's ThreadedChildWatcher does.  The environment
variable ``TIDEWIRE_CHILD_WATCHER=thread`` asks for that.
"""

import asyncio
import contextvars
import itertools
import os
import sys
import threading
import types
from asyncio import unix_events
from asyncio.log import logger

_thread_numbers = itertools.count()

# Before 3.12 asyncio's watcher is a thread, and lets one more iteration pass before
# process_exited.
_ONE_MORE_TURN = sys.version_info < (3, 12)


def _flush_held(loop):
    if loop is not None:    # the transport is not closed yet
        loop._flush_held()


class SubprocessTransport(
        unix_events._UnixSubprocessTransport):  # type: ignore[name-defined]
    """The transport of a child process: loop.subprocess_exec() and subprocess_shell()."""

    _as_by_thread = _ONE_MORE_TURN
    _closed = True      # until __init__() has begun: __del__() asks for it

    def __init__(self, *args, **kwargs):
        try:
            super().__init__(*args, **kwargs)
        except BaseException:
            if not self._closed and self._proc is not None:
                # The child runs, and only this object refers to it.
                self._end_unconnected()
                _watch(self._loop, self)
            self._closed = True
            raise

    # -- connecting the pipes ------------------------------------------------

    # asyncio forgets three things when the spawning task or this one is
    # cancelled, or a pipe cannot be connected: pipes that are connected after
    # close(), pipes that are never connected, and that a task may be cancelled
    # before its first step.  _wait() waits for all of them, and never returns.

    def _connect_pipes(self, waiter):
        coro = self._connect_or_end(waiter)
        coro.send(None)     # into its `try`, where a cancellation ends
        return coro

    async def _connect_or_end(self, waiter):
        try:
            await _first_step()
            await super()._connect_pipes(waiter)
        except asyncio.CancelledError:
            waiter.cancel()
            raise
        finally:
            if not self._loop.is_closed():
                if self._pending_calls is not None:
                    self._end_unconnected()
                elif self._closed:
                    self._close_pipes()

    def _end_unconnected(self):
        # connection_made() of the program's protocol is never called.
        self._protocol = asyncio.SubprocessProtocol()
        self._pending_calls = None
        self._pipes = {fd: pipe for fd, pipe in self._pipes.items() if pipe is not None}
        self.close()
        self._close_pipes()     # those that were connected after close()
        for fd, file in enumerate((self._proc.stdin, self._proc.stdout, self._proc.stderr)):
            if file is not None and fd not in self._pipes:
                file.close()
        if not self._finished:
            self._try_finish()

    def _pipe_connection_lost(self, fd, exc):
        if not self._finished:      # by _end_unconnected(): this pipe was not among _pipes
            super()._pipe_connection_lost(fd, exc)

    def _close_pipes(self):
        for pipe in self._pipes.values():
            pipe.pipe.close()

    def close(self):
        if not self._closed and self._loop is not None and self._loop.is_closed():
            self._pipes = {}    # only an open loop can close them
        super().close()

    # -- signals -------------------------------------------------------------

    # Send what was written before the signal.

    def send_signal(self, signal):
        _flush_held(self._loop)
        super().send_signal(signal)

    def terminate(self):
        _flush_held(self._loop)
        super().terminate()

    def kill(self):
        _flush_held(self._loop)
        super().kill()

    # -- the end of the child ------------------------------------------------

    def _child_ended(self, returncode):
        """Called from the loop, with the return code, or None if somebody else reaped the child."""
        self._loop._count("processes_ended")
        if returncode is None:
            returncode = self._code_taken_elsewhere()
        elif _ONE_MORE_TURN:    # whose watcher is a thread
            _log_exit(self._loop, self._pid, returncode)
        if _ONE_MORE_TURN:      # and whose thread has an empty context
            self._loop.call_soon(self._loop.call_soon, self._process_exited, returncode,
                                 context=contextvars.Context())
        else:
            self._loop.call_soon(self._process_exited, returncode)

    def _child_is_hidden(self):
        """It has ended, but whoever traces it must wait for it first: a debugger, strace."""
        _watch_by_thread(self._loop, self)

    def _kill_and_wait(self):
        self.close()
        self._proc.wait()
        self._child_ended(None)

    def _code_taken_elsewhere(self):
        # Popen.wait() or poll(), in close() or in another thread, holds this
        # lock until it has noted the code.
        with self._proc._waitpid_lock:
            returncode = self._proc.returncode
        if returncode is None:
            # asyncio's watchers have a text each.
            logger.warning(
                "Unknown child process pid %d, will report returncode 255"
                if self._as_by_thread else
                "child process pid %d exit status already read: "
                " will report returncode 255", self._pid)
            return 255
        return returncode


@types.coroutine
def _first_step():
    yield


def _log_exit(loop, pid, returncode):
    """Debug mode: the log line of asyncio's ThreadedChildWatcher."""
    if loop.get_debug():
        logger.debug("process %s exited with returncode %s", pid, returncode)


def _wait_in_thread(loop, pid, callback):
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        returncode = None
    else:
        returncode = os.waitstatus_to_exitcode(status)
        if not _ONE_MORE_TURN:
            _log_exit(loop, pid, returncode)
    try:
        loop.call_soon_threadsafe(callback, returncode)
    except RuntimeError:
        logger.warning("Loop %r that handles pid %r is closed", loop, pid)


def _watch(loop, transport):
    loop._count("processes")
    pid = transport.get_pid()
    if os.environ.get("TIDEWIRE_CHILD_WATCHER") != "thread":
        if loop._watch_child(pid, transport._child_ended, transport._child_is_hidden):
            return
    _watch_by_thread(loop, transport)


def _watch_by_thread(loop, transport):
    pid = transport.get_pid()
    transport._as_by_thread = True
    thread = threading.Thread(
        target=_wait_in_thread, args=(loop, pid, transport._child_ended),
        name=f"tidewire-waitpid-{next(_thread_numbers)}", daemon=True)
    try:
        thread.start()
    except RuntimeError:    # no thread can be started
        transport._kill_and_wait()
        raise


async def _make_subprocess_transport(self, protocol, args, shell, stdin, stdout, stderr,
                                     bufsize, extra=None, **kwargs):
    """The hook that asyncio's subprocess_exec() and subprocess_shell() call."""
    self._flush_held()
    waiter = self.create_future()
    transport = SubprocessTransport(
        self, protocol, args, shell, stdin, stdout, stderr, bufsize,
        waiter=waiter, extra=extra, **kwargs)
    try:
        _watch(self, transport)
        await waiter
    except (SystemExit, KeyboardInterrupt):
        raise
    except GeneratorExit:
        transport.close()
        raise
    except BaseException:
        transport.close()
        await transport._wait()
        raise
    return transport
