/* A loop's beginning and end: libuv's side, the collector's side. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/errno.h"
#include "base/pages.h"
#include "core/call.h"
#include "core/handle.h"
#include "core/loop.h"
#include "core/loop_type.h"
#include "core/watcher.h"

/* -- open ----------------------------------------------------------------- */

static void
loop_on_async(uv_async_t *async)
{
    /* Only there to have the poll return. */
}

tw_status
tw_loop_open(TwLoop *loop)
{
    int err = uv_loop_init(&loop->uv);

    if (err < 0) {
        tw_errno_raise(err);
        return -1;
    }
    err = uv_async_init(&loop->uv, &loop->async, loop_on_async);
    if (err < 0) {
        uv_loop_close(&loop->uv);
        tw_errno_raise(err);
        return -1;
    }
    /* libuv tells its set of a handle when it runs. */
    uv_run(&loop->uv, UV_RUN_NOWAIT);
    loop->set_fd = -1;
    loop->uv_open = true;
    err = (int)tw_watcher_open_set(loop);
    if (err < 0) {
        tw_loop_shut(loop);
        tw_errno_raise(err);
        return -1;
    }
    loop->watchers.place = offsetof(TwWatcher, in_watchers);
    loop->due.place = offsetof(TwWatcher, in_due);
    loop->changed.place = offsetof(TwWatcher, in_changed);
    return 0;
}

char *
tw_loop_read_buffer(TwLoop *loop)
{
    if (loop->read_buffer == NULL) {
        loop->read_buffer = tw_pages_new(TW_READ_BUFFER_SIZE);
    }
    return loop->read_buffer;
}

void
tw_loop_after_fork(TwLoop *loop)
{
    loop->forked = true;
    if (loop->uv_open) {
        if (uv_loop_fork(&loop->uv) == 0) { /* else its set is gone */
            uv_run(&loop->uv, UV_RUN_NOWAIT); /* as in tw_loop_open() */
        }
        tw_watcher_renew_set(loop);
    }
}

/* -- shut ----------------------------------------------------------------- */

/* Drop what is queued.  Releasing a handle may run finalizers, which may
   look at the loop: the queues are emptied one by one. */
static void
loop_drop_queued(TwLoop *loop)
{
    while (loop->ready.count > 0) {
        Py_DECREF((PyObject *)tw_ring_pop(&loop->ready));
    }
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
    while (loop->cork_free != NULL) {
        TwCork *cork = loop->cork_free;
        loop->cork_free = cork->next;
        PyMem_RawFree(cork);
    }
    while (loop->chunks != NULL) {
        char *chunk = loop->chunks;
        memcpy(&loop->chunks, chunk, sizeof(char *));
        PyMem_RawFree(chunk);
    }
}

/* libuv ends the process if its epoll set is gone, which a program that makes
   a daemon of itself closes with all that is open. */
static bool
loop_uv_is_whole(const TwLoop *loop)
{
    struct epoll_event ev;

    return epoll_wait(uv_backend_fd(&loop->uv), &ev, 1, 0) >= 0
           || errno == EINTR;
}

static void
loop_close_uv(TwLoop *loop)
{
    if (!loop_uv_is_whole(loop)) {
        return; /* some memory is lost, not the process */
    }
    uv_close((uv_handle_t *)&loop->async, NULL);
    while (uv_loop_close(&loop->uv) == UV_EBUSY) {
        uv_run(&loop->uv, UV_RUN_DEFAULT);
    }
}

void
tw_loop_shut(TwLoop *loop)
{
    if (!loop->uv_open) {
        return;
    }
    loop->uv_open = false;
    loop->closed = true;
    loop_drop_free_memory(loop);
    loop_drop_queued(loop);
    Py_CLEAR(loop->future_kwargs);
    Py_CLEAR(loop->polls);
    Py_CLEAR(loop->resolver);
    tw_watcher_close_all(loop);
    tw_watcher_close_set(loop);
    loop_close_uv(loop);
    PyMem_RawFree(loop->by_fd);
    loop->by_fd = NULL;
    loop->by_fd_cap = 0;
    tw_vec_fini(&loop->watchers);
    tw_vec_fini(&loop->due);
    tw_vec_fini(&loop->changed);
    loop->due_next = 0;
    tw_ring_fini(&loop->ready);
    tw_heap_fini(&loop->timers);
    Py_CLEAR(loop->spare);
    tw_pages_free(TW_TAKE(loop->read_buffer));
}

/* -- the collector -------------------------------------------------------- */

int
tw_loop_traverse(PyObject *self, visitproc visit, void *arg)
{
    TwLoop *loop = (TwLoop *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(loop->thread_id);
    Py_VISIT(loop->task_factory);
    Py_VISIT(loop->exception_handler);
    Py_VISIT(loop->current_handle);
    Py_VISIT(loop->signal_handlers);
    Py_VISIT(loop->future_kwargs);
    Py_VISIT(loop->polls);
    Py_VISIT(loop->resolver);
    for (uint32_t i = 0; i < loop->ready.count; i++) {
        Py_VISIT((PyObject *)tw_ring_at(&loop->ready, i));
    }
    for (size_t i = 0; i < loop->timers.count; i++) {
        Py_VISIT((PyObject *)loop->timers.entries[i].item);
    }
    for (uint32_t i = 0; i < loop->watchers.count; i++) {
        Py_VISIT(((TwWatcher *)loop->watchers.items[i])->owner);
    }
    for (TwCork *cork = loop->corks; cork != NULL; cork = cork->next) {
        Py_VISIT(cork->owner);
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
    Py_CLEAR(loop->signal_handlers);
    Py_CLEAR(loop->future_kwargs);
    tw_loop_shut(loop);
    return 0;
}

void
tw_loop_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    tw_loop_clear(self);
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
    loop->wakeup_fd = -1;
    if (loop->state == NULL || tw_loop_open(loop) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return self;
}
