/* Reports of a transport's errors: to the exception handler and to debug
   mode's log; and fatal errors, which close it. */
#include "base/compat.h"
#include "base/errno.h"
#include "net/transport.h"

/* asyncio.constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES */
#define TRANSPORT_LOST_WRITES 5

tw_status
tw_transport_report_call(TwTransport *self, const char *name)
{
    PyObject *exc, *text, *result = NULL;

    if (tw_call_must_leave()) {
        return -1;
    }
    exc = tw_err_take();
    text = PyUnicode_FromString(name);
    if (text != NULL) {
        PyObject *argv[] = {(PyObject *)self->loop, (PyObject *)self,
                            self->protocol ? self->protocol : Py_None, text,
                            exc};
        tw_call_begin(self->loop);
        result = tw_seam_call(self->loop->state, "report_call", argv, 5);
        tw_call_end(self->loop);
        Py_DECREF(text);
    }
    Py_DECREF(exc);
    return tw_call_reported_steal(result, (PyObject *)self);
}

/* Report the current exception of protocol.<name>(arg), or of
   protocol.<name>() if arg is NULL, as that of a handle. */
static tw_status
transport_report_step(TwBaseTransport *self, PyObject *name, PyObject *arg)
{
    bool lost = name == self->loop->state->str.connection_lost;
    PyObject *exc, *args, *result = NULL;

    if (tw_call_must_leave()) {
        return -1;
    }
    exc = tw_err_take();
    args = arg ? PyTuple_Pack(1, arg) : PyTuple_New(0);
    if (args != NULL) {
        PyObject *argv[] = {(PyObject *)self->loop,
                            lost             ? (PyObject *)self
                            : self->protocol ? self->protocol
                                             : Py_None,
                            name,
                            args,
                            exc,
                            self->context ? self->context : Py_None};
        result = tw_seam_call(self->loop->state, "report_step", argv, 6);
        Py_DECREF(args);
    }
    Py_DECREF(exc);
    return tw_call_reported_steal(result, (PyObject *)self);
}

tw_status
tw_transport_call_step(TwBaseTransport *self, PyObject *name, PyObject *arg)
{
    PyObject *result = tw_transport_call_protocol(self, name, arg);

    return tw_status_steal(result) < 0
               ? transport_report_step(self, name, arg)
               : 0;
}

/* logger.<level>(format), or logger.<level>(format, subject). */
static tw_status
transport_log(TwLoop *loop, const char *level, const char *format,
              PyObject *subject)
{
    PyObject *argv[] = {PyUnicode_FromString(level),
                        PyUnicode_FromString(format), subject};
    PyObject *done = NULL;

    if (argv[0] != NULL && argv[1] != NULL) {
        done = tw_seam_call(loop->state, "log", argv, subject ? 3 : 2);
    }
    Py_XDECREF(argv[0]);
    Py_XDECREF(argv[1]);
    return tw_status_steal(done);
}

tw_status
tw_transport_log(TwTransport *self, const char *level, const char *format)
{
    return TW_LIKELY(!self->loop->debug)
               ? 0
               : transport_log(self->loop, level, format, (PyObject *)self);
}

tw_status
tw_transport_warn_lost(TwLoop *loop, int count, const char *text)
{
    return count < TRANSPORT_LOST_WRITES
               ? 0
               : transport_log(loop, "warning", text, NULL);
}

/* 0, or -1 if what went wrong leaves the loop. */
static tw_status
transport_log_fatal(TwTransport *self, const char *message, PyObject *exc)
{
    PyObject *text = PyUnicode_FromString(message), *result = NULL;
    PyObject *argv[] = {(PyObject *)self, text, exc};

    if (text != NULL) {
        result = tw_seam_call(self->loop->state, "log_fatal", argv, 3);
    }
    Py_XDECREF(text);
    return tw_call_reported_steal(result, (PyObject *)self);
}

tw_status
tw_transport_fatal(TwTransport *self, const char *message)
{
    PyObject *exc;
    tw_status status = 0;

    if (tw_call_must_leave()) {
        return -1;
    }
    exc = tw_err_take();
    if (!PyErr_GivenExceptionMatches(exc, PyExc_OSError)) {
        tw_err_restore_steal(Py_NewRef(exc));
        status = tw_call_report(self->loop, message, (PyObject *)self,
                                self->protocol);
    }
    else if (self->loop->debug) {
        status = transport_log_fatal(self, message, exc);
    }
    if (status == 0) {
        status = tw_transport_force_close(self, exc);
    }
    Py_DECREF(exc);
    return status;
}

tw_status
tw_transport_fatal_errno(TwTransport *self, tw_uverr err, const char *message)
{
    tw_errno_raise(err);
    return tw_transport_fatal(self, message);
}
