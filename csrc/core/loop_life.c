/* How a loop is made and freed, and its part of garbage collection. */
#include <string.h>

#include "base/clock.h"
#include "base/compat.h"
#include "base/pages.h"
#include "core/call.h"
#include "core/handle.h"
#include "core/loop.h"
#include "core/loop_type.h"
#include "core/watchdog.h"
#include "core/watcher.h"
#include "core/wakeup.h"

/* -- open ----------------------------------------------------------------- */

/* _open(poller, signals): a poller by name, or None; will signals arrive? */
static PyObject *
loop_meth_open(PyObject *self, PyObject *args)
{
    TwLoop *loop = (TwLoop *)self;
    const char *poller;
    int signals;

    if (!PyArg_ParseTuple(args, "zp:_open", &poller, &signals)) {
        return NULL;
    }
    if (loop->poller != NULL || !loop->live) {
        PyErr_SetString(PyExc_RuntimeError, "The loop was opened before");
        return NULL;
    }
    loop->poller = tw_poller_open(poller);
    if (loop->poller == NULL || tw_wakeup_open(loop, signals) < 0) {
        PyObject *exc = tw_err_take();
        tw_loop_shut(loop);
        tw_err_restore_steal(exc);
        return NULL;
    }
    Py_RETURN_NONE;
}

/* _signal_fd(): the descriptor that signals may be written to. */
static PyObject *
loop_meth_signal_fd(PyObject *self, PyObject *unused)
{
    TwLoop *loop = (TwLoop *)self;

    if (loop->wakeup != NULL && tw_wakeup_accept_signals(loop) < 0) {
        return NULL;
    }
    return PyLong_FromLong(loop->wake_write);
}

/* _note_signal(number): its Python handler runs, see core/wakeup.c. */
static PyObject *
loop_meth_note_signal(PyObject *self, PyObject *number)
{
    long n = PyLong_AsLong(number);

    if (n == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (n > 0 && n <= 64) {
        ((TwLoop *)self)->signals_handled |= (uint64_t)1 << (n - 1);
    }
    Py_RETURN_NONE;
}

char *
tw_loop_read_buffer(TwLoop *loop)
{
    if (loop->read_buffer == NULL) {
        loop->read_buffer = tw_pages_new(TW_READ_BUFFER_SIZE);
    }
    return loop->read_buffer;
}

static bool
loop_has_its_descriptors(const TwLoop *loop)
{
    return loop->wakeup == NULL
           || loop->poller->ops->is_ours(loop->poller, loop->wake_fd);
}

void
tw_loop_after_fork(TwLoop *loop)
{
    bool ours;

    loop->gil.silent = NULL;
    if (loop->watchdog != NULL) {
        tw_watchdog_after_fork(loop->watchdog);
    }
    if (loop->poller == NULL) {
        return;
    }
    ours = loop_has_its_descriptors(loop);
    loop->forked = loop->stats.turns > 0;
    tw_call_flush(loop); /* another thread's callback held it, in the parent */
    if (loop->poller->ops->renew(loop->poller, true, ours) == 0
        && tw_wakeup_renew(loop, ours) == 0) {
        tw_watcher_rewatch(loop);
    }
}

/* -- shut ----------------------------------------------------------------- */

static void
loop_drop_ring(TwRing *ring)
{
    while (ring->count > 0) {
        Py_DECREF((PyObject *)tw_ring_pop(ring));
    }
}

/* Release what is queued, one by one: each release may run finalizers, which
   may use the loop. */
static void
loop_drop_queued(TwLoop *loop)
{
    loop_drop_ring(&loop->ready);
    loop_drop_ring(&loop->aside);
    while (loop->timers.count > 0) {
        TwHandle *handle = tw_heap_pop(&loop->timers);
        handle->flags &= ~TW_H_SCHEDULED;
        Py_DECREF(handle);
    }
    loop->timers_cancelled = 0;
}

static void
loop_drop_free_memory(TwLoop *loop)
{
    tw_call_flush(loop);
    while (loop->free_blocks != NULL) {
        char *block = loop->free_blocks;
        memcpy(&loop->free_blocks, block, sizeof(char *));
        PyMem_RawFree(block);
    }
}

static void
loop_close_poller(TwLoop *loop)
{
    bool ours;

    if (loop->poller != NULL) {
        ours = loop_has_its_descriptors(loop);
        tw_watcher_close_all(loop);
        tw_wakeup_close(loop, ours);
        loop->poller->ops->close(loop->poller, ours);
        loop->poller = NULL;
    }
}

void
tw_loop_shut(TwLoop *loop)
{
    if (!loop->live) {
        return;
    }
    loop->live = false;
    loop->closed = true;
    loop->gauges.closed = tw_now_wall();
    loop_drop_free_memory(loop);
    loop_drop_queued(loop);
    Py_CLEAR(loop->future_kwargs);
    Py_CLEAR(loop->userfds);
    Py_CLEAR(loop->resolver);
    loop_close_poller(loop);
    PyMem_RawFree(loop->by_fd);
    loop->by_fd = NULL;
    loop->by_fd_cap = 0;
    tw_vec_fini(&loop->watchers);
    tw_vec_fini(&loop->writers);
    tw_vec_fini(&loop->due);
    tw_vec_fini(&loop->changed);
    loop->due_next = 0;
    tw_ring_fini(&loop->ready);
    tw_ring_fini(&loop->aside);
    tw_heap_fini(&loop->timers);
    tw_handle_clear_free(loop);
    Py_CLEAR(loop->read_bytes);
    tw_pages_free(TW_TAKE(loop->read_buffer));
}

/* -- the collector -------------------------------------------------------- */

int
tw_loop_traverse(PyObject *self, visitproc visit, void *arg)
{
    TwLoop *loop = (TwLoop *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(loop->free_handles.type);
    Py_VISIT(loop->free_timers.type);
    Py_VISIT(loop->free_threadsafe.type);
    Py_VISIT(loop->thread_id);
    Py_VISIT(loop->task_factory);
    Py_VISIT(loop->exception_handler);
    Py_VISIT(loop->current_handle);
    Py_VISIT(loop->name);
    if (loop->watchdog != NULL) {
        Py_VISIT(loop->watchdog->report);
    }
    Py_VISIT(loop->signal_handlers);
    Py_VISIT(loop->future_kwargs);
    Py_VISIT(loop->userfds);
    Py_VISIT(loop->resolver);
    for (uint32_t i = 0; i < loop->ready.count; i++) {
        Py_VISIT((PyObject *)tw_ring_at(&loop->ready, i));
    }
    for (uint32_t i = 0; i < loop->aside.count; i++) {
        Py_VISIT((PyObject *)tw_ring_at(&loop->aside, i));
    }
    for (size_t i = 0; i < loop->timers.count; i++) {
        Py_VISIT((PyObject *)loop->timers.entries[i].item);
    }
    for (uint32_t i = 0; i < loop->watchers.count; i++) {
        Py_VISIT(((TwWatcher *)loop->watchers.items[i])->owner);
    }
    return 0;
}

int
tw_loop_clear(PyObject *self)
{
    TwLoop *loop = (TwLoop *)self;

    Py_CLEAR(loop->thread_id);
    Py_CLEAR(loop->task_factory);
    Py_CLEAR(loop->exception_handler);
    Py_CLEAR(loop->current_handle);
    Py_CLEAR(loop->name);
    if (loop->watchdog != NULL) {
        Py_CLEAR(loop->watchdog->report);
        loop->watchdog->threshold = 0;
    }
    Py_CLEAR(loop->signal_handlers);
    Py_CLEAR(loop->future_kwargs);
    Py_CLEAR(loop->other_context);
    tw_loop_shut(loop);
    return 0;
}

void
tw_loop_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    TwLoop *loop = (TwLoop *)self;

    PyObject_GC_UnTrack(self);
    tw_loop_clear(self);
    tw_handle_clear_free(loop);
    Py_XDECREF((PyObject *)loop->free_handles.type);
    Py_XDECREF((PyObject *)loop->free_timers.type);
    Py_XDECREF((PyObject *)loop->free_threadsafe.type);
    PyMem_RawFree(loop->stats_base);
    PyMem_RawFree(loop->free_pieces);
    tw_watchdog_free(loop->watchdog);
    type->tp_free(self);
    Py_DECREF(type);
}

PyObject *
tw_loop_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *self = type->tp_alloc(type, 0);
    TwLoop *loop = (TwLoop *)self;

    if (self == NULL) {
        return NULL;
    }
    loop->state = tw_state_of_type(type);
    loop->thread_id = Py_NewRef(Py_None);
    loop->wake_fd = loop->wake_write = -1;
    loop->watchers.place = offsetof(TwWatcher, in_watchers);
    loop->writers.place = offsetof(TwWatcher, in_writers);
    loop->due.place = offsetof(TwWatcher, in_due);
    loop->changed.place = offsetof(TwWatcher, in_changed);
    loop->live = true;
    loop->gauges.made = tw_now_wall();
    if (loop->state == NULL || tw_handle_init_free(loop) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    loop->gauges.number = ++loop->state->loops;
    return self;
}

PyMethodDef tw_loop_life_methods[] = {
    {"_open", loop_meth_open, METH_VARARGS, NULL},
    {"_signal_fd", loop_meth_signal_fd, METH_NOARGS, NULL},
    {"_note_signal", loop_meth_note_signal, METH_O, NULL},
    {NULL},
};
