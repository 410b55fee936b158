#include "core/debug.h"

#include "core/source.h"
#include "core/watcher.h"

#define DEBUG_ARGS_MAX 2

tw_status
tw_debug_begin(TwLoop *loop, double *start)
{
    *start = tw_loop_time(loop);
    return *start == -1.0 && PyErr_Occurred() ? -1 : 0;
}

tw_status
tw_debug_end(TwLoop *loop, double start, const char *function,
             PyObject *const *args, Py_ssize_t nargs)
{
    double end = tw_loop_time(loop);
    PyObject *argv[1 + DEBUG_ARGS_MAX + 1] = {(PyObject *)loop};
    PyObject *seconds;
    tw_status status;

    if (end == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    seconds = PyFloat_FromDouble(end - start);
    if (seconds == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        argv[1 + i] = args[i];
    }
    argv[1 + nargs] = seconds;
    status =
        tw_status_steal(tw_seam_call(loop->state, function, argv, nargs + 2));
    Py_DECREF(seconds);
    return status;
}

tw_status
tw_debug_step(TwLoop *loop, PyObject *stepper)
{
    const TwStepOps *ops = ((TwStepper *)stepper)->ops;
    PyObject *call = ops->call ? ops->call(stepper) : Py_NewRef(Py_None);
    tw_status status = -1;
    double start;

    if (call != NULL && tw_debug_begin(loop, &start) == 0) {
        status = ops->step(stepper);
        if (status == 0 && call != Py_None) {
            status = tw_debug_end(loop, start, "note_step", &call, 1);
        }
    }
    Py_XDECREF(call);
    return status;
}

tw_status
tw_debug_ready(TwLoop *loop, PyObject *owner, unsigned events,
               tw_status (*on_ready)(PyObject *owner, unsigned events))
{
    PyObject *args[] = {owner, events & TW_EV_READ ? Py_False : Py_True};
    double start;

    if (tw_debug_begin(loop, &start) < 0 || on_ready(owner, events) < 0) {
        return -1;
    }
    return tw_debug_end(loop, start, "note_ready", args, 2);
}
