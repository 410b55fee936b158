/* The Python type of an awaitable socket operation: a coroutine. */
#include "ops/sock_coro.h"

#include <structmember.h>

#include "base/compat.h"
#include "core/call.h"

void
tw_sock_coro_rename_stop(void)
{
    PyObject *stop = tw_err_take(), *exc;

    PyErr_SetString(PyExc_RuntimeError, "coroutine raised StopIteration");
    exc = tw_err_take();
    PyException_SetCause(exc, Py_XNewRef(stop));
    PyException_SetContext(exc, stop);
    tw_err_restore_steal(exc);
}

static PyObject *
coro_await(PyObject *self)
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
coro_to_python(PySendResult sent, PyObject *result)
{
    if (sent == PYGEN_RETURN) {
        if (result == Py_None) {
            PyErr_SetNone(PyExc_StopIteration);
        }
        else {
            PyObject *stop = tw_call_plain(PyExc_StopIteration, &result, 1);
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
sock_coro_meth_send(PyObject *self, PyObject *arg)
{
    PyObject *result;
    PySendResult sent = tw_sock_op_send(self, arg, &result);

    return coro_to_python(sent, result);
}

static PyObject *
coro_iternext(PyObject *self)
{
    return sock_coro_meth_send(self, Py_None);
}

static PyObject *
sock_coro_meth_throw(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    PyObject *result;
    PySendResult sent;

    if (n < 1 || n > 3) {
        PyErr_SetString(PyExc_TypeError, "throw() takes 1 to 3 arguments");
        return NULL;
    }
    sent = tw_sock_op_throw(self, args, n, &result);
    return coro_to_python(sent, result);
}

static PyObject *
sock_coro_meth_close(PyObject *self, PyObject *Py_UNUSED(unused))
{
    return tw_none_or_error(tw_sock_op_close(self));
}

/* -- the type ------------------------------------------------------------- */

static int
sock_coro_traverse(PyObject *self, visitproc visit, void *arg)
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
sock_coro_clear(PyObject *self)
{
    tw_sock_op_finish((TwSockOp *)self);
    return 0;
}

static void
sock_coro_finalize(PyObject *self)
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
    tw_err_restore_steal(exc);
}

static void
sock_coro_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    TwSockOp *op = (TwSockOp *)self;

    if (op->state == TW_OP_NEW
        && PyObject_CallFinalizerFromDealloc(self) < 0) { /* allow */
        return; /* the warning's handler keeps it */
    }
    PyObject_GC_UnTrack(self);
    if (op->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    tw_sock_op_finish(op);
    Py_CLEAR(op->loop);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
sock_coro_repr(PyObject *self)
{
    return PyUnicode_FromFormat("<coroutine object Loop.%s at %p>",
                                ((TwSockOp *)self)->kind->name, self);
}

static PyObject *
sock_coro_get_name(PyObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(((TwSockOp *)self)->kind->name);
}

static PyObject *
sock_coro_get_qualname(PyObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromFormat("Loop.%s", ((TwSockOp *)self)->kind->name);
}

static PyObject *
sock_coro_get_running(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((TwSockOp *)self)->running);
}

static PyObject *
sock_coro_get_suspended(PyObject *self, void *Py_UNUSED(closure))
{
    TwSockOp *op = (TwSockOp *)self;

    return PyBool_FromLong(!op->running
                           && (op->state == TW_OP_WAITING
                               || op->state == TW_OP_INNER));
}

static PyObject *
sock_coro_get_await(PyObject *self, void *Py_UNUSED(closure))
{
    TwSockOp *op = (TwSockOp *)self;
    PyObject *awaited = op->state == TW_OP_INNER ? op->inner : op->future;

    return Py_NewRef(awaited == NULL ? Py_None : awaited);
}

/* There is no frame, and no code. */
static PyObject *
sock_coro_get_none(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    Py_RETURN_NONE;
}

static PyGetSetDef sock_coro_getset[] = {
    {"__name__", sock_coro_get_name, NULL, NULL, NULL},
    {"__qualname__", sock_coro_get_qualname, NULL, NULL, NULL},
    {"cr_running", sock_coro_get_running, NULL, NULL, NULL},
    {"cr_suspended", sock_coro_get_suspended, NULL, NULL, NULL},
    {"cr_await", sock_coro_get_await, NULL, NULL, NULL},
    {"cr_frame", sock_coro_get_none, NULL, NULL, NULL},
    {"cr_code", sock_coro_get_none, NULL, NULL, NULL},
    {"cr_origin", sock_coro_get_none, NULL, NULL, NULL},
    {NULL},
};

static PyMethodDef sock_coro_methods[] = {
    {"send", sock_coro_meth_send, METH_O,
     "send($self, arg, /)\n--\n\nRun until the next yield or the end."},
    {"throw", TW_FAST(sock_coro_meth_throw), METH_FASTCALL,
     "throw($self, type, value=None, traceback=None, /)\n--\n\n"
     "Raise an exception in the operation, which stops waiting."},
    {"close", sock_coro_meth_close, METH_NOARGS,
     "close($self, /)\n--\n\nStop waiting."},
    {NULL},
};

static PyMemberDef sock_coro_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(TwSockOp, weakrefs), READONLY,
     NULL},
    {NULL},
};

static PyType_Slot sock_coro_slots[] = {
    {Py_tp_dealloc, sock_coro_dealloc},
    {Py_tp_traverse, sock_coro_traverse},
    {Py_tp_clear, sock_coro_clear},
    {Py_tp_finalize, sock_coro_finalize},
    {Py_tp_repr, sock_coro_repr},
    {Py_tp_methods, sock_coro_methods},
    {Py_tp_getset, sock_coro_getset},
    {Py_tp_members, sock_coro_members},
    {Py_am_await, coro_await},
    {Py_am_send, tw_sock_op_send},
    {Py_tp_iternext, coro_iternext},
    {Py_tp_doc, (void *)"An awaitable socket operation of a Loop."},
    {0, NULL},
};

static PyType_Spec sock_coro_spec = {
    .name = "tidewire._core.SockOp",
    .basicsize = sizeof(TwSockOp),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = sock_coro_slots,
};

tw_status
tw_sock_coro_setup(tw_state *state, PyObject *Py_UNUSED(module))
{
    return tw_state_add_type(state, &state->sock_op_type, &sock_coro_spec,
                             NULL, 0);
}
