/* Futures and tasks of the loop: asyncio's own types, made in C. */
#include "core/future.h"

#include "base/compat.h"

#include "core/call.h"
#include "core/loop_type.h"
#include "core/overrides.h"

/* Make {"loop": self}, the keywords for the type, once. */
static tw_status
future_make_keywords(TwLoop *loop)
{
    PyObject *kwargs = PyDict_New();

    if (kwargs == NULL
        || PyDict_SetItem(kwargs, loop->state->str.loop, (PyObject *)loop)
               < 0) {
        Py_XDECREF(kwargs);
        return -1;
    }
    /* The collector may have run, and a finalizer may have made a future, or
       closed the loop.  A closed loop must not keep the dict: nothing would
       break the cycle. */
    if (loop->future_kwargs == NULL && !loop->closed) {
        loop->future_kwargs = Py_NewRef(kwargs);
    }
    Py_DECREF(kwargs);
    return 0;
}

static PyObject *
future_new(TwLoop *loop)
{
    PyObject *argv[] = {loop->state->base_loop_type, (PyObject *)loop};
    PyObject *kwargs, *future;

    /* nest_asyncio replaces asyncio's classes by classes written in Python. */
    if (TW_UNLIKELY(loop->nests)) {
        return tw_call_plain_method(loop->state->str.create_future, argv, 2);
    }
    if (TW_UNLIKELY(loop->future_kwargs == NULL) && !loop->closed
        && future_make_keywords(loop) < 0) {
        return NULL;
    }
    kwargs = Py_XNewRef(loop->future_kwargs);
    if (TW_LIKELY(kwargs != NULL)) {
        future = PyObject_Call(loop->state->future_type, /* allow: Future */
                               loop->state->empty_tuple, kwargs);
        Py_DECREF(kwargs);
        return future;
    }
    return PyObject_Vectorcall(loop->state->future_type, argv + 1, /* allow */
                               0, loop->state->kw_loop);
}

PyObject *
tw_loop_new_future(TwLoop *loop)
{
    return TW_LIKELY(!(tw_overrides(loop) & TW_OWN_CREATE_FUTURE))
               ? future_new(loop)
               : tw_call_plain_noargs((PyObject *)loop,
                                      loop->state->str.create_future);
}

int
tw_loop_is_done(TwLoop *loop, PyObject *future)
{
    return tw_truth_steal(
        tw_call_plain_noargs(future, loop->state->str.done));
}

/* future.<name>(value) unless it is done: asyncio's "set unless cancelled". */
static tw_status
future_settle(TwLoop *loop, PyObject *future, PyObject *name, PyObject *value)
{
    PyObject *argv[] = {future, value};
    int done = tw_loop_is_done(loop, future);

    if (done != 0) {
        return done < 0 ? -1 : 0;
    }
    return tw_status_steal(tw_call_plain_method(name, argv, 2));
}

tw_status
tw_loop_resolve(TwLoop *loop, PyObject *future, PyObject *value)
{
    return future_settle(loop, future, loop->state->str.set_result, value);
}

tw_status
tw_loop_reject(TwLoop *loop, PyObject *future, PyObject *exc)
{
    return future_settle(loop, future, loop->state->str.set_exception, exc);
}

static PyObject *
loop_meth_create_future(PyObject *self, PyObject *unused)
{
    return future_new((TwLoop *)self);
}

/* BaseEventLoop.create_task(self, ...), unbound. */
static PyObject *
task_create_by_asyncio(TwLoop *loop, PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames)
{
    PyObject *function = PyObject_GetAttr(/* allow: asyncio's */
        loop->state->base_loop_type, loop->state->str.create_task);
    PyObject *result = function ? tw_call_with_first(function,
                                                     (PyObject *)loop, args,
                                                     nargs, kwnames)
                                : NULL;

    Py_XDECREF(function);
    return result;
}

static PyObject *
loop_meth_create_task(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames)
{
    TwLoop *loop = (TwLoop *)self;

    if (kwnames != NULL || nargs != 1 || loop->task_factory != NULL
        || loop->debug || loop->closed || loop->nests) {
        return task_create_by_asyncio(loop, args, nargs, kwnames);
    }
    PyObject *argv[] = {args[0], self};
    return PyObject_Vectorcall(loop->state->task_type, argv, /* allow */
                               1, loop->state->kw_loop);
}

PyMethodDef tw_future_loop_methods[] = {
    {"create_future", loop_meth_create_future, METH_NOARGS, PyDoc_STR(
"create_future($self, /)\n--\n\n"
"A new asyncio.Future of this loop.  See library/asyncio-eventloop.")},
    {"create_task", TW_FAST(loop_meth_create_task), TW_FASTKW, PyDoc_STR(
"create_task($self, /, coro, " TW_CREATE_TASK_KEYWORDS ")\n--\n\n"
"Schedule a coroutine; returns the asyncio.Task.\n\n"
"Keyword arguments (name, context, eager_start...) are those of the running\n"
"Python's BaseEventLoop.create_task.  With a task factory, and in debug\n"
"mode, that function itself does it.  See library/asyncio-eventloop.")},
    {NULL},
};
