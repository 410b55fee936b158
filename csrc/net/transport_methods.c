/* The methods that all transports share. */
#include "net/hold.h"
#include "net/transport.h"

PyObject *
tw_transport_closed(TwTransport *self, unsigned before)
{
    PyObject *context;

    if (self->flags & ~before & TW_F_LOST_SCHEDULED && self->server == NULL) {
        context = PyContext_CopyCurrent();
        if (context == NULL) {
            return NULL;
        }
        Py_XSETREF(self->context, context);
    }
    Py_RETURN_NONE;
}

PyObject *
tw_transport_meth_close(PyObject *op, PyObject *unused)
{
    TwTransport *self = (TwTransport *)op;
    unsigned before = self->flags;

    return tw_transport_close(self) < 0 ? NULL
                                        : tw_transport_closed(self, before);
}

static PyObject *
transport_meth_force_close(PyObject *op, PyObject *exc)
{
    TwTransport *self = (TwTransport *)op;
    unsigned before = self->flags;

    if (tw_hold_flush(self) < 0 || tw_transport_force_close(self, exc) < 0) {
        return NULL;
    }
    return tw_transport_closed(self, before);
}

static PyObject *
transport_meth_abort(PyObject *self, PyObject *unused)
{
    return transport_meth_force_close(self, NULL);
}

static PyObject *
transport_meth_is_closing(PyObject *self, PyObject *unused)
{
    TwTransport *base = (TwTransport *)self;

    if (tw_hold_flush(base) < 0) {
        return NULL;
    }
    return PyBool_FromLong(base->flags & TW_F_CLOSING);
}

static PyObject *
transport_meth_is_reading(PyObject *self, PyObject *unused)
{
    return PyBool_FromLong(tw_transport_is_reading((TwTransport *)self));
}

static PyObject *
transport_meth_pause_reading(PyObject *self, PyObject *unused)
{
    return tw_none_or_error(tw_transport_pause_reading((TwTransport *)self));
}

static PyObject *
transport_meth_resume_reading(PyObject *self, PyObject *unused)
{
    return tw_none_or_error(tw_transport_resume_reading((TwTransport *)self));
}

static PyObject *
transport_meth_get_protocol(PyObject *self, PyObject *unused)
{
    PyObject *protocol = TW_BASE(self)->protocol;

    return Py_NewRef(protocol ? protocol : Py_None);
}

static PyObject *
transport_meth_set_protocol(PyObject *self, PyObject *const *args,
                            Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *protocol =
        tw_args_one("set_protocol", "protocol", args, nargs, kwnames);

    if (protocol == NULL || tw_hold_flush((TwTransport *)self) < 0) {
        return NULL;
    }
    tw_transport_set_protocol(TW_BASE(self), protocol);
    Py_RETURN_NONE;
}

PyObject *
tw_transport_meth_get_write_buffer_size(PyObject *op, PyObject *unused)
{
    TwTransport *self = (TwTransport *)op;

    if (tw_hold_flush(self) < 0) {
        return NULL;
    }
    return PyLong_FromSize_t(self->ops->buffer_size(self));
}

static PyObject *
transport_meth_get_write_buffer_limits(PyObject *op, PyObject *unused)
{
    TwBaseTransport *self = TW_BASE(op);

    return Py_BuildValue("(nn)", (Py_ssize_t)self->low,
                         (Py_ssize_t)self->high);
}

static PyObject *
transport_meth_set_limits(PyObject *op, PyObject *const *args,
                          Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"high", "low"};
    static const TwArgs spec = {"set_write_buffer_limits", names, 0, 2};
    TwTransport *self = (TwTransport *)op;
    PyObject *given[2];
    size_t high, low;

    if (tw_args_bind(&spec, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    if (tw_transport_limits(given, 64 * 1024, &high, &low) < 0) {
        return NULL;
    }
    if (tw_hold_flush(self) < 0) {
        return NULL;
    }
    self->high = high;
    self->low = low;
    return tw_none_or_error(tw_transport_maybe_pause(self));
}

static PyObject *
transport_meth_get_extra_info(PyObject *self, PyObject *const *args,
                              Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"name", "default"};
    static const TwArgs spec = {"get_extra_info", names, 1, 2};
    PyObject *given[2];

    if (tw_args_bind(&spec, args, nargs, kwnames, given) < 0
        || tw_hold_flush((TwTransport *)self) < 0) {
        return NULL;
    }
    return tw_transport_extra_info((TwTransport *)self, given[0],
                                   given[1] ? given[1] : Py_None);
}

PyObject *
tw_transport_meth_true(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused))
{
    Py_RETURN_TRUE;
}

/* For the TransportSocket: send what is held, and never hold again if the
   program gets the descriptor itself. */
static PyObject *
transport_meth_flush_held(PyObject *op, PyObject *shared)
{
    TwTransport *self = (TwTransport *)op;

    return tw_none_or_error(
        (shared == Py_True ? tw_hold_share(self) : tw_hold_flush(self)));
}

/* -- the tables ----------------------------------------------------------- */

/* TLS has functions of its own for these. */
const char tw_transport_doc_close[] = PyDoc_STR(
"close($self, /)\n--\n\n"
"Close the transport: send what was written, read no more, then call\n"
"connection_lost(None).  See library/asyncio-protocol.");
const char tw_transport_doc_abort[] = PyDoc_STR(
"abort($self, /)\n--\n\n"
"Close the transport at once and drop what waits to be sent.\n"
"connection_lost(None) is called soon.  See library/asyncio-protocol.");
const char tw_transport_doc_is_closing[] = PyDoc_STR(
"is_closing($self, /)\n--\n\n"
"True if the transport is closing or closed.\n\n"
"See library/asyncio-protocol.");
const char tw_transport_doc_set_protocol[] = PyDoc_STR(
"set_protocol($self, /, protocol)\n--\n\n"
"Call this protocol from now on; its connection_made() is not called.\n\n"
"See library/asyncio-protocol.");
const char tw_transport_doc_can_write_eof[] = PyDoc_STR(
"can_write_eof($self, /)\n--\n\nTrue.  See library/asyncio-protocol.");
const char tw_transport_doc_get_extra_info[] = PyDoc_STR(
"get_extra_info($self, /, name, default=None)\n--\n\n"
"Information about the connection: 'socket', 'sockname', 'peername',\n"
"'pipe'...; `default` for an unknown name.  See library/asyncio-protocol.");
const char tw_transport_doc_get_write_buffer_size[] = PyDoc_STR(
"get_write_buffer_size($self, /)\n--\n\n"
"Bytes that wait to be sent.  See library/asyncio-protocol.");
const char tw_transport_doc_set_write_buffer_limits[] = PyDoc_STR(
"set_write_buffer_limits($self, /, high=None, low=None)\n--\n\n"
"Set the marks of write flow control, in bytes.  With low alone high is\n"
"4*low, with high alone low is high//4.  ValueError unless\n"
"high >= low >= 0.  See library/asyncio-protocol.");

PyMethodDef tw_transport_methods[] = {
    {"is_closing", transport_meth_is_closing, METH_NOARGS,
     tw_transport_doc_is_closing},
    {"get_protocol", transport_meth_get_protocol, METH_NOARGS, PyDoc_STR(
"get_protocol($self, /)\n--\n\n"
"The current protocol; None when the connection is lost.\n\n"
"See library/asyncio-protocol.")},
    {"set_protocol", TW_FAST(transport_meth_set_protocol), TW_FASTKW,
     tw_transport_doc_set_protocol},
    {"get_extra_info", TW_FAST(transport_meth_get_extra_info), TW_FASTKW,
     tw_transport_doc_get_extra_info},
    {NULL},
};

PyMethodDef tw_transport_read_methods[] = {
    {"is_reading", transport_meth_is_reading, METH_NOARGS, PyDoc_STR(
"is_reading($self, /)\n--\n\n"
"True unless reading is paused or the transport is closing.\n\n"
"See library/asyncio-protocol.")},
    {"pause_reading", transport_meth_pause_reading, METH_NOARGS, PyDoc_STR(
"pause_reading($self, /)\n--\n\n"
"Deliver nothing more until resume_reading().  Idempotent.\n\n"
"See library/asyncio-protocol.")},
    {"resume_reading", transport_meth_resume_reading, METH_NOARGS, PyDoc_STR(
"resume_reading($self, /)\n--\n\n"
"Deliver again after pause_reading().  Idempotent.\n\n"
"See library/asyncio-protocol.")},
    {NULL},
};

PyMethodDef tw_transport_write_methods[] = {
    {"abort", transport_meth_abort, METH_NOARGS, tw_transport_doc_abort},
    {"_force_close", transport_meth_force_close, METH_O, NULL},
    {"get_write_buffer_size", tw_transport_meth_get_write_buffer_size,
     METH_NOARGS, tw_transport_doc_get_write_buffer_size},
    {"get_write_buffer_limits", transport_meth_get_write_buffer_limits,
     METH_NOARGS, PyDoc_STR(
"get_write_buffer_limits($self, /)\n--\n\n"
"(low, high): the marks of write flow control, in bytes.\n\n"
"See library/asyncio-protocol.")},
    {"set_write_buffer_limits", TW_FAST(transport_meth_set_limits),
     TW_FASTKW, tw_transport_doc_set_write_buffer_limits},
    {NULL},
};

PyMethodDef tw_transport_hold_methods[] = {
    {"close", tw_transport_meth_close, METH_NOARGS, tw_transport_doc_close},
    {"_flush_held", transport_meth_flush_held, METH_O, NULL},
    {NULL},
};
