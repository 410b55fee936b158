/* Writing of stream transports: at once, at the end of the callback (the
   cork), or when the kernel takes more (the queue).

   Order is always: queue, then cork, then new bytes; a cork exists only
   while the queue is empty. */
#include <sys/socket.h>

#include "base/args.h"
#include "base/compat.h"
#include "net/stream_methods.h"
#include "net/stream_send.h"

#define WRITE_IOV 64
#define WRITE_FATAL "Fatal write error on socket transport"

/* -- the watcher ---------------------------------------------------------- */

static tw_status
write_want(TwStream *self, bool writable)
{
    TwWatcher *w = self->base.watcher;

    if (w == NULL) {
        return 0;
    }
    return tw_watcher_want(w, writable ? w->want | TW_EV_WRITE
                                       : w->want & ~TW_EV_WRITE);
}

/* -- the cork ------------------------------------------------------------- */

static void stream_cork_flush(TwLoop *loop, TwCork *cork);

/* Take it from the stream and out of the loop's list; NULL if none. */
static TwCork *
cork_take(TwStream *self)
{
    TwCork *cork = TW_TAKE(self->cork);

    if (cork != NULL) {
        tw_call_cork_take(self->base.loop, cork);
    }
    return cork;
}

/* Is there room under the cork for `n` pieces of `size` bytes in all?  What
   does not fit leaves together with what is held: one system call, and a peer
   that is woken once. */
static bool
cork_may_hold(const TwStream *self, Py_ssize_t n, size_t size)
{
    const TwCork *cork = self->cork;
    size_t held = cork ? cork->bytes : 0;

    return size <= TW_CORK_BYTES - held
           && n <= TW_CORK_PIECES - (cork ? cork->count : 0)
           && tw_call_may_cork(self->base.loop);
}

/* -- sending -------------------------------------------------------------- */

/* The rest of a cork, of which `sent` bytes went out, goes to the queue. */
static tw_status
write_queue_cork(TwStream *self, TwCork *cork, size_t sent)
{
    for (int i = 0; i < cork->count; i++) {
        size_t len = (size_t)PyBytes_GET_SIZE(cork->data[i]);
        if (sent >= len) {
            sent -= len;
            continue;
        }
        if (tw_bufq_push(&self->queue, cork->data[i], sent) < 0) {
            return -1;
        }
        sent = 0;
    }
    return 0;
}

/* Send a cork (or NULL) and then p[0:n], with one system call.  *sent: how
   much of p went out (bytes of the cork that did not are queued).  1: an
   error closed the transport; 0; -1 with an exception. */
static int
write_now(TwStream *self, TwCork *cork, const char *p, size_t n, size_t *sent)
{
    struct iovec iov[TW_CORK_PIECES + 1];
    int count = 0;
    size_t held = cork ? cork->bytes : 0;
    tw_uverr done;

    for (int i = 0; cork != NULL && i < cork->count; i++) {
        iov[count++] =
            (struct iovec){PyBytes_AS_STRING(cork->data[i]),
                           (size_t)PyBytes_GET_SIZE(cork->data[i])};
    }
    if (n > 0) {
        iov[count++] = (struct iovec){(char *)p, n};
    }
    *sent = 0;
    done = tw_stream_send(self->base.fd, iov, count);
    if (TW_UNLIKELY(done < 0)) {
        return tw_transport_fatal_errno(&self->base, done, WRITE_FATAL) < 0
                   ? -1
                   : 1;
    }
    self->base.loop->stats.bytes_written += (uint64_t)done;
    if ((size_t)done >= held) {
        *sent = (size_t)done - held;
        return 0;
    }
    if (write_queue_cork(self, cork, (size_t)done) < 0) {
        /* No memory: a stream with a hole must not go on. */
        return tw_transport_fatal(&self->base, WRITE_FATAL) < 0 ? -1 : 1;
    }
    return 0;
}

/* Send a cork that is in no list any more. */
static tw_status
write_cork(TwStream *self, TwCork *cork)
{
    size_t sent;
    int result = 0;

    if (self->base.conn_lost == 0 && self->base.fd >= 0) {
        result = write_now(self, cork, NULL, 0, &sent);
        if (result == 0 && self->queue.count > 0) {
            result = write_want(self, true);
        }
    }
    tw_call_cork_free(self->base.loop, cork);
    return result < 0 ? -1 : 0;
}

tw_status
tw_stream_uncork(TwStream *self)
{
    tw_status status;

    if (TW_LIKELY(self->cork == NULL)) {
        return 0;
    }
    Py_INCREF(self);
    status = write_cork(self, cork_take(self));
    Py_DECREF(self);
    return status;
}

/* cork->flush: see core/call.h. */
static void
stream_cork_flush(TwLoop *loop, TwCork *cork)
{
    TwStream *self = (TwStream *)cork->owner;

    self->cork = NULL;
    if (write_cork(self, cork) < 0) {
        tw_call_flush_failed((PyObject *)self);
    }
}

/* -- write() -------------------------------------------------------------- */

/* One more reference under the cork.  The caller checked that it may. */
static tw_status
write_hold(TwStream *self, PyObject *bytes)
{
    size_t size = (size_t)PyBytes_GET_SIZE(bytes);
    TwCork *cork = self->cork;

    if (cork == NULL) {
        cork = tw_call_cork_new(self->base.loop, (PyObject *)self,
                                stream_cork_flush);
        if (cork == NULL) {
            return -1;
        }
        self->cork = cork;
    }
    cork->data[cork->count++] = Py_NewRef(bytes);
    cork->bytes += size;
    if (cork->bytes > self->base.high) {
        return tw_stream_uncork(self);
    }
    return 0;
}

/* Send p[0:n] behind what is corked; *sent as in write_now. */
static int
write_through(TwStream *self, const char *p, size_t n, size_t *sent)
{
    TwCork *cork = cork_take(self);
    int result = write_now(self, cork, p, n, sent);

    if (cork != NULL) {
        tw_call_cork_free(self->base.loop, cork);
    }
    return result;
}

tw_status
tw_stream_write_bytes(TwStream *self, PyObject *bytes)
{
    size_t n = (size_t)PyBytes_GET_SIZE(bytes), sent;
    int result;

    if (self->queue.count == 0) {
        if (cork_may_hold(self, 1, n)) {
            if (write_hold(self, bytes) < 0) {
                return -1;
            }
            return self->queue.count ? tw_transport_maybe_pause(&self->base)
                                     : 0;
        }
        result = write_through(self, PyBytes_AS_STRING(bytes), n, &sent);
        if (result != 0 || sent == n) {
            return result < 0 ? -1 : 0;
        }
        if (tw_bufq_push(&self->queue, bytes, sent) < 0
            || write_want(self, true) < 0) {
            return -1;
        }
    }
    else if (tw_bufq_push(&self->queue, bytes, 0) < 0) {
        return -1;
    }
    return tw_transport_maybe_pause(&self->base);
}

tw_status
tw_stream_write_raw(TwStream *self, const char *p, size_t n)
{
    size_t sent = 0;
    int result;

    if (self->base.conn_lost > 0 || self->base.fd < 0) {
        return 0;
    }
    if (self->queue.count == 0) {
        result = write_through(self, p, n, &sent);
        if (result != 0 || sent == n) {
            return result < 0 ? -1 : 0;
        }
        if (write_want(self, true) < 0) {
            return -1;
        }
    }
    if (tw_bufq_push_copy(&self->queue, p + sent, n - sent) < 0) {
        return -1;
    }
    return tw_transport_maybe_pause(&self->base);
}

/* -- writable ------------------------------------------------------------- */

static tw_status
write_failed(TwStream *self, tw_uverr err)
{
    PyObject *exc;
    tw_status status;

    tw_bufq_clear(&self->queue); /* first: debug mode's line tells its size */
    if (write_want(self, false) < 0) {
        return -1;
    }
    status = tw_transport_fatal_errno(&self->base, err, WRITE_FATAL);
    if (status == 0 && self->empty_waiter != NULL) {
        exc = self->base.lost_exc;
        tw_stream_settle_waiter(self, exc ? exc : PyExc_ConnectionError);
    }
    return status;
}

/* Nothing waits any more. */
static tw_status
write_drained(TwStream *self)
{
    if (write_want(self, false) < 0) {
        return -1;
    }
    tw_stream_settle_waiter(self, NULL);
    if (self->base.flags & TW_F_CLOSING) {
        return self->base.conn_lost ? 0 : tw_transport_call_lost(&self->base);
    }
    if (self->base.flags & TW_F_EOF_SENT) {
        shutdown(self->base.fd, SHUT_WR);
    }
    return 0;
}

tw_status
tw_stream_on_writable(TwStream *self)
{
    struct iovec iov[WRITE_IOV];
    tw_uverr done;

    if (self->base.conn_lost > 0 || self->queue.count == 0) {
        return 0;
    }
    done = tw_stream_send(self->base.fd, iov,
                          tw_bufq_iov(&self->queue, iov, WRITE_IOV));
    if (done < 0) {
        return write_failed(self, done);
    }
    self->base.loop->stats.bytes_written += (uint64_t)done;
    tw_bufq_consume(&self->queue, (size_t)done);
    if (tw_transport_maybe_resume(&self->base) < 0) {
        return -1;
    }
    if (self->queue.count > 0 || self->base.conn_lost > 0) {
        return 0;
    }
    return write_drained(self);
}

size_t
tw_stream_buffer_size(TwTransport *base)
{
    TwStream *self = (TwStream *)base;

    return self->queue.bytes + (self->cork ? self->cork->bytes : 0);
}

void
tw_stream_buffer_clear(TwTransport *base)
{
    TwStream *self = (TwStream *)base;
    TwCork *cork = cork_take(self);

    tw_bufq_clear(&self->queue);
    if (cork != NULL) {
        tw_call_cork_free(self->base.loop, cork);
    }
}

/* -- methods -------------------------------------------------------------- */

/* asyncio's checks of write() and writelines().  1: go on, 0: nothing to do
   (a lost connection: counted, and from the fifth on warned of), -1. */
static int
write_check(TwStream *self, const char *method)
{
    if (self->base.flags & TW_F_EOF_SENT) {
        PyErr_Format(PyExc_RuntimeError,
                     "Cannot call %s() after write_eof()", method);
        return -1;
    }
    if (self->empty_waiter != NULL) {
        PyErr_Format(PyExc_RuntimeError,
                     "unable to %s; sendfile is in progress", method);
        return -1;
    }
    return 1;
}

static tw_status
write_count_lost(TwStream *self)
{
    PyObject *result;

    if (self->base.conn_lost++ < 5) {
        return 0;
    }
    result = tw_seam_call(self->base.loop->state, "warn_lost_write", NULL, 0);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Memory that may change after write() returned, or a derived bytes object
   (its end may run Python): sent now, the rest copied. */
static tw_status
write_view(TwStream *self, PyObject *data)
{
    Py_buffer view;
    tw_status status;
    size_t sent = 0, n;
    int result = 0;

    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    n = (size_t)view.len;
    if (self->queue.count == 0 && n > 0) {
        result = write_through(self, view.buf, n, &sent);
    }
    if (result == 0 && sent < n) {
        status = tw_bufq_push_copy(&self->queue, (char *)view.buf + sent,
                                   n - sent);
        if (status == 0) {
            status = write_want(self, true);
        }
        result = status;
    }
    PyBuffer_Release(&view);
    if (result != 0) {
        return result < 0 ? -1 : 0;
    }
    return tw_transport_maybe_pause(&self->base);
}

PyObject *
tw_stream_meth_write(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *kwnames)
{
    TwStream *self = (TwStream *)op;
    PyObject *data = tw_args_one("write", "data", args, nargs, kwnames);
    tw_status status;

    if (data == NULL) {
        return NULL;
    }
    if (!PyBytes_Check(data) && !PyByteArray_Check(data)
        && !PyMemoryView_Check(data)) {
        PyErr_Format(PyExc_TypeError,
                     "data argument must be a bytes-like object, not '%.200s'",
                     Py_TYPE(data)->tp_name);
        return NULL;
    }
    if (write_check(self, "write") < 0) {
        return NULL;
    }
    if (PyBytes_Check(data) && PyBytes_GET_SIZE(data) == 0) {
        Py_RETURN_NONE;
    }
    if (self->base.conn_lost > 0) {
        int truth = PyObject_IsTrue(data);
        status = truth > 0 ? write_count_lost(self) : truth;
    }
    else if (TW_LIKELY(PyBytes_CheckExact(data))) {
        status = tw_stream_write_bytes(self, data);
    }
    else {
        status = write_view(self, data);
    }
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* A new reference; `item` may be what its end (a __buffer__ of the program's)
   drops from where it was. */
static PyObject *
write_piece(PyObject *item)
{
    PyObject *piece = NULL;

    if (PyBytes_CheckExact(item)) {
        return Py_NewRef(item);
    }
    Py_INCREF(item);
    if (PyObject_CheckBuffer(item)) {
        piece = PyBytes_FromObject(item);
    }
    else {
        PyErr_Format(PyExc_TypeError,
                     "a bytes-like object is required, not '%.200s'",
                     Py_TYPE(item)->tp_name);
    }
    Py_DECREF(item);
    return piece;
}

/* Each piece as a bytes object: a new list. */
static PyObject *
write_pieces(PyObject *lines)
{
    PyObject *fast = PySequence_Fast(lines, "can only join an iterable");
    PyObject *pieces = fast ? PyList_New(0) : NULL;

    for (Py_ssize_t i = 0; pieces && i < PySequence_Fast_GET_SIZE(fast);
         i++) {
        PyObject *piece = write_piece(PySequence_Fast_GET_ITEM(fast, i));

        if (piece == NULL || PyList_Append(pieces, piece) < 0) {
            Py_CLEAR(pieces);
        }
        Py_XDECREF(piece);
    }
    Py_XDECREF(fast);
    return pieces;
}

/* All pieces with as few system calls as there are 64 of them. */
static tw_status
write_list(TwStream *self, PyObject *pieces)
{
    Py_ssize_t n = PyList_GET_SIZE(pieces);
    bool was_empty;
    size_t total = 0;

    for (Py_ssize_t i = 0; i < n; i++) {
        total += (size_t)PyBytes_GET_SIZE(PyList_GET_ITEM(pieces, i));
    }
    /* Nothing is sent, and so the protocol not paused, between two of them. */
    if (self->queue.count == 0 && cork_may_hold(self, n, total)
        && tw_stream_buffer_size(&self->base) + total <= self->base.high) {
        for (Py_ssize_t i = 0; i < n; i++) {
            PyObject *piece = PyList_GET_ITEM(pieces, i);
            if (PyBytes_GET_SIZE(piece) > 0
                && tw_stream_write_bytes(self, piece) < 0) {
                return -1;
            }
        }
        return 0;
    }
    if (tw_stream_uncork(self) < 0) {
        return -1;
    }
    was_empty = self->queue.count == 0;
    for (Py_ssize_t i = 0; i < n && self->base.conn_lost == 0; i++) {
        PyObject *piece = PyList_GET_ITEM(pieces, i);
        if (PyBytes_GET_SIZE(piece) > 0
            && tw_bufq_push(&self->queue, piece, 0) < 0) {
            return -1;
        }
    }
    if (was_empty && self->queue.count > 0) {
        struct iovec iov[WRITE_IOV];
        tw_uverr done =
            tw_stream_send(self->base.fd, iov,
                           tw_bufq_iov(&self->queue, iov, WRITE_IOV));
        if (done < 0) {
            return write_failed(self, done);
        }
        self->base.loop->stats.bytes_written += (uint64_t)done;
        tw_bufq_consume(&self->queue, (size_t)done);
        if (self->queue.count > 0 && write_want(self, true) < 0) {
            return -1;
        }
    }
    return tw_transport_maybe_pause(&self->base);
}

PyObject *
tw_stream_meth_writelines(PyObject *op, PyObject *const *args,
                          Py_ssize_t nargs, PyObject *kwnames)
{
    TwStream *self = (TwStream *)op;
    PyObject *lines =
        tw_args_one("writelines", "list_of_data", args, nargs, kwnames);
    PyObject *pieces;
    tw_status status;

    if (lines == NULL || write_check(self, "writelines") < 0) {
        return NULL;
    }
    pieces = write_pieces(lines);
    if (pieces == NULL) {
        return NULL;
    }
    if (PyList_GET_SIZE(pieces) == 0) {
        status = 0;
    }
    else if (self->base.conn_lost > 0) {
        status = write_count_lost(self);
    }
    else {
        status = write_list(self, pieces);
    }
    Py_DECREF(pieces);
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *
tw_stream_meth_write_eof(PyObject *op, PyObject *unused)
{
    TwStream *self = (TwStream *)op;

    if (tw_stream_uncork(self) < 0) {
        return NULL;
    }
    if (self->base.flags & (TW_F_CLOSING | TW_F_EOF_SENT)) {
        Py_RETURN_NONE;
    }
    self->base.flags |= TW_F_EOF_SENT;
    if (self->queue.count == 0 && shutdown(self->base.fd, SHUT_WR) < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}
