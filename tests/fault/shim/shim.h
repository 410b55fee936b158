/* A library for LD_PRELOAD that makes system calls fail.

   calls.c has a function for each call, in place of libc's.  Each asks
   choose.c whether it must fail, and passes on to libc otherwise.  Python
   controls both through ctypes (tests/fault/shim.py).  Nothing happens before
   something is armed, nor in a child that the process forks later.

   Who called is told by the return address: the extension, libuv, or another
   (Python, libc).  A fault is armed for a set of these. */
#pragma once

#define _GNU_SOURCE
#include <stdbool.h>
#include <stddef.h>

#define EXPORT __attribute__((visibility("default")))

enum { BY_EXTENSION = 1, BY_LIBUV = 2, BY_OTHERS = 4 };

#define CALLS(X) \
    X(accept4) X(bind) X(close) X(connect) X(dup) X(dup3) X(epoll_create1) \
    X(epoll_ctl) X(epoll_pwait) X(epoll_wait) X(eventfd) X(fcntl) X(fstat) \
    X(getpeername) X(getsockname) X(getsockopt) X(ioctl) X(listen) X(lseek) \
    X(pidfd_open) X(pipe2) X(poll) X(pthread_create) X(read) X(readv) \
    X(recv) X(recvfrom) X(recvmmsg) X(recvmsg) X(send) X(sendfile) \
    X(sendmmsg) X(sendmsg) X(sendto) X(setsockopt) X(shutdown) X(socket) \
    X(socketpair) X(waitid) X(waitpid) X(write) X(writev)

typedef enum {
#define X(name) CALL_##name,
    CALLS(X)
#undef X
    CALL_COUNT
} Call;

/* Must this call fail?  Then errno is set.  It may also be made to wait. */
bool shim_fails(Call call, void *caller);

/* `n`, or the shorter length that is armed. */
size_t shim_cut(Call call, size_t n, void *caller);

/* Closed numbers stay occupied by /dev/null while the quarantine is on, so
   that whoever uses one is noted. */
void shim_used(Call call, int fd, void *caller);
bool shim_is_quarantined(int fd);
bool shim_quarantines(int fd);
void shim_quarantine(int fd);
void shim_release(int fd);
void shim_note(const char *what, Call call, int fd, void *caller);
