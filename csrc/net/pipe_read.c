/* The reading end of a pipe. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/compat.h"
#include "base/errno.h"
#include "core/probes.h"
#include "core/readbytes.h"
#include "net/pipe.h"

#define PIPE_FATAL_READ "Fatal read error on pipe transport"

/* After a read of this size or more, the next one reads into a bytes object: a
   copy would cost more than a second object. */
#define PIPE_DIRECT_READ (16 * 1024)

/* -- read ----------------------------------------------------------------- */

/* The room for a direct read: the pipe's size. */
static Py_ssize_t
pipe_read_size(TwPipe *self)
{
    if (self->read_size == 0) {
        int size = tw_sys_pipe_size(self->base.fd);
        self->read_size = (uint32_t)Py_MIN(size ? size : 64 * 1024,
                                       TW_READ_BUFFER_SIZE);
    }
    return self->read_size;
}

static tw_uverr
pipe_read_once(int fd, void *p, size_t n)
{
    ssize_t got = read(fd, p, n);

    TW_PROBE2(read, fd, got < 0 ? -errno : got);
    return got < 0 ? -errno : got;
}

/* Read into a bytes object.  `*n` is the count, 0 at the end of file, or a
   negative errno; there is an object only for a count.  -1: MemoryError; `*n`
   shows whether something was read. */
static tw_status
pipe_read_direct(TwPipe *self, TwReadBytes *data, tw_uverr *n)
{
    TwLoop *loop = self->base.loop;

    if (tw_readbytes_new(loop, (size_t)pipe_read_size(self), data) < 0) {
        return -1;
    }
    *n = pipe_read_once(self->base.fd, PyBytes_AS_STRING(data->bytes),
                        (size_t)PyBytes_GET_SIZE(data->bytes));
    if (*n <= 0) {
        tw_readbytes_release(loop, data);
        return 0;
    }
    return tw_readbytes_resize(data, (size_t)*n);
}

/* The same, with the loop's buffer in between. */
static tw_status
pipe_read_copied(TwPipe *self, TwReadBytes *data, tw_uverr *n)
{
    char *buffer = tw_loop_read_buffer(self->base.loop);

    if (buffer == NULL) {
        return -1;
    }
    *n = pipe_read_once(self->base.fd, buffer, TW_READ_BUFFER_SIZE);
    if (*n <= 0) {
        return 0;
    }
    return tw_readbytes_copy(self->base.loop, buffer, (size_t)*n, data);
}

/* asyncio's _fatal_error() for reading; a terminal that ends has EIO. */
static tw_status
pipe_read_fatal(TwPipe *self, tw_uverr err)
{
    PyObject *exc;
    tw_status status;

    if (err == -EIO) {
        return tw_transport_fatal_errno(&self->base, err, PIPE_FATAL_READ);
    }
    exc = tw_errno_exception(err);
    tw_err_restore_steal(Py_NewRef(exc));
    status = tw_call_report(self->base.loop, PIPE_FATAL_READ, (PyObject *)self,
                            self->base.protocol);
    if (status == 0) {
        status = tw_transport_force_close(&self->base, exc);
    }
    Py_DECREF(exc);
    return status;
}

/* The peer closed: schedule eof_received, then connection_lost. */
static tw_status
pipe_read_end(TwPipe *self)
{
    if (tw_pipe_log(self, "info", "%r was closed by peer") < 0) {
        return -1;
    }
    if (self->base.flags & (TW_F_CLOSING | TW_F_LOST)) {
        return 0;
    }
    self->base.flags |= TW_F_EOF_GOT;
    self->eof_due = true;
    if (tw_loop_push_step(self->base.loop, (PyObject *)self) < 0) {
        return -1;
    }
    return tw_transport_force_close(&self->base, NULL);
}

static tw_status
pipe_deliver(TwPipe *self, TwReadBytes *data)
{
    TwLoop *loop = self->base.loop;
    PyObject *done;

    tw_stats_in(&loop->stats, self->base.kind,
                (size_t)PyBytes_GET_SIZE(data->bytes));
    done = tw_transport_call_protocol(
        TW_BASE(self), loop->state->str.data_received, data->bytes);
    tw_readbytes_release(loop, data);
    return tw_status_steal(done) < 0
               ? tw_transport_report_call(&self->base, "_read_ready")
               : 0;
}

static tw_status
pipe_read_ready(TwPipe *self)
{
    bool direct = self->last_read >= PIPE_DIRECT_READ;
    tw_uverr n = 0;
    TwReadBytes data;
    tw_status status = direct ? pipe_read_direct(self, &data, &n)
                              : pipe_read_copied(self, &data, &n);

    if (status < 0 && n > 0) {
        /* There is no memory for data that was read, so it is lost: close. */
        return tw_transport_fatal(&self->base, PIPE_FATAL_READ);
    }
    if (status < 0) {
        return tw_transport_report_call(&self->base, "_read_ready");
    }
    if (n > 0) {
        self->last_read = (uint32_t)n;
        return pipe_deliver(self, &data);
    }
    if (n == 0) {
        return pipe_read_end(self);
    }
    if (n == -EAGAIN || n == -EINTR) {
        return 0;
    }
    return pipe_read_fatal(self, n);
}

/* The poller refuses the pipe.  EBADF: the program closed it.  EPERM: it is a
   device that cannot be polled; asyncio's transport then stays open and
   reads nothing. */
static tw_status
pipe_read_unwatchable(TwPipe *self)
{
    if (fcntl(self->base.fd, F_GETFD) < 0) {
        return pipe_read_fatal(self, -errno);
    }
    if (tw_watcher_want(self->base.watcher, 0) == 0) {
        tw_errno_raise(-EPERM);
    }
    return tw_transport_report_call(&self->base, "_add_reader");
}

static tw_status
pipe_read_on_ready(PyObject *op, unsigned events)
{
    TwPipe *self = (TwPipe *)op;

    if (!tw_transport_is_reading(&self->base)) {
        return 0;
    }
    if (events & TW_EV_BAD) {
        return pipe_read_unwatchable(self);
    }
    return pipe_read_ready(self);
}

/* -- end ------------------------------------------------------------------ */

/* eof_received is a step of its own, right before connection_lost. */
static tw_status
pipe_read_step(PyObject *op)
{
    TwPipe *self = (TwPipe *)op;
    TwTransport *base = &self->base;
    PyObject *name = base->loop->state->str.eof_received;

    if (!self->eof_due || !(base->flags & TW_F_MADE)) {
        return tw_transport_step(op);
    }
    self->eof_due = false;
    return tw_transport_call_step(TW_BASE(base), name, NULL);
}

static PyObject *
pipe_read_step_call(PyObject *op)
{
    TwPipe *self = (TwPipe *)op;
    TwTransport *base = &self->base;

    if (!self->eof_due || base->protocol == NULL
        || !(base->flags & TW_F_MADE)) {
        return tw_transport_step_call(op);
    }
    return Py_BuildValue("Ns", Py_NewRef(base->protocol), "eof_received");
}

static const TwTransportOps pipe_read_ops = {
    .step = {pipe_read_step, pipe_read_step_call},
    .buffer_size = tw_out_size,
    .buffer_clear = tw_out_clear,
    .wants = tw_transport_wants_read,
    .lost = tw_pipe_lost,
};

const TwPipeKind tw_pipe_read_kind = {
    .ops = &pipe_read_ops,
    .on_ready = pipe_read_on_ready,
    .writing = false,
};

/* -- methods and attributes ----------------------------------------------- */

static PyObject *
read_pipe_meth_close(PyObject *op, PyObject *Py_UNUSED(unused))
{
    TwTransport *base = (TwTransport *)op;

    if (base->flags & (TW_F_CLOSING | TW_F_LOST)) {
        Py_RETURN_NONE;
    }
    if (tw_loop_check_open(base->loop) < 0) {
        base->flags |= TW_F_CLOSING;
        return NULL;
    }
    return tw_transport_meth_close(op, NULL);
}

static PyObject *
read_pipe_repr(PyObject *op)
{
    TwPipe *self = (TwPipe *)op;
    TwWatcher *w = self->base.watcher;
    const char *state = tw_pipe_state(self);
    const char *last = "closed";

    if (self->base.fd >= 0 && self->base.loop->closed) {
        last = "open";
    }
    else if (self->base.fd >= 0) {
        last = w != NULL && w->want & TW_EV_READ ? "polling" : "idle";
    }
    return PyUnicode_FromFormat("<%s %sfd=%d %s>", TW_TYPE_NAME(op), state,
                                self->fileno, last);
}

static PyMethodDef read_pipe_methods[] = {
    {"close", read_pipe_meth_close, METH_NOARGS, tw_transport_doc_close},
    {NULL},
};

static PyMethodDef *const read_pipe_method_tables[] = {
    tw_transport_methods,
    tw_transport_read_methods,
    read_pipe_methods,
    NULL,
};

PyDoc_STRVAR(doc_read_pipe, "The reading end of a pipe: connect_read_pipe().");

static PyType_Slot read_pipe_slots[] = {
    {Py_tp_doc, (void *)doc_read_pipe},
    {Py_tp_dealloc, tw_pipe_dealloc},
    {Py_tp_finalize, tw_transport_finalize},
    {Py_tp_traverse, tw_transport_traverse},
    {Py_tp_clear, tw_pipe_clear},
    {Py_tp_repr, read_pipe_repr},
    {Py_tp_getset, tw_pipe_read_getset},
    {Py_tp_members, tw_transport_members},
    {0, NULL},
};

static PyType_Spec read_pipe_spec =
    TW_TYPE_SPEC("ReadPipeTransport", TwPipe, read_pipe_slots);

tw_status
tw_pipe_read_setup(tw_state *state, PyObject *Py_UNUSED(module))
{
    return tw_transport_add_type(state, &state->read_pipe_type,
                                 &read_pipe_spec, "ReadTransport", false,
                                 read_pipe_method_tables);
}
