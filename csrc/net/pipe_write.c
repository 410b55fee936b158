/* The writing end of a pipe.  Nothing is held (net/hold.h): the program has
   the file, and others may write to the same pipe. */
#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/args.h"
#include "base/errno.h"
#include "net/pipe.h"

#define PIPE_FATAL_WRITE "Fatal write error on pipe transport"
#define PIPE_LOST                                                             \
    "pipe closed by peer or os.write(pipe, data) raised exception."

/* The peer's end, and room if bytes wait. */
static unsigned
pipe_write_wants(const TwTransport *base)
{
    const TwPipe *self = (const TwPipe *)base;

    if (!(base->flags & TW_F_STARTED)) {
        return 0;
    }
    return (self->ends_on_read ? TW_EV_READ : 0)
           | (self->queue.bytes > 0 ? TW_EV_WRITE : 0);
}

/* -- operations for the output queue -------------------------------------- */

static tw_uverr
pipe_send(TwTransport *base, struct iovec *iov, int n)
{
    ssize_t done;

    do {
        done = n == 1 ? write(base->fd, iov->iov_base, iov->iov_len)
                      : writev(base->fd, iov, n);
    } while (done < 0 && errno == EINTR);
    if (done < 0) {
        if (errno == EAGAIN) {
            return 0;
        }
        ((TwPipe *)base)->refused++;
        return -errno;
    }
    return done;
}

static tw_status
pipe_drained(TwTransport *base)
{
    if (base->flags & TW_F_CLOSING
        && !(base->flags & (TW_F_LOST_SCHEDULED | TW_F_LOST))) {
        return tw_transport_call_lost(base);
    }
    return 0;
}

static const TwOutOps pipe_out_ops = {
    .fatal = PIPE_FATAL_WRITE,
    .send = pipe_send,
    .drained = pipe_drained,
    .resume_when_empty = true,
};

static tw_status
pipe_write(TwPipe *self, PyObject *data, const Py_buffer *view)
{
    if (view->len == 0) {
        return 0;
    }
    if (self->base.conn_lost || !tw_transport_is_open(&self->base)) {
        return tw_transport_warn_lost(self->base.loop, self->refused++,
                                      PIPE_LOST);
    }
    if (PyBytes_CheckExact(data)) {
        return tw_out_write((TwOut *)self, data);
    }
    return tw_out_write_copy((TwOut *)self, view->buf, (size_t)view->len);
}

/* -- events of the descriptor --------------------------------------------- */

static tw_status
pipe_peer_closed(TwPipe *self)
{
    PyObject *exc = NULL;
    tw_status status;

    if (tw_pipe_log(self, "info", "%r was closed by peer") < 0) {
        return -1;
    }
    if (self->queue.bytes > 0) {
        exc = PyObject_CallNoArgs(PyExc_BrokenPipeError); /* allow: builtin */
        if (exc == NULL) {
            return tw_transport_report_call(&self->base, "_read_ready");
        }
    }
    status = tw_transport_force_close(&self->base, exc);
    Py_XDECREF(exc);
    return status;
}

static tw_status
pipe_write_on_ready(PyObject *op, unsigned events)
{
    TwPipe *self = (TwPipe *)op;

    if (self->base.flags & (TW_F_LOST_SCHEDULED | TW_F_LOST)) {
        return 0;
    }
    if (events & TW_EV_BAD) {
        return tw_transport_fatal_errno(
            &self->base, fcntl(self->base.fd, F_GETFD) < 0 ? -EBADF : -EPERM,
            PIPE_FATAL_WRITE);
    }
    if (self->ends_on_read && events & (TW_EV_READ | TW_EV_ERROR)) {
        return pipe_peer_closed(self);
    }
    return tw_out_on_writable((TwOut *)self);
}

/* -- end ------------------------------------------------------------------ */

static const TwTransportOps pipe_write_ops = {
    .step = TW_TRANSPORT_STEP,
    .buffer_size = tw_out_size,
    .buffer_clear = tw_out_clear,
    .out = &pipe_out_ops,
    .wants = pipe_write_wants,
    .lost = tw_pipe_lost,
};

const TwPipeKind tw_pipe_write_kind = {
    .ops = &pipe_write_ops,
    .on_ready = pipe_write_on_ready,
    .writing = true,
};

/* close() and write_eof(): refuse further writes, and call connection_lost
   when all bytes are sent.  Until then the peer's end is watched. */
static tw_status
pipe_write_eof(TwPipe *self)
{
    if (!tw_transport_is_open(&self->base)) {
        return 0;
    }
    self->base.flags |= TW_F_CLOSING | TW_F_EOF_SENT;
    if (self->queue.bytes > 0) {
        return 0;
    }
    if (tw_loop_check_open(self->base.loop) < 0) {
        return -1;
    }
    return tw_transport_force_close(&self->base, NULL);
}

/* -- methods and attributes ----------------------------------------------- */

static PyObject *
write_pipe_meth_write(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames)
{
    PyObject *data = tw_args_one("write", "data", args, nargs, kwnames);
    Py_buffer view;
    tw_status status;

    if (data == NULL) {
        return NULL;
    }
    if (!PyBytes_Check(data) && !PyByteArray_Check(data)
        && !PyMemoryView_Check(data)) {
        PyErr_Format(PyExc_AssertionError, "%R", data);
        return NULL;
    }
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    status = pipe_write((TwPipe *)op, data, &view);
    PyBuffer_Release(&view);
    return tw_none_or_error(status);
}

static PyObject *
write_pipe_meth_write_eof(PyObject *op, PyObject *Py_UNUSED(unused))
{
    TwTransport *base = (TwTransport *)op;
    unsigned before = base->flags;

    return pipe_write_eof((TwPipe *)op) < 0
               ? NULL
               : tw_transport_closed(base, before);
}

static PyObject *
write_pipe_repr(PyObject *op)
{
    TwPipe *self = (TwPipe *)op;
    const char *name = TW_TYPE_NAME(op), *state = tw_pipe_state(self);

    if (self->base.fd < 0 || self->base.loop->closed) {
        return PyUnicode_FromFormat("<%s %sfd=%d %s>", name, state,
                                    self->fileno,
                                    self->base.fd < 0 ? "closed" : "open");
    }
    return PyUnicode_FromFormat(
        "<%s %sfd=%d %s bufsize=%zu>", name, state, self->fileno,
        self->queue.bytes > 0 ? "polling" : "idle", self->queue.bytes);
}

static PyMethodDef write_pipe_methods[] = {
    {"close", write_pipe_meth_write_eof, METH_NOARGS, tw_transport_doc_close},
    {"write", TW_FAST(write_pipe_meth_write), TW_FASTKW, PyDoc_STR(
"write($self, /, data)\n--\n\n"
"Send bytes, bytearray or memoryview; never blocks.\n\n"
"Data that cannot be sent at once waits (see set_write_buffer_limits).\n"
"AssertionError for another type, as in asyncio.  On a closing or lost pipe\n"
"nothing happens.  See library/asyncio-protocol.")},
    {"write_eof", write_pipe_meth_write_eof, METH_NOARGS, PyDoc_STR(
"write_eof($self, /)\n--\n\n"
"Close when everything is written.  See library/asyncio-protocol.")},
    {"can_write_eof", tw_transport_meth_true, METH_NOARGS,
     tw_transport_doc_can_write_eof},
    {NULL},
};

static PyMethodDef *const write_pipe_method_tables[] = {
    tw_transport_methods,
    tw_transport_write_methods,
    write_pipe_methods,
    NULL,
};

PyDoc_STRVAR(doc_write_pipe,
             "The writing end of a pipe: connect_write_pipe().");

static PyType_Slot write_pipe_slots[] = {
    {Py_tp_doc, (void *)doc_write_pipe},
    {Py_tp_dealloc, tw_pipe_dealloc},
    {Py_tp_finalize, tw_transport_finalize},
    {Py_tp_traverse, tw_transport_traverse},
    {Py_tp_clear, tw_pipe_clear},
    {Py_tp_repr, write_pipe_repr},
    {Py_tp_getset, tw_pipe_write_getset},
    {Py_tp_members, tw_transport_members},
    {0, NULL},
};

static PyType_Spec write_pipe_spec =
    TW_TYPE_SPEC("WritePipeTransport", TwPipe, write_pipe_slots);

tw_status
tw_pipe_write_setup(tw_state *state, PyObject *Py_UNUSED(module))
{
    return tw_transport_add_type(state, &state->write_pipe_type,
                                 &write_pipe_spec, "WriteTransport", true,
                                 write_pipe_method_tables);
}
