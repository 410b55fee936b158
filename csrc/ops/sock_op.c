#include "ops/sock_op.h"

#include "base/compat.h"
#include "base/errno.h"
#include "core/call.h"
#include "core/future.h"
#include "core/watcher.h"
#include "net/sock_object.h"
#include "net/userfd.h"
#include "ops/sock_coro.h"

#include <errno.h>
#include <limits.h>

/* -- life ----------------------------------------------------------------- */

TwSockOp *
tw_sock_op_new(TwLoop *loop, const TwSockKind *kind, PyObject *sock,
               PyObject *a1, PyObject *a2)
{
    PyTypeObject *type = loop->state->sock_op_type;
    TwSockOp *op = (TwSockOp *)type->tp_alloc(type, 0);

    if (op == NULL) {
        return NULL;
    }
    tw_call_flush(loop);
    op->loop = (TwLoop *)Py_NewRef((PyObject *)loop);
    op->kind = kind;
    op->sock = Py_NewRef(sock);
    op->args[0] = Py_XNewRef(a1);
    op->args[1] = Py_XNewRef(a2);
    op->fd = -1;
    op->plain = tw_sock_object_is_plain(loop->state, sock);
    return op;
}

/* Empty the descriptor's slot, if it still holds this operation. */
static void
op_clear_slot(TwSockOp *op)
{
    if (op->in_slot) {
        op->in_slot = false;
        tw_userfd_unset(op->loop, op->fd, op->kind->event, (PyObject *)op);
    }
}

static void
op_release(TwSockOp *op)
{
    if (op->view.obj != NULL) {
        PyBuffer_Release(&op->view);
    }
    Py_CLEAR(op->future);
    Py_CLEAR(op->value);
    Py_CLEAR(op->inner);
    Py_CLEAR(op->sock);
    Py_CLEAR(op->args[0]);
    Py_CLEAR(op->args[1]);
    Py_CLEAR(op->file.stream);
}

void
tw_sock_op_finish(TwSockOp *op)
{
    op_clear_slot(op);
    if (op->state != TW_OP_DONE) {
        op->state = TW_OP_DONE;
        if (op->kind->fini != NULL) {
            op->kind->fini(op);
        }
    }
    if (!op->in_turn) {
        op_release(op);
    }
}

/* The same, but keeps an exception that is set. */
static void
op_fail(TwSockOp *op)
{
    PyObject *exc = tw_err_take();

    tw_sock_op_finish(op);
    tw_err_restore_steal(exc);
}

int
tw_sock_op_fileno(TwSockOp *op)
{
    PyObject *obj = tw_call_plain_noargs(op->sock, TW_SOCK_NAME(op, fileno));
    long fd = -1;

    if (obj != NULL && PyLong_Check(obj)) {
        fd = PyLong_AsLong(obj);
    }
    Py_XDECREF(obj);
    if (PyErr_Occurred()) {
        tw_call_ignore_error();
        fd = -1;
    }
    return fd < 0 || fd > INT_MAX ? -1 : (int)fd;
}

/* -- waiting -------------------------------------------------------------- */

static tw_status op_on_ready(PyObject *self, unsigned events);

/* Set the descriptor's slot and make the future, which send() yields.  The
   future is borrowed; NULL with an exception. */
static PyObject *
op_wait(TwSockOp *op)
{
    TwLoop *loop = op->loop;

    op->fd = tw_sock_op_fileno(op);
    if (tw_userfd_check_fd(loop, op->fd, NULL) < 0) {
        return NULL;
    }
    op->future = tw_loop_new_future(loop);
    if (op->future == NULL
        || PyObject_SetAttr(op->future, /* allow: as await does */
                            loop->state->str._asyncio_future_blocking,
                            Py_True) < 0) {
        return NULL;
    }
    if (tw_userfd_set(loop, op->fd, op->kind->event, op->sock, (PyObject *)op,
                      op_on_ready) < 0) {
        return NULL;
    }
    op->in_slot = true;
    op->state = TW_OP_WAITING;
    if (op->kind->waits != NULL) {
        op->kind->waits(op);
    }
    return op->future;
}

/* Was the socket closed, and its number given to another one? */
static bool
op_lost_descriptor(TwSockOp *op, unsigned events)
{
    return events & TW_EV_BAD || tw_sock_op_fileno(op) != op->fd;
}

static TwTry
op_try_again(TwSockOp *op, unsigned events, PyObject **result)
{
    bool lost = op_lost_descriptor(op, events);

    if (op->state != TW_OP_WAITING) {
        return TW_TRY_AGAIN; /* the socket's fileno() closed the coroutine */
    }
    if (lost) {
        (void)tw_errno_raise(-EBADF);
        return TW_TRY_ERROR;
    }
    return op->kind->again(op, result);
}

/* The try succeeded: also set the result of the future, which was not done. */
static tw_status
op_resolve(TwSockOp *op, PyObject *value_steal)
{
    PyObject *argv[] = {op->future, value_steal};
    PyObject *none;

    Py_XSETREF(op->value, Py_NewRef(value_steal));
    none = tw_call_plain_method(op->loop->state->str.set_result, argv, 2);
    Py_DECREF(value_steal);
    return tw_status_steal(none) < 0
               ? tw_call_report(op->loop, "Error in a socket operation", NULL,
                                NULL)
               : 0;
}

/* The try failed: set the exception in the future. */
static tw_status
op_reject(TwSockOp *op)
{
    PyObject *exc;
    tw_status status;

    if (tw_call_must_leave()) {
        return -1;
    }
    exc = tw_err_take();
    status = tw_loop_reject(op->loop, op->future, exc);
    Py_XDECREF(exc);
    return status;
}

/* After the end of the data, or an error, the program closes the socket. */
static void
op_unwatch_after(TwSockOp *op, TwTry got)
{
    if (got == TW_TRY_DONE && op->kind->again_soon && op->pos > 0
        && op->in_slot) {
        op->in_slot = false;
        tw_userfd_done(op->loop, op->fd, op->kind->event, (PyObject *)op);
        return;
    }
    op_clear_slot(op);
}

/* The socket's own method closed the coroutine that waits for it. */
static tw_status
op_drop_outcome(TwTry got, PyObject *result_steal)
{
    if (got == TW_TRY_ERROR) {
        if (tw_call_must_leave()) {
            return -1;
        }
        PyErr_Clear();
    }
    Py_XDECREF(result_steal);
    return 0;
}

/* Nothing is read or written for a future that was cancelled before: the data
   belongs to the next operation. */
static tw_status
op_turn(TwSockOp *op, unsigned events)
{
    PyObject *result = NULL, *exc;
    tw_status status;
    TwTry got;

    if (op->state != TW_OP_WAITING
        || tw_loop_is_done(op->loop, op->future) != 0) {
        tw_call_ignore_error();
        op_clear_slot(op);
        return 0;
    }
    got = op_try_again(op, events, &result);
    if (got == TW_TRY_AGAIN) {
        return 0;
    }
    if (TW_UNLIKELY(op->state != TW_OP_WAITING)) {
        return op_drop_outcome(got, result);
    }
    if (got == TW_TRY_ERROR) {
        status = op_reject(op);
    }
    else {
        status = op_resolve(op, result);
    }
    exc = tw_err_take(); /* calls of the program's methods follow */
    op_unwatch_after(op, got);
    tw_err_restore_steal(exc);
    return status;
}

/* `running` is not set: the coroutine is suspended, and code that the try
   calls may close it.  What the try uses stays valid until it ends. */
static tw_status
op_on_ready(PyObject *self, unsigned events)
{
    TwSockOp *op = (TwSockOp *)self;
    bool nested = op->in_turn; /* the loop runs inside a call of a try */
    tw_status status;

    op->in_turn = true;
    status = op_turn(op, events);
    op->in_turn = nested;
    if (!nested && op->state == TW_OP_DONE) {
        PyObject *exc = tw_err_take();
        op_release(op);
        tw_err_restore_steal(exc);
    }
    return status;
}

/* -- running -------------------------------------------------------------- */

/* asyncio's checks of every operation, when its coroutine begins. */
static tw_status
op_check(TwSockOp *op)
{
    PyObject *argv[] = {(PyObject *)op->loop, op->sock};

    if (TW_LIKELY(op->plain && !op->loop->debug)) {
        return 0;
    }
    return tw_status_steal(
        tw_seam_call(op->loop->state, "check_sock", argv, 2));
}

static PySendResult op_drive_inner(TwSockOp *op, PyObject *arg,
                                   PyObject **result);

/* Turn the result of a try into the result of send(). */
static PySendResult
op_after_try(TwSockOp *op, TwTry got, PyObject **result)
{
    PyObject *future;

    switch (got) {
    case TW_TRY_DONE:
        tw_sock_op_finish(op);
        return PYGEN_RETURN;
    case TW_TRY_AWAIT:
        op->state = TW_OP_INNER;
        return op_drive_inner(op, Py_None, result);
    case TW_TRY_AGAIN:
        future = op_wait(op);
        if (future != NULL) {
            *result = Py_NewRef(future);
            return PYGEN_NEXT;
        }
        break;
    case TW_TRY_ERROR:
        break;
    }
    op_fail(op);
    *result = NULL;
    return PYGEN_ERROR;
}

/* The inner coroutine yielded, returned or raised. */
static PySendResult
op_after_inner(TwSockOp *op, PySendResult sent, PyObject **result)
{
    PyObject *value = *result;
    TwTry got = TW_TRY_ERROR;

    if (sent == PYGEN_NEXT) {
        return PYGEN_NEXT;
    }
    *result = NULL;
    if (sent == PYGEN_RETURN) {
        got = op->kind->inner_done(op, value, result);
        Py_DECREF(value);
    }
    return op_after_try(op, got, result);
}

static PySendResult
op_drive_inner(TwSockOp *op, PyObject *arg, PyObject **result)
{
    PyObject *inner = Py_NewRef(op->inner);
    PySendResult sent = PyIter_Send(inner, arg, result); /* allow: await */

    Py_DECREF(inner);
    return op_after_inner(op, sent, result);
}

static PySendResult
op_begin(TwSockOp *op, PyObject **result)
{
    *result = NULL;
    if (op_check(op) < 0) {
        return op_after_try(op, TW_TRY_ERROR, result);
    }
    return op_after_try(op, op->kind->begin(op, result), result);
}

/* The future is done: return its result. */
static PySendResult
op_resume(TwSockOp *op, PyObject **result)
{
    int done;

    *result = TW_TAKE(op->value);
    if (TW_LIKELY(*result != NULL)) {
        tw_sock_op_finish(op);
        return PYGEN_RETURN;
    }
    done = tw_loop_is_done(op->loop, op->future);
    if (done == 0) {
        PyErr_SetString(PyExc_RuntimeError, "await wasn't used with future");
    }
    else if (done > 0) {
        *result = tw_call_plain_noargs(op->future, TW_SOCK_NAME(op, result));
    }
    return op_after_try(op, *result == NULL ? TW_TRY_ERROR : TW_TRY_DONE,
                        result);
}

static PySendResult
op_send_running(TwSockOp *op, PyObject *arg, PyObject **result)
{
    switch (op->state) {
    case TW_OP_NEW:
        if (arg != Py_None) {
            PyErr_SetString(
                PyExc_TypeError,
                "can't send non-None value to a just-started coroutine");
            return PYGEN_ERROR;
        }
        return op_begin(op, result);
    case TW_OP_INNER:
        return op_drive_inner(op, arg, result);
    case TW_OP_WAITING:
        return op_resume(op, result);
    default:
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot reuse already awaited coroutine");
        return PYGEN_ERROR;
    }
}

static tw_status
op_enter(TwSockOp *op)
{
    if (op->running) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return -1;
    }
    op->running = true;
    return 0;
}

static PySendResult
op_leave(TwSockOp *op_steal, PySendResult sent)
{
    op_steal->running = false;
    if (sent == PYGEN_ERROR && PyErr_ExceptionMatches(PyExc_StopIteration)) {
        tw_sock_coro_rename_stop();
    }
    Py_DECREF(op_steal);
    return sent;
}

PySendResult
tw_sock_op_send(PyObject *self, PyObject *arg, PyObject **result)
{
    TwSockOp *op = (TwSockOp *)self;

    *result = NULL;
    if (op_enter(op) < 0) {
        return PYGEN_ERROR;
    }
    Py_INCREF(self);
    return op_leave(op, op_send_running(op, arg, result));
}

/* -- throw() and close() -------------------------------------------------- */

/* Set the exception that throw(type[, value[, traceback]]) means.  False: it
   means none, and a TypeError is set. */
static bool
op_set_thrown(PyObject *const *args, Py_ssize_t n)
{
    PyObject *type = args[0];
    PyObject *value = n > 1 && args[1] != Py_None ? args[1] : NULL;
    PyObject *tb = n > 2 && args[2] != Py_None ? args[2] : NULL;

    if (PyExceptionInstance_Check(type)) {
        if (value != NULL) {
            PyErr_SetString(PyExc_TypeError, "instance exception may not "
                                             "have a separate value");
            return false;
        }
        value = type;
        type = (PyObject *)Py_TYPE(value);
    }
    else if (!PyExceptionClass_Check(type)) {
        PyErr_Format(PyExc_TypeError,
                     "exceptions must be classes or instances deriving from "
                     "BaseException, not %s", Py_TYPE(type)->tp_name);
        return false;
    }
    if (tb == NULL && value != NULL && PyExceptionInstance_Check(value)) {
        PyErr_Restore(Py_NewRef(type), Py_NewRef(value),
                      PyException_GetTraceback(value));
        return true;
    }
    PyErr_Restore(Py_NewRef(type), Py_XNewRef(value), Py_XNewRef(tb));
    return true;
}

/* If the exception that is set is a StopIteration: clear it and return its
   value. */
static bool
op_stop_value(PyObject **value)
{
    PyObject *stop;

    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        return false;
    }
    stop = tw_err_take();
    *value = ((PyStopIterationObject *)stop)->value;
    *value = Py_NewRef(*value ? *value : Py_None);
    Py_DECREF(stop);
    return true;
}

/* Pass it to the inner coroutine, whose StopIteration has the value. */
static PySendResult
op_throw_inner(TwSockOp *op, PyObject *const *args, Py_ssize_t n,
               PyObject **result)
{
    PyObject *argv[4] = {op->inner};
    PySendResult sent = PYGEN_NEXT;

    for (Py_ssize_t i = 0; i < n; i++) {
        argv[i + 1] = args[i];
    }
    Py_INCREF(argv[0]);
    *result = tw_call_plain_method(op->loop->state->str.throw, argv,
                                   (size_t)n + 1);
    Py_DECREF(argv[0]);
    if (*result == NULL) {
        sent = op_stop_value(result) ? PYGEN_RETURN : PYGEN_ERROR;
    }
    return op_after_inner(op, sent, result);
}

PySendResult
tw_sock_op_throw(PyObject *self, PyObject *const *args, Py_ssize_t n,
                 PyObject **result)
{
    TwSockOp *op = (TwSockOp *)self;
    PySendResult sent = PYGEN_ERROR;

    *result = NULL;
    if (op_enter(op) < 0) {
        return PYGEN_ERROR;
    }
    Py_INCREF(self);
    if (op->state == TW_OP_INNER) {
        sent = op_throw_inner(op, args, n, result);
    }
    else if (op_set_thrown(args, n)) {
        if (op->state == TW_OP_DONE) {
            PyErr_SetString(PyExc_RuntimeError,
                            "cannot reuse already awaited coroutine");
        }
        else {
            PyObject *exc = tw_err_take();
            tw_sock_op_finish(op); /* without an exception set */
            tw_err_restore_steal(exc);
        }
    }
    return op_leave(op, sent);
}

tw_status
tw_sock_op_close(PyObject *self)
{
    TwSockOp *op = (TwSockOp *)self;
    PyObject *inner;
    tw_status status = 0;

    if (op_enter(op) < 0) {
        return -1;
    }
    Py_INCREF(self);
    inner = TW_TAKE(op->inner);
    tw_sock_op_finish(op);
    if (inner != NULL) {
        status = tw_status_steal(
            tw_call_plain_noargs(inner, TW_SOCK_NAME(op, close)));
        Py_DECREF(inner);
    }
    op->running = false;
    Py_DECREF(self);
    return status;
}
