/* From state to state: handshake, shutdown, loss, errors. */
#include "base/compat.h"
#include "tls/filter.h"
#include "tls/names.h"
#include "tls/tls_transport.h"

#define FATAL_TRANSPORT "Fatal error on transport"
#define FATAL_CALLBACK "Fatal error: protocol.buffer_updated() call failed."

/* -- helpers in Python ---------------------------------------------------- */

/* tidewire._tls.<name>(...), cold.  0, or -1 with an exception. */
static tw_status
flow_helper(TwTls *self, PyObject *name, PyObject *a, PyObject *b)
{
    PyObject *adapter = tw_filter_adapter(self), *result;

    if (adapter == NULL) {
        return -1;
    }
    PyObject *argv[] = {
        tw_engine_name(self->base.loop->state, TW_TLS_HELPERS),
        (PyObject *)self->base.loop, adapter,
        self->lower ? self->lower : Py_None, a, b};
    result = tw_call_plain_method(name, argv, b ? 6 : a ? 5 : 4);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* A helper that must not make more trouble than there is. */
static tw_status
flow_tell(TwTls *self, PyObject *name, PyObject *a, PyObject *b)
{
    if (flow_helper(self, name, a, b) == 0) {
        return 0;
    }
    if (tw_call_must_leave()) {
        return -1;
    }
    PyErr_WriteUnraisable((PyObject *)self);
    return 0;
}

static tw_status
flow_log(TwTls *self, const char *text)
{
    PyObject *message;
    tw_status status;

    if (TW_LIKELY(!self->base.loop->debug)) {
        return 0;
    }
    message = PyUnicode_FromString(text);
    if (message == NULL) {
        return -1;
    }
    status = flow_tell(self, self->base.loop->state->str.log_debug, message,
                       NULL);
    Py_DECREF(message);
    return status;
}

/* -- errors --------------------------------------------------------------- */

/* The waiter of create_connection() and the like gets its answer, once. */
static void
flow_wake_waiter(TwTls *self, PyObject *exc)
{
    PyObject *waiter = TW_TAKE(self->base.waiter);
    TwLoop *loop = self->base.loop;
    tw_status status;

    if (waiter == NULL) {
        return;
    }
    status = exc == NULL || exc == Py_None
                 ? tw_loop_resolve(loop, waiter, Py_None)
                 : tw_loop_reject(loop, waiter, exc);
    if (status < 0) {
        PyErr_WriteUnraisable(waiter);
    }
    Py_DECREF(waiter);
}

/* Close with `exc`, report it. */
static tw_status
flow_fail(TwTls *self, PyObject *exc, const char *message)
{
    PyObject *text = PyUnicode_FromString(message);
    tw_status status;

    if (text == NULL) {
        return -1;
    }
    if (self->state != TW_TLS_HANDSHAKE) {
        self->state = TW_TLS_UNWRAPPED;
    }
    status = tw_filter_force_close(self, exc);
    if (status == 0) {
        status = flow_tell(self, self->base.loop->state->str.report_fatal,
                           text, exc);
    }
    Py_DECREF(text);
    return status;
}

tw_status
tw_tls_fatal(TwTls *self, const char *message)
{
    PyObject *exc;
    tw_status status;

    if (tw_call_must_leave()) {
        return -1;
    }
    exc = tw_err_take();
    status = flow_fail(self, exc, message);
    Py_DECREF(exc);
    return status;
}

tw_status
tw_tls_callback_failed(TwTls *self)
{
    return tw_tls_fatal(self, PyErr_ExceptionMatches(PyExc_Exception)
                                  ? "Fatal error on SSL protocol"
                                  : FATAL_CALLBACK);
}

/* Is the exception that is set an ssl.SSLError? */
static bool
flow_is_ssl_error(const TwTls *self)
{
    return PyErr_ExceptionMatches(
        tw_engine_name(self->base.loop->state, TW_TLS_ERROR));
}

/* -- timeouts ------------------------------------------------------------- */

static tw_status
flow_start_timer(TwTls *self, PyObject *seconds)
{
    tw_state *state = self->base.loop->state;
    PyObject *method, *handle = NULL;

    /* allow: a method of ours, bound */
    method = PyObject_GetAttr((PyObject *)self, state->str._on_timeout);
    if (method != NULL) {
        PyObject *argv[] = {(PyObject *)self->base.loop, seconds, method};
        handle = tw_call_plain_method(state->str.call_later, argv, 3);
        Py_DECREF(method);
    }
    Py_XSETREF(self->timer, handle);
    return handle == NULL ? -1 : 0;
}

static void
flow_stop_timer(TwTls *self)
{
    PyObject *timer = TW_TAKE(self->timer), *result;

    if (timer == NULL) {
        return;
    }
    PyObject *argv[] = {timer};
    result =
        tw_call_plain_method(self->base.loop->state->str.cancel, argv, 1);
    if (result == NULL) {
        PyErr_WriteUnraisable(timer);
    }
    Py_XDECREF(result);
    Py_DECREF(timer);
}

static tw_status
flow_handshake_timeout(TwTls *self)
{
    PyObject *text, *exc;
    tw_status status;

    text = PyUnicode_FromFormat(
        "SSL handshake is taking longer than %S seconds: aborting the "
        "connection",
        self->handshake_timeout);
    if (text == NULL) {
        return -1;
    }
    PyObject *argv[] = {text};
    exc = tw_call_plain(PyExc_ConnectionAbortedError, argv, 1);
    Py_DECREF(text);
    if (exc == NULL) {
        return -1;
    }
    status = flow_fail(self, exc, FATAL_TRANSPORT);
    if (self->is_lost) {
        flow_wake_waiter(self, exc); /* nobody else would */
    }
    Py_DECREF(exc);
    return status;
}

tw_status
tw_tls_timeout(TwTls *self)
{
    PyObject *text, *exc;
    tw_status status;

    if (self->state == TW_TLS_HANDSHAKE) {
        return flow_handshake_timeout(self);
    }
    if (self->state != TW_TLS_FLUSHING && self->state != TW_TLS_SHUTDOWN) {
        return 0;
    }
    text = PyUnicode_FromString("SSL shutdown timed out");
    if (text == NULL) {
        return -1;
    }
    PyObject *argv[] = {text};
    exc = tw_call_plain(PyExc_TimeoutError, argv, 1);
    Py_DECREF(text);
    if (exc == NULL) {
        return -1;
    }
    status = tw_filter_force_close(self, exc);
    Py_DECREF(exc);
    return status;
}

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
    flow_stop_timer(self);
    self->state = TW_TLS_UNWRAPPED;
    status = flow_fail(
        self, exc,
        certificate ? "SSL handshake failed on verifying the certificate"
                    : "SSL handshake failed");
    flow_wake_waiter(self, exc);
    Py_DECREF(exc);
    return status;
}

static tw_status
handshake_log_time(TwTls *self)
{
    PyObject *ms;
    tw_status status;

    if (TW_LIKELY(!self->base.loop->debug)) {
        return 0;
    }
    ms = PyFloat_FromDouble(
        (tw_loop_time(self->base.loop) - self->started) * 1e3);
    if (ms == NULL) {
        return -1;
    }
    status = flow_tell(self, self->base.loop->state->str.log_handshake, ms,
                       NULL);
    Py_DECREF(ms);
    return status;
}

static tw_status
handshake_done(TwTls *self)
{
    PyObject *result;

    flow_stop_timer(self);
    self->state = TW_TLS_WRAPPED;
    self->is_done = 1;
    if (handshake_log_time(self) < 0) {
        return -1;
    }
    if (self->app == TW_APP_INIT && self->base.protocol != NULL) {
        self->app = TW_APP_MADE;
        result = tw_transport_call_protocol(
            &self->base, self->base.loop->state->str.connection_made,
            (PyObject *)self);
        if (result == NULL) {
            return tw_tls_fatal(self, FATAL_CALLBACK);
        }
        Py_DECREF(result);
    }
    flow_wake_waiter(self, NULL);
    return tw_tls_pump(self);
}

static tw_status
flow_handshake(TwTls *self)
{
    int result = tw_engine_handshake(self->engine);

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
    if (!flow_is_ssl_error(self)) {
        return tw_tls_fatal(self, FATAL_CALLBACK);
    }
    return handshake_failed(self);
}

tw_status
tw_tls_made(TwTls *self)
{
    if (self->state != TW_TLS_UNWRAPPED || self->is_closed) {
        return 0;
    }
    if (self->base.loop->debug) {
        self->started = tw_loop_time(self->base.loop);
    }
    if (flow_log(self, "%r starts SSL handshake") < 0) {
        return -1;
    }
    self->state = TW_TLS_HANDSHAKE;
    if (flow_start_timer(self, self->handshake_timeout) < 0) {
        return tw_tls_fatal(self, FATAL_TRANSPORT);
    }
    return flow_handshake(self);
}

/* -- shutdown ------------------------------------------------------------- */

static tw_status
flow_shutdown(TwTls *self)
{
    int result = TW_ENGINE_DONE;

    if (tw_engine_is_busy(self->engine)) {
        return 0; /* comes again with the next ciphertext, or the timeout */
    }
    if (!self->eof_got) {
        result = tw_engine_unwrap(self->engine);
        if (self->state != TW_TLS_SHUTDOWN && result != -1) {
            return 0;
        }
    }
    if (result == TW_ENGINE_WANT) {
        return tw_filter_send(self, false);
    }
    if (result == -1) {
        const char *message =
            flow_is_ssl_error(self) ? FATAL_TRANSPORT : FATAL_CALLBACK;
        PyObject *exc = tw_err_take();
        flow_stop_timer(self);
        tw_err_restore_steal(exc);
        return tw_tls_fatal(self, message);
    }
    if (tw_filter_send(self, false) < 0 || tw_tls_tell_eof(self) < 0) {
        return -1;
    }
    flow_stop_timer(self);
    return tw_filter_close_soon(self);
}

/* The end of FLUSHING: everything is read and encrypted. */
static tw_status
flow_flushed(TwTls *self)
{
    if (self->state != TW_TLS_FLUSHING) {
        return 0;
    }
    if (self->eof_got && self->paused && !self->is_closed
        && tw_engine_bound(self->engine) > 0) {
        return 0; /* paused again with data left: resume_reading() goes on */
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
        self->is_closed = 1;
        return tw_tls_abort(self, NULL);
    }
    if (self->state != TW_TLS_WRAPPED) {
        return 0;
    }
    self->is_closed = 1;
    self->state = TW_TLS_FLUSHING;
    if (flow_start_timer(self, self->shutdown_timeout) < 0) {
        return tw_tls_fatal(self, FATAL_TRANSPORT);
    }
    return flow_flush(self);
}

tw_status
tw_tls_close(TwTls *self)
{
    tw_status status;

    Py_INCREF(self);
    status = flow_start_shutdown(self);
    self->is_closed = 1;
    Py_DECREF(self);
    return status;
}

tw_status
tw_tls_abort(TwTls *self, PyObject *exc)
{
    tw_status status = 0;

    Py_INCREF(self);
    self->is_closed = 1;
    self->state = TW_TLS_UNWRAPPED;
    if (self->in_read && !tw_engine_is_busy(self->engine)) {
        /* What this callback wrote before would have gone out already. */
        status = tw_filter_send(self, false);
    }
    if (status == 0) {
        status = tw_filter_force_close(self, exc);
    }
    Py_DECREF(self);
    return status;
}

/* -- what the lower transport tells --------------------------------------- */

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
    tw_status status;

    if (self->state == TW_TLS_UNWRAPPED && self->is_closed) {
        return 0;
    }
    Py_INCREF(self);
    if (tw_engine_lend(self->engine, p, n) < 0) {
        status = tw_tls_fatal(self, FATAL_CALLBACK);
    }
    else {
        status = flow_advance(self);
    }
    PyObject *exc = status < 0 ? tw_err_take() : NULL;
    if (tw_engine_keep(self->engine) < 0 && status == 0) {
        status = tw_tls_fatal(self, FATAL_CALLBACK);
    }
    if (exc != NULL) {
        tw_err_restore_steal(exc);
    }
    Py_DECREF(self);
    return status;
}

tw_status
tw_tls_resumed(TwTls *self)
{
    return self->state == TW_TLS_HANDSHAKE ? 0 : flow_advance(self);
}

/* True (1): the lower transport is to stay open for now. */
static int
flow_eof(TwTls *self)
{
    switch ((TwTlsState)self->state) {
    case TW_TLS_HANDSHAKE:
        PyErr_SetNone(PyExc_ConnectionResetError);
        return handshake_failed(self);
    case TW_TLS_WRAPPED:
        self->state = TW_TLS_FLUSHING;
        if (self->paused) {
            return 1;
        }
        return flow_flush(self) < 0 ? -1
               : self->state == TW_TLS_FLUSHING && !self->is_closed;
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
    self->eof_got = 1;
    keep_open = flow_log(self, "%r received EOF");
    if (keep_open == 0) {
        keep_open = flow_eof(self);
    }
    Py_DECREF(self);
    return keep_open;
}

tw_status
tw_tls_lost(TwTls *self, PyObject *exc)
{
    tw_status status = 0;

    if (self->is_lost) {
        return 0;
    }
    Py_INCREF(self);
    self->is_lost = 1;
    self->is_closed = 1;
    tw_bufq_clear(&self->backlog);
    if (!tw_engine_is_busy(self->engine)) {
        tw_engine_out_clear(self->engine);
    }
    self->base.conn_lost++;
    if (self->state != TW_TLS_HANDSHAKE
        && (self->app == TW_APP_MADE || self->app == TW_APP_EOF)) {
        self->app = TW_APP_LOST;
        self->base.flags |= TW_F_LOST_SCHEDULED | TW_F_CLOSING;
        Py_XSETREF(self->base.lost_exc,
                   exc == Py_None ? NULL : Py_XNewRef(exc));
        status = tw_loop_push_step(self->base.loop, (PyObject *)self);
    }
    else {
        self->base.flags |= TW_F_LOST | TW_F_CLOSING;
        Py_CLEAR(self->base.protocol);
    }
    self->state = TW_TLS_UNWRAPPED;
    flow_wake_waiter(self, exc);
    flow_stop_timer(self);
    tw_filter_cut(self);
    Py_DECREF(self);
    return status;
}
