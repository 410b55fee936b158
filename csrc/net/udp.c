/* The datagram transport type: making it, pausing, the method table. */
#include "net/udp.h"

#include <errno.h>
#include <string.h>
#include <structmember.h>

#include "base/errno.h"
#include "net/hold.h"

/* -- operations of the transport ------------------------------------------ */

static unsigned
udp_wants(const TwTransport *base)
{
    return tw_transport_wants_read(base)
           | (((const TwUdp *)base)->waiting ? TW_EV_WRITE : 0);
}

static void
udp_lost(TwTransport *base, PyObject *exc)
{
    TwUdp *self = (TwUdp *)base;

    /* connection_lost() itself sent it: the descriptor is still open. */
    if (tw_hold_flush(base) < 0) {
        tw_call_flush_failed((PyObject *)self);
    }
    tw_udp_buffer_clear(base);
    tw_udp_merged_drop(self);
}

static const TwTransportOps udp_ops = {
    .step = TW_TRANSPORT_STEP,
    .buffer_size = tw_udp_buffer_size,
    .buffer_clear = tw_udp_buffer_clear,
    .flush = tw_udp_flush,
    .shared = tw_udp_shared,
    .wants = udp_wants,
    .resumed = tw_udp_rouse,
    .lost = udp_lost,
};

tw_status
tw_udp_error_received(TwUdp *self, PyObject *exc)
{
    TwTransport *base = &self->base;
    PyObject *result = tw_transport_call_protocol(
        TW_BASE(base), base->loop->state->str.error_received, exc);

    return tw_status_steal(result) < 0
               ? tw_transport_report_call(base, "_read_ready")
               : 0;
}

static tw_status
udp_on_ready(PyObject *op, unsigned events)
{
    TwUdp *self = (TwUdp *)op;

    if (TW_UNLIKELY(events & TW_EV_BAD)) {
        return tw_transport_fatal_errno(
            &self->base, tw_watcher_error(self->base.watcher),
            "Fatal read error on datagram transport");
    }
    if (events & TW_EV_READ && tw_transport_is_reading(&self->base)
        && tw_udp_read(self) < 0) {
        return -1;
    }
    if (events & TW_EV_WRITE) {
        return tw_udp_on_writable(self);
    }
    return 0;
}

/* -- new ------------------------------------------------------------------ */

/* Family and peer, from the addresses that were just kept. */
static void
udp_learn(TwUdp *self)
{
    const unsigned char *local = self->base.addrs;
    const unsigned char *peer = local + 1 + local[0];

    self->family = tw_transport_family(&self->base);
    self->connected = peer[0] > 0;
    self->named = peer[0] > sizeof(sa_family_t);
}

/* _address = addr: users name the peer of a socket that they connected. */
static int
udp_set_address(PyObject *op, PyObject *address, void *unused)
{
    TwUdp *self = (TwUdp *)op;
    int given = address == NULL ? 0 : PyObject_IsTrue(address);

    if (given < 0) {
        return -1;
    }
    Py_XSETREF(self->address, given ? Py_NewRef(address) : NULL);
    return 0;
}

static PyObject *
udp_make(TwLoop *loop, int fd, PyObject *sock, PyObject *protocol,
         PyObject *address, PyObject *waiter, PyObject *extra)
{
    TwUdp *self = (TwUdp *)tw_transport_new(loop->state->udp_type, loop,
                                            &udp_ops, protocol, NULL, extra,
                                            waiter);

    if (self == NULL
        || tw_transport_adopt(&self->base, fd, sock, udp_on_ready) < 0) {
        Py_XDECREF(self);
        return NULL;
    }
    if (udp_set_address((PyObject *)self, address, NULL) < 0
        || tw_transport_keep_addrs(&self->base, NULL) < 0
        || tw_transport_start(&self->base) < 0) {
        tw_transport_release(&self->base);
        Py_DECREF(self);
        return NULL;
    }
    udp_learn(self);
    tw_transport_count(&self->base, TW_KIND_UDP, false);
    return (PyObject *)self;
}

static PyObject *
udp_loop_make(PyObject *loop, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"sock",   "protocol", "address",
                                        "waiter", "extra",    NULL};
    PyObject *sock, *protocol, *address = NULL, *waiter = NULL, *extra = NULL;
    int fd;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs,
                                     "OO|OOO:_make_datagram_transport",
                                     (char **)names, &sock, &protocol,
                                     &address, &waiter, &extra)) {
        return NULL;
    }
    fd = PyObject_AsFileDescriptor(sock);
    if (fd < 0 || tw_loop_check_open((TwLoop *)loop) < 0) {
        return NULL;
    }
    return udp_make((TwLoop *)loop, fd, sock, protocol, address, waiter,
                    extra);
}

/* -- methods -------------------------------------------------------------- */

static PyObject *
udp_get_buffer_size(PyObject *self, void *unused)
{
    return tw_transport_meth_get_write_buffer_size(self, NULL);
}

/* -- the type ------------------------------------------------------------- */

static int
udp_traverse(PyObject *op, visitproc visit, void *arg)
{
    TwUdp *self = (TwUdp *)op;
    int stop = tw_dgramq_traverse(&self->out, visit, arg);

    if (stop == 0) {
        stop = tw_dgramq_traverse(&self->in, visit, arg);
    }
    if (stop == 0) {
        stop = tw_peers_traverse(self->peers, visit, arg);
    }
    if (stop != 0) {
        return stop;
    }
    Py_VISIT(self->address);
    return tw_transport_traverse(op, visit, arg);
}

static int
udp_clear(PyObject *op)
{
    TwUdp *self = (TwUdp *)op;

    Py_CLEAR(self->address);
    tw_peers_clear(&self->peers);
    return tw_transport_clear(op);
}

static void
udp_dealloc(PyObject *op)
{
    if (tw_transport_dealloc_begin(op)) {
        tw_dgramq_clear(&((TwUdp *)op)->out);
        tw_udp_merged_drop((TwUdp *)op);
        tw_transport_dealloc_end(op);
    }
}

static PyMethodDef *const udp_method_tables[] = {
    tw_transport_methods,
    tw_transport_read_methods,
    tw_transport_write_methods,
    tw_transport_hold_methods,
    tw_udp_write_methods,
    NULL,
};

/* In addition to those of all transports. */
static PyGetSetDef udp_getset[] = {
    {"_address", tw_state_get_object, udp_set_address, NULL,
     TW_AT(TwUdp, address)},
    {"_buffer_size", udp_get_buffer_size, NULL, NULL, NULL},
    {NULL},
};

PyDoc_STRVAR(udp_doc,
"A datagram endpoint: asyncio.DatagramTransport in C.\n\n"
"Made by create_datagram_endpoint() only.\n"
"See library/asyncio-protocol.");

static PyType_Slot udp_slots[] = {
    {Py_tp_doc, (void *)udp_doc},
    {Py_tp_dealloc, udp_dealloc},
    {Py_tp_finalize, tw_transport_finalize},
    {Py_tp_traverse, udp_traverse},
    {Py_tp_clear, udp_clear},
    {Py_tp_repr, tw_transport_repr},
    {Py_tp_getset, tw_transport_getset},
    {Py_tp_members, tw_transport_members},
    {0, NULL},
};

static PyType_Spec udp_spec =
    TW_TYPE_SPEC("DatagramTransport", TwUdp, udp_slots);

tw_status
tw_udp_setup(tw_state *state, PyObject *module)
{
    if (tw_transport_add_type(state, &state->udp_type, &udp_spec,
                              "DatagramTransport", true, udp_method_tables)
        < 0) {
        return -1;
    }
    return tw_state_add_getset(state->udp_type, udp_getset);
}

PyMethodDef tw_udp_loop_methods[] = {
    {"_make_datagram_transport", TW_FAST(udp_loop_make),
     METH_VARARGS | METH_KEYWORDS, NULL},
    {NULL},
};
