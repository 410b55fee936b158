/* The methods that all transports share. */
#include "net/hold.h"
#include "net/transport.h"

const char tw_transport_doc_close[] = PyDoc_STR(
"close($self, /)\n--\n\n"
"Close the transport: send what was written, read no more, then call\n"
"connection_lost(None).  See library/asyncio-protocol.");

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

const char tw_transport_doc_abort[] = PyDoc_STR(
"abort($self, /)\n--\n\n"
"Close the transport at once and drop what waits to be sent.\n"
"connection_lost(None) is called soon.  See library/asyncio-protocol.");

PyObject *
tw_transport_meth_abort(PyObject *self, PyObject *unused)
{
    return tw_transport_meth_force_close(self, NULL);
}

PyObject *
tw_transport_meth_force_close(PyObject *op, PyObject *exc)
{
    TwTransport *self = (TwTransport *)op;
    unsigned before = self->flags;

    if (tw_hold_flush(self) < 0 || tw_transport_force_close(self, exc) < 0) {
        return NULL;
    }
    return tw_transport_closed(self, before);
}

const char tw_transport_doc_is_closing[] = PyDoc_STR(
"is_closing($self, /)\n--\n\n"
"True if the transport is closing or closed.\n\n"
"See library/asyncio-protocol.");

PyObject *
tw_transport_meth_is_closing(PyObject *self, PyObject *unused)
{
    TwTransport *base = (TwTransport *)self;

    if (tw_hold_flush(base) < 0) {
        return NULL;
    }
    return PyBool_FromLong(base->flags & TW_F_CLOSING);
}

const char tw_transport_doc_is_reading[] = PyDoc_STR(
"is_reading($self, /)\n--\n\n"
"True unless reading is paused or the transport is closing.\n\n"
"See library/asyncio-protocol.");

PyObject *
tw_transport_meth_is_reading(PyObject *self, PyObject *unused)
{
    return PyBool_FromLong(tw_transport_is_reading((TwTransport *)self));
}

const char tw_transport_doc_pause_reading[] = PyDoc_STR(
"pause_reading($self, /)\n--\n\n"
"Deliver nothing more until resume_reading().  Idempotent.\n\n"
"See library/asyncio-protocol.");

PyObject *
tw_transport_meth_pause_reading(PyObject *self, PyObject *unused)
{
    return tw_none_or_error(tw_transport_pause_reading((TwTransport *)self));
}

const char tw_transport_doc_resume_reading[] = PyDoc_STR(
"resume_reading($self, /)\n--\n\n"
"Deliver again after pause_reading().  Idempotent.\n\n"
"See library/asyncio-protocol.");

PyObject *
tw_transport_meth_resume_reading(PyObject *self, PyObject *unused)
{
    return tw_none_or_error(tw_transport_resume_reading((TwTransport *)self));
}

const char tw_transport_doc_get_protocol[] = PyDoc_STR(
"get_protocol($self, /)\n--\n\n"
"The current protocol; None when the connection is lost.\n\n"
"See library/asyncio-protocol.");

PyObject *
tw_transport_meth_get_protocol(PyObject *self, PyObject *unused)
{
    return tw_transport_get_protocol(self, NULL);
}

const char tw_transport_doc_set_protocol[] = PyDoc_STR(
"set_protocol($self, /, protocol)\n--\n\n"
"Call this protocol from now on; its connection_made() is not called.\n\n"
"See library/asyncio-protocol.");

PyObject *
tw_transport_meth_set_protocol(PyObject *self, PyObject *const *args,
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
