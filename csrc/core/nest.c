#include "core/nest.h"

#include "base/compat.h"
#include "core/call.h"
#include "core/future.h"
#include "core/handle.h"
#include "core/loop_type.h"
#include "core/turn.h"

/* What a nested run must restore. */
typedef struct {
    int depth;
    PyObject *current_handle; /* strong or NULL */
} TwNest;

/* -- handles that wait for the end ---------------------------------------- */

bool
tw_nest_is_entered_slow(TwHandle *handle)
{
    if (handle->flags & TW_H_CANCELLED || handle->context == NULL) {
        return false;
    }
    if (PyContext_Enter(handle->context) < 0) {
        bool entered = PyErr_ExceptionMatches(PyExc_RuntimeError);
        PyErr_Clear(); /* another error is found again by the run itself */
        return entered;
    }
    if (PyContext_Exit(handle->context) < 0) {
        PyErr_WriteUnraisable((PyObject *)handle);
    }
    return false;
}

tw_status
tw_nest_put_aside_steal(TwLoop *loop, TwHandle *handle)
{
    if (tw_ring_push(&loop->aside, handle) < 0) {
        Py_DECREF(handle);
        return -1;
    }
    return 0;
}

/* They are put before those that are ready.  Without memory all stay where
   they are. */
static tw_status
nest_put_back(TwLoop *loop)
{
    TwRing *ready = &loop->ready, *aside = &loop->aside, old;
    uint32_t n = aside->count;

    if (n == 0) {
        return 0;
    }
    for (uint32_t i = 0; i < ready->count; i++) {
        if (tw_ring_push(aside, tw_ring_at(ready, i)) < 0) {
            aside->count = n;
            return -1;
        }
    }
    old = *ready;
    *ready = *aside;
    tw_ring_fini(&old);
    *aside = (TwRing){0};
    return 0;
}

/* -- the run -------------------------------------------------------------- */

/* -1 with an exception. */
static int
nest_is_done(TwLoop *loop, PyObject *future)
{
    return future == Py_None ? 0 : tw_loop_is_done(loop, future);
}

tw_status
tw_nest_run(TwLoop *loop, PyObject *future)
{
    int done;

    while ((done = nest_is_done(loop, future)) == 0) {
        if (tw_turn_once(loop) < 0) {
            return -1;
        }
        if (loop->stopping) {
            return 0;
        }
    }
    if (done < 0) {
        return -1;
    }
    return loop->ready.count > 0 ? tw_turn_once(loop) : 0;
}

static void
nest_begin(TwLoop *loop, TwNest *nest)
{
    *nest = (TwNest){
        .depth = loop->depth,
        .current_handle = Py_XNewRef(loop->current_handle),
    };
    loop->nested++;
    loop->depth = 0;
    /* What the callback wrote before and writes later counts as two
       callbacks. */
    loop->callback_number++;
    tw_call_flush(loop);
}

/* Keeps an exception that is set. */
static tw_status
nest_end(TwLoop *loop, TwNest *nest, tw_status status)
{
    PyObject *exc = tw_err_take();

    tw_call_flush(loop);
    loop->callback_number++;
    loop->depth += nest->depth;
    loop->nested--;
    Py_XSETREF(loop->current_handle, nest->current_handle);
    if (nest_put_back(loop) < 0) {
        status = -1;
    }
    if (exc != NULL) {
        PyErr_Clear();
        tw_err_restore_steal(exc);
    }
    return status;
}

static PyObject *
loop_meth_run_nested(PyObject *self, PyObject *future)
{
    TwLoop *loop = (TwLoop *)self;
    TwNest nest;
    tw_status status;

    if (!loop->nests || !tw_loop_is_here(loop) || loop->sleeping
        || loop->depth == 0) {
        PyErr_SetString(PyExc_RuntimeError,
                        "This event loop is already running");
        return NULL;
    }
    nest_begin(loop, &nest);
    status = tw_nest_run(loop, future);
    return tw_none_or_error(nest_end(loop, &nest, status));
}

PyMethodDef tw_nest_loop_methods[] = {
    {"_run_nested", loop_meth_run_nested, METH_O, NULL},
    {NULL},
};
