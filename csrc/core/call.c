#include "core/call.h"

#include "base/compat.h"
#include "core/handle.h"

bool
tw_call_must_leave(void)
{
    return PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)
           || PyErr_ExceptionMatches(PyExc_SystemExit);
}

void
tw_call_ignore_error(void)
{
    if (TW_LIKELY(!PyErr_Occurred())) {
        return;
    }
    if (PyErr_ExceptionMatches(PyExc_SystemExit)) {
        PyErr_WriteUnraisable(NULL);
        return;
    }
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
        PyErr_SetInterrupt();
    }
    PyErr_Clear();
}

PyObject *
tw_call_enter(PyObject *context)
{
    PyObject *copy;

    if (TW_LIKELY(PyContext_Enter(context) == 0)) {
        return Py_NewRef(context);
    }
    if (!PyErr_ExceptionMatches(PyExc_RuntimeError)) {
        return NULL;
    }
    /* A greenlet that waits inside a callback has entered it. */
    PyErr_Clear();
    copy = PyContext_Copy(context);
    if (copy == NULL || PyContext_Enter(copy) < 0) {
        Py_XDECREF(copy);
        return NULL;
    }
    return copy;
}

void
tw_call_leave(PyObject *entered_steal)
{
    PyObject *exc = tw_err_take();

    if (PyContext_Exit(entered_steal) < 0) {
        PyErr_WriteUnraisable(entered_steal);
    }
    Py_DECREF(entered_steal);
    tw_err_restore_steal(exc);
}

/* tw_call_enter(), unless `context` is NULL.  False with an exception. */
static inline bool
call_enter_before(PyObject *context, PyObject **entered)
{
    *entered = context == NULL ? NULL : tw_call_enter(context);
    return context == NULL || *entered != NULL;
}

/* Leave a context after a call; only a failed call has set an exception. */
static inline void
call_leave_after(PyObject *entered_steal, PyObject *result)
{
    if (entered_steal == NULL) {
        return;
    }
    if (TW_LIKELY(result != NULL)) {
        if (TW_UNLIKELY(PyContext_Exit(entered_steal) < 0)) {
            PyErr_WriteUnraisable(entered_steal);
        }
        Py_DECREF(entered_steal);
        return;
    }
    tw_call_leave(entered_steal);
}

PyObject *
tw_call_method(TwLoop *loop, PyObject *context, PyObject *name,
               PyObject *const *argv, size_t n)
{
    PyObject *result, *entered;

    if (!call_enter_before(context, &entered)) {
        return NULL;
    }
    tw_call_begin(loop);
    result = PyObject_VectorcallMethod(name, argv, n, NULL);
    call_leave_after(entered, result);
    tw_call_end(loop);
    return result;
}

PyObject *
tw_call(TwLoop *loop, PyObject *context, PyObject *callable,
        PyObject *const *argv, size_t nargs)
{
    PyObject *result, *entered;

    if (!call_enter_before(context, &entered)) {
        return NULL;
    }
    tw_call_begin(loop);
    result = PyObject_Vectorcall(
        callable, argv, nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    call_leave_after(entered, result);
    tw_call_end(loop);
    return result;
}

PyObject *
tw_call_handle(TwLoop *loop, PyObject *context, PyObject *callable,
               PyObject *const *argv, size_t nargs)
{
    PyObject *result, *entered;

    if (TW_UNLIKELY(PyContext_Enter(context) < 0)) {
        return NULL;
    }
    entered = Py_NewRef(context); /* the callback may free the handle */
    tw_call_begin(loop);
    result = PyObject_Vectorcall(
        callable, argv, nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    call_leave_after(entered, result);
    tw_call_end(loop);
    return result;
}

PyObject *
tw_call_plain(PyObject *callable, PyObject *const *argv, size_t n)
{
    return PyObject_Vectorcall(callable, argv, n, NULL);
}

PyObject *
tw_call_plain_method(PyObject *name, PyObject *const *argv, size_t n)
{
    return PyObject_VectorcallMethod(name, argv, n, NULL);
}

static PyObject *
call_error_context(const char *message, PyObject *exc, PyObject *transport,
                   PyObject *protocol)
{
    PyObject *context = Py_BuildValue("{sssO}", "message", message,
                                      "exception", exc);

    if (context != NULL
        && ((transport != NULL
             && PyDict_SetItemString(context, "transport", transport) < 0)
            || (protocol != NULL
                && PyDict_SetItemString(context, "protocol", protocol) < 0))) {
        Py_CLEAR(context);
    }
    return context;
}

tw_status
tw_call_report(TwLoop *loop, const char *message, PyObject *transport,
               PyObject *protocol)
{
    PyObject *exc, *context, *result = NULL;

    if (tw_call_must_leave()) {
        return -1;
    }
    /* The collector may run, and a finalizer may set another protocol. */
    Py_XINCREF(transport);
    Py_XINCREF(protocol);
    exc = tw_err_take();
    context = call_error_context(message, exc, transport, protocol);
    if (context != NULL) {
        PyObject *argv[] = {(PyObject *)loop, context};
        result = tw_call_method(loop, NULL,
                                loop->state->str.call_exception_handler, argv,
                                2);
    }
    Py_XDECREF(context);
    Py_XDECREF(exc);
    Py_XDECREF(protocol);
    Py_XDECREF(transport);
    return tw_call_reported_steal(result, (PyObject *)loop);
}

tw_status
tw_call_reported_steal(PyObject *result, PyObject *owner)
{
    if (tw_status_steal(result) == 0) {
        return 0;
    }
    if (tw_call_must_leave()) {
        return -1;
    }
    PyErr_WriteUnraisable(owner);
    return 0;
}

PyObject *
tw_call_with_first(PyObject *callable, PyObject *first, PyObject *const *args,
                   Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t total = nargs + (kwnames ? PyTuple_GET_SIZE(kwnames) : 0);
    PyObject **argv = PyMem_Malloc((size_t)(total + 1) * sizeof(*argv));
    PyObject *result;

    if (argv == NULL) {
        return PyErr_NoMemory();
    }
    argv[0] = first;
    for (Py_ssize_t i = 0; i < total; i++) {
        argv[1 + i] = args[i];
    }
    result = PyObject_Vectorcall(callable, argv, (size_t)nargs + 1, kwnames);
    PyMem_Free(argv);
    return result;
}

void
tw_call_flush_failed(PyObject *owner)
{
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
        PyErr_Clear();
        PyErr_SetInterrupt();
    }
    else {
        PyErr_WriteUnraisable(owner);
    }
}
