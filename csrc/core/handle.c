#include "core/handle.h"

#include "base/compat.h"
#include "core/call.h"
#include "core/debug.h"

/* -- new ------------------------------------------------------------------ */

#define HANDLE_FREE_MAX 1024

/* An empty handle, from the free list or new; untracked. */
static TwHandle *
handle_alloc(TwFreeHandles *list)
{
    TwHandle *self = (TwHandle *)list->first;

    if (self == NULL) {
        self = PyObject_GC_New(TwHandle, list->type);
        if (self != NULL) {
            memset((char *)self + sizeof(PyObject), 0,
                   sizeof(*self) - sizeof(PyObject));
        }
        return self;
    }
    list->first = self->slot_args;
    list->count--;
    self->slot_args = NULL;
    return (TwHandle *)tw_object_revive((PyObject *)self, list->type);
}

static void
handle_init_list(TwFreeHandles *list, PyTypeObject *type)
{
    list->type = (PyTypeObject *)Py_NewRef((PyObject *)type);
}

tw_status
tw_handle_init_free(TwLoop *loop)
{
    handle_init_list(&loop->free_handles, loop->state->handle_type);
    handle_init_list(&loop->free_timers, loop->state->timer_type);
    handle_init_list(&loop->free_threadsafe, loop->state->threadsafe_type);
    loop->free_contexts =
        PyMem_RawMalloc(HANDLE_FREE_MAX * sizeof(PyObject *));
    if (loop->free_contexts == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    loop->free_max = HANDLE_FREE_MAX;
    return 0;
}

/* The list keeps its reference to the type: handles can still be made. */
static void
handle_clear_list(TwFreeHandles *list)
{
    while (list->first != NULL) {
        TwHandle *handle = (TwHandle *)list->first;
        list->first = handle->slot_args;
        PyObject_GC_Del(handle);
    }
    list->count = 0;
}

void
tw_handle_clear_free(TwLoop *loop)
{
    loop->free_max = 0;
    handle_clear_list(&loop->free_handles);
    handle_clear_list(&loop->free_timers);
    handle_clear_list(&loop->free_threadsafe);
    while (loop->free_context_count > 0) {
        Py_DECREF(loop->free_contexts[--loop->free_context_count]);
    }
    PyMem_RawFree(TW_TAKE(loop->free_contexts));
}

/* -- contexts -------------------------------------------------------------

   Most programs set few context variables, but each call_soon() copies the
   context.  An empty copy to which nobody else refers is the same as a new
   one, so it is used again. */

/* As contextvars.copy_context(). */
static PyObject *
handle_copy_context(TwLoop *loop)
{
    PyObject *current;

    if (TW_UNLIKELY(loop->free_context_count == 0)) {
        return PyContext_CopyCurrent();
    }
    current = tw_context_current();
    if (TW_LIKELY(current == NULL || tw_context_size(current) == 0)) {
        return loop->free_contexts[--loop->free_context_count];
    }
    return PyContext_CopyCurrent();
}

bool
tw_handle_reuse_context(TwLoop *loop, PyObject *context)
{
    /* This is a slot of asyncio's class: the program can assign anything to
       it. */
    if (context != NULL && PyContext_CheckExact(context)
        && Py_REFCNT(context) == 1
        && loop->free_context_count < loop->free_max
        && tw_context_size(context) == 0 && !tw_has_weakrefs(context)) {
        loop->free_contexts[loop->free_context_count++] = context;
        return true;
    }
    return false;
}

/* The arguments as a new tuple. */
static PyObject *
handle_tuple(PyObject *const *args, Py_ssize_t n)
{
    PyObject *tuple = PyTuple_New(n);

    for (Py_ssize_t i = 0; tuple != NULL && i < n; i++) {
        PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i]));
    }
    return tuple;
}

static tw_status
handle_set_args(TwHandle *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs <= TW_HANDLE_INLINE) {
        for (Py_ssize_t i = 0; i < nargs; i++) {
            self->args[i] = Py_NewRef(args[i]);
        }
        self->nargs = (int)nargs;
        return 0;
    }
    self->nargs = -1;
    self->slot_args = handle_tuple(args, nargs);
    return self->slot_args == NULL ? -1 : 0;
}

static tw_status
handle_init(TwHandle *self, TwLoop *loop, PyObject *callback,
            PyObject *const *args, Py_ssize_t nargs, PyObject *context)
{
    self->callback = Py_NewRef(callback);
    self->loop = (TwLoop *)Py_NewRef((PyObject *)loop);
    if (context != NULL && context != Py_None) {
        self->context = Py_NewRef(context);
    }
    else {
        self->context = handle_copy_context(loop);
        self->flags |= TW_H_COPIED;
    }
    if (self->context == NULL || handle_set_args(self, args, nargs) < 0) {
        return -1;
    }
    if (TW_UNLIKELY(loop->debug)) {
        self->traceback = tw_seam_call(loop->state, "extract_stack", NULL, 0);
        return self->traceback == NULL ? -1 : 0;
    }
    return 0;
}

/* A running loop is alive, and so is everything that it holds: the collector
   need not visit the handles in its queues.  See tw_handle_release_steal(). */
static TwHandle *
handle_finish(TwHandle *self, tw_status status)
{
    if (TW_UNLIKELY(status < 0)) {
        Py_DECREF(self);
        return NULL;
    }
    if (TW_UNLIKELY(!self->loop->running)) {
        PyObject_GC_Track(self);
    }
    return self;
}

/* `when`: of a timer; of another 0, and `ran`, in the same place, is NULL. */
static inline TwHandle *
handle_make(TwLoop *loop, TwFreeHandles *list, unsigned flags, double when,
            PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
            PyObject *context)
{
    TwHandle *self = handle_alloc(list);

    if (TW_UNLIKELY(self == NULL)) {
        return NULL;
    }
    self->flags = flags;
    self->when = when;
    return handle_finish(
        self, handle_init(self, loop, callback, args, nargs, context));
}

TwHandle *
tw_handle_new(TwLoop *loop, PyObject *callback, PyObject *const *args,
              Py_ssize_t nargs, PyObject *context)
{
    return handle_make(loop, &loop->free_handles, 0, 0, callback, args, nargs,
                       context);
}

TwHandle *
tw_handle_new_timer(TwLoop *loop, double when, PyObject *callback,
                    PyObject *const *args, Py_ssize_t nargs,
                    PyObject *context)
{
    return handle_make(loop, &loop->free_timers, TW_H_TIMER, when, callback,
                       args, nargs, context);
}

TwHandle *
tw_handle_new_threadsafe(TwLoop *loop, PyObject *callback,
                         PyObject *const *args, Py_ssize_t nargs,
                         PyObject *context)
{
    return TW_HANDLE_THREADSAFE
               ? handle_make(loop, &loop->free_threadsafe, TW_H_THREADSAFE, 0,
                             callback, args, nargs, context)
               : tw_handle_new(loop, callback, args, nargs, context);
}

/* -- cancel --------------------------------------------------------------- */

void
tw_handle_drop_call(TwHandle *self, PyObject *instead)
{
    PyObject *callback = self->callback;
    PyObject *tuple = TW_TAKE(self->slot_args);
    PyObject *args[TW_HANDLE_INLINE];
    int n = self->nargs > 0 ? self->nargs : 0;

    for (int i = 0; i < n; i++) {
        args[i] = TW_TAKE(self->args[i]);
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
        /* Keep its repr() with the callback, for later log lines. */
        PyObject *repr = PyObject_Repr((PyObject *)self);
        if (repr == NULL) {
            tw_call_ignore_error();
        }
        else {
            Py_XSETREF(self->repr, repr);
        }
    }
    if (self->flags & TW_H_SCHEDULED) {
        loop->stats.timers_cancelled++;
        if (tw_heap_take_last(&loop->timers, self)) {
            self->flags &= ~TW_H_SCHEDULED;
            tw_handle_release_steal(self); /* the caller has another */
        }
        else {
            loop->timers_cancelled++;
        }
    }
    tw_handle_drop_call(self, Py_None);
}

/* -- run ------------------------------------------------------------------ */

/* The callback raised: report it as asyncio's Handle._run() does. */
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
    return tw_call_reported_steal(result, (PyObject *)self);
}

PyObject *
tw_handle_make_args(TwHandle *self)
{
    PyObject *tuple, *args[TW_HANDLE_INLINE] = {NULL};
    int n = self->nargs;

    if (self->slot_args != NULL) {
        return Py_NewRef(self->slot_args);
    }
    /* The collector may run, and a finalizer may cancel this handle. */
    for (int i = 0; i < n; i++) {
        args[i] = Py_NewRef(self->args[i]);
    }
    tuple = handle_tuple(args, n);
    for (int i = 0; i < n; i++) {
        Py_DECREF(args[i]);
    }
    return tuple;
}

/* The caller owns the arguments, a tuple: the callback may cancel the handle,
   which clears the handle's fields. */
static tw_status
handle_run_tuple(TwHandle *self)
{
    PyObject *callback = Py_NewRef(self->callback);
    PyObject *args = tw_handle_make_args(self);
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

/* Debug mode: set the loop's current handle, and warn if it was slow.
   Exceptions of that warning leave run_forever(), as in asyncio. */
static tw_status
handle_run_debug(TwHandle *self)
{
    TwLoop *loop = self->loop;
    PyObject *argv[] = {(PyObject *)self};
    double start;
    tw_status status;

    if (tw_debug_begin(loop, &start) < 0) {
        return -1;
    }
    Py_XSETREF(loop->current_handle, Py_NewRef((PyObject *)self));
    status = handle_run_tuple(self);
    Py_CLEAR(loop->current_handle);
    return status < 0 ? -1
                      : tw_debug_end(loop, start, "note_duration", argv, 1);
}

/* handle_report() for arguments in an array. */
static tw_status
handle_report_array(TwHandle *self, PyObject *callback, PyObject **argv,
                    int n)
{
    PyObject *exc = tw_err_take(), *args = handle_tuple(argv, n);
    tw_status status;

    tw_err_restore_steal(exc);
    status = handle_report(self, callback, args ? args : Py_None);
    Py_XDECREF(args);
    return status;
}

static tw_status
handle_run(TwHandle *self)
{
    /* Own the arguments: the callback may cancel the handle.  argv[0] is left
       free for the call. */
    PyObject *argv[1 + TW_HANDLE_INLINE], *callback, *result;
    int n = self->nargs;
    tw_status status = 0;

    if (TW_UNLIKELY(self->loop->debug)) {
        return handle_run_debug(self);
    }
    if (TW_UNLIKELY(n < 0)) {
        return handle_run_tuple(self);
    }
    for (int i = 1; i <= n; i++) {
        argv[i] = Py_NewRef(self->args[i - 1]);
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

/* -- run, while other threads may cancel ---------------------------------- */

/* The callback has run: wake the threads in tw_handle_wait_run(). */
static void
handle_wake_waiters(TwHandle *self)
{
    PyObject *ran = TW_TAKE(self->ran);
    PyObject *exc = tw_err_take();

    if (tw_status_steal(tw_seam_call(self->loop->state, "set_event", &ran, 1))
        < 0) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    Py_DECREF(ran);
    tw_err_restore_steal(exc);
}

tw_status
tw_handle_run(TwHandle *self)
{
    tw_status status;

    if (TW_LIKELY(!(self->flags & (TW_H_CANCELLED | TW_H_THREADSAFE)))) {
        return handle_run(self);
    }
    if (self->flags & TW_H_CANCELLED) {
        return 0;
    }
    self->flags |= TW_H_RUNNING;
    status = handle_run(self);
    self->flags &= ~TW_H_RUNNING;
    if (self->ran != NULL) {
        handle_wake_waiters(self);
    }
    return status;
}

tw_status
tw_handle_wait_run(TwHandle *self)
{
    PyObject *argv[] = {(PyObject *)self}, *ran;
    tw_status status;

    if (!(self->flags & TW_H_RUNNING)) {
        return 0;
    }
    ran = tw_seam_call(self->loop->state, "event_for_run", argv, 1);
    if (ran == NULL) {
        return -1;
    }
    /* The loop's thread may have finished the callback meanwhile. */
    if (ran == Py_None || !(self->flags & TW_H_RUNNING)) {
        Py_DECREF(ran);
        return 0;
    }
    if (self->ran == NULL) {
        self->ran = Py_NewRef(ran);
    }
    Py_SETREF(ran, Py_NewRef(self->ran));
    status = tw_status_steal(
        tw_seam_call(self->loop->state, "wait_event", &ran, 1));
    Py_DECREF(ran);
    return status;
}
