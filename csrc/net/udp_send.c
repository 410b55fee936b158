/* Sending of datagrams: one, one through the socket object, or many.

   Many are sent with one sendmmsg(2).  Neighbours in the queue that have the
   same target and the same size (the last may be shorter) form a train: one
   message that the kernel cuts (UDP_SEGMENT, for this message only; the socket
   keeps no option).  It costs a quarter of sending them one by one.  Where it
   is not possible (an old kernel, no checksums, IPsec, datagrams that need
   fragments) they are sent one by one. */
#include "net/udp.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/errno.h"
#include "core/probes.h"

#define SEND_FLAGS (MSG_DONTWAIT | TW_MSG_NOSIGNAL)

/* self->segment: not asked yet (0), impossible, or the longest. */
#define SEGMENT_NEVER (-1)
#define SEGMENT_MAX 32000
#define TRAIN_BYTES 65000 /* an IP packet less headers */

/* The result of a send: 1 sent, 0 the kernel's buffer is full, -1 with an
   exception. */
static int
udp_send_result(ssize_t sent)
{
    if (sent >= 0) {
        return 1;
    }
    if (errno == EAGAIN) {
        return 0;
    }
    tw_errno_raise(-errno);
    return -1;
}

/* The kernel's address of the target, or NULL: the peer.  `path` is room for
   one. */
static const struct sockaddr *
dgram_target(const TwDgram *d, TwAddr *path, socklen_t *len)
{
    *len = 0;
    if (d->how == TW_TO_INET) {
        *len = d->to_len;
        return &d->to.any;
    }
    if (d->how == TW_TO_UNIX
        && tw_addr_from_python(AF_UNIX, d->addr, path) == 1) {
        *len = path->len;
        return &path->u.any;
    }
    return NULL;
}

int
tw_udp_send_one(TwUdp *self, const TwDgram *d, const void *p, size_t n)
{
    TwAddr path;
    socklen_t len;
    const struct sockaddr *to = dgram_target(d, &path, &len);
    ssize_t sent;

    do {
        sent = sendto(self->base.fd, p, n, SEND_FLAGS, to, len);
    } while (sent < 0 && errno == EINTR);
    TW_PROBE2(write, self->base.fd, sent < 0 ? -errno : sent);
    if (sent >= 0) {
        tw_stats_out(&self->base.loop->stats, TW_KIND_UDP, (size_t)sent);
    }
    return udp_send_result(sent);
}

int
tw_udp_send_python(TwUdp *self, PyObject *data, PyObject *addr)
{
    PyObject *argv[] = {self->base.sock, data, addr}, *result;

    result = tw_call_plain_method(self->base.loop->state->str.sendto, argv, 3);
    if (result != NULL) {
        Py_DECREF(result);
        tw_stats_out(&self->base.loop->stats, TW_KIND_UDP,
                     PyBytes_Check(data) ? (size_t)PyBytes_GET_SIZE(data)
                                         : 0);
        return 1;
    }
    if (PyErr_ExceptionMatches(PyExc_BlockingIOError)
        || PyErr_ExceptionMatches(PyExc_InterruptedError)) {
        PyErr_Clear();
        return 0;
    }
    return -1;
}

/* -- several with one system call ----------------------------------------- */

typedef union {
    struct cmsghdr align;
    char room[TW_SEGMENT_ROOM];
} TwSegment;

typedef struct {
    TwMmsg msgs[TW_UDP_BATCH];
    struct iovec iov[TW_UDP_BATCH];
    uint8_t length[TW_UDP_BATCH]; /* datagrams in each message */
    union {
        struct sockaddr_un path;
        TwSegment segment;
    } extra[TW_UDP_BATCH];
    int count; /* messages */
} TwTrain;

static int32_t
train_longest(TwUdp *self)
{
    if (self->segment == 0) {
        bool inet = self->family == AF_INET || self->family == AF_INET6;
        self->segment = inet && tw_sys_can_segment(self->base.fd)
                            ? SEGMENT_MAX
                            : SEGMENT_NEVER;
    }
    return self->segment;
}

static bool
dgram_same_target(const TwDgram *a, const TwDgram *b)
{
    return a->how == b->how && a->to_len == b->to_len
           && memcmp(&a->to, &b->to, a->to_len) == 0;
}

/* How many of `n`, from the i-th on, can be sent as one message. */
static int
train_length(const TwUdp *self, int i, int n, int32_t longest)
{
    const TwDgram *first = tw_dgramq_at(&self->out, (uint32_t)i);
    Py_ssize_t size = PyBytes_GET_SIZE(first->data), total = size;
    int end = i + 1;

    if (size == 0 || size > longest || first->how == TW_TO_UNIX) {
        return 1;
    }
    for (; end < n; end++) {
        const TwDgram *d = tw_dgramq_at(&self->out, (uint32_t)end);
        Py_ssize_t more = PyBytes_GET_SIZE(d->data);
        total += more;
        if (more == 0 || more > size || total > TRAIN_BYTES
            || !dgram_same_target(first, d)) {
            break;
        }
        if (more < size) {
            end++;
            break;
        }
    }
    return end - i;
}

static void
train_set_target(struct msghdr *hdr, TwDgram *d, struct sockaddr_un *room)
{
    TwAddr path;
    const struct sockaddr *to = dgram_target(d, &path, &hdr->msg_namelen);

    hdr->msg_name = d->how == TW_TO_INET ? &d->to : NULL;
    if (d->how == TW_TO_UNIX && to != NULL) {
        hdr->msg_name = memcpy(room, to, hdr->msg_namelen);
    }
}

/* Make the messages for the `n` oldest datagrams. */
static void
train_make(TwUdp *self, TwTrain *train, int n)
{
    int32_t longest = train_longest(self);
    int i = 0;

    train->count = 0;
    while (i < n) {
        int at = train->count++, length = train_length(self, i, n, longest);
        TwDgram *first = tw_dgramq_at(&self->out, (uint32_t)i);
        struct msghdr *hdr = &train->msgs[at].msg_hdr;
        memset(&train->msgs[at], 0, sizeof(train->msgs[at]));
        train->length[at] = (uint8_t)length;
        hdr->msg_iov = &train->iov[i];
        hdr->msg_iovlen = (size_t)length;
        for (int end = i + length; i < end; i++) {
            PyObject *data = tw_dgramq_at(&self->out, (uint32_t)i)->data;
            train->iov[i] = (struct iovec){PyBytes_AS_STRING(data),
                                           (size_t)PyBytes_GET_SIZE(data)};
        }
        train_set_target(hdr, first, &train->extra[at].path);
        if (length > 1) {
            tw_sys_set_segment(hdr, &train->extra[at].segment,
                               (uint16_t)hdr->msg_iov->iov_len);
        }
    }
}

/* A train was refused: must it be sent one by one?  Then no such train is
   tried again. */
static bool
train_was_refused(TwUdp *self, const TwTrain *train)
{
    if (train->length[0] < 2) {
        return false;
    }
    switch (errno) {
    case EINVAL:
    case EMSGSIZE: /* shorter ones may succeed */
        self->segment = (int32_t)train->iov[0].iov_len - 1;
        break;
    case EIO:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
        self->segment = SEGMENT_NEVER;
        break;
    default:
        return false;
    }
    if (self->segment == 0) {
        self->segment = SEGMENT_NEVER;
    }
    return true;
}

/* A sandbox refuses sendmmsg(2), or the first datagram is refused with an
   errno that a sandbox uses: sending the datagram by itself shows which. */
static int
send_refused(TwUdp *self)
{
    TwDgram *d = tw_dgramq_at(&self->out, 0);
    int sent = tw_udp_send_one(self, d, PyBytes_AS_STRING(d->data),
                               (size_t)PyBytes_GET_SIZE(d->data));

    if (sent == 1) {
        self->base.loop->sys.refused |= TW_SYS_SENDMMSG;
    }
    return sent;
}

static int
send_many(TwUdp *self, int n)
{
    TwTrain train;
    size_t bytes = 0;
    int sent, datagrams = 0;

    train_make(self, &train, n);
    do {
        sent = tw_sys_sendmmsg(&self->base.loop->sys, self->base.fd,
                               train.msgs, (unsigned)train.count, SEND_FLAGS);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        if (train_was_refused(self, &train)) {
            return send_many(self, n);
        }
        return tw_sys_is_refusal(errno) ? send_refused(self)
                                        : udp_send_result(sent);
    }
    for (int i = 0; i < sent; i++) {
        bytes += train.msgs[i].msg_len;
        datagrams += train.length[i];
    }
    TW_PROBE2(write, self->base.fd, bytes);
    tw_stats_out_many(&self->base.loop->stats, TW_KIND_UDP, bytes,
                      (size_t)datagrams);
    return datagrams;
}

/* How many of the oldest can be sent with one system call. */
static int
queue_run(const TwUdp *self)
{
    uint32_t n = self->out.count, most = TW_UDP_BATCH;

    if (self->base.loop->sys.refused & TW_SYS_SENDMMSG) {
        most = 1;
    }
    if (n > most) {
        n = most;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (tw_dgramq_at(&self->out, i)->how == TW_TO_PYTHON) {
            return (int)i;
        }
    }
    return (int)n;
}

int
tw_udp_send_queued(TwUdp *self)
{
    int run = queue_run(self), sent;
    TwDgram *d = tw_dgramq_at(&self->out, 0);
    PyObject *data, *addr;

    if (run > 1) {
        return send_many(self, run);
    }
    if (run == 1) {
        return tw_udp_send_one(self, d, PyBytes_AS_STRING(d->data),
                               (size_t)PyBytes_GET_SIZE(d->data));
    }
    data = Py_NewRef(d->data);
    addr = Py_NewRef(d->addr);
    sent = tw_udp_send_python(self, data, addr);
    Py_DECREF(data);
    Py_DECREF(addr);
    return sent;
}
