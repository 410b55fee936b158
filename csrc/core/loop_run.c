/* Methods that begin and end a run of the loop, and its flags. */
#include "base/compat.h"
#include "core/call.h"
#include "core/loop_type.h"
#include "core/turn.h"

/* Call a builtin of asyncio's or Python's, which runs no Python code. */
static void
run_call_builtin(TwLoop *loop, const char *name, PyObject *const *args,
                 Py_ssize_t nargs)
{
    if (tw_status_steal(tw_seam_call(loop->state, name, args, nargs)) < 0) {
        PyErr_WriteUnraisable((PyObject *)loop);
    }
}

/* Restore the hooks of asynchronous generators from before the run. */
static void
run_restore_hooks(TwLoop *loop)
{
    PyObject *old = PyObject_GetAttr((PyObject *)loop, /* allow: our own */
                                     loop->state->str._old_agen_hooks);

    if (old == NULL) {
        PyErr_Clear();
        return;
    }
    if (PyTuple_Check(old) && PyTuple_GET_SIZE(old) == 2) {
        PyObject *hooks[] = {PyTuple_GET_ITEM(old, 0),
                             PyTuple_GET_ITEM(old, 1)};
        run_call_builtin(loop, "set_asyncgen_hooks", hooks, 2);
    }
    Py_DECREF(old);
}

/* Restore the depth to which coroutines record their origin (debug mode). */
static void
run_restore_tracking(TwLoop *loop)
{
    PyObject *self = (PyObject *)loop, *depth = NULL;
    PyObject *name = loop->state->str._coroutine_origin_tracking_enabled;
    PyObject *on = PyObject_GetAttr(self, name); /* allow: our own */

    if (on != NULL && PyObject_IsTrue(on) == 1) {
        depth = PyObject_GetAttr( /* allow: our own */
            self, loop->state->str._coroutine_origin_tracking_saved_depth);
    }
    if (depth != NULL) {
        run_call_builtin(loop, "set_origin_tracking", &depth, 1);
        if (PyObject_SetAttr(self, name, Py_False) < 0) { /* allow: our own */
            PyErr_Clear();
        }
    }
    PyErr_Clear();
    Py_XDECREF(depth);
    Py_XDECREF(on);
}

/* Undo what run_forever() set up.  Its Python code does the same, but a signal
   could interrupt that. */
static void
run_not_running(TwLoop *loop)
{
    PyObject *exc = tw_err_take(), *none[] = {Py_None};

    loop->stopping = false;
    Py_XSETREF(loop->thread_id, Py_NewRef(Py_None));
    run_call_builtin(loop, "set_running_loop", none, 1);
    run_restore_hooks(loop);
    run_restore_tracking(loop);
    tw_err_restore_steal(exc);
}

static PyObject *
loop_meth_run_turns(PyObject *self, PyObject *future)
{
    TwLoop *loop = (TwLoop *)self;
    const char *refusal =
        loop->running    ? "This event loop is already running"
        : loop->forked   ? "The event loop ran before a fork: here it can "
                           "only be closed"
        : !loop->live    ? "Event loop is closed"
        : loop->wakeup == NULL ? "Loop.__init__() was not called"
                               : NULL;

    if (refusal != NULL) {
        PyErr_SetString(PyExc_RuntimeError, refusal);
        return NULL;
    }
    tw_status status = tw_turn_run(loop, future);
    run_not_running(loop);
    return tw_none_or_error(status);
}

static PyObject *
loop_meth_shut(PyObject *self, PyObject *unused)
{
    tw_loop_shut((TwLoop *)self);
    Py_RETURN_NONE;
}

static PyObject *
loop_meth_flush_held(PyObject *self, PyObject *unused)
{
    if (tw_loop_is_here((TwLoop *)self)) {
        tw_call_flush((TwLoop *)self);
    }
    Py_RETURN_NONE;
}

static PyObject *
loop_meth_after_fork(PyObject *self, PyObject *unused)
{
    tw_loop_after_fork((TwLoop *)self);
    Py_RETURN_NONE;
}

static PyObject *
loop_meth_stop(PyObject *self, PyObject *unused)
{
    ((TwLoop *)self)->stopping = true;
    Py_RETURN_NONE;
}

static PyObject *
loop_meth_is_running(PyObject *self, PyObject *unused)
{
    return PyBool_FromLong(((TwLoop *)self)->thread_id != NULL
                           && ((TwLoop *)self)->thread_id != Py_None);
}

static PyObject *
loop_meth_is_closed(PyObject *self, PyObject *unused)
{
    return PyBool_FromLong(((TwLoop *)self)->closed);
}

static PyObject *
loop_meth_get_debug(PyObject *self, PyObject *unused)
{
    return PyBool_FromLong(((TwLoop *)self)->debug);
}

PyMethodDef tw_loop_run_methods[] = {
    {"_run_turns", loop_meth_run_turns, METH_O, NULL},
    {"_shut", loop_meth_shut, METH_NOARGS, NULL},
    {"_flush_held", loop_meth_flush_held, METH_NOARGS, NULL},
    {"_after_fork", loop_meth_after_fork, METH_NOARGS, NULL},
    {"stop", loop_meth_stop, METH_NOARGS, PyDoc_STR(
"stop($self, /)\n--\n\nStop run_forever() after the current turn.\n\n"
"See library/asyncio-eventloop.")},
    {"is_running", loop_meth_is_running, METH_NOARGS, PyDoc_STR(
"is_running($self, /)\n--\n\n"
"True while the loop runs.  See library/asyncio-eventloop.")},
    {"is_closed", loop_meth_is_closed, METH_NOARGS, PyDoc_STR(
"is_closed($self, /)\n--\n\n"
"True if the loop was closed.  See library/asyncio-eventloop.")},
    {"get_debug", loop_meth_get_debug, METH_NOARGS, PyDoc_STR(
"get_debug($self, /)\n--\n\n"
"True in debug mode.  See library/asyncio-eventloop.")},
    {NULL},
};
