/* The types Handle and TimerHandle: methods, attributes, the collector. */
#include "base/compat.h"
#include "core/handle.h"
#include "core/layout.h"

/* -- methods -------------------------------------------------------------- */

PyDoc_STRVAR(cancel_doc,
"cancel($self, /)\n--\n\n"
"Cancel the callback; no effect if it was cancelled or has run.\n\n"
"See asyncio.Handle.cancel (library/asyncio-eventloop).");

static PyObject *
handle_meth_cancel(PyObject *self, PyObject *unused)
{
    tw_handle_cancel((TwHandle *)self);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(cancelled_doc,
"cancelled($self, /)\n--\n\n"
"True if the callback was cancelled.  See library/asyncio-eventloop.");

static PyObject *
handle_meth_cancelled(PyObject *self, PyObject *unused)
{
    return PyBool_FromLong(((TwHandle *)self)->flags & TW_H_CANCELLED);
}

PyDoc_STRVAR(get_context_doc,
"get_context($self, /)\n--\n\n"
"The contextvars.Context that the callback runs in.\n\n"
"See library/asyncio-eventloop.");

static PyObject *
handle_meth_get_context(PyObject *self, PyObject *unused)
{
    return Py_NewRef(((TwHandle *)self)->context);
}

static PyObject *
threadsafe_meth_cancel(PyObject *self, PyObject *unused)
{
    if (tw_handle_wait_run((TwHandle *)self) < 0) {
        return NULL;
    }
    return handle_meth_cancel(self, NULL);
}

static PyObject *
threadsafe_meth_cancelled(PyObject *self, PyObject *unused)
{
    if (tw_handle_wait_run((TwHandle *)self) < 0) {
        return NULL;
    }
    return handle_meth_cancelled(self, NULL);
}

static PyObject *
handle_meth_run(PyObject *self, PyObject *unused)
{
    return tw_none_or_error(tw_handle_run((TwHandle *)self));
}

PyDoc_STRVAR(when_doc,
"when($self, /)\n--\n\n"
"When the callback is due: seconds of loop.time(), a float.\n\n"
"See library/asyncio-eventloop.");

static PyObject *
handle_meth_when(PyObject *self, PyObject *unused)
{
    return PyFloat_FromDouble(((TwHandle *)self)->when);
}

static PyObject *
handle_get_args(PyObject *op, void *unused)
{
    TwHandle *self = (TwHandle *)op;

    if (self->callback == Py_None) {
        Py_RETURN_NONE; /* cancelled */
    }
    return tw_handle_make_args(self);
}

/* In asyncio these are slots, which a program can also delete.  Here they must
   be set: the turn calls the one and enters the other without a check. */
static int
handle_set_callback(PyObject *op, PyObject *value, void *unused)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "a handle has a callback");
        return -1;
    }
    Py_XSETREF(((TwHandle *)op)->callback, Py_NewRef(value));
    return 0;
}

static int
handle_set_context(PyObject *op, PyObject *value, void *unused)
{
    TwHandle *self = (TwHandle *)op;

    if (value == NULL || !PyContext_CheckExact(value)) {
        PyErr_SetString(PyExc_TypeError, "a handle has a Context");
        return -1;
    }
    self->flags &= ~TW_H_COPIED;
    Py_XSETREF(self->context, Py_NewRef(value));
    return 0;
}

static PyObject *
handle_get_when(PyObject *self, void *unused)
{
    return handle_meth_when(self, NULL);
}

static PyObject *
handle_get_flag(PyObject *self, void *flag)
{
    return PyBool_FromLong(((TwHandle *)self)->flags
                           & (unsigned)(uintptr_t)flag);
}

#define HANDLE_FLAG(name, flag)                                               \
    {name, handle_get_flag, NULL, NULL, (void *)(uintptr_t)(flag)}

/* -- the types ------------------------------------------------------------ */

static int
handle_traverse(PyObject *op, visitproc visit, void *arg)
{
    TwHandle *self = (TwHandle *)op;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->slot_args);
    Py_VISIT(self->callback);
    Py_VISIT(self->context);
    Py_VISIT(self->loop);
    Py_VISIT(self->repr);
    Py_VISIT(self->traceback);
    if (self->flags & TW_H_THREADSAFE) {
        Py_VISIT(self->ran);
    }
    for (int i = 0; i < self->nargs; i++) {
        Py_VISIT(self->args[i]);
    }
    return 0;
}

static int
handle_clear(PyObject *op)
{
    TwHandle *self = (TwHandle *)op;

    tw_handle_drop_call(self, NULL);
    /* A cleared handle must not run: its loop may have been cleared too. */
    self->flags |= TW_H_CANCELLED;
    Py_CLEAR(self->context);
    Py_CLEAR(self->repr);
    Py_CLEAR(self->traceback);
    return 0;
}

/* Keep the memory for another handle, or free it. */
static void
handle_recycle(TwHandle *self, TwLoop *loop)
{
    TwFreeHandles *list =
        self->flags & TW_H_TIMER                     ? &loop->free_timers
        : TW_UNLIKELY(self->flags & TW_H_THREADSAFE) ? &loop->free_threadsafe
                                                     : &loop->free_handles;

    if (list->count < loop->free_max) {
        self->slot_args = list->first;
        list->first = (PyObject *)self;
        list->count++;
    }
    else {
        PyObject_GC_Del(self);
    }
}

static void
handle_dealloc(PyObject *op)
{
    TwHandle *self = (TwHandle *)op;
    PyTypeObject *type = Py_TYPE(self);
    TwLoop *loop = self->loop;

    PyObject_GC_UnTrack(self);
    /* Handles that are arguments of each other may form a long chain. */
    Py_TRASHCAN_BEGIN(op, handle_dealloc)
    tw_clear_base_weakrefs(op, self->weakrefs);
    for (int i = 0; i < self->nargs; i++) {
        Py_XDECREF(TW_TAKE(self->args[i]));
    }
    Py_XDECREF(TW_TAKE(self->callback));
    Py_XDECREF(TW_TAKE(self->context));
    if (TW_UNLIKELY(self->slot_args || self->repr || self->traceback)) {
        Py_CLEAR(self->slot_args);
        Py_CLEAR(self->repr);
        Py_CLEAR(self->traceback);
    }
    if (TW_UNLIKELY(self->flags & TW_H_THREADSAFE)) {
        Py_CLEAR(self->ran);
    }
    self->loop = NULL;
    self->nargs = 0;
    handle_recycle(self, loop);
    Py_DECREF(type);
    Py_DECREF((PyObject *)loop);
    Py_TRASHCAN_END
}

/* Can nobody see that it is freed?  There is no other reference, no weak one,
   and none of the fields that few handles use is set. */
static bool
handle_is_alone(TwHandle *self)
{
    return Py_REFCNT(self) == 1 && !PyObject_GC_IsTracked((PyObject *)self)
           && self->slot_args == NULL && self->repr == NULL
           && self->traceback == NULL && !tw_has_weakrefs((PyObject *)self);
}

/* As handle_dealloc(), for such a handle: it is in no chain, and has no
   finalizer that could revive it. */
static void
handle_free_alone(TwHandle *self)
{
    PyTypeObject *type = Py_TYPE(self);
    TwLoop *loop = self->loop;

    tw_handle_drop_call(self, NULL);
    if (self->flags & TW_H_COPIED
        && tw_handle_reuse_context(loop, self->context)) {
        self->context = NULL;
    }
    if (!TW_REFS_ARE_PLAIN
        || TW_UNLIKELY(self->flags & TW_H_THREADSAFE && self->ran != NULL)) {
        Py_DECREF((PyObject *)self);
        return;
    }
    Py_XDECREF(TW_TAKE(self->context));
    self->loop = NULL;
    handle_recycle(self, loop);
    Py_DECREF(type);
    Py_DECREF((PyObject *)loop);
}

void
tw_handle_retire_steal(TwHandle *self, tw_status status)
{
    if (TW_LIKELY(status == 0 && handle_is_alone(self))) {
        handle_free_alone(self);
    }
    else {
        tw_handle_release_steal(self);
    }
}

static PyMethodDef handle_methods[] = {
    {"cancel", handle_meth_cancel, METH_NOARGS, cancel_doc},
    {"cancelled", handle_meth_cancelled, METH_NOARGS, cancelled_doc},
    {"get_context", handle_meth_get_context, METH_NOARGS, get_context_doc},
    {"_run", handle_meth_run, METH_NOARGS, NULL},
    {NULL},
};

static PyGetSetDef handle_getset[] = {
    {"_args", handle_get_args, NULL, NULL, NULL},
    HANDLE_FLAG("_cancelled", TW_H_CANCELLED),
    {"_callback", tw_state_get_object, handle_set_callback, NULL,
     TW_AT(TwHandle, callback)},
    {"_context", tw_state_get_object, handle_set_context, NULL,
     TW_AT(TwHandle, context)},
    {"_loop", tw_state_get_object, NULL, NULL, TW_AT(TwHandle, loop)},
    {"_repr", tw_state_get_object, NULL, NULL, TW_AT(TwHandle, repr)},
    {"_source_traceback", tw_state_get_object, NULL, NULL,
     TW_AT(TwHandle, traceback)},
    {NULL},
};

/* In addition to those of a Handle. */
static PyMethodDef timer_methods[] = {
    {"when", handle_meth_when, METH_NOARGS, when_doc},
    {NULL},
};

static PyGetSetDef timer_getset[] = {
    {"_when", handle_get_when, NULL, NULL, NULL},
    HANDLE_FLAG("_scheduled", TW_H_SCHEDULED),
    {NULL},
};

static PyMethodDef threadsafe_methods[] = {
    {"cancel", threadsafe_meth_cancel, METH_NOARGS, cancel_doc},
    {"cancelled", threadsafe_meth_cancelled, METH_NOARGS, cancelled_doc},
    {NULL},
};

PyDoc_STRVAR(handle_doc,
"A callback that waits to be run, as loop.call_soon() returns it.\n\n"
"asyncio.Handle (library/asyncio-eventloop) with its work done in C.");
PyDoc_STRVAR(timer_doc,
"A callback with a time, as loop.call_later() and call_at() return it.\n\n"
"asyncio.TimerHandle (library/asyncio-eventloop) with its work done in C.");

static PyType_Slot handle_slots[] = {
    {Py_tp_doc, (void *)handle_doc},
    {Py_tp_dealloc, handle_dealloc},
    {Py_tp_traverse, handle_traverse},
    {Py_tp_clear, handle_clear},
    {Py_tp_methods, handle_methods},
    {Py_tp_getset, handle_getset},
    {0, NULL},
};

static PyType_Slot timer_slots[] = {
    {Py_tp_doc, (void *)timer_doc},
    {Py_tp_dealloc, handle_dealloc},
    {Py_tp_traverse, handle_traverse},
    {Py_tp_clear, handle_clear},
    {Py_tp_methods, handle_methods},
    {Py_tp_getset, handle_getset},
    {0, NULL},
};

static PyType_Spec handle_spec =
    TW_TYPE_SPEC("Handle", TwHandle, handle_slots);
static PyType_Spec timer_spec =
    TW_TYPE_SPEC("TimerHandle", TwHandle, timer_slots);
static PyType_Spec threadsafe_spec =
    TW_TYPE_SPEC("ThreadSafeHandle", TwHandle, handle_slots);

/* asyncio's slots follow the object's head, in the order of their names.  The
   import of the module checks that. */
#define HANDLE_SLOT(field, n)                                                 \
    _Static_assert(offsetof(TwHandle, field)                                  \
                       == sizeof(PyObject) + (n) * sizeof(PyObject *),        \
                   #field " is not where asyncio has it")
HANDLE_SLOT(slot_args, 0);
HANDLE_SLOT(callback, 1);
HANDLE_SLOT(slot_cancelled, 2);
HANDLE_SLOT(context, 3);
HANDLE_SLOT(loop, 4);
HANDLE_SLOT(repr, 5);
HANDLE_SLOT(traceback, 6);
HANDLE_SLOT(weakrefs, 7);
HANDLE_SLOT(timer_slots, 8);
HANDLE_SLOT(when, 10);

static const TwSlotCheck handle_layout[] = {
    {"_callback", offsetof(TwHandle, callback)},
    {"_args", offsetof(TwHandle, slot_args)},
    {"_cancelled", offsetof(TwHandle, slot_cancelled)},
    {"_context", offsetof(TwHandle, context)},
    {"_loop", offsetof(TwHandle, loop)},
    {"_repr", offsetof(TwHandle, repr)},
    {"_source_traceback", offsetof(TwHandle, traceback)},
    {NULL, 0},
};

static tw_status
handle_add_type(tw_state *state, PyTypeObject **slot, PyType_Spec *spec,
                const char *base_name, size_t room)
{
    PyObject *base = tw_state_import("asyncio.events", base_name);
    tw_status status = -1;

    if (base == NULL) {
        return -1;
    }
    if (tw_layout_check((PyTypeObject *)base, handle_layout, room)
        == 0) {
        status = tw_state_add_type(state, slot, spec, base,
                                   slot != &state->threadsafe_type);
    }
    Py_DECREF(base);
    return status;
}

static tw_status
handle_add_threadsafe(tw_state *state)
{
    PyMethodDef *const tables[] = {threadsafe_methods, NULL};

    if (!TW_HANDLE_THREADSAFE) {
        state->threadsafe_type = (PyTypeObject *)Py_NewRef(state->handle_type);
        return 0;
    }
    if (handle_add_type(state, &state->threadsafe_type, &threadsafe_spec,
                        "_ThreadSafeHandle", offsetof(TwHandle, when))
        < 0) {
        return -1;
    }
    return tw_state_add_methods(state->threadsafe_type, tables);
}

tw_status
tw_handle_setup(tw_state *state, PyObject *module)
{
    PyMethodDef *const tables[] = {timer_methods, NULL};

    if (handle_add_type(state, &state->handle_type, &handle_spec, "Handle",
                        offsetof(TwHandle, timer_slots))
            < 0
        || handle_add_threadsafe(state) < 0
        || handle_add_type(state, &state->timer_type, &timer_spec,
                           "TimerHandle", offsetof(TwHandle, when))
               < 0
        || tw_state_add_methods(state->timer_type, tables) < 0) {
        return -1;
    }
    return tw_state_add_getset(state->timer_type, timer_getset);
}
