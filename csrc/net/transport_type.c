/* What the types of transports share: traverse and clear, deallocation,
   repr(), and how a type is made. */
#include "base/compat.h"
#include "core/layout.h"
#include "net/transport.h"

/* -- the collector -------------------------------------------------------- */

int
tw_transport_base_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(TW_BASE(op)->dict);
    return tw_stepper_traverse(op, visit, arg);
}

int
tw_transport_base_clear(PyObject *op)
{
    Py_CLEAR(TW_BASE(op)->dict);
    return tw_stepper_clear(op);
}

int
tw_transport_traverse(PyObject *op, visitproc visit, void *arg)
{
    TwTransport *self = (TwTransport *)op;

    Py_VISIT(self->server);
    Py_VISIT(self->sock);
    Py_VISIT(self->lost_exc);
    return tw_transport_base_traverse(op, visit, arg);
}

int
tw_transport_clear(PyObject *op)
{
    TwTransport *self = (TwTransport *)op;

    Py_CLEAR(self->server);
    Py_CLEAR(self->lost_exc);
    return tw_transport_base_clear(op);
}

bool
tw_transport_base_dealloc_begin(PyObject *op)
{
    /* allow: the finalizer is ours */
    if (PyObject_CallFinalizerFromDealloc(op) < 0) {
        return false;
    }
    PyObject_GC_UnTrack(op);
    if (TW_BASE(op)->weakrefs != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    return true;
}

bool
tw_transport_dealloc_begin(PyObject *op)
{
    if (!tw_transport_base_dealloc_begin(op)) {
        return false;
    }
    tw_transport_release((TwTransport *)op);
    Py_TYPE(op)->tp_clear(op);
    return true;
}

void
tw_transport_dealloc_end(PyObject *op)
{
    TwTransport *self = (TwTransport *)op;

    Py_CLEAR(self->sock);
    PyMem_Free(self->addrs);
    tw_stepper_free(op);
}

PyObject *
tw_transport_repr(PyObject *op)
{
    TwTransport *self = (TwTransport *)op;
    unsigned want = self->watcher ? self->watcher->want : 0;
    const char *name = TW_TYPE_NAME(op);
    const char *life = self->flags & TW_F_LOST      ? "closed "
                       : self->flags & TW_F_CLOSING ? "closing "
                                                    : "";

    if (self->fd < 0 || self->loop->closed) {
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
    {"__dictoffset__", T_PYSSIZET, offsetof(TwBaseTransport, dict), READONLY,
     NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(TwBaseTransport, weakrefs),
     READONLY, NULL},
    {NULL},
};

static const TwSlotCheck flow_layout[] = {
    {"_extra", offsetof(TwBaseTransport, extra)},
    {"_high_water", offsetof(TwBaseTransport, waiter)},
    {"_loop", offsetof(TwBaseTransport, loop)},
    {"_low_water", offsetof(TwBaseTransport, context)},
    {"_protocol_paused", offsetof(TwBaseTransport, protocol)},
    {NULL, 0},
};

static const TwSlotCheck plain_layout[] = {
    {"_extra", offsetof(TwBaseTransport, extra)},
    {NULL, 0},
};

/* (_FlowControlMixin, asyncio.transports.<name>), or without the mixin: a new
   tuple; checks that the slots lie where our struct has them. */
static PyObject *
transport_bases(const char *name, bool flow_control)
{
    PyObject *base = tw_state_import("asyncio.transports", name);
    PyObject *first = flow_control ? tw_state_import("asyncio.transports",
                                                     "_FlowControlMixin")
                                   : Py_XNewRef(base);
    PyObject *bases = NULL;

    if (base != NULL && first != NULL
        && tw_layout_check((PyTypeObject *)first,
                           flow_control ? flow_layout : plain_layout,
                           offsetof(TwBaseTransport, ops))
               == 0) {
        bases = PyTuple_Pack(flow_control ? 2 : 1, first, base);
    }
    Py_XDECREF(first);
    Py_XDECREF(base);
    return bases;
}

tw_status
tw_transport_add_type(tw_state *state, PyTypeObject **slot, PyType_Spec *spec,
                      const char *base, bool flow_control,
                      PyMethodDef *const *tables)
{
    PyObject *bases = transport_bases(base, flow_control);
    tw_status status;

    if (bases == NULL) {
        return -1;
    }
    status = tw_state_add_type(state, slot, spec, bases, true);
    Py_DECREF(bases);
    return status < 0 ? -1 : tw_state_add_methods(*slot, tables);
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
