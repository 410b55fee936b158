#include "core/handle.h"

#include "base/compat.h"
#include "core/call.h"

#define HANDLE_FREE_MAX 1024

/* -- making --------------------------------------------------------------- */

/* An empty handle of the type: from the free list, or new; untracked. */
static TwHandle *
handle_alloc(PyTypeObject *type, PyObject **free_list, int *free_count)
{
    TwHandle *self = (TwHandle *)*free_list;

    if (self == NULL) {
        self = PyObject_GC_New(TwHandle, type);
        if (self != NULL) {
            memset((char *)self + sizeof(PyObject), 0,
                   sizeof(*self) - sizeof(PyObject));
        }
        return self;
    }
    *free_list = self->slot_args;
    --*free_count;
    self->slot_args = NULL;
    return (TwHandle *)PyObject_Init((PyObject *)self, type);
}

static tw_status
handle_set_args(TwHandle *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs <= TW_HANDLE_INLINE) {
        for (Py_ssize_t i = 0; i < nargs; i++) {
            self->room[1 + i] = Py_NewRef(args[i]);
        }
        self->nargs = (int)nargs;
        return 0;
    }
    self->nargs = -1;
    self->slot_args = PyTuple_New(nargs);
    if (self->slot_args == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        PyTuple_SET_ITEM(self->slot_args, i, Py_NewRef(args[i]));
    }
    return 0;
}

static tw_status
handle_init(TwHandle *self, TwLoop *loop, PyObject *callback,
            PyObject *const *args, Py_ssize_t nargs, PyObject *context)
{
    self->flags = 0;
    self->callback = Py_NewRef(callback);
    self->loop = (TwLoop *)Py_NewRef((PyObject *)loop);
    self->context = context != NULL && context != Py_None
                        ? Py_NewRef(context)
                        : PyContext_CopyCurrent();
    if (self->context == NULL || handle_set_args(self, args, nargs) < 0) {
        return -1;
    }
    if (TW_UNLIKELY(loop->debug)) {
        self->traceback = tw_seam_call(loop->state, "extract_stack", NULL, 0);
        return self->traceback == NULL ? -1 : 0;
    }
    return 0;
}

TwHandle *
tw_handle_new(TwLoop *loop, PyObject *callback, PyObject *const *args,
              Py_ssize_t nargs, PyObject *context)
{
    tw_state *state = loop->state;
    TwHandle *self = handle_alloc(state->handle_type, &state->handle_free,
                                  &state->handle_free_count);

    if (self == NULL) {
        return NULL;
    }
    tw_status status =
        handle_init(self, loop, callback, args, nargs, context);
    PyObject_GC_Track(self);
    if (status < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return self;
}

TwHandle *
tw_handle_new_timer(TwLoop *loop, double when, PyObject *callback,
                    PyObject *const *args, Py_ssize_t nargs,
                    PyObject *context)
{
    tw_state *state = loop->state;
    TwHandle *self = handle_alloc(state->timer_type, &state->timer_free,
                                  &state->timer_free_count);

    if (self == NULL) {
        return NULL;
    }
    tw_status status =
        handle_init(self, loop, callback, args, nargs, context);
    self->flags = TW_H_TIMER;
    self->when = when;
    PyObject_GC_Track(self);
    if (status < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return self;
}

/* -- cancel --------------------------------------------------------------- */

/* Let go of the callback and its arguments: may run Python (finalizers), so
   the fields are empty first. */
static void
handle_drop_call(TwHandle *self, PyObject *instead)
{
    PyObject *callback = self->callback;
    PyObject *tuple = TW_TAKE(self->slot_args);
    PyObject *args[TW_HANDLE_INLINE];
    int n = self->nargs > 0 ? self->nargs : 0;

    for (int i = 0; i < n; i++) {
        args[i] = TW_TAKE(self->room[1 + i]);
    }
    self->nargs = 0;
    self->callback = Py_XNewRef(instead);
    Py_XDECREF(callback);
    Py_XDECREF(tuple);
    for (int i = 0; i < n; i++) {
        Py_XDECREF(args[i]);
    }
}

void
tw_handle_cancel(TwHandle *self)
{
    TwLoop *loop = self->loop;

    if (self->flags & TW_H_CANCELLED) {
        return;
    }
    self->flags |= TW_H_CANCELLED;
    if (TW_UNLIKELY(loop->debug)) {
        /* Its text with the callback, for log lines after this. */
        PyObject *repr = PyObject_Repr((PyObject *)self);
        if (repr == NULL) {
            PyErr_Clear();
        }
        else {
            Py_XSETREF(self->repr, repr);
        }
    }
    if (self->flags & TW_H_SCHEDULED) {
        if (tw_heap_take_last(&loop->timers, self)) {
            self->flags &= ~TW_H_SCHEDULED;
            Py_DECREF(self); /* the heap's; the caller holds another */
        }
        else {
            loop->timers_cancelled++;
        }
    }
    handle_drop_call(self, Py_None);
}

/* -- run ------------------------------------------------------------------ */

/* The callback raised: what asyncio's Handle._run does about it. */
static tw_status
handle_report(TwHandle *self, PyObject *callback, PyObject *args)
{
    PyObject *exc, *result;

    if (tw_call_must_leave()) {
        return -1;
    }
    exc = tw_err_take();
    PyObject *argv[] = {(PyObject *)self, callback, args, exc};
    tw_call_begin(self->loop);
    result = tw_seam_call(self->loop->state, "report_handle", argv, 4);
    tw_call_end(self->loop);
    Py_DECREF(exc);
    if (result == NULL) {
        if (tw_call_must_leave()) {
            return -1;
        }
        PyErr_WriteUnraisable((PyObject *)self);
        return 0;
    }
    Py_DECREF(result);
    return 0;
}

static PyObject *
handle_make_args(TwHandle *self)
{
    PyObject *tuple;

    if (self->slot_args != NULL) {
        return Py_NewRef(self->slot_args);
    }
    tuple = PyTuple_New(self->nargs);
    for (int i = 0; tuple != NULL && i < self->nargs; i++) {
        PyTuple_SET_ITEM(tuple, i, Py_NewRef(self->room[1 + i]));
    }
    return tuple;
}

/* The arguments are kept as a tuple by the caller: nothing of self is
   trusted during the call (the callback may cancel it). */
static tw_status
handle_run_tuple(TwHandle *self)
{
    PyObject *callback = Py_NewRef(self->callback);
    PyObject *args = handle_make_args(self);
    PyObject *result = NULL, *entered = NULL;
    tw_status status = 0;

    if (args != NULL && PyContext_Enter(self->context) == 0) {
        entered = Py_NewRef(self->context);
    }
    if (entered != NULL) {
        tw_call_begin(self->loop);
        result = PyObject_Call(callback, args, NULL); /* allow: as tw_call */
        tw_call_leave(entered);
        tw_call_end(self->loop);
    }
    if (result == NULL) {
        status = handle_report(self, callback, args ? args : Py_None);
    }
    Py_XDECREF(result);
    Py_XDECREF(args);
    Py_DECREF(callback);
    return status;
}

/* Debug mode: the loop knows the handle, and slow ones are told. */
static tw_status
handle_run_debug(TwHandle *self)
{
    TwLoop *loop = self->loop;
    double start = tw_loop_time(loop), end;
    tw_status status;

    if (start == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    Py_XSETREF(loop->current_handle, Py_NewRef((PyObject *)self));
    status = handle_run_tuple(self);
    Py_CLEAR(loop->current_handle);
    if (status < 0) {
        return -1;
    }
    end = tw_loop_time(loop);
    PyObject *seconds = PyFloat_FromDouble(end - start);
    PyObject *argv[] = {(PyObject *)loop, (PyObject *)self, seconds};
    PyObject *result =
        seconds ? tw_seam_call(loop->state, "note_duration", argv, 3) : NULL;
    Py_XDECREF(seconds);
    if (result == NULL) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    Py_XDECREF(result);
    return 0;
}

/* handle_report() for arguments that are in an array. */
static tw_status
handle_report_array(TwHandle *self, PyObject *callback, PyObject **argv,
                    int n)
{
    PyObject *exc = tw_err_take(), *args = PyTuple_New(n);
    tw_status status;

    for (int i = 0; args != NULL && i < n; i++) {
        PyTuple_SET_ITEM(args, i, Py_NewRef(argv[i]));
    }
    tw_err_restore_steal(exc);
    status = handle_report(self, callback, args ? args : Py_None);
    Py_XDECREF(args);
    return status;
}

tw_status
tw_handle_run(TwHandle *self)
{
    /* Pinned here, as the callback may cancel us; [0] is for the call. */
    PyObject *argv[1 + TW_HANDLE_INLINE], *callback, *result;
    int n = self->nargs;
    tw_status status = 0;

    if (self->flags & TW_H_CANCELLED) {
        return 0;
    }
    if (TW_UNLIKELY(self->loop->debug)) {
        return handle_run_debug(self);
    }
    if (TW_UNLIKELY(n < 0)) {
        return handle_run_tuple(self);
    }
    for (int i = 1; i <= n; i++) {
        argv[i] = Py_NewRef(self->room[i]);
    }
    callback = Py_NewRef(self->callback);
    result = tw_call_handle(self->loop, self->context, callback, argv + 1,
                            (size_t)n);
    if (TW_LIKELY(result != NULL)) {
        Py_DECREF(result);
    }
    else {
        status = handle_report_array(self, callback, argv + 1, n);
    }
    for (int i = 1; i <= n; i++) {
        Py_DECREF(argv[i]);
    }
    Py_DECREF(callback);
    return status;
}

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
"True if the callback was cancelled.");

static PyObject *
handle_meth_cancelled(PyObject *self, PyObject *unused)
{
    return PyBool_FromLong(((TwHandle *)self)->flags & TW_H_CANCELLED);
}

PyDoc_STRVAR(get_context_doc,
"get_context($self, /)\n--\n\n"
"The contextvars.Context that the callback runs in.");

static PyObject *
handle_meth_get_context(PyObject *self, PyObject *unused)
{
    return Py_NewRef(((TwHandle *)self)->context);
}

static PyObject *
handle_meth_run(PyObject *self, PyObject *unused)
{
    if (tw_handle_run((TwHandle *)self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(when_doc,
"when($self, /)\n--\n\n"
"When the callback is due: seconds of loop.time(), a float.");

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
    return handle_make_args(self);
}

/* asyncio reads these two: None while there is nothing. */
static PyObject *
handle_get_or_none(PyObject *self, void *offset)
{
    PyObject *value = *(PyObject **)((char *)self + (size_t)offset);

    return Py_NewRef(value ? value : Py_None);
}

static PyObject *
handle_get_cancelled(PyObject *self, void *unused)
{
    return handle_meth_cancelled(self, NULL);
}

static PyObject *
handle_get_when(PyObject *self, void *unused)
{
    return handle_meth_when(self, NULL);
}

static PyObject *
handle_get_scheduled(PyObject *self, void *unused)
{
    return PyBool_FromLong(((TwHandle *)self)->flags & TW_H_SCHEDULED);
}

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
    for (int i = 0; i < self->nargs; i++) {
        Py_VISIT(self->room[1 + i]);
    }
    return 0;
}

static int
handle_clear(PyObject *op)
{
    TwHandle *self = (TwHandle *)op;

    handle_drop_call(self, NULL);
    /* A cleared handle must not run: its loop may be garbage too. */
    self->flags |= TW_H_CANCELLED;
    Py_CLEAR(self->context);
    Py_CLEAR(self->repr);
    Py_CLEAR(self->traceback);
    return 0;
}

static void
handle_dealloc(PyObject *op)
{
    TwHandle *self = (TwHandle *)op;
    PyTypeObject *type = Py_TYPE(self);
    TwLoop *loop = self->loop;
    tw_state *state;
    PyObject **list;
    int *count;

    PyObject_GC_UnTrack(self);
    tw_clear_base_weakrefs(op, self->weakrefs);
    for (int i = 0; i < self->nargs; i++) {
        Py_XDECREF(TW_TAKE(self->room[1 + i]));
    }
    Py_XDECREF(TW_TAKE(self->callback));
    Py_XDECREF(TW_TAKE(self->context));
    if (TW_UNLIKELY(self->slot_args || self->repr || self->traceback)) {
        Py_CLEAR(self->slot_args);
        Py_CLEAR(self->repr);
        Py_CLEAR(self->traceback);
    }
    self->loop = NULL;
    self->nargs = 0;
    if (TW_UNLIKELY(loop == NULL)) {
        PyObject_GC_Del(self); /* making it failed */
        Py_DECREF(type);
        return;
    }
    state = loop->state;
    list = self->flags & TW_H_TIMER ? &state->timer_free
                                    : &state->handle_free;
    count = self->flags & TW_H_TIMER ? &state->timer_free_count
                                     : &state->handle_free_count;
    if (*count < HANDLE_FREE_MAX) {
        self->slot_args = *list;
        *list = op;
        ++*count;
    }
    else {
        PyObject_GC_Del(self);
    }
    Py_DECREF(type);
    Py_DECREF((PyObject *)loop);
}

static PyMethodDef handle_methods[] = {
    {"cancel", handle_meth_cancel, METH_NOARGS, cancel_doc},
    {"cancelled", handle_meth_cancelled, METH_NOARGS, cancelled_doc},
    {"get_context", handle_meth_get_context, METH_NOARGS, get_context_doc},
    {"_run", handle_meth_run, METH_NOARGS, NULL},
    {NULL},
};

static PyMethodDef timer_methods[] = {
    {"cancel", handle_meth_cancel, METH_NOARGS, cancel_doc},
    {"cancelled", handle_meth_cancelled, METH_NOARGS, cancelled_doc},
    {"get_context", handle_meth_get_context, METH_NOARGS, get_context_doc},
    {"when", handle_meth_when, METH_NOARGS, when_doc},
    {"_run", handle_meth_run, METH_NOARGS, NULL},
    {NULL},
};

#define HANDLE_GETSET                                                         \
    {"_args", handle_get_args, NULL, NULL, NULL},                             \
        {"_cancelled", handle_get_cancelled, NULL, NULL, NULL},               \
        {"_repr", handle_get_or_none, NULL, NULL,                             \
         (void *)offsetof(TwHandle, repr)},                                   \
    {                                                                         \
        "_source_traceback", handle_get_or_none, NULL, NULL,                  \
            (void *)offsetof(TwHandle, traceback)                             \
    }

static PyGetSetDef handle_getset[] = {
    HANDLE_GETSET,
    {NULL},
};

static PyGetSetDef timer_getset[] = {
    HANDLE_GETSET,
    {"_when", handle_get_when, NULL, NULL, NULL},
    {"_scheduled", handle_get_scheduled, NULL, NULL, NULL},
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
    {Py_tp_methods, timer_methods},
    {Py_tp_getset, timer_getset},
    {0, NULL},
};

#define HANDLE_FLAGS                                                          \
    (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC                                  \
     | Py_TPFLAGS_DISALLOW_INSTANTIATION)

static PyType_Spec handle_spec = {
    .name = "tidewire._core.Handle",
    .basicsize = sizeof(TwHandle),
    .flags = HANDLE_FLAGS,
    .slots = handle_slots,
};

static PyType_Spec timer_spec = {
    .name = "tidewire._core.TimerHandle",
    .basicsize = sizeof(TwHandle),
    .flags = HANDLE_FLAGS,
    .slots = timer_slots,
};

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
    if (tw_state_check_layout((PyTypeObject *)base, handle_layout, room)
        == 0) {
        status = tw_state_add_type(state, slot, spec, base, 1);
    }
    Py_DECREF(base);
    return status;
}

tw_status
tw_handle_setup(tw_state *state, PyObject *module)
{
    if (handle_add_type(state, &state->handle_type, &handle_spec, "Handle",
                        offsetof(TwHandle, timer_slots))
        < 0) {
        return -1;
    }
    return handle_add_type(state, &state->timer_type, &timer_spec,
                           "TimerHandle", offsetof(TwHandle, when));
}
