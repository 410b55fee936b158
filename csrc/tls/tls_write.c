/* Encrypt what the program writes, and write it to the lower transport.

   write() encrypts at once.  The stream below sends the ciphertext, or holds
   it for the next write (net/hold.h).  While the lower transport is full,
   plaintext waits by reference. */
#include <string.h>

#include "base/args.h"
#include "tls/buf.h"
#include "tls/filter.h"
#include "tls/tls_transport.h"

/* More ciphertext than this is sent during an operation. */
#define WRITE_SEND_SIZE (64 * 1024)
/* writelines() joins small pieces into records of this size. */
#define WRITE_RECORD (16 * 1024)

size_t
tw_tls_buffer_size(TwTls *self)
{
    return self->backlog.bytes + tw_engine_out_size(self->engine)
           + tw_filter_waiting(self);
}

/* -- flow control --------------------------------------------------------- */

static tw_status
tls_write_notify(TwTls *self, PyObject *name, bool own, const char *message)
{
    PyObject *argv[1], *result;
    tw_status status = 0;

    if (self->base.protocol == NULL) {
        return 0;
    }
    argv[0] = Py_NewRef(self->base.protocol);
    result = tw_call_method(self->base.loop, own ? self->base.context : NULL,
                            name, argv, 1);
    Py_DECREF(argv[0]);
    if (result == NULL) {
        status = tw_call_report(self->base.loop, message, (PyObject *)self,
                                self->adapter);
    }
    Py_XDECREF(result);
    return status;
}

/* Should the protocol be paused while `size` bytes wait? */
static inline bool
tls_write_is_full(const TwTls *self, size_t size)
{
    return self->base.flags & TW_F_WRITE_PAUSED
               ? size > self->base.low
               : size >= self->base.high && size > 0;
}

tw_status
tw_tls_control_writing(TwTls *self, bool own)
{
    size_t size = tw_tls_buffer_size(self);

    if (TW_UNLIKELY(tls_write_is_full(self, size))) {
        /* Bytes that are only held do not wait for the peer. */
        if (tw_filter_flush(self) < 0) {
            return -1;
        }
        size = tw_tls_buffer_size(self);
    }
    if (TW_UNLIKELY(self->base.flags & TW_F_WRITE_PAUSED)) {
        if (tls_write_is_full(self, size)) {
            tw_filter_request_resume(self);
            return 0;
        }
        self->base.flags &= ~TW_F_WRITE_PAUSED;
        return tls_write_notify(self,
                                self->base.loop->state->str.resume_writing,
                                own, "protocol.resume_writing() failed");
    }
    if (TW_LIKELY(!tls_write_is_full(self, size))) {
        return 0;
    }
    self->base.flags |= TW_F_WRITE_PAUSED;
    self->base.loop->stats.pauses++;
    tw_filter_request_resume(self);
    return tls_write_notify(self, self->base.loop->state->str.pause_writing,
                            own, "protocol.pause_writing() failed");
}

tw_status
tw_tls_flush(TwTls *self)
{
    if (!self->in_read && tw_filter_send(self, true) < 0) {
        return -1;
    }
    return tw_tls_control_writing(self, true);
}

/* -- encrypting ----------------------------------------------------------- */

/* Encrypt until the lower transport is full, or `all`: how many bytes; -1. */
static Py_ssize_t
tls_write_encrypt(TwTls *self, const char *p, size_t n, bool all)
{
    size_t done = 0;

    while (done < n && (all || !self->lower_full)) {
        size_t size = n - done;
        if (size > TW_BLOCK_PLAIN) {
            size = TW_BLOCK_PLAIN;
        }
        Py_ssize_t got = tw_engine_write(self->engine, p + done, size);
        if (got == -1) {
            return -1;
        }
        if (got == TW_ENGINE_WANT) {
            break;
        }
        done += (size_t)got;
        if (tw_engine_out_size(self->engine) >= WRITE_SEND_SIZE
            && tw_filter_send(self, false) < 0) {
            return -1;
        }
    }
    return (Py_ssize_t)done;
}

/* May plaintext be encrypted now?  Not after an error of reading: it would
   fail with another error, and that would be reported. */
static inline bool
tls_write_is_free(const TwTls *self)
{
    return tw_tls_is_readable(self) && !self->in_write
           && self->read_error == NULL && !tw_engine_is_busy(self->engine);
}

tw_status
tw_tls_write_backlog(TwTls *self, bool all)
{
    tw_status status = 0;

    if (!tls_write_is_free(self)) {
        return 0;
    }
    self->in_write = 1;
    while (self->backlog.count > 0 && (all || !self->lower_full)) {
        TwPiece *piece = &self->backlog.pieces[self->backlog.head];
        PyObject *data = Py_NewRef(piece->data);
        size_t size = (size_t)PyBytes_GET_SIZE(data) - piece->start;
        Py_ssize_t done = tls_write_encrypt(
            self, PyBytes_AS_STRING(data) + piece->start, size, all);
        if (done > 0 && self->backlog.count > 0) {
            tw_bufq_consume(&self->backlog, (size_t)done);
        }
        Py_DECREF(data);
        if (done < 0) {
            status = tw_tls_fatal(self, TW_TLS_FATAL_SSL);
            break;
        }
        if ((size_t)done < size) {
            break;
        }
    }
    self->in_write = 0;
    return status < 0 ? -1 : tw_tls_flush(self);
}

tw_status
tw_tls_drained(TwTls *self)
{
    tw_status status;

    self->lower_full = 0;
    Py_INCREF(self);
    if (self->backlog.count > 0 && tw_tls_is_readable(self)) {
        status = tw_tls_write_backlog(self, false);
    }
    else {
        status = tw_tls_flush(self);
    }
    Py_DECREF(self);
    return status;
}

/* -- write() -------------------------------------------------------------- */

static tw_status
tls_write_later(TwTls *self, PyObject *bytes, const char *p, size_t n,
                size_t start)
{
    if (bytes != NULL && PyBytes_CheckExact(bytes)) {
        return tw_bufq_push(&self->backlog, bytes,
                            (size_t)(p - PyBytes_AS_STRING(bytes)) + start);
    }
    return tw_bufq_push_copy(&self->backlog, p + start, n - start);
}

static tw_status
tls_write_ignored(TwTls *self)
{
    return tw_transport_warn_lost(self->base.loop, self->base.conn_lost++,
                                  "SSL connection is closed");
}

/* Encrypt it, or append it to the backlog. */
static tw_status
tls_write_some(TwTls *self, PyObject *bytes, const char *p, size_t n)
{
    Py_ssize_t done = 0;

    tw_stats_out(&self->base.loop->stats, TW_KIND_TLS, n);
    if (self->backlog.count == 0 && self->state == TW_TLS_WRAPPED
        && tls_write_is_free(self)) {
        self->in_write = 1;
        /* Memory that may change is encrypted now, even if the transport is
           full. */
        done = tls_write_encrypt(self, p, n, bytes == NULL);
        self->in_write = 0;
        if (done < 0) {
            return tw_tls_fatal(self, TW_TLS_FATAL_SSL);
        }
    }
    if ((size_t)done < n && self->state != TW_TLS_UNWRAPPED
        && tls_write_later(self, bytes, p, n, (size_t)done) < 0) {
        return -1;
    }
    return 0;
}

/* The end of write() and writelines(). */
static tw_status
tls_write_finish(TwTls *self)
{
    if (self->backlog.count > 0 && !self->lower_full
        && self->state == TW_TLS_WRAPPED) {
        if (tw_tls_write_backlog(self, false) < 0) {
            return -1;
        }
    }
    else if (tw_filter_send(self, true) < 0) {
        return -1;
    }
    if (tw_tls_control_writing(self, false) < 0) {
        return -1;
    }
    return TW_UNLIKELY(self->flush_late) ? tw_tls_pump(self) : 0;
}

static inline bool
tls_write_is_open(const TwTls *self)
{
    return self->state == TW_TLS_WRAPPED || self->state == TW_TLS_HANDSHAKE;
}

/* Write plaintext: `bytes` is the object that has p, or NULL for memory that
   may change.  Ignored and counted when closing. */
static tw_status
tls_write_plain(TwTls *self, PyObject *bytes, const char *p, size_t n)
{
    tw_status status;

    if (TW_UNLIKELY(!tls_write_is_open(self))) {
        return tls_write_ignored(self);
    }
    Py_INCREF(self);
    status = tls_write_some(self, bytes, p, n);
    if (status == 0) {
        status = tls_write_finish(self);
    }
    Py_DECREF(self);
    return status;
}

static tw_status
tls_write_buffer(TwTls *self, PyObject *data)
{
    Py_buffer view;
    tw_status status = 0;

    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return tls_write_is_open(self)
                   ? tw_tls_fatal(self, TW_TLS_FATAL_SSL)
                   : -1;
    }
    if (view.len > 0) {
        status = tls_write_plain(self, NULL, view.buf, (size_t)view.len);
    }
    PyBuffer_Release(&view);
    return status;
}

static PyObject *
tls_meth_write(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    TwTls *self = (TwTls *)op;
    PyObject *data = tw_args_one("write", "data", args, nargs, kwnames);
    tw_status status = 0;

    if (data == NULL) {
        return NULL;
    }
    if (TW_LIKELY(PyBytes_Check(data))) {
        if (PyBytes_GET_SIZE(data) > 0) {
            status = tls_write_plain(self, data, PyBytes_AS_STRING(data),
                                     (size_t)PyBytes_GET_SIZE(data));
        }
    }
    else if (PyByteArray_Check(data) || PyMemoryView_Check(data)) {
        status = tls_write_buffer(self, data);
    }
    else {
        tw_args_refuse("data: expecting a bytes-like instance, got %U", data);
        return NULL;
    }
    return tw_none_or_error(status);
}

/* -- writelines() --------------------------------------------------------- */

/* Small pieces that are joined into one record. */
typedef struct {
    size_t size;
    char bytes[WRITE_RECORD];
} TwGather;

static tw_status
gather_flush(TwTls *self, TwGather *gather)
{
    size_t size = gather->size;

    gather->size = 0;
    return size == 0 ? 0 : tls_write_some(self, NULL, gather->bytes, size);
}

static tw_status
gather_add(TwTls *self, TwGather *gather, PyObject *item)
{
    Py_buffer view;
    tw_status status = 0;
    size_t size;

    if (PyObject_GetBuffer(item, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    size = (size_t)view.len;
    if (gather->size + size > WRITE_RECORD) {
        status = gather_flush(self, gather);
    }
    if (status == 0 && size > WRITE_RECORD / 2) {
        status = gather_flush(self, gather);
        if (status == 0) {
            status = tls_write_some(self, PyBytes_Check(item) ? item : NULL,
                                   view.buf, size);
        }
    }
    else if (status == 0) {
        memcpy(gather->bytes + gather->size, view.buf, size);
        gather->size += size;
    }
    PyBuffer_Release(&view);
    return status;
}

static tw_status
tls_write_lines(TwTls *self, PyObject *lines)
{
    TwGather gather;
    tw_status status = 0;

    gather.size = 0;
    for (Py_ssize_t i = 0; status == 0 && i < PyList_GET_SIZE(lines); i++) {
        status = gather_add(self, &gather, PyList_GET_ITEM(lines, i));
    }
    if (status == 0) {
        status = gather_flush(self, &gather);
    }
    return status < 0 ? -1 : tls_write_finish(self);
}

/* An object with contiguous memory for a line: new reference, or NULL. */
static PyObject *
tls_write_line(PyObject *item)
{
    Py_buffer view;

    if (PyBytes_Check(item)) {
        return Py_NewRef(item);
    }
    if (!PyObject_CheckBuffer(item)) {
        PyErr_Format(PyExc_TypeError,
                     "a bytes-like object is required, not '%.200s'",
                     Py_TYPE(item)->tp_name);
        return NULL;
    }
    if (PyObject_GetBuffer(item, &view, PyBUF_SIMPLE) == 0) {
        PyBuffer_Release(&view);
        return Py_NewRef(item);
    }
    if (!PyErr_ExceptionMatches(PyExc_BufferError)) {
        return NULL;
    }
    PyErr_Clear();
    return PyBytes_FromObject(item); /* a view with gaps, as over a stream */
}

/* The lines in a new list, so that errors come before anything is written. */
static PyObject *
tls_write_copy_lines(PyObject *lines)
{
    PyObject *taken = PySequence_List(lines);

    for (Py_ssize_t i = 0; taken && i < PyList_GET_SIZE(taken); i++) {
        PyObject *line = tls_write_line(PyList_GET_ITEM(taken, i));
        if (line == NULL || PyList_SetItem(taken, i, line) < 0) {
            Py_CLEAR(taken);
        }
    }
    return taken;
}

static PyObject *
tls_meth_writelines(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames)
{
    TwTls *self = (TwTls *)op;
    PyObject *lines =
        tw_args_one("writelines", "list_of_data", args, nargs, kwnames);
    PyObject *taken;
    tw_status status;

    if (lines == NULL) {
        return NULL;
    }
    if (!tls_write_is_open(self)) {
        return tw_none_or_error(tls_write_ignored(self));
    }
    taken = tls_write_copy_lines(lines);
    if (taken == NULL) {
        return NULL;
    }
    Py_INCREF(self);
    status = tls_write_lines(self, taken);
    Py_DECREF(self);
    Py_DECREF(taken);
    return tw_none_or_error(status);
}

PyMethodDef tw_tls_write_methods[] = {
    {"write", TW_FAST(tls_meth_write), TW_FASTKW, PyDoc_STR(
"write($self, /, data)\n--\n\n"
"Encrypt and send bytes, bytearray or memoryview; never blocks.\n\n"
"TypeError for another type.  On a closing or lost connection nothing\n"
"happens.  See library/asyncio-protocol.")},
    {"writelines", TW_FAST(tls_meth_writelines), TW_FASTKW, PyDoc_STR(
"writelines($self, /, list_of_data)\n--\n\n"
"write() of each item of an iterable, small pieces together in one record.\n\n"
"Errors are those of write().  See library/asyncio-protocol.")},
    {NULL},
};
