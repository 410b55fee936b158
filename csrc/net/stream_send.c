#include "net/stream_send.h"

#include <errno.h>
#include <string.h>

#include "base/sys.h"

/* Up to this size pieces are copied together: sendmsg() costs more than
   that. */
#define SEND_JOIN 4096

static tw_uverr
stream_send_result(ssize_t sent)
{
    if (sent >= 0) {
        return sent;
    }
    return errno == EAGAIN ? 0 : -errno;
}

static tw_uverr
send_one(int fd, const void *p, size_t n)
{
    ssize_t sent;

    do {
        sent = send(fd, p, n, TW_MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return stream_send_result(sent);
}

static tw_uverr
send_joined(int fd, const struct iovec *iov, int n)
{
    char joined[SEND_JOIN], *end = joined;

    for (int i = 0; i < n; i++) {
        memcpy(end, iov[i].iov_base, iov[i].iov_len);
        end += iov[i].iov_len;
    }
    return send_one(fd, joined, (size_t)(end - joined));
}

tw_uverr
tw_stream_send(int fd, struct iovec *iov, int n)
{
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)n};
    size_t total = 0;
    ssize_t sent;

    if (n == 1) {
        return send_one(fd, iov->iov_base, iov->iov_len);
    }
    for (int i = 0; i < n && total <= SEND_JOIN; i++) {
        total += iov[i].iov_len;
    }
    if (total <= SEND_JOIN) {
        return send_joined(fd, iov, n);
    }
    do {
        sent = sendmsg(fd, &msg, TW_MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return stream_send_result(sent);
}
