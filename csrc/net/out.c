#include "net/out.h"

#include "core/probes.h"
#include "net/hold.h"

#define OUT_IOV 64
/* Up to this size the pieces of the queue are copied together: sendmsg() costs
   more than that. */
#define OUT_JOIN 4096
/* Up to this size a program's memory is copied, and not sent by itself, if it
   can be sent with what is held. */
#define OUT_COPY (16 * 1024)

/* -- the kernel ----------------------------------------------------------- */

/* Sending failed with `err`.  The queue is cleared first, because the report
   shows its size in debug mode. */
static tw_status
out_failed(TwOut *self, tw_uverr err)
{
    const TwOutOps *ops = self->base.ops->out;
    tw_status status;

    tw_bufq_clear(&self->queue);
    if (tw_transport_watch(&self->base) < 0) {
        return -1;
    }
    status = tw_transport_fatal_errno(&self->base, err, ops->fatal);
    if (status == 0 && ops->failed != NULL) {
        ops->failed(&self->base);
    }
    return status;
}

static tw_uverr
out_send(TwOut *self, struct iovec *iov, int n)
{
    tw_uverr done = self->base.ops->out->send(&self->base, iov, n);

    TW_PROBE2(write, self->base.fd, done);
    if (TW_LIKELY(done > 0)) {
        tw_stats_out(&self->base.loop->stats, self->base.kind, (size_t)done);
    }
    return done;
}

/* The oldest pieces, with one system call. */
static tw_uverr
out_send_pieces(TwOut *self)
{
    struct iovec iov[OUT_IOV];
    char joined[OUT_JOIN];

    if (self->queue.count > 1 && self->queue.bytes <= OUT_JOIN
        && !self->messages) {
        tw_bufq_copy(&self->queue, joined);
        iov[0] = (struct iovec){joined, self->queue.bytes};
        return out_send(self, iov, 1);
    }
    return out_send(self, iov, tw_bufq_iov(&self->queue, iov,
                                           self->messages ? 1 : OUT_IOV));
}

/* Send from the queue: one system call, or one for each message.  The rest
   stays in the queue.  0, or -1 with an exception; an error of the kernel
   closes the transport. */
static tw_status
out_send_queue(TwOut *self)
{
    tw_uverr done;

    do {
        done = out_send_pieces(self);
        if (done < 0) {
            return out_failed(self, done);
        }
        if (TW_LIKELY((size_t)done == self->queue.bytes)) {
            tw_bufq_finish(&self->queue, &self->base.loop->free_pieces);
            return 0;
        }
        tw_bufq_consume(&self->queue, (size_t)done);
    } while (self->messages && done > 0 && self->queue.count > 0);
    return 0;
}

/* The kernel refused the queue, or a part of it. */
static tw_status
out_wait(TwOut *self)
{
    if (tw_transport_watch(&self->base) < 0) {
        return -1;
    }
    return tw_transport_maybe_pause(&self->base);
}

tw_status
tw_out_flush(TwTransport *base)
{
    TwOut *self = (TwOut *)base;

    tw_hold_end(base);
    if (base->conn_lost > 0 || base->fd < 0) {
        tw_bufq_clear(&self->queue);
        return 0;
    }
    if (out_send_queue(self) < 0) {
        return -1;
    }
    return self->queue.count > 0 ? out_wait(self) : 0;
}

/* -- one write ------------------------------------------------------------ */

/* Append it to the queue: a reference if there is one, else a copy. */
static tw_status
out_push(TwOut *self, PyObject *bytes, const char *p, size_t n, size_t sent)
{
    return bytes != NULL ? tw_bufq_push(&self->queue, bytes, sent)
                         : tw_bufq_push_copy(&self->queue, p + sent, n - sent);
}

/* The same, after what the kernel has refused. */
static tw_status
out_push_behind(TwOut *self, PyObject *bytes, const char *p, size_t n)
{
    if (out_push(self, bytes, p, n, 0) < 0) {
        return -1;
    }
    return tw_transport_maybe_pause(&self->base);
}

static tw_status
out_send_now(TwOut *self, PyObject *bytes, const char *p, size_t n)
{
    struct iovec iov = {(char *)p, n};
    tw_uverr done = out_send(self, &iov, 1);

    if (TW_LIKELY((size_t)done == n)) {
        return 0;
    }
    if (done < 0) {
        return out_failed(self, done);
    }
    if (out_push(self, bytes, p, n, (size_t)done) < 0) {
        return -1;
    }
    return out_wait(self);
}

/* Send what is held, and these bytes with it or after it. */
static tw_status
out_send_all(TwOut *self, PyObject *bytes, const char *p, size_t n)
{
    bool joins = bytes != NULL || n <= OUT_COPY;
    tw_status status = joins ? out_push(self, bytes, p, n, 0) : 0;

    Py_INCREF(self);
    if (status == 0) {
        status = tw_out_flush(&self->base);
    }
    if (!joins && status == 0 && self->base.conn_lost == 0) {
        status = self->queue.count > 0 ? out_push_behind(self, NULL, p, n)
                                       : out_send_now(self, NULL, p, n);
    }
    Py_DECREF(self);
    return status;
}

/* Hold these bytes, alone or behind others. */
static tw_status
out_hold(TwOut *self, PyObject *bytes, const char *p, size_t n)
{
    tw_bufq_borrow(&self->queue, &self->base.loop->free_pieces);
    if (out_push(self, bytes, p, n, 0) < 0) {
        return -1;
    }
    if (!(self->base.flags & TW_F_HELD)) {
        tw_hold_begin(&self->base);
    }
    return 0;
}

/* May `n` pieces of `size` bytes in all, a write of the program, be held? */
static inline bool
out_may_hold(TwOut *self, Py_ssize_t n, size_t size)
{
    return self->base.ops->flush != NULL && !self->messages
           && tw_hold_next(&self->base)
           && n < TW_HOLD_PIECES - (Py_ssize_t)self->queue.count
           && self->queue.bytes + size < TW_HOLD_BYTES
           && self->queue.bytes + size <= self->base.high;
}

/* `habitual`: a write of the program. */
static inline tw_status
out_write(TwOut *self, PyObject *bytes, const char *p, size_t n,
          bool habitual)
{
    if (TW_UNLIKELY(tw_out_waits(self))) {
        return out_push_behind(self, bytes, p, n);
    }
    if (habitual && out_may_hold(self, 1, n)) {
        return out_hold(self, bytes, p, n);
    }
    return TW_LIKELY(self->queue.count == 0)
               ? out_send_now(self, bytes, p, n)
               : out_send_all(self, bytes, p, n);
}

tw_status
tw_out_write(TwOut *self, PyObject *bytes)
{
    return out_write(self, bytes, PyBytes_AS_STRING(bytes),
                     (size_t)PyBytes_GET_SIZE(bytes), true);
}

tw_status
tw_out_write_copy(TwOut *self, const char *p, size_t n)
{
    return out_write(self, NULL, p, n, true);
}

tw_status
tw_out_write_own(TwOut *self, const char *p, size_t n)
{
    return out_write(self, NULL, p, n, false);
}

/* -- a list of pieces ----------------------------------------------------- */

/* One message of all pieces. */
static tw_status
out_write_joined(TwOut *self, PyObject *pieces)
{
    PyObject *joined = PyBytes_FromStringAndSize(NULL, 0);
    tw_status status = -1;

    for (Py_ssize_t i = 0; joined && i < PyList_GET_SIZE(pieces); i++) {
        PyBytes_Concat(&joined, PyList_GET_ITEM(pieces, i));
    }
    if (joined != NULL) {
        status = tw_out_write(self, joined);
        Py_DECREF(joined);
    }
    return status;
}

static size_t
out_list_size(PyObject *pieces)
{
    size_t total = 0;

    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(pieces); i++) {
        total += (size_t)PyBytes_GET_SIZE(PyList_GET_ITEM(pieces, i));
    }
    return total;
}

static tw_status
out_push_list(TwOut *self, PyObject *pieces)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(pieces); i++) {
        PyObject *piece = PyList_GET_ITEM(pieces, i);
        if (PyBytes_GET_SIZE(piece) > 0
            && tw_bufq_push(&self->queue, piece, 0) < 0) {
            /* Part of the stream is lost: it must not continue. */
            return tw_transport_fatal(&self->base, self->base.ops->out->fatal);
        }
    }
    return 0;
}

tw_status
tw_out_write_list(TwOut *self, PyObject *pieces)
{
    bool waits = tw_out_waits(self), held;

    if (self->messages) {
        return out_write_joined(self, pieces);
    }
    held = !waits && out_may_hold(self, PyList_GET_SIZE(pieces),
                                  out_list_size(pieces));
    if (out_push_list(self, pieces) < 0) {
        return -1;
    }
    if (waits) {
        return tw_transport_maybe_pause(&self->base);
    }
    if (self->queue.count == 0) {
        return 0;
    }
    if (!held) {
        return tw_out_flush(&self->base);
    }
    if (!(self->base.flags & TW_F_HELD)) {
        tw_hold_begin(&self->base);
    }
    return 0;
}

/* -- writable ------------------------------------------------------------- */

tw_status
tw_out_on_writable(TwOut *self)
{
    const TwOutOps *ops = self->base.ops->out;

    if (self->base.conn_lost > 0 || !tw_out_waits(self)) {
        return 0;
    }
    if (out_send_queue(self) < 0) {
        return -1;
    }
    if (self->base.conn_lost > 0
        || (self->queue.count > 0 && ops->resume_when_empty)) {
        return 0;
    }
    if (tw_transport_maybe_resume(&self->base) < 0) {
        return -1;
    }
    if (self->queue.count > 0 || self->base.conn_lost > 0) {
        return 0;
    }
    return tw_transport_watch(&self->base) < 0 ? -1
                                               : ops->drained(&self->base);
}

size_t
tw_out_size(TwTransport *base)
{
    return ((TwOut *)base)->queue.bytes;
}

void
tw_out_clear(TwTransport *base)
{
    tw_bufq_clear(&((TwOut *)base)->queue);
    tw_hold_end(base);
}
