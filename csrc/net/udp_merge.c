/* Datagrams that the kernel returns merged (UDP_GRO).

   A sender of many datagrams of one size often sends them as one message (a
   train: see udp_send.c), and network cards merge them.  With this option the
   kernel does not split them and reports the size of each: one read returns up
   to 64.  That costs a fraction of as many reads.

   Any other reader of such a socket would get several datagrams as one.  So
   the option is set only where datagrams arrive in bursts and the program has
   no other way to the descriptor.  When the program asks for one, the option
   is cleared; what the kernel has merged by then is read first, and waits. */
#include <errno.h>

#include "base/errno.h"
#include "base/pages.h"
#include "net/hold.h"
#include "net/udp.h"

/* A socket's receive buffer is empty after this many reads, or never. */
#define MERGE_DRAIN_READS 4096

/* The result of one read. */
struct TwMerged {
    TwAddr from;
    char *buffer;   /* ours while `count` > 0: the loop's read buffer */
    char *p;        /* the next datagram */
    size_t left;    /* bytes from p on */
    size_t size;    /* of each datagram but the last */
    uint32_t count; /* datagrams from p on */
};

/* -- one read ------------------------------------------------------------- */

static ssize_t
merge_receive(TwUdp *self, char *buffer)
{
    TwMerged *m = self->merged;
    union {
        struct cmsghdr align;
        char room[TW_MERGED_ROOM];
    } control;
    struct iovec iov = {buffer, TW_UDP_READ_MAX};
    struct msghdr msg = {.msg_name = &m->from.u,
                         .msg_namelen = sizeof(m->from.u),
                         .msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.room,
                         .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(self->base.fd, &msg, MSG_DONTWAIT);

    if (n < 0) {
        return -errno;
    }
    m->from.len = msg.msg_namelen;
    m->size = tw_sys_merged_size(&msg);
    m->p = buffer;
    m->left = (size_t)n;
    m->count = 1;
    if (m->size > 0 && m->size < m->left) {
        m->count = (uint32_t)((m->left + m->size - 1) / m->size);
    }
    return n;
}

/* The next datagram of the read: p[0:n]. */
static size_t
merge_next(TwMerged *m, const char **p)
{
    size_t n = m->count == 1 ? m->left : m->size;

    *p = m->p;
    m->p += n;
    m->left -= n;
    m->count--;
    return n;
}

/* Return the buffer to the loop, which may have made another one. */
static void
merge_return_buffer(TwLoop *loop, TwMerged *m)
{
    if (m->buffer != NULL && loop->live) {
        tw_pages_free(loop->read_buffer);
        loop->read_buffer = TW_TAKE(m->buffer);
    }
}

ssize_t
tw_udp_merged_read(TwUdp *self, const char **p, const TwAddr **from)
{
    TwLoop *loop = self->base.loop;
    TwMerged *m = self->merged;
    size_t size;

    if (m->count == 0) {
        ssize_t n = merge_receive(self, loop->read_buffer);
        if (n < 0) {
            return n;
        }
        if (m->count > 1) {
            /* Callbacks may make the loop read other things. */
            m->buffer = TW_TAKE(loop->read_buffer);
        }
    }
    size = merge_next(m, p);
    *from = &m->from;
    if (m->count == 0) {
        merge_return_buffer(loop, m);
    }
    return (ssize_t)size;
}

bool
tw_udp_has_rest(const TwUdp *self)
{
    return self->in.count > 0
           || (self->merged != NULL && self->merged->count > 0);
}

void
tw_udp_rouse(TwTransport *base)
{
    if (TW_UNLIKELY(tw_udp_has_rest((TwUdp *)base)) && base->watcher != NULL
        && tw_transport_is_reading(base)) {
        tw_watcher_rouse(base->watcher, TW_EV_READ);
    }
}

/* -- the option ----------------------------------------------------------- */

void
tw_udp_merge(TwUdp *self)
{
    if (self->merge_asked || self->base.loop->never_merge
        || !tw_hold_is_private(&self->base)) {
        return;
    }
    self->merge_asked = true;
    if (tw_sys_merge(self->base.fd, true) < 0) {
        return;
    }
    self->merged = PyMem_Calloc(1, sizeof(*self->merged));
    if (self->merged == NULL) {
        tw_sys_merge(self->base.fd, false);
    }
}

static void
merge_free(TwUdp *self)
{
    TwMerged *m = TW_TAKE(self->merged);

    if (m != NULL) {
        tw_pages_free(m->buffer);
        PyMem_Free(m);
    }
}

void
tw_udp_merged_drop(TwUdp *self)
{
    tw_dgramq_clear(&self->in);
    merge_free(self);
}

/* Append the rest of the read to `in`. */
static tw_status
merge_keep(TwUdp *self)
{
    TwMerged *m = self->merged;

    while (m->count > 0) {
        TwDgram d = {0};
        const char *p;
        size_t n = merge_next(m, &p);

        d.addr = tw_peers_tuple(&self->peers, &m->from.u.any, m->from.len);
        d.data = d.addr ? PyBytes_FromStringAndSize(p, (Py_ssize_t)n) : NULL;
        if (tw_dgramq_push_steal(&self->in, &d) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Move all that the kernel has to `in`.  An error of the socket is reported
   soon. */
static tw_status
merge_drain(TwUdp *self)
{
    char *buffer = tw_loop_read_buffer(self->base.loop);
    tw_status status = merge_keep(self);

    for (int i = 0; buffer && status == 0 && i < MERGE_DRAIN_READS; i++) {
        ssize_t n = merge_receive(self, buffer);
        if (n == -EAGAIN) {
            break;
        }
        if (n < 0 && n != -EINTR) {
            PyObject *exc = tw_errno_exception((tw_uverr)n);
            status = tw_udp_error_later(self, exc);
            Py_DECREF(exc);
        }
        else if (n >= 0) {
            status = merge_keep(self);
        }
    }
    return buffer == NULL ? -1 : status;
}

void
tw_udp_shared(TwTransport *base)
{
    TwUdp *self = (TwUdp *)base;

    self->merge_asked = true;
    if (self->merged == NULL || base->fd < 0) {
        return;
    }
    if (merge_drain(self) < 0) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    tw_sys_merge(base->fd, false);
    merge_return_buffer(base->loop, self->merged);
    merge_free(self);
    tw_udp_rouse(base);
}
