/* Decrypt and deliver to the protocol. */
#include "base/compat.h"
#include "core/readbytes.h"
#include "net/feeder.h"
#include "tls/filter.h"
#include "tls/tls_transport.h"

/* The most plaintext in one object: seven full records.  malloc() would map
   larger blocks anew each time, with a page fault for each 4 KiB. */
#define READ_MOST (112 * 1024)

/* In this file `last` is the engine's last result: bytes, 0 for close_notify,
   TW_ENGINE_WANT, or -1 and then the exception is in read_error. */

/* -- end of file ---------------------------------------------------------- */

tw_status
tw_tls_eof_received(TwTls *self)
{
    tw_state *state = self->base.loop->state;
    int keep_open;
    tw_status status = 0;

    if (self->app != TW_APP_MADE || self->base.protocol == NULL) {
        return 0;
    }
    self->app = TW_APP_EOF;
    keep_open = tw_truth_steal(tw_transport_call_protocol(
        &self->base, state->str.eof_received, NULL));
    if (keep_open > 0) {
        status = tw_status_steal(tw_call_plain_noargs(
            tw_engine_name(state, TW_TLS_HELPERS), state->str.warn_eof));
    }
    return keep_open < 0 || status < 0
               ? tw_tls_fatal(self, "Error calling eof_received()")
               : 0;
}

/* close_notify was received: call eof_received() and shut down, as asyncio
   does. */
static tw_status
tls_read_eof(TwTls *self)
{
    if (tw_tls_eof_received(self) < 0) {
        return -1;
    }
    return self->state == TW_TLS_WRAPPED ? tw_tls_close(self) : 0;
}

/* Handle the engine's last result, after the data was delivered. */
static tw_status
tls_read_ended(TwTls *self, Py_ssize_t last)
{
    PyObject *exc = TW_TAKE(self->read_error);

    if (exc != NULL) {
        if (!tw_tls_is_readable(self)) {
            Py_DECREF(exc); /* aborted meanwhile: the error is not reported */
            return 0;
        }
        tw_err_restore_steal(exc);
        return tw_tls_read_failed(self);
    }
    return last == 0 ? tls_read_eof(self) : 0;
}

/* Fill p[0:n] as far as there is data: returns how much, sets `last`. */
static size_t
tls_read_fill(TwTls *self, char *p, size_t n, Py_ssize_t *last)
{
    size_t off = 0;

    do {
        *last = tw_engine_read(self->engine, p + off, n - off);
        if (*last <= 0) {
            if (*last == -1) {
                self->read_error = tw_err_take();
            }
            break;
        }
        off += (size_t)*last;
    } while (off < n && tw_engine_bound(self->engine) > 0);
    return off;
}

/* -- Protocol: one bytes object for all data ------------------------------ */

/* Make `data` n bytes long. */
static tw_status
tls_read_make_room(TwTls *self, TwReadBytes *data, size_t n)
{
    return data->bytes == NULL ? tw_readbytes_new(self->base.loop, n, data)
                               : tw_readbytes_resize(data, n);
}

/* Decrypt into `data`: how many bytes; it stays NULL for none. -1 with an
   exception, and it is NULL. */
static Py_ssize_t
tls_read_joined(TwTls *self, TwReadBytes *data, Py_ssize_t *last)
{
    size_t size = 0, bound = tw_engine_bound(self->engine);

    while (bound > 0 && size < READ_MOST) {
        if (bound > READ_MOST - size) {
            bound = READ_MOST - size;
        }
        if (tls_read_make_room(self, data, size + bound) < 0) {
            return -1;
        }
        size += tls_read_fill(self, PyBytes_AS_STRING(data->bytes) + size,
                              bound, last);
        if (*last <= 0) {
            break;
        }
        bound = tw_engine_bound(self->engine);
    }
    if (data->bytes != NULL && tw_readbytes_resize(data, size) < 0) {
        return -1;
    }
    return (Py_ssize_t)size;
}

/* 1: there may be more; 0: no more; -1. */
static int
tls_read_copied(TwTls *self)
{
    Py_ssize_t last = TW_ENGINE_WANT;
    TwReadBytes data = {0};
    Py_ssize_t n = tls_read_joined(self, &data, &last);
    PyObject *result;

    if (n < 0) {
        return tw_tls_read_failed(self);
    }
    if (n > 0 && self->base.protocol != NULL && tw_tls_is_readable(self)) {
        tw_stats_in(&self->base.loop->stats, TW_KIND_TLS, (size_t)n);
        result = tw_transport_call_protocol(
            &self->base, self->base.loop->state->str.data_received,
            data.bytes);
        tw_readbytes_release(self->base.loop, &data);
        if (TW_UNLIKELY(result == NULL)) {
            return tw_tls_read_failed(self);
        }
        Py_DECREF(result);
    }
    else if (data.bytes != NULL) {
        tw_readbytes_release(self->base.loop, &data);
    }
    if (tls_read_ended(self, last) < 0) {
        return -1;
    }
    return last > 0;
}

/* -- asyncio's StreamReader: into its buffer ------------------------------ */

/* tls_read_fill() for n bytes at offset `at` of the reader's room.  The buffer
   is exported meanwhile: a callback of the ssl module, or another thread while
   the engine has released the GIL, must not resize it. */
static Py_ssize_t
tls_read_fill_room(TwTls *self, TwFeeder *reader, size_t at, size_t n,
                   Py_ssize_t *last)
{
    char *p = tw_feeder_reserve(reader, at + n);
    Py_buffer view;
    size_t got;

    if (p == NULL
        || PyObject_GetBuffer(reader->buffer, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    got = tls_read_fill(self, p + at, n, last);
    PyBuffer_Release(&view);
    return (Py_ssize_t)got;
}

/* Append to the reader's buffer: how many bytes, or -1 with an exception. */
static Py_ssize_t
tls_read_into_reader(TwTls *self, TwFeeder *reader, Py_ssize_t *last)
{
    size_t size = 0, bound = tw_engine_bound(self->engine);

    while (bound > 0 && size < READ_MOST) {
        if (bound > READ_MOST - size) {
            bound = READ_MOST - size;
        }
        Py_ssize_t got = tls_read_fill_room(self, reader, size, bound, last);
        if (got < 0) {
            return -1;
        }
        size += (size_t)got;
        if (*last <= 0) {
            break;
        }
        bound = tw_engine_bound(self->engine);
    }
    return (Py_ssize_t)size;
}

/* 1: there may be more; 0: no more; -1. */
static int
tls_read_to_reader(TwTls *self, TwFeeder *reader)
{
    Py_ssize_t last = TW_ENGINE_WANT;
    Py_ssize_t size = tls_read_into_reader(self, reader, &last);
    tw_status status = -1;

    if (size > 0) {
        tw_stats_in(&self->base.loop->stats, TW_KIND_TLS, (size_t)size);
    }
    if (size >= 0) {
        bool wanted = self->base.protocol != NULL && tw_tls_is_readable(self);
        status = tw_feeder_fed(reader, wanted ? (size_t)size : 0);
    }
    tw_feeder_release(reader);
    if (status < 0) {
        return tw_tls_read_failed(self);
    }
    if (tls_read_ended(self, last) < 0) {
        return -1;
    }
    return last > 0;
}

/* -- BufferedProtocol: into the protocol's own memory --------------------- */

/* Call get_buffer() and export its memory. 0, or -1 with an exception. */
static tw_status
tls_read_get_buffer(TwTls *self, Py_buffer *view)
{
    PyObject *hint, *buffer = NULL;
    tw_status status;

    hint = PyLong_FromSize_t(tw_engine_in_size(self->engine));
    if (hint != NULL) {
        buffer = tw_transport_call_protocol(
            &self->base, self->base.loop->state->str.get_buffer, hint);
        Py_DECREF(hint);
    }
    if (buffer == NULL) {
        return -1;
    }
    status = PyObject_GetBuffer(buffer, view, PyBUF_WRITABLE);
    Py_DECREF(buffer);
    if (status == 0 && view->len == 0) {
        PyBuffer_Release(view);
        PyErr_SetString(PyExc_RuntimeError,
                        "get_buffer() returned an empty buffer");
        return -1;
    }
    return status;
}

/* Call buffer_updated() of `giver`, whose buffer it is.  As in asyncio, if
   get_buffer() has set another BufferedProtocol, that one is called. */
static tw_status
tls_read_updated(TwTls *self, PyObject *giver, size_t n)
{
    PyObject *argv[2] = {NULL, PyLong_FromSize_t(n)}, *context, *result;

    if (argv[1] == NULL) {
        return -1;
    }
    tw_stats_in(&self->base.loop->stats, TW_KIND_TLS, n);
    argv[0] = Py_NewRef(self->base.flags & TW_F_BUFFERED ? self->base.protocol
                                                         : giver);
    context = Py_XNewRef(self->base.context);
    result = tw_call_method(self->base.loop, context,
                            self->base.loop->state->str.buffer_updated, argv,
                            2);
    Py_XDECREF(context);
    Py_DECREF(argv[0]);
    Py_DECREF(argv[1]);
    return tw_status_steal(result);
}

/* Fill one buffer of `giver`. 1: there may be more; 0: no more; -1. */
static int
tls_read_one_buffer(TwTls *self, PyObject *giver)
{
    Py_ssize_t last = TW_ENGINE_WANT;
    Py_buffer view;
    size_t n = 0;

    if (tls_read_get_buffer(self, &view) < 0) {
        return tw_tls_read_failed(self);
    }
    if (tw_tls_is_readable(self)) {
        n = tls_read_fill(self, view.buf, (size_t)view.len, &last);
    }
    /* Release it first, because the callback may resize it. */
    PyBuffer_Release(&view);
    if (n > 0 && self->base.protocol != NULL && tw_tls_is_readable(self)
        && tls_read_updated(self, giver, n) < 0) {
        return tw_tls_read_failed(self);
    }
    if (tls_read_ended(self, last) < 0) {
        return -1;
    }
    return last > 0;
}

static int
tls_read_buffered(TwTls *self)
{
    PyObject *giver = Py_NewRef(self->base.protocol);
    int more = tls_read_one_buffer(self, giver);

    Py_DECREF(giver);
    return more;
}

static bool
tls_read_may_continue(TwTls *self)
{
    return tw_tls_is_readable(self) && !(self->base.flags & TW_F_READ_PAUSED)
           && self->base.protocol != NULL
           && tw_engine_bound(self->engine) > 0;
}

/* -- the loop ------------------------------------------------------------- */

/* Each callback may pause, close, or set another kind of protocol. */
static tw_status
tls_read_deliver(TwTls *self)
{
    TwFeeder reader;
    int more = 1;

    while (more > 0 && tls_read_may_continue(self)) {
        more = self->base.flags & TW_F_BUFFERED ? tls_read_buffered(self)
               : tw_feeder_find(&self->base, &reader)
                   ? tls_read_to_reader(self, &reader)
                   : tls_read_copied(self);
    }
    return more < 0 ? -1 : 0;
}

tw_status
tw_tls_read(TwTls *self)
{
    tw_status status;

    if (!tw_tls_is_readable(self) || self->in_read
        || tw_engine_is_busy(self->engine)) {
        return 0;
    }
    self->in_read = 1;
    status = tls_read_deliver(self);
    self->in_read = 0;
    if (status < 0) {
        return -1;
    }
    if (self->backlog.count > 0 && tw_tls_is_readable(self)) {
        status = tw_tls_write_backlog(self, false);
    }
    else {
        status = tw_tls_flush(self);
    }
    return status < 0 ? -1 : tw_tls_control_reading(self);
}

tw_status
tw_tls_control_reading(TwTls *self)
{
    size_t size = tw_engine_in_size(self->engine);

    if (size >= self->read_high && size > 0 && !self->lower_paused) {
        self->lower_paused = 1;
        return tw_filter_pause_reading(self);
    }
    if (size <= self->read_low && self->lower_paused) {
        self->lower_paused = 0;
        return tw_filter_resume_reading(self);
    }
    return 0;
}
