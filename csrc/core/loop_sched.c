/* call_soon and its family. */
#include <time.h>

#include "core/call.h"
#include "core/handle.h"
#include "core/loop_type.h"
#include "core/overrides.h"
#include "core/source.h"
#include "core/wakeup.h"

tw_status
tw_loop_check_open(TwLoop *loop)
{
    if (TW_UNLIKELY(loop->closed)) {
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
        return -1;
    }
    return 0;
}

void
tw_loop_wake(TwLoop *loop)
{
    if (loop->sleeping) {
        TW_SHARED_SET(loop->sleeping, false);
        tw_wakeup_write(loop->wake_write);
    }
}

/* -- time ----------------------------------------------------------------- */

static double
sched_monotonic(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

double
tw_loop_time(TwLoop *loop)
{
    if (TW_UNLIKELY(tw_overrides_time(loop))) {
        PyObject *value =
            tw_call_plain_noargs((PyObject *)loop, loop->state->str.time);
        double seconds = value ? PyFloat_AsDouble(value) : -1.0;
        Py_XDECREF(value);
        return seconds;
    }
    return sched_monotonic();
}

static PyObject *
loop_meth_time(PyObject *self, PyObject *unused)
{
    PyObject *clock = tw_overrides_clock(((TwLoop *)self)->state), *now;

    if (TW_LIKELY(clock == NULL)) {
        return PyFloat_FromDouble(sched_monotonic());
    }
    Py_INCREF(clock);
    now = tw_call_plain(clock, NULL, 0);
    Py_DECREF(clock);
    return now;
}

/* -- arguments ------------------------------------------------------------ */

/* Tasks and futures of 3.11 pass a string of their own. */
static bool
sched_is_context(TwLoop *loop, PyObject *name)
{
    if (TW_LIKELY(name == loop->state->str.context
                  || name == loop->other_context)) {
        return true;
    }
    if (PyUnicode_CompareWithASCIIString(name, "context") != 0) {
        return false;
    }
    Py_XSETREF(loop->other_context, Py_NewRef(name));
    return true;
}

/* Find the context in (required..., callback, *args, context=None).  False if
   there is another keyword, or an argument is missing: see
   tw_loop_call_by_name(). */
static bool
sched_is_usual(TwLoop *loop, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames, Py_ssize_t least, PyObject **context)
{
    *context = NULL;
    if (TW_LIKELY(kwnames == NULL)) {
        return nargs >= least;
    }
    if (PyTuple_GET_SIZE(kwnames) != 1
        || !sched_is_context(loop, PyTuple_GET_ITEM(kwnames, 0))) {
        return false;
    }
    *context = args[nargs];
    return nargs >= least;
}

PyObject *
tw_loop_call_by_name(PyObject *loop, const char *method,
                     PyObject *const *args, Py_ssize_t nargs,
                     PyObject *kwnames)
{
    PyObject *function = PyObject_GetAttrString(/* allow: seam */
        ((TwLoop *)loop)->state->seam, method);
    PyObject *result =
        function ? tw_call_with_first(function, loop, args, nargs, kwnames)
                 : NULL;

    Py_XDECREF(function);
    return result;
}

/* Debug mode's checks, as asyncio makes them: the thread, the callback. */
static tw_status
sched_check_debug(TwLoop *loop, PyObject *callback, const char *method,
                  bool thread)
{
    PyObject *name;
    tw_status status = -1;

    if (TW_LIKELY(!loop->debug)) {
        return 0;
    }
    name = PyUnicode_FromString(method);
    if (name != NULL) {
        PyObject *argv[] = {(PyObject *)loop, callback, name,
                            thread ? Py_True : Py_False};
        status = tw_status_steal(
            tw_seam_call(loop->state, "check_call", argv, 4));
        Py_DECREF(name);
    }
    return status;
}

/* -- soon ----------------------------------------------------------------- */

/* Append a new handle (stolen; or NULL) to the ready queue.  Returns a new
   reference to it, or NULL. */
static TwHandle *
sched_push_steal(TwLoop *loop, TwHandle *handle)
{
    if (handle != NULL && tw_ring_push(&loop->ready, handle) < 0) {
        Py_CLEAR(handle);
    }
    return (TwHandle *)Py_XNewRef((PyObject *)handle);
}

static TwHandle *
sched_push_soon(TwLoop *loop, PyObject *callback, PyObject *const *args,
                Py_ssize_t nargs, PyObject *context)
{
    return sched_push_steal(
        loop, tw_handle_new(loop, callback, args, nargs, context));
}

/* Call the program's call_soon(), with at most one argument. */
static tw_status
sched_call_own(TwLoop *loop, PyObject *callback, PyObject *const *args,
               Py_ssize_t nargs, PyObject *context)
{
    PyObject *argv[4] = {(PyObject *)loop, callback};

    if (nargs > 0) {
        argv[2] = args[0];
    }
    argv[2 + nargs] = context;
    return tw_status_steal(
        PyObject_VectorcallMethod(/* allow: as tw_call_plain_method() */
            loop->state->str.call_soon, argv, (size_t)(2 + nargs),
            context == NULL ? NULL : loop->state->kw_context));
}

tw_status
tw_loop_call_soon(TwLoop *loop, PyObject *callback, PyObject *const *args,
                  Py_ssize_t nargs, PyObject *context)
{
    TwHandle *handle;

    if (TW_UNLIKELY(tw_overrides(loop) & TW_OWN_CALL_SOON)) {
        return sched_call_own(loop, callback, args, nargs, context);
    }
    if (tw_loop_check_open(loop) < 0) {
        return -1;
    }
    handle = sched_push_soon(loop, callback, args, nargs, context);
    if (handle == NULL) {
        return -1;
    }
    Py_DECREF(handle);
    tw_loop_wake(loop);
    return 0;
}

static PyObject *
sched_step(PyObject *stepper, PyObject *Py_UNUSED(unused))
{
    return tw_none_or_error(((TwStepper *)stepper)->ops->step(stepper));
}

static PyMethodDef sched_step_def = {"_step", sched_step, METH_NOARGS, NULL};

/* The same with the program's call_soon(). */
static tw_status
sched_step_own(TwLoop *loop, PyObject *stepper)
{
    PyObject *method = PyCFunction_New(&sched_step_def, stepper);
    tw_status status =
        method ? sched_call_own(loop, method, NULL, 0, NULL) : -1;

    Py_XDECREF(method);
    return status;
}

tw_status
tw_loop_push_step(TwLoop *loop, PyObject *stepper)
{
    if (TW_UNLIKELY(tw_overrides(loop) & TW_OWN_CALL_SOON)) {
        return sched_step_own(loop, stepper);
    }
    if (tw_loop_check_open(loop) < 0
        || tw_ring_push(&loop->ready, stepper) < 0) {
        return -1;
    }
    Py_INCREF(stepper);
    tw_loop_wake(loop);
    return 0;
}

static PyObject *
loop_meth_call_soon(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames)
{
    TwLoop *loop = (TwLoop *)self;
    PyObject *context = NULL;

    if (!sched_is_usual(loop, args, nargs, kwnames, 1, &context)) {
        return tw_loop_call_by_name(self, "call_soon", args, nargs, kwnames);
    }
    if (tw_loop_check_open(loop) < 0
        || sched_check_debug(loop, args[0], "call_soon", true) < 0) {
        return NULL;
    }
    return (PyObject *)sched_push_soon(loop, args[0], args + 1, nargs - 1,
                                       context);
}

static PyObject *
loop_meth_call_soon_threadsafe(PyObject *self, PyObject *const *args,
                               Py_ssize_t nargs, PyObject *kwnames)
{
    TwLoop *loop = (TwLoop *)self;
    PyObject *context = NULL;
    TwHandle *handle;

    if (!sched_is_usual(loop, args, nargs, kwnames, 1, &context)) {
        return tw_loop_call_by_name(self, "call_soon_threadsafe", args,
                                    nargs, kwnames);
    }
    if (tw_loop_check_open(loop) < 0
        || sched_check_debug(loop, args[0], "call_soon_threadsafe", false)
               < 0) {
        return NULL;
    }
    handle = sched_push_steal(
        loop, tw_handle_new_threadsafe(loop, args[0], args + 1, nargs - 1,
                                       context));
    if (handle != NULL) {
        tw_loop_wake(loop);
    }
    return (PyObject *)handle;
}

/* -- later ---------------------------------------------------------------- */

static PyObject *
sched_push_timer(TwLoop *loop, double when, PyObject *callback,
                 PyObject *const *args, Py_ssize_t nargs, PyObject *context)
{
    TwHandle *handle =
        tw_handle_new_timer(loop, when, callback, args, nargs, context);

    if (handle == NULL) {
        return NULL;
    }
    if (tw_heap_push(&loop->timers, when, handle) < 0) {
        Py_DECREF(handle);
        return NULL;
    }
    handle->flags |= TW_H_SCHEDULED;
    loop->stats.timers++;
    tw_loop_wake(loop);
    return Py_NewRef((PyObject *)handle);
}

/* loop.time() + delay as asyncio computes it, for any kind of number. */
static tw_status
sched_when(TwLoop *loop, PyObject *delay, double *when)
{
    double now = tw_loop_time(loop);
    PyObject *base, *sum;

    if (now == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (TW_LIKELY(PyFloat_CheckExact(delay))) {
        *when = now + PyFloat_AS_DOUBLE(delay);
        return 0;
    }
    base = PyFloat_FromDouble(now);
    sum = base ? PyNumber_Add(base, delay) : NULL;
    Py_XDECREF(base);
    if (sum == NULL) {
        return -1;
    }
    *when = PyFloat_AsDouble(sum);
    Py_DECREF(sum);
    return *when == -1.0 && PyErr_Occurred() ? -1 : 0;
}

static PyObject *
loop_meth_call_later(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *kwnames)
{
    TwLoop *loop = (TwLoop *)self;
    PyObject *context;
    double when;

    if (!sched_is_usual(loop, args, nargs, kwnames, 2, &context)) {
        return tw_loop_call_by_name(self, "call_later", args, nargs, kwnames);
    }
    if (TW_UNLIKELY(tw_overrides(loop) & TW_OWN_CALL_AT)) {
        return tw_loop_call_by_name(self, "call_later_by_call_at", args,
                                    nargs, kwnames);
    }
    if (args[0] == Py_None) {
        PyErr_SetString(PyExc_TypeError, "delay must not be None");
        return NULL;
    }
    if (sched_when(loop, args[0], &when) < 0 || tw_loop_check_open(loop) < 0
        || sched_check_debug(loop, args[1], "call_at", true) < 0) {
        return NULL;
    }
    return sched_push_timer(loop, when, args[1], args + 2, nargs - 2,
                            context);
}

static PyObject *
loop_meth_call_at(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    TwLoop *loop = (TwLoop *)self;
    PyObject *context;
    double when;

    if (!sched_is_usual(loop, args, nargs, kwnames, 2, &context)) {
        return tw_loop_call_by_name(self, "call_at", args, nargs, kwnames);
    }
    if (args[0] == Py_None) {
        PyErr_SetString(PyExc_TypeError, "when cannot be None");
        return NULL;
    }
    when = PyFloat_AsDouble(args[0]);
    if ((when == -1.0 && PyErr_Occurred()) || tw_loop_check_open(loop) < 0
        || sched_check_debug(loop, args[1], "call_at", true) < 0) {
        return NULL;
    }
    return sched_push_timer(loop, when, args[1], args + 2, nargs - 2,
                            context);
}

PyMethodDef tw_loop_sched_methods[] = {
    {"time", loop_meth_time, METH_NOARGS, PyDoc_STR(
"time($self, /)\n--\n\n"
"The loop's clock: seconds of time.monotonic(), a float.\n\n"
"See library/asyncio-eventloop.")},
    {"call_soon", TW_FAST(loop_meth_call_soon), TW_FASTKW, PyDoc_STR(
"call_soon($self, /, callback, *args, context=None)\n--\n\n"
"Call callback(*args) in the next turn of the loop; returns the Handle.\n\n"
"context: a contextvars.Context to run in (None: a copy of the current\n"
"one).  RuntimeError if the loop is closed.  See library/asyncio-eventloop.")},
    {"call_soon_threadsafe", TW_FAST(loop_meth_call_soon_threadsafe),
     TW_FASTKW, PyDoc_STR(
"call_soon_threadsafe($self, /, callback, *args, context=None)\n--\n\n"
"call_soon() for other threads and signal handlers: wakes the loop.\n\n"
"Arguments and errors are those of call_soon().\n"
"See library/asyncio-eventloop.")},
    {"call_later", TW_FAST(loop_meth_call_later), TW_FASTKW, PyDoc_STR(
"call_later($self, /, delay, callback, *args, context=None)\n--\n\n"
"Call callback(*args) after `delay` seconds; returns the TimerHandle.\n\n"
"context: a contextvars.Context to run in (None: a copy of the current\n"
"one).  TypeError if delay is None or no real number, RuntimeError if the\n"
"loop is closed.  See library/asyncio-eventloop.")},
    {"call_at", TW_FAST(loop_meth_call_at), TW_FASTKW, PyDoc_STR(
"call_at($self, /, when, callback, *args, context=None)\n--\n\n"
"Call callback(*args) at `when`, seconds of loop.time(); returns the\n"
"TimerHandle.\n\n"
"context and errors are those of call_later().\n"
"See library/asyncio-eventloop.")},
    {NULL},
};
