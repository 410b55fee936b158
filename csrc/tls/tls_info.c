/* Limits of flow control, and the extra info of TLS transports. */
#include "base/args.h"
#include "tls/filter.h"
#include "tls/tls_transport.h"

/* -- limits --------------------------------------------------------------- */

static tw_status
tls_limits(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
           const char *function, Py_ssize_t dflt, size_t *high, size_t *low)
{
    static const char *const names[] = {"high", "low"};
    const TwArgs spec = {function, names, 0, 2};
    PyObject *given[2];

    if (tw_args_bind(&spec, args, nargs, kwnames, given) < 0) {
        return -1;
    }
    return tw_transport_limits(given, dflt, high, low);
}

static PyObject *
tls_meth_set_write_buffer_limits(PyObject *op, PyObject *const *args,
                                 Py_ssize_t nargs, PyObject *kwnames)
{
    TwTls *self = (TwTls *)op;

    if (tls_limits(args, nargs, kwnames, "set_write_buffer_limits",
                   TW_TLS_WRITE_HIGH, &self->base.high, &self->base.low)
            < 0
        || tw_filter_flush(self) < 0) {
        return NULL;
    }
    if (tw_tls_is_lost(self)) {
        Py_RETURN_NONE; /* connection_lost() was the protocol's last call */
    }
    tw_filter_set_marks(self);
    return tw_none_or_error(tw_tls_control_writing(self, false));
}

static PyObject *
tls_meth_get_write_buffer_size(PyObject *op, PyObject *unused)
{
    TwTls *self = (TwTls *)op;
    PyObject *lower, *size, *sum;

    if (tw_filter_flush(self) < 0) {
        return NULL;
    }
    size = PyLong_FromSize_t(tw_tls_buffer_size(self));
    if (size == NULL || self->is_stream || tw_tls_is_lost(self)
        || self->lower == NULL) {
        return size;
    }
    lower = tw_call_plain_noargs(
        self->lower, self->base.loop->state->str.get_write_buffer_size);
    sum = lower ? PyNumber_Add(size, lower) : NULL;
    Py_DECREF(size);
    Py_XDECREF(lower);
    return sum;
}

static PyObject *
tls_meth_set_read_buffer_limits(PyObject *op, PyObject *const *args,
                                Py_ssize_t nargs, PyObject *kwnames)
{
    TwTls *self = (TwTls *)op;

    if (tls_limits(args, nargs, kwnames, "set_read_buffer_limits",
                   TW_TLS_READ_HIGH, &self->read_high, &self->read_low)
        < 0) {
        return NULL;
    }
    return tw_none_or_error(tw_tls_control_reading(self));
}

static PyObject *
tls_meth_get_read_buffer_limits(PyObject *op, PyObject *unused)
{
    TwTls *self = (TwTls *)op;

    return Py_BuildValue("(nn)", (Py_ssize_t)self->read_low,
                         (Py_ssize_t)self->read_high);
}

static PyObject *
tls_meth_get_read_buffer_size(PyObject *op, PyObject *unused)
{
    return PyLong_FromSize_t(tw_engine_in_size(((TwTls *)op)->engine));
}

/* -- extra info ----------------------------------------------------------- */

/* Ask the SSL object: a new reference; NULL without an exception for
   another name. */
static PyObject *
tls_info_make(TwTls *self, PyObject *name)
{
    tw_state *state = self->base.loop->state;
    PyObject *sslobj = self->engine->sslobj;

    if (PyUnicode_CompareWithASCIIString(name, "sslcontext") == 0) {
        return Py_NewRef(self->sslcontext);
    }
    if (!self->is_done) {
        return NULL;
    }
    if (PyUnicode_CompareWithASCIIString(name, "ssl_object") == 0) {
        return Py_NewRef(sslobj);
    }
    if (PyUnicode_CompareWithASCIIString(name, "peercert") == 0) {
        return tw_call_plain_noargs(sslobj, state->str.getpeercert);
    }
    if (PyUnicode_CompareWithASCIIString(name, "cipher") == 0) {
        return tw_call_plain_noargs(sslobj, state->str.cipher);
    }
    if (PyUnicode_CompareWithASCIIString(name, "compression") == 0) {
        return tw_call_plain_noargs(sslobj, state->str.compression);
    }
    return NULL;
}

static PyObject *
tls_extra_info(TwTls *self, PyObject *name, PyObject *dflt)
{
    PyObject *value = tw_transport_extra_known(&self->base, name);

    if (value != NULL || PyErr_Occurred()) {
        return value;
    }
    if (PyUnicode_Check(name)) {
        value = tls_info_make(self, name);
    }
    if (value == NULL) {
        return PyErr_Occurred() ? NULL
                                : tw_filter_extra_info(self, name, dflt);
    }
    return tw_transport_extra_keep_steal(&self->base, name, value);
}

static PyObject *
tls_meth_get_extra_info(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames)
{
    static const char *const names[] = {"name", "default"};
    static const TwArgs spec = {"get_extra_info", names, 1, 2};
    TwTls *self = (TwTls *)op;
    PyObject *given[2];

    if (tw_args_bind(&spec, args, nargs, kwnames, given) < 0
        || tw_filter_flush(self) < 0) {
        return NULL;
    }
    return tls_extra_info(self, given[0], given[1] ? given[1] : Py_None);
}

PyMethodDef tw_tls_info_methods[] = {
    {"get_extra_info", TW_FAST(tls_meth_get_extra_info), TW_FASTKW,
     tw_transport_doc_get_extra_info},
    {"get_write_buffer_size", tls_meth_get_write_buffer_size, METH_NOARGS,
     tw_transport_doc_get_write_buffer_size},
    {"set_write_buffer_limits", TW_FAST(tls_meth_set_write_buffer_limits),
     TW_FASTKW, tw_transport_doc_set_write_buffer_limits},
    {"get_read_buffer_size", tls_meth_get_read_buffer_size, METH_NOARGS,
     PyDoc_STR(
"get_read_buffer_size($self, /)\n--\n\n"
"Bytes of ciphertext that were received and not decrypted.")},
    {"get_read_buffer_limits", tls_meth_get_read_buffer_limits, METH_NOARGS,
     PyDoc_STR(
"get_read_buffer_limits($self, /)\n--\n\n"
"(low, high): the marks of read flow control, in bytes.")},
    {"set_read_buffer_limits", TW_FAST(tls_meth_set_read_buffer_limits),
     TW_FASTKW, PyDoc_STR(
"set_read_buffer_limits($self, /, high=None, low=None)\n--\n\n"
"Set the marks of read flow control, in bytes: how much ciphertext is kept\n"
"while reading is paused.  With low alone high is 4*low, with high alone low\n"
"is high//4.  ValueError unless high >= low >= 0.")},
    {NULL},
};
