/* The system calls and constants that POSIX lacks, each with the portable way
   beside it.  This is the only header that tests the platform.

   TW_HAVE_<NAME> is 1 where the build may use the call.  With TW_PORTABLE
   (TIDEWIRE_PORTABLE=1 for setup.py) the build uses none of them, as on a
   system that has none.

   A system that has a call may still refuse it: seccomp and gVisor answer
   ENOSYS, EPERM or EOPNOTSUPP.  The caller then does it the portable way,
   with the same result; tw_sys_is_refusal() names these errors.  The same
   errors may also be honest ones (a firewall says EPERM), so the caller
   remembers a refusal only when the portable way succeeded.  It does so in
   the loop's TwSys: nothing here is process-wide.

   No function here touches Python.  Those that say tw_uverr return a negative
   errno; the others return -1 and set errno, as the call they stand for. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

#include "base/common.h"

#if defined(__linux__) && !defined(TW_PORTABLE)
#define TW_HAVE_ACCEPT4 1
#define TW_HAVE_DUP3 1
#define TW_HAVE_EVENTFD 1
#define TW_HAVE_MMSG 1
#define TW_HAVE_PIDFD 1
#define TW_HAVE_PIPE2 1
#define TW_HAVE_PIPE_SIZE 1
#define TW_HAVE_SENDFILE 1
#define TW_HAVE_SOCK_FLAGS 1
#define TW_HAVE_SO_DOMAIN 1
#define TW_HAVE_THREAD_CLOCK 1
#define TW_HAVE_UDP_SEGMENT 1 /* and UDP_GRO */
#else
#define TW_HAVE_ACCEPT4 0
#define TW_HAVE_DUP3 0
#define TW_HAVE_EVENTFD 0
#define TW_HAVE_MMSG 0
#define TW_HAVE_PIDFD 0
#define TW_HAVE_PIPE2 0
#define TW_HAVE_PIPE_SIZE 0
#define TW_HAVE_SENDFILE 0
#define TW_HAVE_SOCK_FLAGS 0
#define TW_HAVE_SO_DOMAIN 0
#define TW_HAVE_THREAD_CLOCK 0
#define TW_HAVE_UDP_SEGMENT 0
#endif

/* Facts about structures and libraries, not calls: true in every build. */
#if defined(__linux__)
#define TW_HAVE_ABSTRACT_NAMES 1 /* AF_UNIX paths that begin with a NUL */
#else
#define TW_HAVE_ABSTRACT_NAMES 0
#endif
#if defined(__linux__)
#define TW_PIPE_PACKETS O_DIRECT /* a pipe's flag: each write is a message */
#else
#define TW_PIPE_PACKETS 0
#endif
#if defined(__GLIBC__)
#define TW_HAVE_GLIBC_ORDER 1 /* one literal, three kinds: see ops/dns.c */
#else
#define TW_HAVE_GLIBC_ORDER 0
#endif
#if defined(__linux__) && !defined(__GLIBC__)
#define TW_HAVE_MUSL_NAMES 1 /* a literal is its canonical name, unasked */
#else
#define TW_HAVE_MUSL_NAMES 0
#endif
#if defined(__APPLE__) || defined(__FreeBSD__) || defined(__NetBSD__)         \
    || defined(__OpenBSD__) || defined(__DragonFly__)
#define TW_HAVE_SA_LEN 1 /* struct sockaddr begins with its length */
#else
#define TW_HAVE_SA_LEN 0
#endif

/* Python ignores SIGPIPE where this is missing, as asyncio relies on. */
#if defined(MSG_NOSIGNAL) && !defined(TW_PORTABLE)
#define TW_MSG_NOSIGNAL MSG_NOSIGNAL
#else
#define TW_MSG_NOSIGNAL 0
#endif

/* Passed in a socket's type: the socket object then takes the descriptor for
   a non-blocking one.  0: ask its setblocking(). */
#if TW_HAVE_SOCK_FLAGS
#define TW_SOCK_NONBLOCK SOCK_NONBLOCK
#else
#define TW_SOCK_NONBLOCK 0
#endif

#if TW_HAVE_MMSG
typedef struct mmsghdr TwMmsg;
#else
typedef struct {
    struct msghdr msg_hdr;
    unsigned msg_len;
} TwMmsg;
#endif

/* The clock of tw_sys_cond_init()'s conditions: where the system can, one that
   nobody sets. */
#if defined(__linux__)
#define TW_SYS_COND_CLOCK CLOCK_MONOTONIC
#else
#define TW_SYS_COND_CLOCK CLOCK_REALTIME
#endif

/* CLOCK_MONOTONIC as of the last tick of the system's timer: a reading costs a
   fifth.  Where there is none, each reading is a tick. */
#if defined(CLOCK_MONOTONIC_COARSE)
#define TW_SYS_TICK_CLOCK CLOCK_MONOTONIC_COARSE
#else
#define TW_SYS_TICK_CLOCK CLOCK_MONOTONIC
#endif

/* What one loop knows of refusals: bits. */
typedef struct {
    uint8_t refused;
} TwSys;

#define TW_SYS_ACCEPT4 1u
#define TW_SYS_SENDMMSG 2u

/* May a sandbox have refused the call, rather than the call failed? */
static inline bool
tw_sys_is_refusal(int err)
{
    return err == ENOSYS || err == EPERM || err == EOPNOTSUPP;
}

/* -- descriptors ---------------------------------------------------------- */

/* A pipe, close-on-exec and non-blocking at both ends. */
TW_MUSTCHECK tw_uverr tw_sys_pipe(int fds[2]);

/* An eventfd, close-on-exec and non-blocking. */
TW_MUSTCHECK tw_uverr tw_sys_eventfd(void);

/* Make `number` a close-on-exec duplicate of `fd` (dup3). */
TW_MUSTCHECK tw_uverr tw_sys_dup_onto(int fd, int number);

/* How much a pipe can hold, or 0: unknown. */
int tw_sys_pipe_size(int fd);

/* -- sockets -------------------------------------------------------------- */

/* Note the length inside of an address, where there is a place for it. */
static inline void
tw_sys_set_addr_len(struct sockaddr *addr, socklen_t len)
{
#if TW_HAVE_SA_LEN
    addr->sa_len = (uint8_t)len;
#else
    (void)addr, (void)len;
#endif
}

/* accept(2): the new descriptor is close-on-exec and non-blocking. */
int tw_sys_accept(TwSys *sys, int fd, struct sockaddr *peer, socklen_t *len);

/* What socket() was called with.  The protocol is 0 where the system does not
   say. */
TW_MUSTCHECK tw_uverr tw_sys_socket_kind(int fd, int *family, int *type,
                                         int *proto);

/* Many datagrams with one call, as sendmmsg(2).  ENOSYS where that is
   missing, or once this loop was refused it: then the caller sends one by
   one. */
int tw_sys_sendmmsg(const TwSys *sys, int fd, TwMmsg *msgs, unsigned n,
                    int flags);

/* UDP_SEGMENT: does the kernel cut a message of this socket into datagrams?
   And the control message that asks for it: `room` has TW_SEGMENT_ROOM
   bytes, aligned as a cmsghdr. */
#define TW_SEGMENT_ROOM CMSG_SPACE(sizeof(uint16_t))
bool tw_sys_can_segment(int fd);
void tw_sys_set_segment(struct msghdr *hdr, void *room, uint16_t size);

/* UDP_GRO, on or off: may one read bring several datagrams of one sender, of
   the same size (the last may be shorter)?  -1 and errno.  Then that size as
   the control messages of such a read say, which had TW_MERGED_ROOM bytes for
   them; or 0: it is one datagram. */
#define TW_MERGED_ROOM CMSG_SPACE(sizeof(int))
int tw_sys_merge(int fd, bool on);
size_t tw_sys_merged_size(struct msghdr *msg);

/* -- files ---------------------------------------------------------------- */

/* Send up to `n` bytes of `file` from `offset` on, as sendfile(2). */
ssize_t tw_sys_sendfile(int sock, int file, off_t offset, size_t n);

/* -- threads -------------------------------------------------------------- */

void tw_sys_cond_init(pthread_cond_t *cond);

/* The clock of this thread's CPU time, for any thread: clock_gettime(). */
int tw_sys_thread_clock(clockid_t *clock);

/* This thread's number, and the state of a thread with that number, as ps(1)
   names it: 'R' runs or could run, 'S' sleeps.  0: unknown. */
pid_t tw_sys_thread_number(void);
char tw_sys_thread_state(pid_t number);

/* For how long that thread was ready to run but had no processor, ns.  0, or
   -1: the system does not say. */
int tw_sys_thread_queued(pid_t number, uint64_t *ns);

/* -- children ------------------------------------------------------------- */

/* A descriptor that becomes readable when the child has ended. */
int tw_sys_pidfd_open(pid_t pid);

/* Take the status of a child: 1 and its return code (negative for a signal);
   0 while it runs; -1 if somebody else took it.  By the descriptor where the
   system can, since the number may belong to another child by now. */
int tw_sys_wait_child(int pidfd, pid_t pid, int *code);
