"""expose(): a Unix socket by which ``python -m tidewire top`` sees this process.

A client sends lines; for "stats" it gets a line of JSON, _catalogue.describe().  The socket
lies in a directory of mode 0700, has mode 0600, and answers to the same user and root alone.
"""
import atexit
import contextlib
import errno
import json
import os
import select
import socket
import stat
import struct
import tempfile
import threading
import time

from . import _catalogue

#: Seconds until a connection is accepted for which the process had no room.
RETRY = 0.1
_LACKS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_lock = threading.Lock()
_server: "_Server | None" = None


def directory() -> str:
    """The user's own, made if it is not there; OSError if somebody else's is in its place."""
    base = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    if os.path.isdir(base) and os.stat(base).st_uid == os.getuid():
        path = os.path.join(base, "tidewire")
    else:
        path = os.path.join(tempfile.gettempdir(), f"tidewire-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise OSError(f"{path} is not a directory of this user alone")
    return path


def path_of(pid: int) -> str:
    """Where the process with that number has its socket."""
    return os.path.join(directory(), f"{pid}.sock")


def _places(uid: int) -> list[str]:
    """Where a process of that user may have its socket: its environment may not be ours."""
    bases = [f"/run/user/{uid}"]
    if uid == os.getuid() and (ours := os.environ.get("XDG_RUNTIME_DIR")):
        bases.insert(0, ours)
    places = [os.path.join(base, "tidewire") for base in bases]
    places += [os.path.join(base, f"tidewire-{uid}") for base in (tempfile.gettempdir(), "/tmp")]
    return list(dict.fromkeys(places))


def find(pid: int) -> str | None:
    """The socket of a process of this user, or for root of any; None: it is not exposed."""
    try:
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        uid = os.getuid()
    for place in _places(uid):
        path = os.path.join(place, f"{pid}.sock")
        with contextlib.suppress(OSError):
            if os.lstat(path).st_uid == uid and not _is_stale(path):
                return path
    return None


def _is_stale(path: str) -> bool:
    """Does nobody listen there any more?  Another program may have the process's number."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        try:
            sock.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            pass
    return False


def _is_allowed(connection: socket.socket) -> bool:
    """Whether the peer is the same user, or root."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True         # the directory's mode has to do
    form = struct.Struct("3i")
    _, uid, _ = form.unpack(connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, form.size))
    return uid in (0, os.getuid())


class _Server:
    def __init__(self, path: str) -> None:
        self.path = path
        self._sock = socket.socket(socket.AF_UNIX)
        self._clients: set[socket.socket] = set()
        #: Held while a connection is made or closed, and over a fork: forget() knows them all.
        self.lock = threading.Lock()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)     # of an earlier process with our number
        try:
            with contextlib.suppress(OSError):
                os.fchmod(self._sock.fileno(), 0o600)   # on Linux the file is made with it
            self._sock.bind(path)
            os.chmod(path, 0o600)
            self._sock.listen()
        except BaseException:
            self._sock.close()
            raise
        threading.Thread(target=self._accept, name="tidewire-expose", daemon=True).start()

    def _accept(self) -> None:
        ready = select.poll()
        try:
            self._sock.setblocking(False)
            ready.register(self._sock, select.POLLIN)
        except OSError:
            return      # closed
        while True:
            ready.poll()
            try:
                with self.lock:
                    connection, _ = self._sock.accept()
                    self._clients.add(connection)
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as exc:
                if exc.errno not in _LACKS:
                    return      # closed
                time.sleep(RETRY)
                continue
            connection.setblocking(True)
            try:
                threading.Thread(target=self._serve, args=(connection,), daemon=True,
                                 name="tidewire-expose-client").start()
            except RuntimeError:        # no thread can be started
                self._end(connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            self._answer(connection)
        finally:
            self._end(connection)

    def _end(self, connection: socket.socket) -> None:
        with self.lock:
            self._clients.discard(connection)
            connection.close()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection.makefile("rb") as lines:
            if not _is_allowed(connection):
                return
            for line in lines:
                if line.strip() != b"stats":
                    return
                connection.sendall(json.dumps(_catalogue.describe()).encode() + b"\n")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)   # ends accept() in its thread
        self._sock.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)

    def forget(self) -> None:
        """In a forked child: the sockets are the parent's, and the threads are gone."""
        for sock in (self._sock, *self._clients):
            os.close(sock.detach())     # a file of makefile() would keep it open


def expose() -> str:
    """Let ``python -m tidewire top`` of the same user see this process; the socket's path.

    A thread answers, also while a loop is blocked.  A child made by fork is exposed, too.
    Calling it again changes nothing.  ``TIDEWIRE_EXPOSE=1`` does it when a loop is made.
    """
    global _server
    with _lock:
        if _server is None:
            _server = _Server(path_of(os.getpid()))
        return _server.path


def hide() -> None:
    """Undo expose()."""
    global _server
    with _lock:
        server, _server = _server, None
    if server is not None:
        server.close()


def _before_fork() -> None:
    _lock.acquire()
    if _server is not None:
        _server.lock.acquire()


def _after_fork_in_parent() -> None:
    if _server is not None:
        _server.lock.release()
    _lock.release()


def _after_fork_in_child() -> None:
    global _lock, _server
    _lock = threading.Lock()
    server, _server = _server, None
    if server is not None:
        server.forget()
        with contextlib.suppress(OSError):
            expose()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent,
                    after_in_child=_after_fork_in_child)
atexit.register(hide)


# -- the other side ------------------------------------------------------------------------


def processes() -> list[int]:
    """The numbers of this user's processes that are exposed."""
    found = set()
    for place in _places(os.getuid()):
        with contextlib.suppress(OSError):
            found |= _processes_of(place)
    return sorted(found)


def _processes_of(place: str) -> set[int]:
    found = set()
    for name in os.listdir(place):
        pid = name.removesuffix(".sock")
        if pid.isdigit() and pid != name:
            path = os.path.join(place, name)
            if _is_stale(path):     # it was killed, and left its socket
                with contextlib.suppress(OSError):
                    os.unlink(path)
                continue
            found.add(int(pid))
    return found


class Client:
    """A connection to an exposed process; OSError if it is not exposed."""

    def __init__(self, pid: int) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        try:
            self._sock.settimeout(10)
            self._sock.connect(find(pid) or path_of(pid))
        except BaseException:
            self._sock.close()
            raise
        self._lines = self._sock.makefile("rb")

    def stats(self) -> dict[str, object]:
        self._sock.sendall(b"stats\n")
        line = self._lines.readline()
        if not line:
            raise ConnectionError("the process has ended, or does not answer to this user")
        return dict(json.loads(line))

    def close(self) -> None:
        self._lines.close()
        self._sock.close()
