"""Subprocess transports: asyncio's own, with the waiting done by the loop.

The transport is the running Python's ``_UnixSubprocessTransport`` (spawning by
``subprocess.Popen``, the order of the callbacks, close, repr).  Its pipes are
tidewire's pipe transports, and the child is watched through a pidfd in the
loop's poll: no child watcher, no thread, no SIGCHLD.

Where the system has no pidfd (seccomp, gVisor, Linux before 5.4) a thread
waits for each child, as asyncio's ThreadedChildWatcher does.  The environment
variable ``TIDEWIRE_CHILD_WATCHER=thread`` asks for that.
"""

import itertools
import os
import sys
import threading
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

    # A signal does not overtake what was written before.

    def send_signal(self, signal):
        _flush_held(self._loop)
        super().send_signal(signal)

    def terminate(self):
        _flush_held(self._loop)
        super().terminate()

    def kill(self):
        _flush_held(self._loop)
        super().kill()

    def _child_ended(self, returncode):
        """Called from the loop, with the return code, or None if somebody else took it."""
        if returncode is None:
            returncode = self._code_taken_elsewhere()
        elif _ONE_MORE_TURN:    # whose watcher is a thread
            _log_exit(self._loop, self._pid, returncode)
        if _ONE_MORE_TURN:
            self._loop.call_soon(self._loop.call_soon, self._process_exited, returncode)
        else:
            self._loop.call_soon(self._process_exited, returncode)

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


def _log_exit(loop, pid, returncode):
    """Debug mode: what asyncio's ThreadedChildWatcher tells."""
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
    pid = transport.get_pid()
    if os.environ.get("TIDEWIRE_CHILD_WATCHER") != "thread":
        if loop._watch_child(pid, transport._child_ended):
            return
    transport._as_by_thread = True
    threading.Thread(
        target=_wait_in_thread, args=(loop, pid, transport._child_ended),
        name=f"tidewire-waitpid-{next(_thread_numbers)}", daemon=True).start()


async def _make_subprocess_transport(self, protocol, args, shell, stdin, stdout, stderr,
                                     bufsize, extra=None, **kwargs):
    """The hook that asyncio's subprocess_exec() and subprocess_shell() call."""
    self._flush_held()
    waiter = self.create_future()
    transport = SubprocessTransport(
        self, protocol, args, shell, stdin, stdout, stderr, bufsize,
        waiter=waiter, extra=extra, **kwargs)
    _watch(self, transport)
    try:
        await waiter
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        transport.close()
        await transport._wait()
        raise
    return transport
