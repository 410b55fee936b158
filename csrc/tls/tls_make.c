/* How TLS transports are made: the functions that tidewire._tls calls. */
#include "tls/filter.h"
#include "tls/tls_transport.h"

/* -- new ------------------------------------------------------------------ */

/* resume_reading() continues here in a later turn.  Handshake and loss of
   the lower transport call connection_made() and connection_lost()
   themselves. */
static tw_status
tls_step(PyObject *op)
{
    TwTls *self = (TwTls *)op;

    self->resuming = 0;
    return self->base.flags & TW_F_READ_PAUSED ? 0 : tw_tls_resumed(self);
}

static const TwStepOps tls_step_ops = {tls_step};

/* The arguments of tls_open() and tls_over() that make the transport. */
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
    self->base.flags = TW_F_MADE | TW_F_CLOSING; /* no warning if this fails */
    if (tw_transport_init(&self->base, loop, &tls_step_ops, args->protocol,
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

/* For start_tls(): insert it between `lower` and its protocol (ValueError if
   that cannot be the lower transport). */
static PyObject *
tls_meth_insert(PyObject *op, PyObject *lower)
{
    return tw_none_or_error(tw_filter_insert((TwTls *)op, lower));
}

/* Add ciphertext that was read before start_tls(). */
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
    return tw_none_or_error(status);
}

/* For CPython's own tests, as in asyncio: append to the backlog. */
static PyObject *
tls_meth_append_backlog(PyObject *op, PyObject *data)
{
    TwTls *self = (TwTls *)op;

    if (!PyBytes_CheckExact(data)) {
        return PyErr_Format(PyExc_TypeError, "bytes expected");
    }
    return tw_none_or_error(tw_bufq_push(&self->backlog, data, 0));
}

/* Start the handshake. */
static PyObject *
tls_meth_begin(PyObject *op, PyObject *unused)
{
    return tw_none_or_error(tw_tls_made((TwTls *)op));
}

static PyObject *
tls_meth_on_timeout(PyObject *op, PyObject *unused)
{
    return tw_none_or_error(tw_tls_timeout((TwTls *)op));
}

PyMethodDef tw_tls_make_methods[] = {
    {"_insert", tls_meth_insert, METH_O, NULL},
    {"_feed", tls_meth_feed, METH_O, NULL},
    {"_test__append_write_backlog", tls_meth_append_backlog, METH_O, NULL},
    {"_begin", tls_meth_begin, METH_NOARGS, NULL},
    {"_on_timeout", tls_meth_on_timeout, METH_NOARGS, NULL},
    {NULL},
};

PyMethodDef tw_tls_functions[] = {
    {"tls_open", tls_open, METH_VARARGS, PyDoc_STR(
"For tidewire._tls: a TLS transport on a connected socket.")},
    {"tls_over", tls_over, METH_VARARGS, PyDoc_STR(
"For tidewire._tls: a TLS transport without a lower one yet.")},
    {NULL},
};
