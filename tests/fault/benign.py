"""What looks wrong and is not the loop's doing.  Each was looked at once.

(case, line, reason): regular expressions for the text of the case and for the line.
"""
import re

BENIGN = [(re.compile(case), re.compile(line, re.S), why) for case, line, why in [
    (r"", r"^use-after-close epoll_ctl",
     "the program closed it first; the stock loop asks epoll, too"),
    (r"^sendfile", r"^use-after-close lseek",
     "the program closed the file under a cancelled sendfile(); asyncio moves its position, too"),
    (r"", r"^double-close .* from (libpython|python)", "Python's own: rmtree(), Popen"),
    (r" (fcntl|fstat|getsockname|dup) ", r"^leaked (socket|pipe|/dev|/tmp)",
     "Python's own: socketpair(), open() and Popen do not close what they cannot wrap"),
    (r" epoll_ctl #\d+ EBADF", r"^leaked (anon_inode|pipe)",
     "the kernel says EBADF of a number that was closed: then it is not ours to close"),
    (r"^(?!making|lifecycle)\w+ (once|always) epoll_ctl #\d+ EPERM|^ghosts chance",
     r"^leaked (anon_inode|pipe)",
     "a sandbox that forbids epoll_ctl() while the loop runs: its set is renewed, and stays empty"),
    (r" epoll_ctl #\d+ (EBADF|EPERM)", r"^another error",
     "the kernel says this of a closed number or a regular file: the transport is closed for it"),
    (r" always epoll_ctl #\d+ (ENOMEM|ENOSPC)", r"^(another error.*TimeoutError|stalled: it waits)",
     "a watch that lacks room is reported, and tried again in each turn"),
    (r" always epoll_ctl #\d+ (ENOMEM|ENOSPC)", r"^stalled: it spins",
     "a kernel lacks room to add a descriptor, never to change or to remove one"),
    (r" epoll_wait #\d+ (EBADF|EINVAL)|chance", r"Event loop stopped before Future completed",
     "a stop() that was scheduled in the turn that failed; on the stock loop, too"),
    (r" connect #\d+ EALREADY| getpeername #\d+ ENOTCONN", r"^another error.*EAGAIN",
     "the kernel says this while it connects, or is not connected: here it is the shim's lie"),
    (r"^signals always read #\d+ (ENOMEM|EIO|EPERM)", r"^another error",
     "read(2) of a pipe has no such error"),
    (r"^watching \w+ fcntl", r"^another error.*TimeoutError",
     "libuv asks for the descriptor's flags, which a kernel never refuses"),
    (r"^names (\w+ write|chance)", r"^broken: a lookup",
     "write(2) of an eventfd has no such error"),
    (r"^threadsafe \w+ write #\d+ E(?!INTR)", r"^another error.*TimeoutError",
     "write(2) of an eventfd fails only if it is full; where there is no eventfd, it is a pipe"),
    (r"^subprocess", r"^(stalled: it waits|stuck)",
     "asyncio 3.11's: Process.wait() never ends if a pipe could not be connected"),
    (r"^(threadsafe|lifecycle|names) \w+ pthread_create", r"^odd RuntimeError",
     "Thread.start() says so"),
    (r"^signals \w+ (fcntl|fstat)", r"^odd RuntimeError",
     "add_signal_handler() makes a RuntimeError of it"),
    (r"^sendfile", r"^reported ValueError: seek of closed file",
     "the program closed the file under a cancelled sendfile()"),
    (r"^start_tls", r"^reported CancelledError",
     "asyncio 3.11's: StreamReaderProtocol asks a cancelled task for its exception"),
    (r" nomem ",
     r"^(odd|the judge).*_collections_abc>\", line \d+, in (get|__contains__)\s+SystemError",
     "Python's own: os.environ loses the error"),
    (r"^sendfile", r"^odd RuntimeError Transport is closing", "sendfile() says so on any loop"),
    (r"^(udp|unix_dgram) \w+ getsockname|^udp (chance|limit)", r"^odd (ValueError|TypeError)",
     "the program passes on a name that it did not get"),
    (r"^(sock_ops|accept\w*|ghosts|watching|terminal) (short|chance|cut)", r"^corrupt",
     "the program reads once, and gets a part"),
    (r"^threadsafe", r"leaked .*\.py", "a thread reads a source file for its traceback"),
    (r"^(?!accept)\w+ always accept4", r"^(stalled: it waits|stuck)", "nobody can ever be accepted"),
    (r" limit 2$", r"^stalled: it waits",
     "the listener and the client have both: nobody is accepted before one is closed"),
]]


def why(case, line):
    """The reason, or None: then it counts."""
    for in_case, in_line, reason in BENIGN:
        if in_case.search(str(case)) and in_line.search(line):
            return reason
    return None
