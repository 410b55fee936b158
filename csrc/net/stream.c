/* The stream transport type: making it, pausing, the method table. */
#include "net/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "base/args.h"
#include "base/compat.h"
#include "net/hold.h"
#include "net/stream_methods.h"

/* -- operations of the transport ------------------------------------------ */

static unsigned
stream_wants(const TwTransport *base)
{
    return tw_transport_wants_read(base)
           | (tw_out_waits((const TwOut *)base) ? TW_EV_WRITE : 0);
}

static int
stream_intercept(TwTransport *base, TwProtocolCall what, PyObject *exc)
{
    TwStream *self = (TwStream *)base;
    PyObject *owner;
    tw_status status;

    if (self->sink == NULL) {
        return 1;
    }
    owner = Py_NewRef(self->sink_owner);
    switch (what) {
    case TW_CALL_MADE:
        status = self->sink->made(self, owner);
        break;
    case TW_CALL_LOST:
        status = self->sink->lost(self, owner, exc);
        break;
    case TW_CALL_PAUSE:
        status = self->sink->pause_writing(self, owner);
        break;
    default:
        status = self->sink->resume_writing(self, owner);
    }
    Py_DECREF(owner);
    return status;
}

static const TwTransportOps stream_ops = {
    .step = TW_TRANSPORT_STEP,
    .buffer_size = tw_out_size,
    .buffer_clear = tw_out_clear,
    .flush = tw_out_flush,
    .out = &tw_stream_out_ops,
    .wants = stream_wants,
    .lost = tw_stream_lost,
    .intercept = stream_intercept,
};

static tw_status
stream_on_ready(PyObject *op, unsigned events)
{
    TwStream *self = (TwStream *)op;

    if (TW_UNLIKELY(events & TW_EV_BAD)) {
        return tw_transport_fatal_errno(
            &self->base, tw_watcher_error(self->base.watcher),
            "Fatal read error on socket transport");
    }
    if (events & TW_EV_READ && tw_transport_is_reading(&self->base)
        && !(self->base.flags & TW_F_EOF_GOT) && tw_stream_read(self) < 0) {
        return -1;
    }
    if (events & TW_EV_WRITE) {
        return tw_out_on_writable((TwOut *)self);
    }
    return 0;
}

/* -- new ------------------------------------------------------------------ */

/* The socket options of a new stream, accepted or connected.  Over IP small
   writes must not wait for the peer's acknowledgement.  A Unix socket may be
   of a type whose writes are messages. */
static void
stream_set_options(TwStream *self)
{
    int family = tw_transport_family(&self->base);
    int one = 1, type = SOCK_STREAM;
    socklen_t len = sizeof(type);

    if (family == AF_INET || family == AF_INET6) {
        self->base.flags |= TW_F_INET;
        setsockopt(self->base.fd, IPPROTO_TCP, TCP_NODELAY, &one,
                   sizeof(one));
    }
    else if (getsockopt(self->base.fd, SOL_SOCKET, SO_TYPE, &type, &len)
             == 0) {
        self->messages = type != SOCK_STREAM;
    }
}

TwStream *
tw_stream_new(TwLoop *loop, int fd, const TwStreamParts *parts)
{
    TwStream *self = (TwStream *)tw_transport_new(
        loop->state->stream_type, loop, &stream_ops, parts->protocol,
        parts->server, parts->extra, parts->waiter);

    if (self == NULL
        || tw_transport_adopt(&self->base, fd, parts->sock, stream_on_ready)
               < 0) {
        if (parts->sock == NULL) {
            close(fd);
        }
        Py_XDECREF(self);
        return NULL;
    }
    tw_stream_set_sink(self, parts->sink, parts->sink_owner);
    if (tw_transport_keep_addrs(&self->base, parts->peer) < 0
        || tw_transport_start(&self->base) < 0) {
        tw_transport_release(&self->base);
        Py_DECREF(self);
        return NULL;
    }
    stream_set_options(self);
    tw_transport_count(&self->base,
                       self->base.flags & TW_F_INET ? TW_KIND_TCP
                                                    : TW_KIND_UNIX,
                       self->base.server != NULL);
    return self;
}

void
tw_stream_set_sink(TwStream *self, const TwSink *sink, PyObject *sink_owner)
{
    self->sink = sink;
    Py_XSETREF(self->sink_owner, Py_XNewRef(sink_owner));
}

#define LOOP_MAKE_SOCKET "OO|O$OO" TW_CONTEXT_FORMAT ":_make_socket_transport"

static PyObject *
stream_loop_make_socket(PyObject *loop, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {
        "sock", "protocol", "waiter", "extra", "server",
        TW_CONTEXT_KEYWORD NULL,
    };
    TwStreamParts parts = {0};
    PyObject *context = NULL, *result, *entered = NULL;
    int fd;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, LOOP_MAKE_SOCKET,
                                     (char **)names, &parts.sock,
                                     &parts.protocol, &parts.waiter,
                                     &parts.extra, &parts.server, &context)) {
        return NULL;
    }
    fd = PyObject_AsFileDescriptor(parts.sock);
    if (fd < 0 || tw_loop_check_open((TwLoop *)loop) < 0) {
        return NULL;
    }
    if (context != NULL && context != Py_None) {
        entered = tw_call_enter(context);
        if (entered == NULL) {
            return NULL;
        }
    }
    result = (PyObject *)tw_stream_new((TwLoop *)loop, fd, &parts);
    if (entered != NULL) {
        tw_call_leave(entered);
    }
    return result;
}

/* -- methods -------------------------------------------------------------- */

/* Also removes TLS, as in asyncio, where TLS is a protocol. */
static PyObject *
stream_meth_set_protocol(PyObject *self, PyObject *const *args,
                         Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *protocol =
        tw_args_one("set_protocol", "protocol", args, nargs, kwnames);

    if (protocol == NULL || tw_hold_flush((TwTransport *)self) < 0) {
        return NULL;
    }
    tw_stream_set_sink((TwStream *)self, NULL, NULL);
    tw_transport_set_protocol(TW_BASE(self), protocol);
    Py_RETURN_NONE;
}

/* -- the type ------------------------------------------------------------- */

static int
stream_traverse(PyObject *op, visitproc visit, void *arg)
{
    TwStream *self = (TwStream *)op;

    Py_VISIT(self->sink_owner);
    Py_VISIT(self->empty_waiter);
    return tw_transport_traverse(op, visit, arg);
}

static int
stream_clear(PyObject *op)
{
    TwStream *self = (TwStream *)op;

    self->sink = NULL;
    Py_CLEAR(self->sink_owner);
    Py_CLEAR(self->empty_waiter);
    return tw_transport_clear(op);
}

static void
stream_dealloc(PyObject *op)
{
    if (tw_transport_dealloc_begin(op)) {
        tw_bufq_clear(&((TwStream *)op)->queue);
        tw_transport_dealloc_end(op);
    }
}

static PyMethodDef stream_methods[] = {
    {"can_write_eof", tw_transport_meth_true, METH_NOARGS,
     tw_transport_doc_can_write_eof},
    {"set_protocol", TW_FAST(stream_meth_set_protocol), TW_FASTKW,
     tw_transport_doc_set_protocol},
    {NULL},
};

static PyMethodDef *const stream_method_tables[] = {
    tw_transport_methods,
    tw_transport_read_methods,
    tw_transport_write_methods,
    tw_transport_hold_methods,
    tw_stream_write_methods,
    tw_stream_wait_methods,
    stream_methods,
    NULL,
};

static PyGetSetDef stream_getset[] = {
    TW_TRANSPORT_FLAG_ATTR("_eof", TW_F_EOF_SENT),
    {NULL},
};

PyDoc_STRVAR(stream_doc,
"A TCP or Unix stream connection: asyncio.Transport in C.\n\n"
"Made by the loop (create_connection, create_server...) only.\n"
"See library/asyncio-protocol.");

static PyType_Slot stream_slots[] = {
    {Py_tp_doc, (void *)stream_doc},
    {Py_tp_dealloc, stream_dealloc},
    {Py_tp_finalize, tw_transport_finalize},
    {Py_tp_traverse, stream_traverse},
    {Py_tp_clear, stream_clear},
    {Py_tp_repr, tw_transport_repr},
    {Py_tp_getset, tw_transport_getset},
    {Py_tp_members, tw_transport_members},
    {0, NULL},
};

static PyType_Spec stream_spec =
    TW_TYPE_SPEC("SocketTransport", TwStream, stream_slots);

tw_status
tw_stream_setup(tw_state *state, PyObject *module)
{
    if (tw_transport_add_type(state, &state->stream_type, &stream_spec,
                              "Transport", true, stream_method_tables)
            < 0
        || tw_state_add_getset(state->stream_type, stream_getset) < 0) {
        return -1;
    }
    return tw_transport_add_marks(state->stream_type, "TRY_NATIVE");
}

PyMethodDef tw_stream_loop_methods[] = {
    {"_make_socket_transport", TW_FAST(stream_loop_make_socket),
     METH_VARARGS | METH_KEYWORDS, NULL},
    {NULL},
};
