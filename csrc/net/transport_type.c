/* What the types of transports share: their slots for the collector, their
   end, repr(), and how a type is made. */
#include "base/compat.h"
#include "core/layout.h"
#include "net/transport.h"

/* -- the collector -------------------------------------------------------- */

int
tw_transport_traverse(TwTransport *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->extra);
    Py_VISIT(self->loop);
    Py_VISIT(self->dict);
    Py_VISIT(self->protocol);
    Py_VISIT(self->context);
    Py_VISIT(self->server);
    Py_VISIT(self->sock);
    Py_VISIT(self->waiter);
    Py_VISIT(self->lost_exc);
    return 0;
}

int
tw_transport_clear(TwTransport *self)
{
    Py_CLEAR(self->extra);
    Py_CLEAR(self->dict);
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->context);
    Py_CLEAR(self->server);
    Py_CLEAR(self->waiter);
    Py_CLEAR(self->lost_exc);
    return 0;
}

/* The finalizer may have revived it: then nothing more is to be done. */
bool
tw_transport_dealloc_begin(PyObject *op)
{
    TwTransport *self = (TwTransport *)op;

    /* allow: the finalizer is ours */
    if (PyObject_CallFinalizerFromDealloc(op) < 0) {
        return false;
    }
    PyObject_GC_UnTrack(op);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    if (self->fd >= 0) {
        tw_transport_release(self);
    }
    return true;
}

void
tw_transport_dealloc_end(PyObject *op)
{
    TwTransport *self = (TwTransport *)op;
    PyTypeObject *type = Py_TYPE(op);

    Py_CLEAR(self->sock);
    PyMem_Free(self->addrs);
    Py_CLEAR(self->loop);
    type->tp_free(op);
    Py_DECREF(type);
}

PyObject *
tw_transport_repr(PyObject *op)
{
    TwTransport *self = (TwTransport *)op;
    unsigned want = self->watcher ? self->watcher->want : 0;
    const char *name = Py_TYPE(op)->tp_name + sizeof("tidewire._core.") - 1;
    const char *life = self->flags & TW_F_LOST      ? "closed "
                       : self->flags & TW_F_CLOSING ? "closing "
                                                    : "";

    if (self->fd < 0) {
        return PyUnicode_FromFormat("<%s %sfd=%d>", name, life,
                                    self->fd_shown);
    }
    return PyUnicode_FromFormat(
        "<%s %sfd=%d read=%s write=<%s, bufsize=%zu>>",
        name, life, self->fd,
        want & TW_EV_READ ? "polling" : "idle",
        want & TW_EV_WRITE ? "polling" : "idle",
        self->flags & TW_F_HELD ? 0 : self->ops->buffer_size(self));
}

/* -- types ---------------------------------------------------------------- */

PyMemberDef tw_transport_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(TwTransport, dict), READONLY,
     NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(TwTransport, weakrefs),
     READONLY, NULL},
    {NULL},
};

TW_CHECK_STEPPER(TwTransport);

static const TwSlotCheck flow_layout[] = {
    {"_extra", offsetof(TwTransport, extra)},
    {"_high_water", offsetof(TwTransport, slot_high)},
    {"_loop", offsetof(TwTransport, loop)},
    {"_low_water", offsetof(TwTransport, slot_low)},
    {"_protocol_paused", offsetof(TwTransport, slot_paused)},
    {NULL, 0},
};

static const TwSlotCheck plain_layout[] = {
    {"_extra", offsetof(TwTransport, extra)},
    {NULL, 0},
};

/* (_FlowControlMixin, asyncio.transports.<name>), or without the mixin: a new
   tuple; checks that the slots lie where our struct has them. */
static PyObject *
transport_bases(const char *name, bool flow_control)
{
    PyObject *mixin = NULL, *base, *bases = NULL;

    base = tw_state_import("asyncio.transports", name);
    if (base == NULL) {
        return NULL;
    }
    if (!flow_control) {
        if (tw_layout_check((PyTypeObject *)base, plain_layout,
                                  offsetof(TwTransport, ops))
            == 0) {
            bases = PyTuple_Pack(1, base);
        }
        Py_DECREF(base);
        return bases;
    }
    mixin = tw_state_import("asyncio.transports", "_FlowControlMixin");
    if (mixin != NULL
        && tw_layout_check((PyTypeObject *)mixin, flow_layout,
                                 offsetof(TwTransport, ops))
               == 0) {
        bases = PyTuple_Pack(2, mixin, base);
    }
    Py_XDECREF(mixin);
    Py_DECREF(base);
    return bases;
}

tw_status
tw_transport_add_type(tw_state *state, PyTypeObject **slot, PyType_Spec *spec,
                      const char *base, bool flow_control)
{
    PyObject *bases = transport_bases(base, flow_control);
    tw_status status;

    if (bases == NULL) {
        return -1;
    }
    status = tw_state_add_type(state, slot, spec, bases, true);
    Py_DECREF(bases);
    return status;
}

tw_status
tw_transport_add_marks(PyTypeObject *type, const char *sendfile_mode)
{
    PyObject *modes = tw_state_import("asyncio.constants", "_SendfileMode");
    PyObject *mode =
        modes ? PyObject_GetAttrString(modes, sendfile_mode) /* allow */
              : NULL;
    tw_status status = -1;

    /* allow: attributes of our own type */
    if (mode != NULL
        && PyObject_SetAttrString((PyObject *)type, "_sendfile_compatible",
                                  mode)
               == 0) {
        /* allow: the same */
        status = PyObject_SetAttrString((PyObject *)type,
                                        "_start_tls_compatible", Py_True);
    }
    Py_XDECREF(mode);
    Py_XDECREF(modes);
    return status;
}
