/* The private attributes of asyncio's transports that libraries read and
   write. */
#include "net/hold.h"
#include "net/transport.h"

PyObject *
tw_transport_get_flag(PyObject *op, void *flag)
{
    return PyBool_FromLong(TW_BASE(op)->flags & (unsigned)(uintptr_t)flag);
}

static int
transport_missing(void)
{
    PyErr_SetString(PyExc_AttributeError, "a transport needs this attribute");
    return -1;
}

/* As set_protocol(), for libraries that assign the attribute. */
int
tw_transport_assign_protocol(PyObject *op, PyObject *value, void *unused)
{
    TwBaseTransport *self = TW_BASE(op);

    if (value == NULL) {
        return transport_missing();
    }
    if (self->flags & TW_F_LOST || value == Py_None) {
        PyErr_SetString(PyExc_AttributeError,
                        value == Py_None ? "a transport has a protocol"
                                         : "the transport is closed");
        return -1;
    }
    tw_transport_set_protocol(self, value);
    return 0;
}

/* True: it stops reading, and close() does nothing.  A transport that is
   closing stays so. */
int
tw_transport_assign_closing(PyObject *op, PyObject *value, void *unused)
{
    TwTransport *self = (TwTransport *)op;
    int closing = value == NULL ? transport_missing()
                                : PyObject_IsTrue(value);

    if (closing < 0) {
        return -1;
    }
    if (!closing == !(self->flags & TW_F_CLOSING)) {
        return 0;
    }
    if (!closing) {
        PyErr_SetString(PyExc_AttributeError,
                        "a transport that is closing stays so");
        return -1;
    }
    self->flags |= TW_F_CLOSING;
    return tw_transport_watch(self);
}

static PyObject *
transport_get_true(PyObject *op, void *unused)
{
    Py_RETURN_TRUE;
}

static PyObject *
transport_get_sock(PyObject *op, void *unused)
{
    TwTransport *self = (TwTransport *)op;

    if (self->fd < 0) {
        Py_RETURN_NONE;
    }
    if (tw_hold_share(self) < 0) {
        return NULL;
    }
    return self->addrs ? tw_transport_socket(self)
                       : Py_NewRef(self->sock ? self->sock : Py_None);
}

static PyObject *
transport_get_sock_fd(PyObject *op, void *unused)
{
    TwTransport *self = (TwTransport *)op;

    if (tw_hold_share(self) < 0) {
        return NULL;
    }
    return PyLong_FromLong(self->fd_shown);
}

PyObject *
tw_transport_get_int(PyObject *self, void *offset)
{
    return PyLong_FromLong(*(int *)((char *)self + (size_t)offset));
}

PyObject *
tw_transport_get_slot(PyObject *op, void *slot)
{
    TwBaseTransport *self = TW_BASE(op);

    switch ((TwTransportSlot)(uintptr_t)slot) {
    case TW_SLOT_EXTRA:
        return tw_transport_whole_extra((TwTransport *)op);
    case TW_SLOT_EXTRA_KEPT:
        return tw_transport_extra(self);
    case TW_SLOT_LOOP:
        if (self->flags & TW_F_LOST) {
            Py_RETURN_NONE;
        }
        /* fall through */
    case TW_SLOT_LOOP_KEPT:
        return Py_NewRef((PyObject *)self->loop);
    case TW_SLOT_HIGH:
        return PyLong_FromSize_t(self->high);
    case TW_SLOT_LOW:
        return PyLong_FromSize_t(self->low);
    case TW_SLOT_PAUSED:
        break;
    }
    return PyBool_FromLong(self->flags & TW_F_WRITE_PAUSED);
}

/* 0, or -1 with TypeError or OverflowError. */
static int
transport_set_mark(size_t *mark, PyObject *value)
{
    size_t n = PyLong_AsSize_t(value);

    if (n == (size_t)-1 && PyErr_Occurred()) {
        return -1;
    }
    *mark = n;
    return 0;
}

static int
transport_set_paused(TwBaseTransport *self, PyObject *value)
{
    int paused = PyObject_IsTrue(value);

    if (paused < 0) {
        return -1;
    }
    self->flags = paused ? self->flags | TW_F_WRITE_PAUSED
                         : self->flags & ~TW_F_WRITE_PAUSED;
    return 0;
}

/* Values with which asyncio would fail are refused here. */
int
tw_transport_set_slot(PyObject *op, PyObject *value, void *slot)
{
    TwBaseTransport *self = TW_BASE(op);
    TwTransportSlot which = (TwTransportSlot)(uintptr_t)slot;
    bool extra = which == TW_SLOT_EXTRA || which == TW_SLOT_EXTRA_KEPT;

    if (extra && value != NULL && PyDict_Check(value)) {
        Py_XSETREF(self->extra, Py_NewRef(value));
        return 0;
    }
    if (which == TW_SLOT_HIGH && value != NULL) {
        return transport_set_mark(&self->high, value);
    }
    if (which == TW_SLOT_LOW && value != NULL) {
        return transport_set_mark(&self->low, value);
    }
    if (which == TW_SLOT_PAUSED && value != NULL) {
        return transport_set_paused(self, value);
    }
    if (value == (PyObject *)self->loop) {
        return 0;
    }
    PyErr_SetString(PyExc_AttributeError,
                    value == NULL ? "a transport needs this attribute"
                    : extra       ? "_extra of a transport is a dict"
                                  : "a transport cannot change its loop");
    return -1;
}

PyGetSetDef tw_transport_getset[] = {
    TW_FLOW_SLOTS(TW_SLOT_EXTRA, TW_SLOT_LOOP),
    TW_TRANSPORT_PROTOCOL_ATTR,
    TW_TRANSPORT_CLOSING_ATTR,
    TW_TRANSPORT_FLAG_ATTR("_paused", TW_F_READ_PAUSED),
    {"_protocol_connected", transport_get_true, NULL, NULL, NULL},
    {"_server", tw_state_get_object, NULL, NULL, TW_AT(TwTransport, server)},
    {"_sock", transport_get_sock, NULL, NULL, NULL},
    {"_sock_fd", transport_get_sock_fd, NULL, NULL, NULL},
    {"_conn_lost", tw_transport_get_int, NULL, NULL,
     TW_AT(TwTransport, conn_lost)},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL,
     NULL},
    {NULL},
};
