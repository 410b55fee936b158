#include "tls/tls_transport.h"

#include "base/compat.h"
#include "tls/filter.h"

/* -- making --------------------------------------------------------------- */

static size_t
tls_buffer_size(TwTransport *base)
{
    return tw_tls_buffer_size((TwTls *)base);
}

static void
tls_buffer_clear(TwTransport *base)
{
    tw_bufq_clear(&((TwTls *)base)->backlog);
}

static tw_status
tls_started(TwTransport *base)
{
    return 0;
}

static void
tls_after_lost(TwTransport *base, PyObject *exc)
{
}

/* resume_reading(), in its turn.  connection_made() and connection_lost()
   are called by the handshake and by the lower transport's loss. */
static tw_status
tls_step(PyObject *op)
{
    TwTls *self = (TwTls *)op;

    self->resuming = 0;
    return self->base.flags & TW_F_READ_PAUSED ? 0 : tw_tls_resumed(self);
}

static const TwTransportOps tls_ops = {
    .step = {tls_step},
    .buffer_size = tls_buffer_size,
    .buffer_clear = tls_buffer_clear,
    .started = tls_started,
    .lost = tls_after_lost,
};

/* What tidewire._tls gives for a new transport. */
typedef struct {
    PyObject *protocol, *sslcontext, *waiter, *hostname, *context;
    PyObject *handshake_timeout, *shutdown_timeout;
    int server_side, call_connection_made;
} TwTlsArgs;

static TwTls *
tls_new(TwLoop *loop, const TwTlsArgs *args)
{
    PyTypeObject *type = loop->state->tls_type;
    TwTls *self = (TwTls *)type->tp_alloc(type, 0);

    if (self == NULL) {
        return NULL;
    }
    self->base.flags = TW_F_MADE | TW_F_CLOSING; /* nothing to warn of yet */
    if (tw_transport_init(&self->base, loop, &tls_ops, args->protocol, NULL,
                          NULL, args->waiter)
        < 0) {
        Py_DECREF(self);
        return NULL;
    }
    self->base.high = TW_TLS_WRITE_HIGH;
    self->base.low = TW_TLS_WRITE_HIGH / 4;
    self->read_high = TW_TLS_READ_HIGH;
    self->read_low = TW_TLS_READ_HIGH / 4;
    self->app = args->call_connection_made ? TW_APP_INIT : TW_APP_MADE;
    self->sslcontext = Py_NewRef(args->sslcontext);
    self->handshake_timeout = Py_NewRef(args->handshake_timeout);
    self->shutdown_timeout = Py_NewRef(args->shutdown_timeout);
    self->engine = tw_engine_new(loop, args->sslcontext, args->server_side,
                                 args->hostname, self->base.context);
    if (self->engine == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    self->base.flags &= ~TW_F_CLOSING;
    return self;
}

#define TLS_NEW_FORMAT "O!OOOpOOOp"
/* tls_open(loop, protocol, sslcontext, waiter, server_side, hostname,
   handshake_timeout, shutdown_timeout, call_connection_made, sock, extra,
   server): on a connected socket. */
static PyObject *
tls_open(PyObject *module, PyObject *args)
{
    tw_state *state = PyModule_GetState(module);
    PyObject *sock, *extra, *server, *loop;
    TwTlsArgs a;
    TwTls *self;
    int fd;

    if (!PyArg_ParseTuple(args, TLS_NEW_FORMAT "OOO:tls_open",
                          state->loop_type, &loop, &a.protocol,
                          &a.sslcontext, &a.waiter, &a.server_side,
                          &a.hostname, &a.handshake_timeout,
                          &a.shutdown_timeout, &a.call_connection_made, &sock,
                          &extra, &server)) {
        return NULL;
    }
    fd = PyObject_AsFileDescriptor(sock);
    if (fd < 0 || tw_loop_check_open((TwLoop *)loop) < 0) {
        return NULL;
    }
    self = tls_new((TwLoop *)loop, &a);
    if (self != NULL && tw_filter_open(self, fd, sock, extra, server) < 0) {
        self->base.flags |= TW_F_CLOSING;
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

/* tls_over(loop, ..., call_connection_made): without a lower transport. */
static PyObject *
tls_over(PyObject *module, PyObject *args)
{
    tw_state *state = PyModule_GetState(module);
    PyObject *loop;
    TwTlsArgs a;

    if (!PyArg_ParseTuple(args, TLS_NEW_FORMAT ":tls_over", state->loop_type,
                          &loop, &a.protocol, &a.sslcontext, &a.waiter,
                          &a.server_side, &a.hostname, &a.handshake_timeout,
                          &a.shutdown_timeout, &a.call_connection_made)) {
        return NULL;
    }
    return (PyObject *)tls_new((TwLoop *)loop, &a);
}

/* -- for tidewire._tls ---------------------------------------------------- */

static PyObject *
tls_result(tw_status status)
{
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Slip between `lower` and its protocol. */
static PyObject *
tls_meth_slip_in(PyObject *op, PyObject *lower)
{
    return tls_result(tw_filter_slip_in((TwTls *)op, lower));
}

/* Ciphertext that somebody else had read. */
static PyObject *
tls_meth_feed(PyObject *op, PyObject *data)
{
    TwTls *self = (TwTls *)op;
    Py_buffer view;
    tw_status status;

    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    status = tw_engine_lend(self->engine, view.buf, (size_t)view.len);
    if (status == 0) {
        status = tw_engine_keep(self->engine);
    }
    PyBuffer_Release(&view);
    return tls_result(status);
}

/* For CPython's own tests, as in asyncio: plaintext that waits. */
static PyObject *
tls_meth_append_backlog(PyObject *op, PyObject *data)
{
    TwTls *self = (TwTls *)op;

    if (!PyBytes_CheckExact(data)) {
        return PyErr_Format(PyExc_TypeError, "bytes expected");
    }
    return tls_result(tw_bufq_push(&self->backlog, data, 0));
}

static PyObject *
tls_meth_begin(PyObject *op, PyObject *unused)
{
    return tls_result(tw_tls_made((TwTls *)op));
}

static PyObject *
tls_meth_on_timeout(PyObject *op, PyObject *unused)
{
    return tls_result(tw_tls_timeout((TwTls *)op));
}

/* -- closing -------------------------------------------------------------- */

static PyObject *
tls_meth_close(PyObject *op, PyObject *unused)
{
    TwTls *self = (TwTls *)op;

    if (self->base.flags & TW_F_CLOSING) {
        Py_RETURN_NONE;
    }
    return tls_result(tw_tls_close(self));
}

static PyObject *
tls_meth_abort(PyObject *op, PyObject *unused)
{
    return tls_result(tw_tls_abort((TwTls *)op, NULL));
}

static PyObject *
tls_meth_force_close(PyObject *op, PyObject *exc)
{
    return tls_result(tw_tls_abort((TwTls *)op, exc));
}

static PyObject *
tls_meth_is_closing(PyObject *op, PyObject *unused)
{
    TwTls *self = (TwTls *)op;
    int closing = (self->base.flags & TW_F_CLOSING) != 0;

    if (tw_filter_uncork(self) < 0) {
        return NULL;
    }
    if (!closing) {
        closing = tw_filter_is_closing(self);
    }
    return closing < 0 ? NULL : PyBool_FromLong(closing);
}

/* -- reading on and off --------------------------------------------------- */

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
    return tls_result(tw_loop_push_step(self->base.loop, op));
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
tls_get_closed(PyObject *op, void *unused)
{
    return PyBool_FromLong(((TwTls *)op)->base.flags & TW_F_CLOSING);
}

static PyObject *
tls_get_sslcontext(PyObject *op, void *unused)
{
    return Py_NewRef(((TwTls *)op)->sslcontext);
}

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
                                Py_TYPE(op)->tp_name
                                    + sizeof("tidewire._core.") - 1,
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
                       : tw_transport_traverse(&self->base, visit, arg);
}

/* The engine stays until the end: methods of a cleared object still ask it. */
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
    return tw_transport_clear(&self->base);
}

static void
tls_finalize(PyObject *op)
{
    TwTls *self = (TwTls *)op;
    PyObject *exc;

    if (self->base.flags & TW_F_CLOSING || self->base.loop == NULL) {
        return;
    }
    self->base.flags |= TW_F_CLOSING;
    exc = tw_err_take();
    if (PyErr_ResourceWarning(op, 1, "unclosed transport %R", op) < 0) {
        PyErr_WriteUnraisable(op);
    }
    if (exc != NULL) {
        tw_err_restore_steal(exc);
    }
}

static void
tls_dealloc(PyObject *op)
{
    TwTls *self = (TwTls *)op;

    if (!tw_transport_dealloc_begin(op)) {
        return;
    }
    tls_clear(op);
    tw_engine_free(self->engine);
    tw_bufq_clear(&self->backlog);
    Py_CLEAR(self->sslcontext);
    Py_CLEAR(self->handshake_timeout);
    Py_CLEAR(self->shutdown_timeout);
    tw_transport_dealloc_end(op);
}

#define FASTKW METH_FASTCALL | METH_KEYWORDS
#define FAST(f) ((PyCFunction)(void (*)(void))(f))

static PyMethodDef tls_methods[] = {
    {"write", FAST(tw_tls_meth_write), FASTKW, PyDoc_STR(
"write($self, /, data)\n--\n\n"
"Encrypt and send bytes, bytearray or memoryview; never blocks.\n\n"
"TypeError for another type.  On a closing or lost connection nothing\n"
"happens.  See library/asyncio-protocol.")},
    {"writelines", FAST(tw_tls_meth_writelines), FASTKW, PyDoc_STR(
"writelines($self, /, list_of_data)\n--\n\n"
"write() of each item of an iterable, small pieces together in one record.\n\n"
"Errors are those of write().  See library/asyncio-protocol.")},
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
"Hand over no more data until resume_reading().  Idempotent.\n\n"
"See library/asyncio-protocol.")},
    {"resume_reading", tls_meth_resume_reading, METH_NOARGS, PyDoc_STR(
"resume_reading($self, /)\n--\n\n"
"Hand over data again, soon.  Idempotent.\n\n"
"See library/asyncio-protocol.")},
    {"close", tls_meth_close, METH_NOARGS, tw_transport_doc_close},
    {"abort", tls_meth_abort, METH_NOARGS, tw_transport_doc_abort},
    {"is_closing", tls_meth_is_closing, METH_NOARGS,
     tw_transport_doc_is_closing},
    {"get_protocol", tw_transport_meth_get_protocol, METH_NOARGS,
     tw_transport_doc_get_protocol},
    {"set_protocol", FAST(tw_transport_meth_set_protocol), FASTKW,
     tw_transport_doc_set_protocol},
    {"get_extra_info", FAST(tw_tls_meth_get_extra_info), FASTKW,
     tw_transport_doc_get_extra_info},
    {"get_write_buffer_size", tw_tls_meth_get_write_buffer_size, METH_NOARGS,
     tw_transport_doc_get_write_buffer_size},
    {"get_write_buffer_limits", tw_transport_meth_get_write_buffer_limits,
     METH_NOARGS, tw_transport_doc_get_write_buffer_limits},
    {"set_write_buffer_limits", FAST(tw_tls_meth_set_write_buffer_limits),
     FASTKW, tw_transport_doc_set_write_buffer_limits},
    {"get_read_buffer_size", tw_tls_meth_get_read_buffer_size, METH_NOARGS,
     PyDoc_STR(
"get_read_buffer_size($self, /)\n--\n\n"
"Bytes of ciphertext that came and were not decrypted.")},
    {"get_read_buffer_limits", tw_tls_meth_get_read_buffer_limits, METH_NOARGS,
     PyDoc_STR(
"get_read_buffer_limits($self, /)\n--\n\n"
"(low, high): the marks of read flow control, in bytes.")},
    {"set_read_buffer_limits", FAST(tw_tls_meth_set_read_buffer_limits),
     FASTKW, PyDoc_STR(
"set_read_buffer_limits($self, /, high=None, low=None)\n--\n\n"
"Set the marks of read flow control, in bytes: how much ciphertext is kept\n"
"while reading is paused.  With low alone high is 4*low, with high alone low\n"
"is high//4.  ValueError unless high >= low >= 0.")},
    {"_force_close", tls_meth_force_close, METH_O, NULL},
    {"_slip_in", tls_meth_slip_in, METH_O, NULL},
    {"_feed", tls_meth_feed, METH_O, NULL},
    {"_test__append_write_backlog", tls_meth_append_backlog, METH_O, NULL},
    {"_begin", tls_meth_begin, METH_NOARGS, NULL},
    {"_on_timeout", tls_meth_on_timeout, METH_NOARGS, NULL},
    {NULL},
};

PyDoc_STRVAR(tls_doc,
"A TLS connection: asyncio.Transport in C, over another transport.\n\n"
"Made by the loop (create_connection with ssl=, start_tls...), never by\n"
"hand.  See library/asyncio-protocol.");

static PyGetSetDef tls_getset[] = {
    TW_FLOW_SLOTS(TW_SLOT_LOOP_KEPT),
    {"_closed", tls_get_closed, NULL, NULL, NULL},
    {"_sslcontext", tls_get_sslcontext, NULL, NULL, NULL},
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
    {Py_tp_methods, tls_methods},
    {Py_tp_getset, tls_getset},
    {Py_tp_members, tw_transport_members},
    {0, NULL},
};

static PyType_Spec tls_spec = {
    .name = "tidewire._core.SSLTransport",
    .basicsize = sizeof(TwTls),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = tls_slots,
};

static PyMethodDef tls_module_methods[] = {
    {"tls_open", tls_open, METH_VARARGS, PyDoc_STR(
"For tidewire._tls: a TLS transport on a connected socket.")},
    {"tls_over", tls_over, METH_VARARGS, PyDoc_STR(
"For tidewire._tls: a TLS transport without a lower one yet.")},
    {NULL},
};

tw_status
tw_tls_transport_setup(tw_state *state, PyObject *module)
{
    if (tw_transport_add_type(state, &state->tls_type, &tls_spec, "Transport",
                              true)
            < 0
        || tw_transport_add_marks(state->tls_type, "FALLBACK") < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, tls_module_methods);
}
