/* The type of TLS transports: closing, pausing and resuming reads,
   attributes. */
#include "tls/tls_transport.h"

#include "base/compat.h"
#include "tls/filter.h"

/* -- closing -------------------------------------------------------------- */

static PyObject *
tls_meth_close(PyObject *op, PyObject *unused)
{
    TwTls *self = (TwTls *)op;

    if (tw_filter_flush(self) < 0) {
        return NULL;
    }
    if (self->base.flags & TW_F_CLOSING) {
        Py_RETURN_NONE;
    }
    return tw_none_or_error(tw_tls_close(self));
}

/* connection_lost() runs in the context of this call, as that of the stream
   below: see tw_transport_closed(). */
static PyObject *
tls_meth_force_close(PyObject *op, PyObject *exc)
{
    TwTls *self = (TwTls *)op;
    TwTransport *stream =
        self->is_stream ? (TwTransport *)Py_XNewRef(self->lower) : NULL;
    unsigned before = stream ? stream->flags : 0;
    PyObject *done = tw_none_or_error(tw_tls_abort(self, exc));

    if (done != NULL && stream != NULL) {
        Py_SETREF(done, tw_transport_closed(stream, before));
        if (done != NULL && stream->server == NULL
            && stream->flags & ~before & TW_F_LOST_SCHEDULED) {
            Py_XSETREF(self->base.context, Py_NewRef(stream->context));
        }
    }
    Py_XDECREF((PyObject *)stream);
    return done;
}

static PyObject *
tls_meth_abort(PyObject *op, PyObject *unused)
{
    return tls_meth_force_close(op, NULL);
}

static PyObject *
tls_meth_is_closing(PyObject *op, PyObject *unused)
{
    TwTls *self = (TwTls *)op;
    int closing = (self->base.flags & TW_F_CLOSING) != 0;

    if (tw_filter_flush(self) < 0) {
        return NULL;
    }
    if (!closing) {
        closing = tw_filter_is_closing(self);
    }
    return closing < 0 ? NULL : PyBool_FromLong(closing);
}

static PyObject *
tls_meth_set_protocol(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames)
{
    PyObject *protocol =
        tw_args_one("set_protocol", "protocol", args, nargs, kwnames);

    if (protocol == NULL || tw_filter_flush((TwTls *)op) < 0) {
        return NULL;
    }
    tw_transport_set_protocol(TW_BASE(op), protocol);
    Py_RETURN_NONE;
}

/* -- pausing and resuming reads ------------------------------------------- */

static PyObject *
tls_meth_is_reading(PyObject *op, PyObject *unused)
{
    return PyBool_FromLong(!(((TwTls *)op)->base.flags
                             & TW_F_READ_PAUSED));
}

static PyObject *
tls_meth_pause_reading(PyObject *op, PyObject *unused)
{
    ((TwTls *)op)->base.flags |= TW_F_READ_PAUSED;
    Py_RETURN_NONE;
}

static PyObject *
tls_meth_resume_reading(PyObject *op, PyObject *unused)
{
    TwTls *self = (TwTls *)op;

    if (!(self->base.flags & TW_F_READ_PAUSED)) {
        Py_RETURN_NONE;
    }
    self->base.flags &= ~TW_F_READ_PAUSED;
    if (self->resuming) {
        Py_RETURN_NONE;
    }
    self->resuming = 1;
    return tw_none_or_error(tw_loop_push_step(self->base.loop, op));
}

static PyObject *
tls_meth_write_eof(PyObject *op, PyObject *unused)
{
    PyErr_SetNone(PyExc_NotImplementedError);
    return NULL;
}

static PyObject *
tls_meth_can_write_eof(PyObject *op, PyObject *unused)
{
    Py_RETURN_FALSE;
}

/* -- attributes ----------------------------------------------------------- */

static PyObject *
tls_get_ssl_protocol(PyObject *op, void *unused)
{
    return Py_XNewRef(tw_adapter_of((TwTls *)op));
}

static PyObject *
tls_repr(PyObject *op)
{
    TwTls *self = (TwTls *)op;
    static const char *const states[] = {"unwrapped", "handshake", "open",
                                         "closing", "closing"};

    return PyUnicode_FromFormat("<%s %s over %R>",
                                TW_TYPE_NAME(op),
                                tw_tls_is_lost(self) ? "closed"
                                                     : states[self->state],
                                self->lower ? self->lower : Py_None);
}

/* -- the type ------------------------------------------------------------- */

static int
tls_traverse(PyObject *op, visitproc visit, void *arg)
{
    TwTls *self = (TwTls *)op;
    int status;

    Py_VISIT(self->lower);
    Py_VISIT(self->adapter);
    Py_VISIT(self->sslcontext);
    Py_VISIT(self->timer);
    Py_VISIT(self->read_error);
    Py_VISIT(self->handshake_timeout);
    Py_VISIT(self->shutdown_timeout);
    status = tw_engine_traverse(self->engine, visit, arg);
    return status != 0 ? status
                       : tw_transport_base_traverse(op, visit, arg);
}

/* The engine stays until dealloc, because methods of a cleared object use
   it. */
static int
tls_clear(PyObject *op)
{
    TwTls *self = (TwTls *)op;

    self->base.flags |= TW_F_LOST | TW_F_CLOSING;
    self->state = TW_TLS_UNWRAPPED;
    self->is_stream = 0;
    Py_CLEAR(self->lower);
    Py_CLEAR(self->adapter);
    Py_CLEAR(self->timer);
    Py_CLEAR(self->read_error);
    return tw_transport_base_clear(op);
}

static void
tls_finalize(PyObject *op)
{
    TwTls *self = (TwTls *)op;

    if (!(self->base.flags & TW_F_CLOSING) && self->base.loop != NULL) {
        self->base.flags |= TW_F_CLOSING;
        tw_transport_warn_unclosed(op);
    }
}

static void
tls_dealloc(PyObject *op)
{
    TwTls *self = (TwTls *)op;

    if (!tw_transport_base_dealloc_begin(op)) {
        return;
    }
    tls_clear(op);
    tw_engine_free(self->engine);
    tw_bufq_clear(&self->backlog);
    Py_CLEAR(self->sslcontext);
    Py_CLEAR(self->handshake_timeout);
    Py_CLEAR(self->shutdown_timeout);
    tw_stepper_free(op);
}

static PyMethodDef tls_methods[] = {
    {"write_eof", tls_meth_write_eof, METH_NOARGS, PyDoc_STR(
"write_eof($self, /)\n--\n\n"
"Not possible over TLS: NotImplementedError.  See library/asyncio-protocol.")},
    {"can_write_eof", tls_meth_can_write_eof, METH_NOARGS, PyDoc_STR(
"can_write_eof($self, /)\n--\n\nFalse.  See library/asyncio-protocol.")},
    {"is_reading", tls_meth_is_reading, METH_NOARGS, PyDoc_STR(
"is_reading($self, /)\n--\n\n"
"True unless reading is paused.  See library/asyncio-protocol.")},
    {"pause_reading", tls_meth_pause_reading, METH_NOARGS, PyDoc_STR(
"pause_reading($self, /)\n--\n\n"
"Deliver no more data until resume_reading().  Idempotent.\n\n"
"See library/asyncio-protocol.")},
    {"resume_reading", tls_meth_resume_reading, METH_NOARGS, PyDoc_STR(
"resume_reading($self, /)\n--\n\n"
"Deliver data again, soon.  Idempotent.\n\n"
"See library/asyncio-protocol.")},
    {"close", tls_meth_close, METH_NOARGS, tw_transport_doc_close},
    {"abort", tls_meth_abort, METH_NOARGS, tw_transport_doc_abort},
    {"is_closing", tls_meth_is_closing, METH_NOARGS,
     tw_transport_doc_is_closing},
    {"set_protocol", TW_FAST(tls_meth_set_protocol), TW_FASTKW,
     tw_transport_doc_set_protocol},
    {"_force_close", tls_meth_force_close, METH_O, NULL},
    {NULL},
};

static PyMethodDef *const tls_method_tables[] = {
    tw_transport_methods,
    tw_transport_write_methods,
    tw_tls_make_methods,
    tw_tls_write_methods,
    tw_tls_info_methods,
    tls_methods,
    NULL,
};

PyDoc_STRVAR(tls_doc,
"A TLS connection: asyncio.Transport in C, over another transport.\n\n"
"Made by the loop (create_connection with ssl=, start_tls...) only.\n"
"See library/asyncio-protocol.");

static PyGetSetDef tls_getset[] = {
    TW_FLOW_SLOTS(TW_SLOT_EXTRA_KEPT, TW_SLOT_LOOP_KEPT),
    TW_TRANSPORT_FLAG_ATTR("_closed", TW_F_CLOSING),
    {"_sslcontext", tw_state_get_object, NULL, NULL, TW_AT(TwTls, sslcontext)},
    {"_ssl_protocol", tls_get_ssl_protocol, NULL, NULL, NULL},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL,
     NULL},
    {NULL},
};

static PyType_Slot tls_slots[] = {
    {Py_tp_doc, (void *)tls_doc},
    {Py_tp_dealloc, tls_dealloc},
    {Py_tp_finalize, tls_finalize},
    {Py_tp_traverse, tls_traverse},
    {Py_tp_clear, tls_clear},
    {Py_tp_repr, tls_repr},
    {Py_tp_getset, tls_getset},
    {Py_tp_members, tw_transport_members},
    {0, NULL},
};

static PyType_Spec tls_spec = TW_TYPE_SPEC("SSLTransport", TwTls, tls_slots);

tw_status
tw_tls_transport_setup(tw_state *state, PyObject *module)
{
    if (tw_transport_add_type(state, &state->tls_type, &tls_spec, "Transport",
                              true, tls_method_tables)
            < 0
        || tw_transport_add_marks(state->tls_type, "FALLBACK") < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, tw_tls_functions);
}
