/* The changes of state: handshake, shutdown, loss. */
#include "base/clock.h"
#include "base/compat.h"
#include "tls/filter.h"
#include "tls/tls_transport.h"

/* -- handshake ------------------------------------------------------------ */

/* The exception that is set ends the handshake. */
static tw_status
handshake_failed(TwTls *self)
{
    bool certificate = PyErr_ExceptionMatches(tw_engine_name(
        self->base.loop->state, TW_TLS_CERTIFICATE_ERROR));
    PyObject *exc;
    tw_status status;

    exc = tw_err_take();
    self->base.loop->stats.tls_failures++;
    tw_tls_stop_timer(self);
    self->state = TW_TLS_UNWRAPPED;
    status = tw_tls_fail(
        self, exc,
        certificate ? "SSL handshake failed on verifying the certificate"
                    : "SSL handshake failed");
    tw_tls_wake_waiter(self, exc);
    Py_DECREF(exc);
    return status;
}

/* 0, or -1 with an exception: the program's clock failed, or an exception
   leaves the loop. */
static tw_status
handshake_log_time(TwTls *self)
{
    PyObject *ms;
    double now;
    tw_status status;

    if (TW_LIKELY(!self->base.loop->debug)) {
        return 0;
    }
    now = tw_loop_time(self->base.loop);
    if (now == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    ms = PyFloat_FromDouble((now - self->started) * 1e3);
    if (ms == NULL) {
        return -1;
    }
    status = tw_tls_seam(self, self->base.loop->state->str.log_handshake, ms,
                       NULL);
    Py_DECREF(ms);
    return status;
}

static tw_status
handshake_done(TwTls *self)
{
    tw_tls_stop_timer(self);
    self->state = TW_TLS_WRAPPED;
    self->is_done = 1;
    self->base.loop->stats.tls_handshakes++;
    self->base.loop->stats.tls_resumed +=
        (uint64_t)tw_engine_is_resumed(self->engine);
    if (handshake_log_time(self) < 0) {
        return tw_tls_fatal(self, TW_TLS_FATAL_CALLBACK);
    }
    if (self->app == TW_APP_INIT && self->base.protocol != NULL) {
        self->app = TW_APP_MADE;
        if (tw_status_steal(tw_transport_call_protocol(
                &self->base, self->base.loop->state->str.connection_made,
                (PyObject *)self))
            < 0) {
            return tw_tls_fatal(self, TW_TLS_FATAL_CALLBACK);
        }
    }
    tw_tls_wake_waiter(self, NULL);
    return tw_tls_pump(self);
}

static tw_status
flow_handshake(TwTls *self)
{
    TwStats *stats = &self->base.loop->stats;
    uint64_t start = tw_now_ns();
    int result = tw_engine_handshake(self->engine);

    stats->tls_ns += tw_now_ns() - start;
    if (self->state != TW_TLS_HANDSHAKE) {
        /* A callback of the handshake aborted it. */
        if (result == -1) {
            if (tw_call_must_leave()) {
                return -1;
            }
            PyErr_Clear();
        }
        return 0;
    }
    if (result == TW_ENGINE_DONE) {
        return handshake_done(self);
    }
    if (result == TW_ENGINE_WANT) {
        return tw_filter_send(self, false);
    }
    if (!tw_tls_is_ssl_error(self)) {
        return tw_tls_fatal(self, TW_TLS_FATAL_CALLBACK);
    }
    return handshake_failed(self);
}

/* Call drive(), then end the loan of the ciphertext and return empty
   memory. */
static tw_status
flow_drive(TwTls *self, tw_status (*drive)(TwTls *self))
{
    PyObject *exc;
    tw_status status;

    Py_INCREF(self);
    status = drive(self);
    exc = status < 0 ? tw_err_take() : NULL;
    if (tw_engine_keep(self->engine) < 0 && status == 0) {
        status = tw_tls_fatal(self, TW_TLS_FATAL_CALLBACK);
    }
    tw_err_restore_steal(exc);
    Py_DECREF(self);
    return status;
}

tw_status
tw_tls_made(TwTls *self)
{
    if (self->state != TW_TLS_UNWRAPPED || self->base.flags & TW_F_CLOSING) {
        return 0;
    }
    if (self->base.loop->debug) {
        self->started = tw_loop_time(self->base.loop);
        if (self->started == -1.0 && PyErr_Occurred()) {
            return tw_tls_fatal(self, TW_TLS_FATAL_TRANSPORT);
        }
    }
    if (tw_tls_log(self, "%r starts SSL handshake") < 0) {
        return -1;
    }
    self->state = TW_TLS_HANDSHAKE;
    if (tw_tls_start_timer(self, self->handshake_timeout) < 0) {
        return tw_tls_fatal(self, TW_TLS_FATAL_TRANSPORT);
    }
    return flow_drive(self, flow_handshake);
}

/* -- shutdown ------------------------------------------------------------- */

static tw_status
flow_shutdown(TwTls *self)
{
    int result = TW_ENGINE_DONE;

    if (tw_engine_is_busy(self->engine)) {
        return 0; /* the next ciphertext or the timeout calls this again */
    }
    if (!(self->base.flags & TW_F_EOF_GOT)) {
        result = tw_engine_unwrap(self->engine);
        if (self->state != TW_TLS_SHUTDOWN && result != -1) {
            return 0;
        }
    }
    if (result == TW_ENGINE_WANT) {
        return tw_filter_send(self, false);
    }
    if (result == -1) {
        const char *message = tw_tls_is_ssl_error(self)
                                  ? TW_TLS_FATAL_TRANSPORT
                                  : TW_TLS_FATAL_CALLBACK;
        PyObject *exc = tw_err_take();
        tw_tls_stop_timer(self);
        tw_err_restore_steal(exc);
        return tw_tls_fatal(self, message);
    }
    if (tw_filter_send(self, false) < 0 || tw_tls_eof_received(self) < 0) {
        return -1;
    }
    /* The lower transport first sends what it has.  A peer that does not
       read can delay that for ever, so the timeout runs until it is lost. */
    if (self->timer == NULL && !tw_tls_is_lost(self)
        && tw_tls_start_timer(self, self->shutdown_timeout) < 0) {
        return tw_tls_fatal(self, TW_TLS_FATAL_TRANSPORT);
    }
    return tw_filter_close_soon(self);
}

/* FLUSHING is over when everything is read and encrypted. */
static tw_status
flow_flushed(TwTls *self)
{
    if (self->state != TW_TLS_FLUSHING) {
        return 0;
    }
    if ((self->base.flags & (TW_F_EOF_GOT | TW_F_READ_PAUSED | TW_F_CLOSING))
            == (TW_F_EOF_GOT | TW_F_READ_PAUSED)
        && tw_engine_bound(self->engine) > 0) {
        return 0; /* paused again with data left: resume_reading() continues */
    }
    if (tw_tls_write_backlog(self, true) < 0) {
        return -1;
    }
    if (self->state != TW_TLS_FLUSHING) {
        return 0;
    }
    self->state = TW_TLS_SHUTDOWN;
    return flow_shutdown(self);
}

static tw_status
flow_flush(TwTls *self)
{
    if (self->in_read || self->in_write
        || tw_engine_is_busy(self->engine)) {
        self->flush_late = 1;
        return 0;
    }
    if (tw_tls_read(self) < 0) {
        return -1;
    }
    self->flush_late = 0;
    return flow_flushed(self);
}

tw_status
tw_tls_pump(TwTls *self)
{
    if (tw_tls_read(self) < 0) {
        return -1;
    }
    if (TW_UNLIKELY(self->flush_late) && !self->in_read && !self->in_write) {
        self->flush_late = 0;
        return flow_flushed(self);
    }
    return 0;
}

/* asyncio's _start_shutdown(). */
static tw_status
flow_start_shutdown(TwTls *self)
{
    if (self->state == TW_TLS_HANDSHAKE) {
        self->base.flags |= TW_F_CLOSING;
        return tw_tls_abort(self, NULL);
    }
    if (self->state != TW_TLS_WRAPPED) {
        return 0;
    }
    self->base.flags |= TW_F_CLOSING;
    self->state = TW_TLS_FLUSHING;
    if (tw_tls_start_timer(self, self->shutdown_timeout) < 0) {
        return tw_tls_fatal(self, TW_TLS_FATAL_TRANSPORT);
    }
    return flow_flush(self);
}

tw_status
tw_tls_close(TwTls *self)
{
    tw_status status;

    Py_INCREF(self);
    status = flow_start_shutdown(self);
    self->base.flags |= TW_F_CLOSING;
    Py_DECREF(self);
    return status;
}

tw_status
tw_tls_abort(TwTls *self, PyObject *exc)
{
    tw_status status;

    Py_INCREF(self);
    self->base.flags |= TW_F_CLOSING;
    status = tw_tls_cut_off(self, TW_TLS_UNWRAPPED, exc);
    Py_DECREF(self);
    return status;
}

/* -- events of the lower transport ---------------------------------------- */

static tw_status
flow_advance(TwTls *self)
{
    switch ((TwTlsState)self->state) {
    case TW_TLS_HANDSHAKE:
        return flow_handshake(self);
    case TW_TLS_WRAPPED:
        return tw_tls_pump(self);
    case TW_TLS_FLUSHING:
        return flow_flush(self);
    case TW_TLS_SHUTDOWN:
        return flow_shutdown(self);
    case TW_TLS_UNWRAPPED:
        break;
    }
    return 0;
}

tw_status
tw_tls_data(TwTls *self, const char *p, size_t n)
{
    if (self->state == TW_TLS_UNWRAPPED && self->base.flags & TW_F_CLOSING) {
        return 0;
    }
    if (tw_engine_lend(self->engine, p, n) < 0) {
        return tw_tls_fatal(self, TW_TLS_FATAL_CALLBACK);
    }
    return flow_drive(self, flow_advance);
}

tw_status
tw_tls_resumed(TwTls *self)
{
    return self->state == TW_TLS_HANDSHAKE ? 0
                                           : flow_drive(self, flow_advance);
}

/* 1: keep the lower transport open for now; 0: close it; -1. */
static int
flow_eof(TwTls *self)
{
    switch ((TwTlsState)self->state) {
    case TW_TLS_HANDSHAKE:
        PyErr_SetNone(PyExc_ConnectionResetError);
        return handshake_failed(self);
    case TW_TLS_WRAPPED:
        self->state = TW_TLS_FLUSHING;
        if (self->base.flags & TW_F_READ_PAUSED) {
            return 1;
        }
        return flow_flush(self) < 0 ? -1
               : self->state == TW_TLS_FLUSHING
                     && !(self->base.flags & TW_F_CLOSING);
    case TW_TLS_FLUSHING:
    case TW_TLS_SHUTDOWN:
        return flow_advance(self);
    case TW_TLS_UNWRAPPED:
        break;
    }
    return 0;
}

int
tw_tls_eof(TwTls *self)
{
    int keep_open;

    Py_INCREF(self);
    self->base.flags |= TW_F_EOF_GOT;
    keep_open = tw_tls_log(self, "%r received EOF");
    if (keep_open == 0) {
        keep_open = flow_eof(self);
    }
    Py_DECREF(self);
    return keep_open;
}

/* protocol.connection_lost(exc), at once: a handle in the queue would keep the
   connection alive. */
static tw_status
flow_call_lost(TwTls *self, PyObject *exc)
{
    self->app = TW_APP_LOST;
    if (self->base.conn_lost == 0) {
        self->base.conn_lost = 1;
    }
    return tw_transport_call_step(
        &self->base, self->base.loop->state->str.connection_lost, exc);
}

tw_status
tw_tls_lost(TwTls *self, PyObject *exc)
{
    bool call = self->state != TW_TLS_HANDSHAKE
                && (self->app == TW_APP_MADE || self->app == TW_APP_EOF);
    tw_status status = 0;
    PyObject *pending;

    if (tw_tls_is_lost(self)) {
        return 0;
    }
    Py_INCREF(self);
    self->base.flags |= TW_F_LOST_SCHEDULED | TW_F_CLOSING;
    self->state = TW_TLS_UNWRAPPED;
    tw_bufq_clear(&self->backlog);
    Py_CLEAR(self->read_error);
    if (!tw_engine_is_busy(self->engine)) {
        tw_engine_out_clear(self->engine);
    }
    tw_filter_cut(self);
    tw_tls_stop_timer(self);
    tw_tls_wake_waiter(self, exc);
    self->base.flags |= TW_F_LOST;
    if (call) {
        status = flow_call_lost(self, exc ? exc : Py_None);
    }
    pending = status < 0 ? tw_err_take() : NULL;
    Py_CLEAR(self->base.protocol);
    Py_DECREF(self);
    tw_err_restore_steal(pending);
    return status;
}
