/* The calls in place of libc's. */
#include "shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

#define HERE __builtin_return_address(0)
#define REAL(name) \
    static __typeof__(&name) real; \
    if (real == NULL) { \
        *(void **)&real = dlsym(RTLD_NEXT, #name); \
    }
/* A call on a descriptor that fails with -1, and else is libc's. */
#define TRY(name, fd) \
    REAL(name) \
    shim_used(CALL_##name, fd, HERE); \
    if (shim_fails(CALL_##name, HERE)) { \
        return -1; \
    }
#define CUT(name, n) shim_cut(CALL_##name, n, HERE)

/* -- helpers -------------------------------------------------------------- */

/* A datagram that is cut is another one: only streams are. */
static bool
is_stream(int fd)
{
    int type = 0, saved = errno;
    socklen_t len = sizeof(type);
    long rc = syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, &type, &len);

    errno = saved;
    return rc < 0 || type == SOCK_STREAM;
}

/* The counter of an eventfd has eight bytes, or none. */
static bool
is_counter(size_t n)
{
    return n == 8;
}

/* The first piece that is not empty. */
static const struct iovec *
first_piece(const struct iovec *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (v[i].iov_len > 0) {
            return &v[i];
        }
    }
    return NULL;
}

/* Is it to be cut?  Then `one` is the part that is left. */
static bool
cut_pieces(Call call, const struct iovec *v, size_t n, struct iovec *one,
           void *caller)
{
    const struct iovec *piece = first_piece(v, n);
    size_t whole = 0, less;

    for (size_t i = 0; i < n; i++) {
        whole += v[i].iov_len;
    }
    less = shim_cut(call, whole, caller);
    if (piece == NULL || less >= whole) {
        return false;
    }
    one->iov_base = piece->iov_base;
    one->iov_len = less < piece->iov_len ? less : piece->iov_len;
    return true;
}

/* -- waiting -------------------------------------------------------------- */

EXPORT int
epoll_create1(int flags)
{
    TRY(epoll_create1, -1)
    return real(flags);
}

EXPORT int
epoll_ctl(int set, int op, int fd, struct epoll_event *ev)
{
    shim_used(CALL_epoll_ctl, fd, HERE);
    TRY(epoll_ctl, set)
    return real(set, op, fd, ev);
}

EXPORT int
epoll_wait(int set, struct epoll_event *ev, int n, int ms)
{
    TRY(epoll_wait, set)
    return real(set, ev, n, ms);
}

EXPORT int
epoll_pwait(int set, struct epoll_event *ev, int n, int ms,
            const sigset_t *mask)
{
    TRY(epoll_pwait, set)
    return real(set, ev, n, ms, mask);
}

EXPORT int
poll(struct pollfd *fds, nfds_t n, int ms)
{
    TRY(poll, n > 0 ? fds->fd : -1)
    return real(fds, n, ms);
}

/* -- reading -------------------------------------------------------------- */

EXPORT ssize_t
recv(int fd, void *to, size_t n, int flags)
{
    TRY(recv, fd)
    return real(fd, to, is_stream(fd) ? CUT(recv, n) : n, flags);
}

EXPORT ssize_t
recvfrom(int fd, void *to, size_t n, int flags, struct sockaddr *addr,
         socklen_t *len)
{
    TRY(recvfrom, fd)
    return real(fd, to, is_stream(fd) ? CUT(recvfrom, n) : n, flags, addr,
                len);
}

EXPORT ssize_t
recvmsg(int fd, struct msghdr *msg, int flags)
{
    TRY(recvmsg, fd)
    return real(fd, msg, flags);
}

EXPORT int
recvmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags,
         struct timespec *timeout)
{
    TRY(recvmmsg, fd)
    return real(fd, msgs, (unsigned)CUT(recvmmsg, n), flags, timeout);
}

EXPORT ssize_t
read(int fd, void *to, size_t n)
{
    TRY(read, fd)
    return real(fd, to, is_counter(n) ? n : CUT(read, n));
}

EXPORT ssize_t
readv(int fd, const struct iovec *v, int n)
{
    struct iovec one;

    TRY(readv, fd)
    if (cut_pieces(CALL_readv, v, (size_t)n, &one, HERE)) {
        return real(fd, &one, 1);
    }
    return real(fd, v, n);
}

/* -- writing -------------------------------------------------------------- */

EXPORT ssize_t
send(int fd, const void *from, size_t n, int flags)
{
    TRY(send, fd)
    return real(fd, from, is_stream(fd) ? CUT(send, n) : n, flags);
}

EXPORT ssize_t
sendto(int fd, const void *from, size_t n, int flags,
       const struct sockaddr *addr, socklen_t len)
{
    TRY(sendto, fd)
    return real(fd, from, is_stream(fd) ? CUT(sendto, n) : n, flags, addr,
                len);
}

EXPORT ssize_t
sendmsg(int fd, const struct msghdr *msg, int flags)
{
    struct iovec one;
    struct msghdr less = *msg;

    TRY(sendmsg, fd)
    if (is_stream(fd)
        && cut_pieces(CALL_sendmsg, msg->msg_iov, msg->msg_iovlen, &one,
                      HERE)) {
        less.msg_iov = &one;
        less.msg_iovlen = 1;
        return real(fd, &less, flags);
    }
    return real(fd, msg, flags);
}

EXPORT int
sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
    TRY(sendmmsg, fd)
    return real(fd, msgs, (unsigned)CUT(sendmmsg, n), flags);
}

EXPORT ssize_t
write(int fd, const void *from, size_t n)
{
    TRY(write, fd)
    return real(fd, from, is_counter(n) ? n : CUT(write, n));
}

EXPORT ssize_t
writev(int fd, const struct iovec *v, int n)
{
    struct iovec one;

    TRY(writev, fd)
    if (cut_pieces(CALL_writev, v, (size_t)n, &one, HERE)) {
        return real(fd, &one, 1);
    }
    return real(fd, v, n);
}

EXPORT ssize_t
sendfile(int out, int in, off_t *at, size_t n)
{
    shim_used(CALL_sendfile, in, HERE);
    TRY(sendfile, out)
    return real(out, in, at, CUT(sendfile, n));
}

EXPORT ssize_t
sendfile64(int out, int in, off64_t *at, size_t n)
{
    REAL(sendfile64)
    shim_used(CALL_sendfile, in, HERE);
    shim_used(CALL_sendfile, out, HERE);
    if (shim_fails(CALL_sendfile, HERE)) {
        return -1;
    }
    return real(out, in, at, CUT(sendfile, n));
}

/* -- sockets -------------------------------------------------------------- */

EXPORT int
socket(int family, int type, int protocol)
{
    TRY(socket, -1)
    return real(family, type, protocol);
}

EXPORT int
socketpair(int family, int type, int protocol, int fds[2])
{
    TRY(socketpair, -1)
    return real(family, type, protocol, fds);
}

EXPORT int
bind(int fd, const struct sockaddr *addr, socklen_t len)
{
    TRY(bind, fd)
    return real(fd, addr, len);
}

EXPORT int
listen(int fd, int backlog)
{
    TRY(listen, fd)
    return real(fd, backlog);
}

EXPORT int
accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    TRY(accept4, fd)
    return real(fd, addr, len, flags);
}

/* One that is interrupted goes on, as connect(2) says. */
EXPORT int
connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    REAL(connect)
    shim_used(CALL_connect, fd, HERE);
    if (shim_fails(CALL_connect, HERE)) {
        if (errno == EINTR) {
            real(fd, addr, len);
            errno = EINTR;
        }
        return -1;
    }
    return real(fd, addr, len);
}

EXPORT int
getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
    TRY(getsockname, fd)
    return real(fd, addr, len);
}

EXPORT int
getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
    TRY(getpeername, fd)
    return real(fd, addr, len);
}

EXPORT int
getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    TRY(getsockopt, fd)
    return real(fd, level, name, value, len);
}

EXPORT int
setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    TRY(setsockopt, fd)
    return real(fd, level, name, value, len);
}

EXPORT int
shutdown(int fd, int how)
{
    TRY(shutdown, fd)
    return real(fd, how);
}

/* -- descriptors ---------------------------------------------------------- */

EXPORT int
eventfd(unsigned count, int flags)
{
    TRY(eventfd, -1)
    return real(count, flags);
}

EXPORT int
pipe2(int fds[2], int flags)
{
    TRY(pipe2, -1)
    return real(fds, flags);
}

EXPORT int
dup(int fd)
{
    TRY(dup, fd)
    return real(fd);
}

EXPORT int
dup3(int from, int to, int flags)
{
    TRY(dup3, from)
    shim_release(to);
    return real(from, to, flags);
}

EXPORT int
fstat(int fd, struct stat *st)
{
    TRY(fstat, fd)
    return real(fd, st);
}

EXPORT int
fstat64(int fd, struct stat64 *st)
{
    REAL(fstat64)
    shim_used(CALL_fstat, fd, HERE);
    return shim_fails(CALL_fstat, HERE) ? -1 : real(fd, st);
}

EXPORT off_t
lseek(int fd, off_t offset, int whence)
{
    TRY(lseek, fd)
    return real(fd, offset, whence);
}

EXPORT off64_t
lseek64(int fd, off64_t offset, int whence)
{
    REAL(lseek64)
    shim_used(CALL_lseek, fd, HERE);
    return shim_fails(CALL_lseek, HERE) ? -1 : real(fd, offset, whence);
}

static void *
argument(va_list list)
{
    return va_arg(list, void *);
}

EXPORT int
ioctl(int fd, unsigned long request, ...)
{
    va_list list;
    void *arg;

    TRY(ioctl, fd)
    va_start(list, request);
    arg = argument(list);
    va_end(list);
    return real(fd, request, arg);
}

EXPORT int
fcntl(int fd, int command, ...)
{
    va_list list;
    void *arg;

    TRY(fcntl, fd)
    va_start(list, command);
    arg = argument(list);
    va_end(list);
    return real(fd, command, arg);
}

EXPORT int
fcntl64(int fd, int command, ...)
{
    va_list list;
    void *arg;

    REAL(fcntl64)
    shim_used(CALL_fcntl, fd, HERE);
    if (shim_fails(CALL_fcntl, HERE)) {
        return -1;
    }
    va_start(list, command);
    arg = argument(list);
    va_end(list);
    return real(fd, command, arg);
}

/* The kernel closes the descriptor whatever it answers. */
EXPORT int
close(int fd)
{
    REAL(close)
    bool fails = shim_fails(CALL_close, HERE);
    int error = errno, rc;

    if (shim_quarantines(fd)) {
        if (shim_is_quarantined(fd)) {
            shim_note("double-close", CALL_close, fd, HERE);
            errno = EBADF;
            return -1;
        }
        if (syscall(SYS_fcntl, fd, F_GETFD) < 0) {
            shim_note("close-of-nothing", CALL_close, fd, HERE);
            errno = EBADF;
            return -1;
        }
        shim_quarantine(fd);
        rc = 0;
    }
    else {
        rc = real(fd);
    }
    if (fails) {
        errno = error;
        return -1;
    }
    return rc;
}

/* -- children and threads ------------------------------------------------- */

EXPORT int
waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
    TRY(waitid, (int)type == P_PIDFD ? (int)id : -1)
    return real(type, id, info, options);
}

EXPORT pid_t
waitpid(pid_t pid, int *status, int options)
{
    TRY(waitpid, -1)
    return real(pid, status, options);
}

EXPORT long
syscall(long number, ...)
{
    static long (*real)(long, ...);
    va_list list;
    long a[6];

    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "syscall");
    }
    va_start(list, number);
    for (int i = 0; i < 6; i++) {
        a[i] = va_arg(list, long);
    }
    va_end(list);
    if (number == SYS_pidfd_open && shim_fails(CALL_pidfd_open, HERE)) {
        return -1;
    }
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

EXPORT int
pthread_create(pthread_t *thread, const pthread_attr_t *attr,
               void *(*start)(void *), void *arg)
{
    REAL(pthread_create)
    if (shim_fails(CALL_pthread_create, HERE)) {
        return errno;
    }
    return real(thread, attr, start, arg);
}
