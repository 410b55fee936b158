/* Writing of stream transports: functions for net/out.c, and the methods. */
#include <errno.h>
#include <sys/socket.h>

#include "base/args.h"
#include "base/compat.h"
#include "base/sys.h"
#include "net/hold.h"
#include "net/stream_methods.h"

/* -- operations for the output queue -------------------------------------- */

static tw_uverr
stream_send(TwTransport *base, struct iovec *iov, int n)
{
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)n};
    ssize_t sent;

    do {
        sent = n == 1 ? send(base->fd, iov->iov_base, iov->iov_len,
                             TW_MSG_NOSIGNAL)
                      : sendmsg(base->fd, &msg, TW_MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        return errno == EAGAIN ? 0 : -errno;
    }
    return sent;
}

static void
stream_failed(TwTransport *base)
{
    tw_stream_settle_waiter((TwStream *)base, base->lost_exc
                                                  ? base->lost_exc
                                                  : PyExc_ConnectionError);
}

static tw_status
stream_drained(TwTransport *base)
{
    tw_stream_settle_waiter((TwStream *)base, NULL);
    if (base->flags & TW_F_CLOSING) {
        return base->conn_lost ? 0 : tw_transport_call_lost(base);
    }
    if (base->flags & TW_F_EOF_SENT) {
        shutdown(base->fd, SHUT_WR);
    }
    return 0;
}

const TwOutOps tw_stream_out_ops = {
    .fatal = "Fatal write error on socket transport",
    .send = stream_send,
    .drained = stream_drained,
    .failed = stream_failed,
};

/* -- methods -------------------------------------------------------------- */

/* asyncio's checks of write() and writelines().  1: write; 0: nothing to do (a
   lost connection: counted, and a warning from the fifth time on); -1. */
static int
write_check(TwStream *self, const char *method)
{
    if (self->base.flags & TW_F_EOF_SENT) {
        PyErr_Format(PyExc_RuntimeError,
                     "Cannot call %s() after write_eof()", method);
        return -1;
    }
    if (self->empty_waiter != NULL) {
        PyErr_Format(PyExc_RuntimeError,
                     "unable to %s; sendfile is in progress", method);
        return -1;
    }
    return 1;
}

static tw_status
write_to_lost(TwStream *self)
{
    return tw_transport_warn_lost(self->base.loop, self->base.conn_lost++,
                                  TW_TRANSPORT_LOST);
}

/* Memory that may change after write() has returned, or an instance of a
   subclass of bytes (its deallocation may run Python). */
static tw_status
write_view(TwStream *self, PyObject *data)
{
    Py_buffer view;
    tw_status status = 0;

    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    if (view.len > 0) {
        status = tw_out_write_copy((TwOut *)self, view.buf, (size_t)view.len);
    }
    PyBuffer_Release(&view);
    return status;
}

static PyObject *
stream_meth_write(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    TwStream *self = (TwStream *)op;
    PyObject *data = tw_args_one("write", "data", args, nargs, kwnames);
    tw_status status;

    if (data == NULL) {
        return NULL;
    }
    if (!PyBytes_Check(data) && !PyByteArray_Check(data)
        && !PyMemoryView_Check(data)) {
        tw_args_refuse(
            "data argument must be a bytes-like object, not '%U'", data);
        return NULL;
    }
    if (write_check(self, "write") < 0) {
        return NULL;
    }
    if (PyBytes_Check(data) && PyBytes_GET_SIZE(data) == 0) {
        Py_RETURN_NONE;
    }
    if (self->base.conn_lost > 0) {
        int truth = PyObject_IsTrue(data);
        status = truth > 0 ? write_to_lost(self) : truth;
    }
    else if (TW_LIKELY(PyBytes_CheckExact(data))) {
        status = tw_out_write((TwOut *)self, data);
    }
    else {
        status = write_view(self, data);
    }
    return tw_none_or_error(status);
}

/* A new reference.  A program's __buffer__ may remove `item` from its list
   meanwhile. */
static PyObject *
write_piece(PyObject *item)
{
    PyObject *piece = NULL;

    if (PyBytes_CheckExact(item)) {
        return Py_NewRef(item);
    }
    Py_INCREF(item);
    if (PyObject_CheckBuffer(item)) {
        piece = PyBytes_FromObject(item);
    }
    else {
        PyErr_Format(PyExc_TypeError,
                     "a bytes-like object is required, not '%.200s'",
                     Py_TYPE(item)->tp_name);
    }
    Py_DECREF(item);
    return piece;
}

/* Each piece as a bytes object: a new list. */
static PyObject *
write_pieces(PyObject *lines)
{
    PyObject *fast = PySequence_Fast(lines, "can only join an iterable");
    PyObject *pieces = fast ? PyList_New(0) : NULL;

    for (Py_ssize_t i = 0; pieces && i < PySequence_Fast_GET_SIZE(fast);
         i++) {
        PyObject *piece = write_piece(PySequence_Fast_GET_ITEM(fast, i));

        if (piece == NULL || PyList_Append(pieces, piece) < 0) {
            Py_CLEAR(pieces);
        }
        Py_XDECREF(piece);
    }
    Py_XDECREF(fast);
    return pieces;
}

static PyObject *
stream_meth_writelines(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames)
{
    TwStream *self = (TwStream *)op;
    PyObject *lines =
        tw_args_one("writelines", "list_of_data", args, nargs, kwnames);
    PyObject *pieces;
    tw_status status;

    if (lines == NULL || write_check(self, "writelines") < 0) {
        return NULL;
    }
    pieces = write_pieces(lines);
    if (pieces == NULL) {
        return NULL;
    }
    if (PyList_GET_SIZE(pieces) == 0) {
        status = 0;
    }
    else if (self->base.conn_lost > 0) {
        status = write_to_lost(self);
    }
    else {
        status = tw_out_write_list((TwOut *)self, pieces);
    }
    Py_DECREF(pieces);
    return tw_none_or_error(status);
}

static PyObject *
stream_meth_write_eof(PyObject *op, PyObject *unused)
{
    TwStream *self = (TwStream *)op;

    if (tw_hold_flush(&self->base) < 0) {
        return NULL;
    }
    if (self->base.flags & (TW_F_CLOSING | TW_F_EOF_SENT)) {
        Py_RETURN_NONE;
    }
    self->base.flags |= TW_F_EOF_SENT;
    if (self->queue.count == 0 && shutdown(self->base.fd, SHUT_WR) < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

PyMethodDef tw_stream_write_methods[] = {
    {"write", TW_FAST(stream_meth_write), TW_FASTKW, PyDoc_STR(
"write($self, /, data)\n--\n\n"
"Send bytes, bytearray or memoryview; never blocks.\n\n"
"Data that cannot be sent at once waits (see set_write_buffer_limits).\n"
"TypeError for another type; RuntimeError after write_eof() or during\n"
"sendfile.  On a lost connection nothing happens.\n"
"See library/asyncio-protocol.")},
    {"writelines", TW_FAST(stream_meth_writelines), TW_FASTKW, PyDoc_STR(
"writelines($self, /, list_of_data)\n--\n\n"
"write() of each item of an iterable, with one system call where possible.\n\n"
"Errors are those of write().  See library/asyncio-protocol.")},
    {"write_eof", stream_meth_write_eof, METH_NOARGS, PyDoc_STR(
"write_eof($self, /)\n--\n\n"
"Send what waits, then end our side of the connection (half close).\n\n"
"Data can still be received; another write() is a RuntimeError.\n"
"See library/asyncio-protocol.")},
    {NULL},
};
