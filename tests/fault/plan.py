"""What fails: every call with every error that it may have, and the other kinds of faults."""
import dataclasses
import errno
import errno as E
import random

from fault.shim import EXTENSION, LIBUV, OTHERS

# The errors of each call: by its manual page, by the kernel's sources, or by a sandbox.
ERRORS = {
    "accept4": [E.EINTR, E.EAGAIN, E.ECONNABORTED, E.EMFILE, E.ENFILE, E.ENOBUFS, E.ENOMEM, E.EPROTO,
                E.EPERM, E.ENOSYS, E.EINVAL, E.EBADF, E.EHOSTUNREACH],
    "bind": [E.EADDRINUSE, E.EADDRNOTAVAIL, E.EACCES, E.EPERM, E.ENOMEM, E.ENOBUFS, E.EINVAL, E.EROFS],
    "close": [E.EINTR, E.EIO],
    "connect": [E.EINTR, E.EAGAIN, E.ECONNREFUSED, E.ETIMEDOUT, E.EADDRNOTAVAIL, E.ENETUNREACH, E.EPERM,
                E.EACCES, E.EALREADY, E.EISCONN, E.ENOBUFS],
    "dup": [E.EMFILE, E.EBADF],
    "dup3": [E.EBADF, E.EMFILE, E.EBUSY],
    "epoll_create1": [E.EMFILE, E.ENFILE, E.ENOMEM],
    "epoll_ctl": [E.ENOMEM, E.ENOSPC, E.EPERM, E.EBADF],
    "epoll_wait": [E.EINTR, E.EBADF, E.EINVAL],
    "eventfd": [E.EMFILE, E.ENFILE, E.ENOMEM, E.ENOSYS],
    "fcntl": [E.EMFILE, E.EPERM, E.EBADF, E.EINVAL],
    "fstat": [E.ENOMEM, E.EIO, E.EBADF, E.EPERM],
    "getpeername": [E.ENOBUFS, E.ENOTCONN, E.EBADF, E.EINVAL],
    "getsockname": [E.ENOBUFS, E.ENOTCONN, E.EBADF, E.EINVAL],
    "getsockopt": [E.ENOBUFS, E.ENOPROTOOPT, E.ENOMEM, E.EPERM, E.ENOTCONN],
    "listen": [E.EADDRINUSE, E.EOPNOTSUPP, E.EPERM, E.EACCES, E.ENOMEM, E.EINVAL],
    "lseek": [E.EIO, E.ESPIPE, E.EINVAL],
    "pidfd_open": [E.ENOSYS, E.EPERM, E.EMFILE, E.ENFILE, E.ENOMEM, E.EINVAL, E.ESRCH],
    "pipe2": [E.EMFILE, E.ENFILE],
    "poll": [E.EINTR, E.ENOMEM, E.EPERM],
    "pthread_create": [E.EAGAIN],
    "read": [E.EINTR, E.EAGAIN, E.ENOMEM, E.EIO, E.ECONNRESET, E.EBADF, E.EPERM],
    "readv": [E.EINTR, E.EAGAIN, E.ENOMEM, E.EIO, E.ECONNRESET, E.EBADF],
    "recv": [E.EINTR, E.EAGAIN, E.ENOMEM, E.ENOBUFS, E.EIO, E.ECONNRESET, E.ETIMEDOUT, E.ENOTCONN,
             E.EBADF, E.EPERM],
    "recvfrom": [E.EINTR, E.EAGAIN, E.ENOMEM, E.ENOBUFS, E.ECONNREFUSED, E.ENOTCONN, E.EBADF, E.EIO],
    "recvmmsg": [E.EINTR, E.EAGAIN, E.ENOMEM, E.ENOBUFS, E.ECONNREFUSED, E.ENOSYS, E.EPERM, E.EBADF],
    "recvmsg": [E.EINTR, E.EAGAIN, E.ENOMEM, E.ENOBUFS, E.ECONNREFUSED, E.EBADF],
    "send": [E.EINTR, E.EAGAIN, E.ENOMEM, E.ENOBUFS, E.EPIPE, E.ECONNRESET, E.EPERM, E.EBADF, E.EIO,
             E.ENOTCONN],
    "sendfile": [E.EINTR, E.EAGAIN, E.EINVAL, E.ENOSYS, E.EIO, E.ENOMEM, E.EPIPE, E.ECONNRESET, E.EPERM,
                 E.ENOTCONN, E.EOVERFLOW, E.ESPIPE],
    "sendmmsg": [E.EINTR, E.EAGAIN, E.ENOMEM, E.ENOBUFS, E.EPERM, E.ECONNREFUSED, E.ENOSYS, E.EINVAL,
                 E.EMSGSIZE, E.EIO, E.EBADF],
    "sendmsg": [E.EINTR, E.EAGAIN, E.ENOMEM, E.ENOBUFS, E.EPIPE, E.ECONNRESET, E.EPERM, E.EBADF, E.EIO,
                E.EINVAL],
    "sendto": [E.EINTR, E.EAGAIN, E.ENOMEM, E.ENOBUFS, E.EPERM, E.ENETUNREACH, E.ECONNREFUSED,
               E.EMSGSIZE, E.EBADF],
    "setsockopt": [E.ENOBUFS, E.ENOPROTOOPT, E.ENOMEM, E.EPERM, E.EINVAL],
    "shutdown": [E.ENOTCONN, E.EBADF, E.EPERM],
    "socket": [E.EMFILE, E.ENFILE, E.ENOMEM, E.ENOBUFS, E.EAFNOSUPPORT, E.EPERM],
    "socketpair": [E.EMFILE, E.ENFILE, E.ENOMEM],
    "waitid": [E.EINTR, E.ECHILD, E.EINVAL, E.EPERM, E.ENOSYS],
    "waitpid": [E.EINTR, E.ECHILD],
    "write": [E.EINTR, E.EAGAIN, E.ENOMEM, E.EPIPE, E.ECONNRESET, E.EIO, E.EBADF, E.EPERM],
    "writev": [E.EINTR, E.EAGAIN, E.ENOMEM, E.ENOBUFS, E.EPIPE, E.ECONNRESET, E.EIO, E.EBADF, E.EPERM],
}
# A limit that was reached, or a sandbox, refuses for good.
LASTING = {E.ENOSYS, E.EPERM, E.EMFILE, E.ENFILE, E.ENOMEM, E.ENOBUFS, E.ENOSPC, E.EACCES,
           E.ECONNREFUSED, E.EINVAL, E.EIO}
# Any call by chance: not those that only a program's own defect has.
BY_CHANCE = {call: [e for e in errors if e not in (E.EBADF, E.EINVAL, E.EALREADY, E.EISCONN)]
             for call, errors in ERRORS.items()}
# Python's own modules make these for the loop.
BY_PYTHON = {"accept4", "bind", "close", "connect", "dup", "epoll_create1", "epoll_ctl", "epoll_wait",
             "fcntl", "fstat", "getpeername", "getsockname", "getsockopt", "listen", "lseek", "pipe2",
             "pthread_create", "recv", "recvfrom", "send", "sendfile", "sendmsg", "sendto",
             "setsockopt", "shutdown", "socket", "socketpair", "waitpid", "writev"}
BY_LIBUV = {"dup", "epoll_create1", "eventfd", "fcntl", "pipe2"}
# These move bytes.
SHORT = {"read", "readv", "recv", "recvfrom", "recvmmsg", "send", "sendfile", "sendmmsg", "sendmsg",
         "sendto", "write", "writev"}
# What the stock loop calls where tidewire has another call.
STOCK_CALLS = {"recvmmsg": "recvfrom", "recvmsg": "recvfrom", "sendmmsg": "sendto", "readv": "recv",
               "waitid": "waitpid", "eventfd": "socketpair"}

KINDS = ("once", "always", "cut", "late", "short", "chance", "limit", "signals", "nomem", "malloc")


@dataclasses.dataclass(frozen=True)
class Case:
    """One fault.  Its text can be given to run.py --case."""
    program: str
    kind: str
    call: str = ""
    nth: int = 0
    value: int = 0      # an errno, a number of bytes, or of free descriptors

    def __str__(self):
        parts = [self.program, self.kind, self.call, f"#{self.nth}" if self.nth else ""]
        if self.kind in ("once", "always"):
            parts.append(errno.errorcode[self.value])
        elif self.kind in ("cut", "short", "limit"):
            parts.append(str(self.value))
        return " ".join(filter(None, parts))

    @classmethod
    def parse(cls, text):
        program, kind, *rest = text.split()
        found = {}
        for part in rest:
            if part.startswith("#"):
                found["nth"] = int(part[1:])
            elif part.isdigit():
                found["value"] = int(part)
            elif part.isupper():
                found["value"] = getattr(errno, part)
            else:
                found["call"] = part
        return cls(program, kind, **found)


def who_calls(call, target):
    """Whose calls fail: the extension's, and of some also Python's or libuv's on its behalf."""
    if target == "stock":
        return OTHERS
    return EXTENSION | (OTHERS if call in BY_PYTHON else 0) | (LIBUV if call in BY_LIBUV else 0)


def points(total, most):
    """Which of so many calls: the first ones, the last, and some between."""
    if total <= most:
        return range(1, total + 1)
    front = most * 2 // 3
    rest = most - front
    between = (front + (total - front) * (i + 1) // rest for i in range(rest))
    return sorted({*range(1, front + 1), *between})


def calls_of(program, counts, most):
    """The cases of a program, from how often it makes each call when nothing fails."""
    for call, total in counts.items():
        if not total:
            continue
        for error in ERRORS[call]:
            for nth in points(total, most):
                yield Case(program, "once", call, nth, error)
            if error in LASTING:
                for nth in sorted({1, 2, max(1, total // 2)} & set(range(1, total + 1))):
                    yield Case(program, "always", call, nth, error)
        for nth in points(total, most // 2):
            yield Case(program, "late", call, nth)
            if call in SHORT:
                for n in 1, 2, 5, 100, 4097:
                    yield Case(program, "cut", call, nth, n)


def others_of(program, seeds, allocations, most_allocations):
    """The kinds of faults that need no call."""
    for n in 1, 2, 3, 7, 100, 1000, 16384:
        yield Case(program, "short", value=n)
    for free in range(14):
        yield Case(program, "limit", value=free)
    for seed in range(1, 9):
        yield Case(program, "signals", nth=seed)
    for seed in range(1, seeds + 1):
        yield Case(program, "chance", nth=seed)
    for kind, high in allocations.items():
        for nth in points(high, most_allocations):
            yield Case(program, kind, nth=nth)


def sample(cases, n, seed):
    """Some of these cases, always the same ones, from all calls alike."""
    cases = list(cases)
    groups = {}
    for case in cases:
        groups.setdefault((case.kind, case.call), []).append(case)
    rng = random.Random(seed)
    for group in groups.values():
        rng.shuffle(group)
    chosen = []
    while len(chosen) < n and any(groups.values()):
        for group in groups.values():
            if group and len(chosen) < n:
                chosen.append(group.pop())
    return chosen
