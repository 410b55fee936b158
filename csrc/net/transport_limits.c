/* Write flow control: its marks, and the calls to the protocol. */
#include "net/transport.h"

/* -- pausing and resuming the protocol ------------------------------------ */

static tw_status
transport_call_flow(TwTransport *self, TwProtocolCall what, PyObject *name,
                    PyObject *context, const char *message)
{
    PyObject *argv[1], *result;
    int asked = 1;
    tw_status status = 0;

    if (self->ops->intercept != NULL) {
        asked = self->ops->intercept(self, what, NULL);
    }
    if (asked <= 0 || self->protocol == NULL) {
        return asked < 0 ? -1 : 0;
    }
    self->loop->stats.pauses += what == TW_CALL_PAUSE;
    argv[0] = Py_NewRef(self->protocol);
    result = tw_call_method(self->loop, context, name, argv, 1);
    if (result == NULL) {
        status = tw_call_report(self->loop, message, (PyObject *)self,
                                argv[0]);
    }
    Py_XDECREF(result);
    Py_DECREF(argv[0]);
    return status;
}

tw_status
tw_transport_maybe_pause(TwTransport *self)
{
    if (TW_LIKELY(self->ops->buffer_size(self) <= self->high)
        || self->flags & TW_F_WRITE_PAUSED) {
        return 0;
    }
    self->flags |= TW_F_WRITE_PAUSED;
    return transport_call_flow(self, TW_CALL_PAUSE,
                                  self->loop->state->str.pause_writing, NULL,
                                  "protocol.pause_writing() failed");
}

tw_status
tw_transport_maybe_resume(TwTransport *self)
{
    if (TW_LIKELY(!(self->flags & TW_F_WRITE_PAUSED))
        || self->ops->buffer_size(self) > self->low) {
        return 0;
    }
    self->flags &= ~TW_F_WRITE_PAUSED;
    return transport_call_flow(self, TW_CALL_RESUME,
                                  self->loop->state->str.resume_writing,
                                  self->context,
                                  "protocol.resume_writing() failed");
}

/* -- the marks ------------------------------------------------------------ */

/* A number of bytes; one that is too large for C means no limit. */
static tw_status
limit_from_python(PyObject *obj, Py_ssize_t *out)
{
    PyObject *number;
    int overflow;

    if (!PyNumber_Check(obj)) {
        PyErr_Format(PyExc_TypeError,
                     "'>=' not supported between instances of '%.200s' and "
                     "'int'",
                     Py_TYPE(obj)->tp_name);
        return -1;
    }
    number = PyNumber_Long(obj);
    if (number == NULL) {
        return -1;
    }
    *out = (Py_ssize_t)PyLong_AsLongLongAndOverflow(number, &overflow);
    Py_DECREF(number);
    if (overflow) {
        *out = overflow > 0 ? PY_SSIZE_T_MAX : -1;
    }
    return *out == -1 && PyErr_Occurred() ? -1 : 0;
}

tw_status
tw_transport_limits(PyObject *const given[2], Py_ssize_t dflt, size_t *high,
                    size_t *low)
{
    bool has_high = given[0] != NULL && given[0] != Py_None;
    bool has_low = given[1] != NULL && given[1] != Py_None;
    Py_ssize_t most = 0, least = 0;

    if ((has_high && limit_from_python(given[0], &most) < 0)
        || (has_low && limit_from_python(given[1], &least) < 0)) {
        return -1;
    }
    if (!has_high) {
        most = !has_low                     ? dflt
               : least > PY_SSIZE_T_MAX / 4 ? PY_SSIZE_T_MAX
               : least < PY_SSIZE_T_MIN / 4 ? PY_SSIZE_T_MIN
                                            : 4 * least;
    }
    if (!has_low) {
        least = most >> 2; /* rounded down, as // does */
    }
    if (!(most >= least && least >= 0)) {
        PyErr_Format(PyExc_ValueError,
                     "high (%zd) must be >= low (%zd) must be >= 0", most,
                     least);
        return -1;
    }
    *high = (size_t)most;
    *low = (size_t)least;
    return 0;
}
