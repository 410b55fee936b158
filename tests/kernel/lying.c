/* A kernel that lies: a library for LD_PRELOAD.

   Between lie_begin() and lie_end() the calls of the main thread on adopted
   descriptors do what a kernel may do and seldom does: a read or write is
   short, says EAGAIN many times in a row, fails; epoll_wait() reports events
   late and in another order; accept() finds no descriptor.  The clock is ours:
   it stands still while the program computes, and epoll_wait() moves it on
   instead of sleeping.  All decisions come from one seed, so a run can be
   repeated.

   What is a lie stays a possible truth: bytes are never lost, made up or
   reordered, and an event that is held back is reported later. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FDS 4096
#define IOVS 64

/* What is lied about, in tenths of a per mille of the calls. */
enum { SHORT, AGAIN, RESET, NOBUFS, EMFILES, DELAY, JUMP, LIES };

struct adopted {
    unsigned char used, dgram, dead, no_reset;
    unsigned storm[2]; /* calls that say EAGAIN before one is let through */
};

static struct adopted table[FDS];
static int lying;
static pthread_t liar;
static unsigned chance[LIES];
static uint64_t state, virtual_ns, base_ns;
static struct {
    uint64_t steps, lies[LIES], bad_closes, stuck;
} count;

#define REAL(name)                                                            \
    static __typeof__(&name) real;                                            \
    if (!real) {                                                              \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                    \
    }

static uint64_t
draw(void)
{
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int
happens(int lie)
{
    if (!chance[lie] || draw() % 10000 >= chance[lie]) {
        return 0;
    }
    count.lies[lie]++;
    return 1;
}

static int
here(void)
{
    return lying && pthread_equal(liar, pthread_self());
}

static struct adopted *
adopted(int fd)
{
    return here() && fd >= 0 && fd < FDS && table[fd].used ? &table[fd] : NULL;
}

/* -- for the driver ------------------------------------------------------- */

void
lie_adopt(int fd, int dgram, int no_reset)
{
    if (fd >= 0 && fd < FDS) {
        memset(&table[fd], 0, sizeof(table[fd]));
        table[fd].used = 1;
        table[fd].dgram = dgram != 0;
        table[fd].no_reset = no_reset != 0;
    }
}

void
lie_begin(uint64_t seed, const unsigned *chances)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    base_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
    virtual_ns = 0;
    state = seed;
    memcpy(chance, chances, sizeof(chance));
    memset(&count, 0, sizeof(count));
    liar = pthread_self();
    lying = 1;
}

void
lie_end(uint64_t *counts)
{
    lying = 0;
    memset(table, 0, sizeof(table));
    memcpy(counts, &count, sizeof(count));
}

/* -- bytes ---------------------------------------------------------------- */

static void
reset(int fd, struct adopted *a)
{
    a->dead = 1;
    shutdown(fd, SHUT_RDWR);
}

/* 1: let the call through, with at most *n bytes.  0: it returns *n's place,
   *result, with errno set. */
static int
lie(int fd, struct adopted *a, int out, size_t *n, ssize_t *result)
{
    count.steps++;
    *result = -1;
    if (a->dead) {
        errno = EPIPE;
        *result = out ? -1 : 0;
        return 0;
    }
    if (!a->storm[out] && happens(AGAIN)) {
        a->storm[out] = 1 + (unsigned)(draw() % (draw() % 4 ? 3 : 40));
    }
    if (a->storm[out]) {
        a->storm[out]--;
        errno = EAGAIN;
        return 0;
    }
    if (!a->no_reset && happens(RESET)) {
        reset(fd, a);
        errno = ECONNRESET;
        return 0;
    }
    if (out && !a->no_reset && happens(NOBUFS)) {
        errno = ENOBUFS;
        return 0;
    }
    if (!a->dgram && *n > 1 && happens(SHORT)) {
        *n = draw() % 3 ? 1 + draw() % *n : 1 + draw() % (*n < 16 ? *n : 16);
    }
    return 1;
}

/* A copy of the vector that is `n` bytes long; their number. */
static int
trimmed(struct iovec *to, const struct iovec *from, size_t len, size_t n)
{
    int used = 0;

    for (size_t i = 0; i < len && used < IOVS && n; i++) {
        to[used] = from[i];
        if (to[used].iov_len > n) {
            to[used].iov_len = n;
        }
        n -= to[used++].iov_len;
    }
    return used;
}

static size_t
vector_size(const struct iovec *iov, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len && i < IOVS; i++) {
        n += iov[i].iov_len;
    }
    return n;
}

#define LIE(fd, out, n)                                                       \
    do {                                                                      \
        struct adopted *a_ = adopted(fd);                                     \
        ssize_t result_;                                                      \
        if (a_ && !lie(fd, a_, out, &(n), &result_)) {                        \
            return result_;                                                   \
        }                                                                     \
    } while (0)

ssize_t
recv(int fd, void *buf, size_t n, int flags)
{
    REAL(recv);
    LIE(fd, 0, n);
    return real(fd, buf, n, flags);
}

ssize_t
recvfrom(int fd, void *buf, size_t n, int flags, struct sockaddr *addr,
         socklen_t *len)
{
    REAL(recvfrom);
    LIE(fd, 0, n);
    return real(fd, buf, n, flags, addr, len);
}

ssize_t
read(int fd, void *buf, size_t n)
{
    REAL(read);
    LIE(fd, 0, n);
    return real(fd, buf, n);
}

ssize_t
readv(int fd, const struct iovec *iov, int len)
{
    struct iovec copy[IOVS];
    size_t n = vector_size(iov, (size_t)len);

    REAL(readv);
    if (!adopted(fd)) {
        return real(fd, iov, len);
    }
    LIE(fd, 0, n);
    return real(fd, copy, trimmed(copy, iov, (size_t)len, n));
}

ssize_t
send(int fd, const void *buf, size_t n, int flags)
{
    REAL(send);
    LIE(fd, 1, n);
    return real(fd, buf, n, flags);
}

ssize_t
sendto(int fd, const void *buf, size_t n, int flags,
       const struct sockaddr *addr, socklen_t len)
{
    REAL(sendto);
    LIE(fd, 1, n);
    return real(fd, buf, n, flags, addr, len);
}

ssize_t
write(int fd, const void *buf, size_t n)
{
    REAL(write);
    LIE(fd, 1, n);
    return real(fd, buf, n);
}

ssize_t
writev(int fd, const struct iovec *iov, int len)
{
    struct iovec copy[IOVS];
    size_t n = vector_size(iov, (size_t)len);

    REAL(writev);
    if (!adopted(fd)) {
        return real(fd, iov, len);
    }
    LIE(fd, 1, n);
    return real(fd, copy, trimmed(copy, iov, (size_t)len, n));
}

ssize_t
sendmsg(int fd, const struct msghdr *msg, int flags)
{
    struct iovec copy[IOVS];
    struct msghdr shorter = *msg;
    struct adopted *a = adopted(fd);
    size_t n = vector_size(msg->msg_iov, msg->msg_iovlen);

    REAL(sendmsg);
    if (!a) {
        return real(fd, msg, flags);
    }
    LIE(fd, 1, n);
    if (!a->dgram) {
        shorter.msg_iov = copy;
        shorter.msg_iovlen =
            (size_t)trimmed(copy, msg->msg_iov, msg->msg_iovlen, n);
    }
    return real(fd, &shorter, flags);
}

int
sendmmsg(int fd, struct mmsghdr *msgs, unsigned len, int flags)
{
    struct adopted *a = adopted(fd);
    size_t n = len;
    ssize_t result;

    REAL(sendmmsg);
    if (a && !lie(fd, a, 1, &n, &result)) {
        return (int)result;
    }
    if (a && len > 1 && happens(SHORT)) {
        len = 1 + (unsigned)(draw() % len);
    }
    return real(fd, msgs, len, flags);
}

ssize_t
sendfile(int out, int in, off_t *offset, size_t n)
{
    REAL(sendfile);
    LIE(out, 1, n);
    return real(out, in, offset, n);
}

/* -- descriptors ---------------------------------------------------------- */

static int
accepted(int fd)
{
    if (fd >= 0) {
        lie_adopt(fd, 0, 0);
    }
    return fd;
}

int
accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    static const int errors[] = { EMFILE, ENFILE, ENOBUFS, ENOMEM, EAGAIN,
                                  ECONNABORTED };

    REAL(accept4);
    if (!adopted(fd)) {
        return real(fd, addr, len, flags);
    }
    count.steps++;
    if (happens(EMFILES)) {
        errno = errors[draw() % 6];
        return -1;
    }
    return accepted(real(fd, addr, len, flags));
}

int
close(int fd)
{
    REAL(close);
    if (here() && fd >= 0 && fd < FDS) {
        table[fd].used = 0;
    }
    int status = real(fd);
    if (status < 0 && errno == EBADF && here()) {
        count.bad_closes++;
        errno = EBADF;
    }
    return status;
}

/* -- time and readiness --------------------------------------------------- */

int
clock_gettime(clockid_t clock, struct timespec *ts)
{
    REAL(clock_gettime);
    if (clock != CLOCK_MONOTONIC || !here()) {
        return real(clock, ts);
    }
    virtual_ns += 100;
    ts->tv_sec = (time_t)((base_ns + virtual_ns) / 1000000000u);
    ts->tv_nsec = (long)((base_ns + virtual_ns) % 1000000000u);
    return 0;
}

/* Hold some events back, and shuffle the rest; how many are left. */
static int
delayed(struct epoll_event *events, int n)
{
    int kept = 0;

    for (int i = 0; i < n; i++) {
        if (!happens(DELAY)) {
            events[kept++] = events[i];
        }
    }
    for (int i = kept; i > 1; i--) {
        int j = (int)(draw() % (unsigned)i);
        struct epoll_event swapped = events[j];
        events[j] = events[i - 1];
        events[i - 1] = swapped;
    }
    return kept;
}

int
epoll_wait(int set, struct epoll_event *events, int max, int timeout)
{
    REAL(epoll_wait);
    if (!here()) {
        return real(set, events, max, timeout);
    }
    count.steps++;
    if (happens(JUMP)) {
        virtual_ns += draw() % 100000000000u;
    }
    int ready = real(set, events, max, 0);
    int kept = ready > 0 ? delayed(events, ready) : ready;
    if (kept == 0 && timeout != 0) {
        count.stuck += ready == 0 && timeout < 0;
        virtual_ns += ready         ? 100000u
                      : timeout < 0 ? 1000000000u
                                    : (uint64_t)timeout * 1000000u;
    }
    return kept;
}
