#include "ops/sock_op.h"

#include "base/compat.h"
#include "core/call.h"
#include "core/watcher.h"
#include "net/poll.h"

#include <errno.h>
#include <limits.h>
#include <structmember.h>

/* -- life ------------------------------------------------------------------ */

TwSockOp *
tw_sock_op_new(TwLoop *loop, const TwSockKind *kind, PyObject *sock,
               PyObject *a1, PyObject *a2)
{
    PyTypeObject *type = loop->state->sock_op_type;
    TwSockOp *op = (TwSockOp *)type->tp_alloc(type, 0);

    if (op == NULL) {
        return NULL;
    }
    op->loop = (TwLoop *)Py_NewRef((PyObject *)loop);
    op->kind = kind;
    op->sock = Py_NewRef(sock);
    op->args[0] = Py_XNewRef(a1);
    op->args[1] = Py_XNewRef(a2);
    op->fd = -1;
    op->plain = (PyObject *)Py_TYPE(sock) == loop->state->socket_type;
    return op;
}

/* Give the poll slot back, if it is still ours. */
static void
op_leave_slot(TwSockOp *op)
{
    if (op->placed) {
        op->placed = false;
        tw_poll_unset(op->loop, op->fd, op->kind->event, (PyObject *)op);
    }
}

/* The caller holds a reference: the slot's may be the last but one. */
static void
op_finish(TwSockOp *op)
{
    op_leave_slot(op);
    if (op->state != TW_OP_DONE) {
        op->state = TW_OP_DONE;
        if (op->kind->fini != NULL) {
            op->kind->fini(op);
        }
    }
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

/* The same with an exception set, which stays. */
static void
op_fail(TwSockOp *op)
{
    PyObject *exc = tw_err_take();

    op_finish(op);
    tw_err_restore_steal(exc);
}

int
tw_sock_op_fileno(TwSockOp *op)
{
    PyObject *argv[] = {op->sock};
    PyObject *obj =
        tw_call_plain_method(op->loop->state->str.fileno, argv, 1);
    long fd = -1;

    if (obj != NULL && PyLong_Check(obj)) {
        fd = PyLong_AsLong(obj);
    }
    Py_XDECREF(obj);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        fd = -1;
    }
    return fd < 0 || fd > INT_MAX ? -1 : (int)fd;
}

/* -- waiting --------------------------------------------------------------- */

static tw_status op_on_ready(PyObject *self, unsigned events);

/* Take the poll slot and make the future: what send() yields (borrowed), or
   NULL with an exception. */
static PyObject *
op_wait(TwSockOp *op)
{
    TwLoop *loop = op->loop;

    op->fd = tw_sock_op_fileno(op);
    if (tw_poll_check_fd(loop, op->fd, NULL) < 0) {
        return NULL;
    }
    op->future = tw_loop_new_future(loop);
    if (op->future == NULL
        || PyObject_SetAttr(op->future,
                            loop->state->str._asyncio_future_blocking,
                            Py_True) < 0) {
        return NULL;
    }
    if (tw_poll_set(loop, op->fd, op->kind->event, op->sock, (PyObject *)op,
                    op_on_ready) < 0) {
        return NULL;
    }
    op->placed = true;
    op->state = TW_OP_WAITING;
    if (op->kind->waits != NULL) {
        op->kind->waits(op);
    }
    return op->future;
}

/* future.done(): 1, 0, or -1. */
static int
op_future_done(TwSockOp *op)
{
    PyObject *argv[] = {op->future};
    PyObject *done = tw_call_plain_method(op->loop->state->str.done, argv, 1);
    int result;

    if (done == NULL) {
        return -1;
    }
    result = PyObject_IsTrue(done);
    Py_DECREF(done);
    return result;
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
    if (op_lost_descriptor(op, events)) {
        errno = EBADF;
        PyErr_SetFromErrno(PyExc_OSError);
        return TW_TRY_ERROR;
    }
    return op->kind->again(op, result);
}

/* It succeeded: the future (not done yet) gets the value, too. */
static tw_status
op_resolve(TwSockOp *op)
{
    PyObject *argv[] = {op->future, op->value};
    PyObject *none =
        tw_call_plain_method(op->loop->state->str.set_result, argv, 2);

    if (none == NULL) {
        return tw_call_report(op->loop, "Error on a socket operation", NULL,
                              NULL);
    }
    Py_DECREF(none);
    return 0;
}

/* The try failed: the future gets what is set. */
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
    Py_DECREF(exc);
    return status;
}

/* In the turn.  Nothing is read or written for a future that was cancelled
   before: its data belong to the next operation. */
static tw_status
op_on_ready(PyObject *self, unsigned events)
{
    TwSockOp *op = (TwSockOp *)self;
    PyObject *result = NULL;
    tw_status status;
    TwTry got;

    if (op->state != TW_OP_WAITING || op_future_done(op) != 0) {
        PyErr_Clear();
        op_leave_slot(op);
        return 0;
    }
    got = op_try_again(op, events, &result);
    if (got == TW_TRY_AGAIN) {
        return 0;
    }
    if (got == TW_TRY_ERROR) {
        status = op_reject(op);
    }
    else {
        op->value = result;
        status = op_resolve(op);
    }
    op->placed = false;
    tw_poll_done(op->loop, op->fd, op->kind->event, self);
    return status;
}

/* -- running --------------------------------------------------------------- */

/* asyncio's checks of every operation, when its coroutine begins. */
static tw_status
op_check(TwSockOp *op)
{
    PyObject *argv[] = {(PyObject *)op->loop, op->sock};
    PyObject *none;

    if (TW_LIKELY(op->plain && !op->loop->debug)) {
        return 0;
    }
    none = tw_seam_call(op->loop->state, "check_sock", argv, 2);
    Py_XDECREF(none);
    return none == NULL ? -1 : 0;
}

static PySendResult op_drive_inner(TwSockOp *op, PyObject *arg,
                                   PyObject **result);

/* What a try means for the one who awaits. */
static PySendResult
op_after_try(TwSockOp *op, TwTry got, PyObject **result)
{
    PyObject *future;

    switch (got) {
    case TW_TRY_DONE:
        op_finish(op);
        return PYGEN_RETURN;
    case TW_TRY_INNER:
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

/* The inner coroutine answered: it yielded, returned or raised. */
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

/* Woken: the future's result is ours. */
static PySendResult
op_resume(TwSockOp *op, PyObject **result)
{
    PyObject *argv[] = {op->future};
    int done;

    *result = TW_TAKE(op->value);
    if (TW_LIKELY(*result != NULL)) {
        op_finish(op);
        return PYGEN_RETURN;
    }
    done = op_future_done(op);
    if (done == 0) {
        PyErr_SetString(PyExc_RuntimeError, "await wasn't used with future");
    }
    else if (done > 0) {
        *result = tw_call_plain_method(op->loop->state->str.result, argv, 1);
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
op_send(PyObject *self, PyObject *arg, PyObject **result)
{
    TwSockOp *op = (TwSockOp *)self;
    PySendResult sent;

    *result = NULL;
    if (op_enter(op) < 0) {
        return PYGEN_ERROR;
    }
    Py_INCREF(self);
    sent = op_send_running(op, arg, result);
    op->running = false;
    Py_DECREF(self);
    return sent;
}

/* -- the coroutine's methods ----------------------------------------------- */

static PyObject *
op_await(PyObject *self)
{
    TwSockOp *op = (TwSockOp *)self;

    if (op->state == TW_OP_WAITING || op->state == TW_OP_INNER) {
        PyErr_SetString(PyExc_RuntimeError,
                        "coroutine is being awaited already");
        return NULL;
    }
    return Py_NewRef(self);
}

static PyObject *
op_to_python(PySendResult sent, PyObject *result)
{
    if (sent == PYGEN_RETURN) {
        if (result == Py_None) {
            PyErr_SetNone(PyExc_StopIteration);
        }
        else {
            PyObject *argv[] = {result};
            PyObject *stop =
                tw_call_plain(PyExc_StopIteration, argv, 1);
            if (stop != NULL) {
                PyErr_SetObject(PyExc_StopIteration, stop);
                Py_DECREF(stop);
            }
        }
        Py_DECREF(result);
        return NULL;
    }
    return result;
}

static PyObject *
op_iternext(PyObject *self)
{
    PyObject *result;
    PySendResult sent = op_send(self, Py_None, &result);

    return op_to_python(sent, result);
}

static PyObject *
sock_op_meth_send(PyObject *self, PyObject *arg)
{
    PyObject *result;
    PySendResult sent = op_send(self, arg, &result);

    return op_to_python(sent, result);
}

/* Set the exception that throw(type[, value[, traceback]]) means. */
static void
op_set_thrown(PyObject *const *args, Py_ssize_t n)
{
    PyObject *type = args[0];
    PyObject *value = n > 1 && args[1] != Py_None ? args[1] : NULL;
    PyObject *tb = n > 2 && args[2] != Py_None ? args[2] : NULL;

    if (PyExceptionInstance_Check(type)) {
        if (value != NULL) {
            PyErr_SetString(PyExc_TypeError, "instance exception may not "
                                             "have a separate value");
            return;
        }
        value = type;
        type = (PyObject *)Py_TYPE(value);
    }
    else if (!PyExceptionClass_Check(type)) {
        PyErr_Format(PyExc_TypeError,
                     "exceptions must be classes or instances deriving from "
                     "BaseException, not %s", Py_TYPE(type)->tp_name);
        return;
    }
    if (tb == NULL && value != NULL && PyExceptionInstance_Check(value)) {
        PyErr_Restore(Py_NewRef(type), Py_NewRef(value),
                      PyException_GetTraceback(value));
        return;
    }
    PyErr_Restore(Py_NewRef(type), Py_XNewRef(value), Py_XNewRef(tb));
}

/* Is the exception that is set a StopIteration?  Then it is taken, and its
   value given. */
static bool
op_take_stop(PyObject **value)
{
    PyObject *stop;

    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        return false;
    }
    stop = tw_err_take();
    *value = Py_XNewRef(((PyStopIterationObject *)stop)->value);
    if (*value == NULL) {
        *value = Py_NewRef(Py_None);
    }
    Py_DECREF(stop);
    return true;
}

/* The inner coroutine gets it; its StopIteration is its value. */
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
        sent = op_take_stop(result) ? PYGEN_RETURN : PYGEN_ERROR;
    }
    return op_after_inner(op, sent, result);
}

static PyObject *
sock_op_meth_throw(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    TwSockOp *op = (TwSockOp *)self;
    PyObject *result = NULL;
    PySendResult sent = PYGEN_ERROR;

    if (n < 1 || n > 3) {
        PyErr_SetString(PyExc_TypeError, "throw() takes 1 to 3 arguments");
        return NULL;
    }
    if (op_enter(op) < 0) {
        return NULL;
    }
    Py_INCREF(self);
    if (op->state == TW_OP_INNER) {
        sent = op_throw_inner(op, args, n, &result);
    }
    else if (op->state == TW_OP_DONE) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot reuse already awaited coroutine");
    }
    else {
        op_finish(op);
        op_set_thrown(args, n);
    }
    op->running = false;
    Py_DECREF(self);
    return op_to_python(sent, result);
}

static PyObject *
sock_op_meth_close(PyObject *self, PyObject *Py_UNUSED(unused))
{
    TwSockOp *op = (TwSockOp *)self;
    PyObject *inner, *none = NULL;

    if (op_enter(op) < 0) {
        return NULL;
    }
    Py_INCREF(self);
    inner = TW_TAKE(op->inner);
    op_finish(op);
    if (inner != NULL) {
        PyObject *argv[] = {inner};
        none = tw_call_plain_method(op->loop->state->str.close, argv, 1);
        Py_DECREF(inner);
    }
    else {
        none = Py_NewRef(Py_None);
    }
    op->running = false;
    Py_DECREF(self);
    return none;
}

/* -- the type -------------------------------------------------------------- */

static int
sock_op_traverse(PyObject *self, visitproc visit, void *arg)
{
    TwSockOp *op = (TwSockOp *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(op->loop);
    Py_VISIT(op->sock);
    Py_VISIT(op->args[0]);
    Py_VISIT(op->args[1]);
    Py_VISIT(op->future);
    Py_VISIT(op->value);
    Py_VISIT(op->inner);
    Py_VISIT(op->file.stream);
    Py_VISIT(op->view.obj);
    return 0;
}

static int
sock_op_clear(PyObject *self)
{
    op_finish((TwSockOp *)self);
    return 0;
}

static void
sock_op_finalize(PyObject *self)
{
    TwSockOp *op = (TwSockOp *)self;
    PyObject *exc;

    if (op->state != TW_OP_NEW) {
        return;
    }
    exc = tw_err_take();
    op->state = TW_OP_DONE;
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                         "coroutine 'Loop.%s' was never awaited",
                         op->kind->name) < 0) {
        PyErr_WriteUnraisable(self);
    }
    if (exc != NULL) {
        tw_err_restore_steal(exc);
    }
}

static void
sock_op_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    TwSockOp *op = (TwSockOp *)self;

    if (op->state == TW_OP_NEW && PyObject_CallFinalizerFromDealloc(self)) {
        return; /* the warning's handler kept it */
    }
    PyObject_GC_UnTrack(self);
    if (op->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    op_finish(op);
    Py_CLEAR(op->loop);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
sock_op_repr(PyObject *self)
{
    return PyUnicode_FromFormat("<coroutine object Loop.%s at %p>",
                                ((TwSockOp *)self)->kind->name, self);
}

static PyObject *
sock_op_get_name(PyObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(((TwSockOp *)self)->kind->name);
}

static PyObject *
sock_op_get_qualname(PyObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromFormat("Loop.%s", ((TwSockOp *)self)->kind->name);
}

static PyObject *
sock_op_get_running(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((TwSockOp *)self)->running);
}

static PyObject *
sock_op_get_suspended(PyObject *self, void *Py_UNUSED(closure))
{
    TwSockOp *op = (TwSockOp *)self;

    return PyBool_FromLong(!op->running
                           && (op->state == TW_OP_WAITING
                               || op->state == TW_OP_INNER));
}

static PyObject *
sock_op_get_await(PyObject *self, void *Py_UNUSED(closure))
{
    TwSockOp *op = (TwSockOp *)self;
    PyObject *awaited = op->state == TW_OP_INNER ? op->inner : op->future;

    return Py_NewRef(awaited == NULL ? Py_None : awaited);
}

/* There is no frame, and no code. */
static PyObject *
sock_op_get_none(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    Py_RETURN_NONE;
}

static PyGetSetDef sock_op_getset[] = {
    {"__name__", sock_op_get_name, NULL, NULL, NULL},
    {"__qualname__", sock_op_get_qualname, NULL, NULL, NULL},
    {"cr_running", sock_op_get_running, NULL, NULL, NULL},
    {"cr_suspended", sock_op_get_suspended, NULL, NULL, NULL},
    {"cr_await", sock_op_get_await, NULL, NULL, NULL},
    {"cr_frame", sock_op_get_none, NULL, NULL, NULL},
    {"cr_code", sock_op_get_none, NULL, NULL, NULL},
    {"cr_origin", sock_op_get_none, NULL, NULL, NULL},
    {NULL},
};

static PyMethodDef sock_op_methods[] = {
    {"send", sock_op_meth_send, METH_O,
     "send($self, arg, /)\n--\n\nRun until the next yield or the end."},
    {"throw", (PyCFunction)(void (*)(void))sock_op_meth_throw, METH_FASTCALL,
     "throw($self, type, value=None, traceback=None, /)\n--\n\n"
     "Raise in the operation: it gives up what it waits for."},
    {"close", sock_op_meth_close, METH_NOARGS,
     "close($self, /)\n--\n\nGive up what the operation waits for."},
    {NULL},
};

static PyMemberDef sock_op_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(TwSockOp, weakrefs), READONLY,
     NULL},
    {NULL},
};

static PyType_Slot sock_op_slots[] = {
    {Py_tp_dealloc, sock_op_dealloc},
    {Py_tp_traverse, sock_op_traverse},
    {Py_tp_clear, sock_op_clear},
    {Py_tp_finalize, sock_op_finalize},
    {Py_tp_repr, sock_op_repr},
    {Py_tp_methods, sock_op_methods},
    {Py_tp_getset, sock_op_getset},
    {Py_tp_members, sock_op_members},
    {Py_am_await, op_await},
    {Py_am_send, op_send},
    {Py_tp_iternext, op_iternext},
    {Py_tp_doc, "An awaitable socket operation of a Loop."},
    {0, NULL},
};

static PyType_Spec sock_op_spec = {
    .name = "tidewire._core.SockOp",
    .basicsize = sizeof(TwSockOp),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = sock_op_slots,
};

tw_status
tw_sock_op_setup(tw_state *state, PyObject *Py_UNUSED(module))
{
    return tw_state_add_type(state, &state->sock_op_type, &sock_op_spec, NULL,
                             0);
}
