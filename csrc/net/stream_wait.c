/* The waiter for an empty queue: sendfile begins when everything written
   before is sent. */
#include "base/compat.h"
#include "core/future.h"
#include "net/hold.h"
#include "net/stream_methods.h"

void
tw_stream_settle_waiter(TwStream *self, PyObject *exc)
{
    TwLoop *loop = self->base.loop;
    PyObject *waiter = self->empty_waiter;
    tw_status status;

    if (waiter == NULL) {
        return;
    }
    status = exc ? tw_loop_reject(loop, waiter, exc)
                 : tw_loop_resolve(loop, waiter, Py_None);
    if (status < 0) {
        PyErr_WriteUnraisable(waiter);
    }
}

static PyObject *
stream_meth_make_empty_waiter(PyObject *op, PyObject *unused)
{
    TwStream *self = (TwStream *)op;

    if (self->empty_waiter != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Empty waiter is already set");
        return NULL;
    }
    if (tw_hold_flush(&self->base) < 0) {
        return NULL;
    }
    self->empty_waiter = tw_loop_new_future(self->base.loop);
    if (self->empty_waiter == NULL) {
        return NULL;
    }
    if (self->queue.count == 0) {
        tw_stream_settle_waiter(self, NULL);
    }
    return Py_NewRef(self->empty_waiter);
}

static PyObject *
stream_meth_reset_empty_waiter(PyObject *op, PyObject *unused)
{
    Py_CLEAR(((TwStream *)op)->empty_waiter);
    Py_RETURN_NONE;
}

void
tw_stream_lost(TwTransport *base, PyObject *Py_UNUSED(exc))
{
    TwStream *self = (TwStream *)base;
    PyObject *failure;

    if (self->empty_waiter == NULL) {
        return;
    }
    PyErr_SetString(PyExc_ConnectionError, "Connection is closed by peer");
    failure = tw_err_take();
    tw_stream_settle_waiter(self, failure);
    Py_DECREF(failure);
}

PyMethodDef tw_stream_wait_methods[] = {
    {"_make_empty_waiter", stream_meth_make_empty_waiter, METH_NOARGS, NULL},
    {"_reset_empty_waiter", stream_meth_reset_empty_waiter, METH_NOARGS,
     NULL},
    {NULL},
};
