#include "base/sys.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#if TW_HAVE_EVENTFD
#include <sys/eventfd.h>
#endif
#if TW_HAVE_PIDFD
#include <signal.h>
#endif
#if TW_HAVE_PIDFD || TW_HAVE_THREAD_CLOCK
#include <sys/syscall.h>
#endif
#if TW_HAVE_SENDFILE
#include <sys/sendfile.h>
#elif (defined(__APPLE__) || defined(__FreeBSD__)) && !defined(TW_PORTABLE)
#include <sys/uio.h>
#endif
#if TW_HAVE_UDP_SEGMENT
#include <netinet/udp.h>
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#endif

/* -- descriptors ---------------------------------------------------------- */

/* Make a descriptor close-on-exec and non-blocking. */
static tw_uverr
sys_set_flags(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0
        || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        return -errno;
    }
    return 0;
}

tw_uverr
tw_sys_pipe(int fds[2])
{
    tw_uverr err;

#if TW_HAVE_PIPE2
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0) {
        return 0;
    }
    if (!tw_sys_is_refusal(errno)) {
        return -errno;
    }
#endif
    if (pipe(fds) < 0) {
        return -errno;
    }
    err = sys_set_flags(fds[0]);
    if (err == 0) {
        err = sys_set_flags(fds[1]);
    }
    if (err < 0) {
        close(fds[0]);
        close(fds[1]);
    }
    return err;
}

tw_uverr
tw_sys_dup_onto(int fd, int number)
{
#if TW_HAVE_DUP3
    if (dup3(fd, number, O_CLOEXEC) >= 0) {
        return 0;
    }
    if (!tw_sys_is_refusal(errno)) {
        return -errno;
    }
#endif
    if (dup2(fd, number) < 0 || fcntl(number, F_SETFD, FD_CLOEXEC) < 0) {
        return -errno;
    }
    return 0;
}

int
tw_sys_pipe_size(int fd)
{
#if TW_HAVE_PIPE_SIZE
    int size = fcntl(fd, F_GETPIPE_SZ);

    return size > 0 ? size : 0;
#else
    (void)fd;
    return 0;
#endif
}

tw_uverr
tw_sys_eventfd(void)
{
#if TW_HAVE_EVENTFD
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    return fd < 0 ? -errno : fd;
#else
    return -ENOSYS;
#endif
}

/* -- sockets -------------------------------------------------------------- */

static int
sys_accept_plain(int fd, struct sockaddr *peer, socklen_t *len)
{
    int conn = accept(fd, peer, len);
    tw_uverr err = conn < 0 ? 0 : sys_set_flags(conn);

    if (err < 0) {
        close(conn);
        errno = (int)-err;
        return -1;
    }
    return conn;
}

int
tw_sys_accept(TwSys *sys, int fd, struct sockaddr *peer, socklen_t *len)
{
    int conn;

#if TW_HAVE_ACCEPT4
    socklen_t room = *len;

    if (!(sys->refused & TW_SYS_ACCEPT4)) {
        conn = accept4(fd, peer, len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (conn >= 0 || !tw_sys_is_refusal(errno)) {
            return conn;
        }
        *len = room;
    }
#endif
    conn = sys_accept_plain(fd, peer, len);
    if (conn >= 0) {
        sys->refused |= TW_SYS_ACCEPT4;
    }
    return conn;
}

static tw_uverr
sys_socket_option(int fd, int option, int *value)
{
    socklen_t len = sizeof(*value);

    return getsockopt(fd, SOL_SOCKET, option, value, &len) < 0 ? -errno : 0;
}

tw_uverr
tw_sys_socket_kind(int fd, int *family, int *type, int *proto)
{
    tw_uverr err = sys_socket_option(fd, SO_TYPE, type);

#if TW_HAVE_SO_DOMAIN
    err = err < 0 ? err : sys_socket_option(fd, SO_DOMAIN, family);
    return err < 0 ? err : sys_socket_option(fd, SO_PROTOCOL, proto);
#else
    struct sockaddr_storage name;
    socklen_t len = sizeof(name);

    if (err == 0 && getsockname(fd, (struct sockaddr *)&name, &len) < 0) {
        err = -errno;
    }
    *family = name.ss_family;
    *proto = 0;
    return err;
#endif
}

int
tw_sys_sendmmsg(const TwSys *sys, int fd, TwMmsg *msgs, unsigned n, int flags)
{
#if TW_HAVE_MMSG
    if (!(sys->refused & TW_SYS_SENDMMSG)) {
        return sendmmsg(fd, msgs, n, flags);
    }
#endif
    (void)sys, (void)fd, (void)msgs, (void)n, (void)flags;
    errno = ENOSYS;
    return -1;
}

bool
tw_sys_can_segment(int fd)
{
#if TW_HAVE_UDP_SEGMENT
    int size;
    socklen_t len = sizeof(size);

    /* A kernel that does not know it would send one long datagram. */
    return getsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, &len) == 0;
#else
    (void)fd;
    return false;
#endif
}

void
tw_sys_set_segment(struct msghdr *hdr, void *room, uint16_t size)
{
#if TW_HAVE_UDP_SEGMENT
    struct cmsghdr *cmsg;

    memset(room, 0, TW_SEGMENT_ROOM);
    hdr->msg_control = room;
    hdr->msg_controllen = TW_SEGMENT_ROOM;
    cmsg = CMSG_FIRSTHDR(hdr);
    cmsg->cmsg_level = IPPROTO_UDP;
    cmsg->cmsg_type = UDP_SEGMENT;
    cmsg->cmsg_len = CMSG_LEN(sizeof(size));
    memcpy(CMSG_DATA(cmsg), &size, sizeof(size));
#else
    (void)hdr, (void)room, (void)size;
#endif
}

int
tw_sys_merge(int fd, bool on)
{
#if TW_HAVE_UDP_SEGMENT
    int value = on;

    return setsockopt(fd, IPPROTO_UDP, UDP_GRO, &value, sizeof(value));
#else
    (void)fd, (void)on;
    errno = ENOPROTOOPT;
    return -1;
#endif
}

size_t
tw_sys_merged_size(struct msghdr *msg)
{
#if TW_HAVE_UDP_SEGMENT
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg);
    int size = 0;

    if (cmsg != NULL && cmsg->cmsg_level == IPPROTO_UDP
        && cmsg->cmsg_type == UDP_GRO) {
        memcpy(&size, CMSG_DATA(cmsg), sizeof(size));
    }
    return size > 0 ? (size_t)size : 0;
#else
    (void)msg;
    return 0;
#endif
}

/* -- files ---------------------------------------------------------------- */

ssize_t
tw_sys_sendfile(int sock, int file, off_t offset, size_t n)
{
#if TW_HAVE_SENDFILE
    return sendfile(sock, file, &offset, n);
#elif defined(__APPLE__) && !defined(TW_PORTABLE)
    off_t sent = (off_t)n;
    int got = sendfile(file, sock, offset, &sent, NULL, 0);

    return got < 0 && sent == 0 ? -1 : (ssize_t)sent;
#elif defined(__FreeBSD__) && !defined(TW_PORTABLE)
    off_t sent = 0;
    int got = sendfile(file, sock, offset, n, NULL, &sent, 0);

    return got < 0 && sent == 0 ? -1 : (ssize_t)sent;
#else
    char block[32 * 1024];
    ssize_t got = pread(file, block, n < sizeof(block) ? n : sizeof(block),
                        offset);

    /* What the socket does not accept is read again. */
    return got <= 0 ? got
                    : send(sock, block, (size_t)got,
                           MSG_DONTWAIT | TW_MSG_NOSIGNAL);
#endif
}

/* -- threads -------------------------------------------------------------- */

void
tw_sys_cond_init(pthread_cond_t *cond)
{
#if defined(__linux__)
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, TW_SYS_COND_CLOCK);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
#else
    pthread_cond_init(cond, NULL);
#endif
}

int
tw_sys_thread_clock(clockid_t *clock)
{
#if TW_HAVE_THREAD_CLOCK
    errno = pthread_getcpuclockid(pthread_self(), clock);
    return errno == 0 ? 0 : -1;
#else
    (void)clock;
    errno = ENOSYS;
    return -1;
#endif
}

pid_t
tw_sys_thread_number(void)
{
#if TW_HAVE_THREAD_CLOCK
    return (pid_t)syscall(SYS_gettid);
#else
    return 0;
#endif
}

/* Read a file of that thread under /proc; returns its length, or -1. */
static ssize_t
sys_read_thread(pid_t number, const char *name, char *text, size_t size)
{
    char path[64];
    ssize_t n = -1;
    int fd;

    snprintf(path, sizeof(path), "/proc/self/task/%ld/%s", (long)number, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        n = read(fd, text, size - 1);
        close(fd);
    }
    text[n > 0 ? n : 0] = '\0';
    return n;
}

char
tw_sys_thread_state(pid_t number)
{
    char text[512];
    ssize_t n = sys_read_thread(number, "stat", text, sizeof(text));
    /* Behind the name, which may be anything. */
    const char *end = n > 0 ? strrchr(text, ')') : NULL;

    return end != NULL && end + 2 < text + n ? end[2] : 0;
}

int
tw_sys_thread_queued(pid_t number, uint64_t *ns)
{
    unsigned long long cpu, queued;
    char text[128];

    if (sys_read_thread(number, "schedstat", text, sizeof(text)) <= 0
        || sscanf(text, "%llu %llu", &cpu, &queued) != 2) {
        return -1;
    }
    *ns = queued;
    return 0;
}

/* -- children ------------------------------------------------------------- */

int
tw_sys_pidfd_open(pid_t pid)
{
#if TW_HAVE_PIDFD && defined(SYS_pidfd_open)
    return (int)syscall(SYS_pidfd_open, pid, 0);
#else
    (void)pid;
    errno = ENOSYS;
    return -1;
#endif
}

static int
sys_wait_number(pid_t pid, int *code)
{
    int status;
    pid_t got;

    do {
        got = waitpid(pid, &status, WNOHANG);
    } while (got < 0 && errno == EINTR);
    if (got <= 0) {
        return (int)got;
    }
    *code = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
    return 1;
}

int
tw_sys_wait_child(int pidfd, pid_t pid, int *code)
{
#if TW_HAVE_PIDFD
    siginfo_t info = {0};
    int got;

    do { /* 3 is P_PIDFD, which glibc names since 2.36 */
        got = waitid((idtype_t)3, (id_t)pidfd, &info, WEXITED | WNOHANG);
    } while (got < 0 && errno == EINTR);
    if (got == 0 && info.si_pid != 0) {
        *code = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
        return 1;
    }
    if (got == 0 || errno == EAGAIN) {
        return 0;
    }
    if (errno == ECHILD) {
        return -1;
    }
    /* Refused, or Linux 5.3, which has pidfd_open() and no P_PIDFD. */
#endif
    (void)pidfd;
    return sys_wait_number(pid, code);
}
