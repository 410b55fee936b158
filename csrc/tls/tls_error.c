/* Reports, fatal errors, and the timeouts of TLS transports. */
#include "base/compat.h"
#include "core/future.h"
#include "tls/filter.h"
#include "tls/tls_transport.h"

/* -- helpers in Python ---------------------------------------------------- */

tw_status
tw_tls_seam(TwTls *self, PyObject *name, PyObject *a, PyObject *b)
{
    PyObject *adapter = tw_adapter_of(self), *result = NULL;

    if (adapter != NULL) {
        PyObject *argv[] = {
            tw_engine_name(self->base.loop->state, TW_TLS_HELPERS),
            (PyObject *)self->base.loop, adapter,
            self->lower ? self->lower : Py_None, a, b};
        result = tw_call_plain_method(name, argv, b ? 6 : a ? 5 : 4);
    }
    return tw_call_reported_steal(result, (PyObject *)self);
}

tw_status
tw_tls_log(TwTls *self, const char *text)
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
    status = tw_tls_seam(self, self->base.loop->state->str.log_debug, message,
                       NULL);
    Py_DECREF(message);
    return status;
}

/* -- errors --------------------------------------------------------------- */

void
tw_tls_wake_waiter(TwTls *self, PyObject *exc)
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

/* asyncio sends at once what the program writes, so it is sent before the
   connection ends. */
tw_status
tw_tls_cut_off(TwTls *self, TwTlsState state, PyObject *exc)
{
    bool was_open = self->state != TW_TLS_UNWRAPPED;

    self->state = state;
    if (was_open && tw_filter_flush(self) < 0) {
        return -1;
    }
    return tw_filter_force_close(self, exc);
}

tw_status
tw_tls_fail(TwTls *self, PyObject *exc, const char *message)
{
    PyObject *text = PyUnicode_FromString(message);
    tw_status status;

    if (text == NULL) {
        return -1;
    }
    status = tw_tls_cut_off(self,
                            self->state == TW_TLS_HANDSHAKE
                                ? TW_TLS_HANDSHAKE
                                : TW_TLS_UNWRAPPED,
                            exc);
    if (status == 0) {
        status = tw_tls_seam(self, self->base.loop->state->str.report_fatal,
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
    status = tw_tls_fail(self, exc, message);
    Py_DECREF(exc);
    return status;
}

tw_status
tw_tls_read_failed(TwTls *self)
{
    return tw_tls_fatal(self, PyErr_ExceptionMatches(PyExc_Exception)
                                  ? TW_TLS_FATAL_SSL
                                  : TW_TLS_FATAL_CALLBACK);
}

bool
tw_tls_is_ssl_error(const TwTls *self)
{
    return PyErr_ExceptionMatches(
        tw_engine_name(self->base.loop->state, TW_TLS_ERROR));
}

/* -- timeouts ------------------------------------------------------------- */

tw_status
tw_tls_start_timer(TwTls *self, PyObject *seconds)
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

void
tw_tls_stop_timer(TwTls *self)
{
    PyObject *timer = TW_TAKE(self->timer);

    if (timer != NULL
        && tw_status_steal(tw_call_plain_noargs(
               timer, self->base.loop->state->str.cancel))
               < 0) {
        PyErr_WriteUnraisable(timer);
    }
    Py_XDECREF(timer);
}

static tw_status
error_handshake_timeout(TwTls *self)
{
    PyObject *exc;
    tw_status status;

    PyErr_Format(PyExc_ConnectionAbortedError,
                 "SSL handshake is taking longer than %S seconds: aborting "
                 "the connection",
                 self->handshake_timeout);
    exc = tw_err_take();
    status = tw_tls_fail(self, exc, TW_TLS_FATAL_TRANSPORT);
    if (tw_tls_is_lost(self)) {
        tw_tls_wake_waiter(self, exc); /* nobody else would */
    }
    Py_DECREF(exc);
    return status;
}

tw_status
tw_tls_timeout(TwTls *self)
{
    PyObject *exc;
    tw_status status;

    if (self->state == TW_TLS_HANDSHAKE) {
        return error_handshake_timeout(self);
    }
    if (self->state != TW_TLS_FLUSHING && self->state != TW_TLS_SHUTDOWN) {
        return 0;
    }
    PyErr_SetString(PyExc_TimeoutError, "SSL shutdown timed out");
    exc = tw_err_take();
    status = tw_filter_force_close(self, exc);
    Py_DECREF(exc);
    return status;
}
