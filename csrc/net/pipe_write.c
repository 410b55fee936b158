/* The writing end of a pipe. */
#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/args.h"
#include "base/errno.h"
#include "net/pipe.h"

#define PIPE_FATAL_WRITE "Fatal write error on pipe transport"
/* asyncio.constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES */
#define PIPE_LOST_WRITES 5
#define PIPE_IOV 64

static bool
pipe_is_shut(const TwPipe *self)
{
    return self->base.flags & (TW_F_CLOSING | TW_F_LOST);
}

/* Watch for the peer's end, and for room if something waits. */
static tw_status
pipe_watch_writing(TwPipe *self)
{
    unsigned want = self->ends_on_read ? TW_EV_READ : 0;

    if (self->base.watcher == NULL || !(self->base.flags & TW_F_MADE)) {
        return 0;
    }
    if (self->base.flags & (TW_F_LOST_SCHEDULED | TW_F_LOST)) {
        want = 0;
    }
    else if (self->queue.bytes > 0) {
        want |= TW_EV_WRITE;
    }
    return tw_watcher_want(self->base.watcher, want);
}

static tw_status
pipe_write_started(TwTransport *base)
{
    TwPipe *self = (TwPipe *)base;

    if (pipe_watch_writing(self) < 0) {
        return tw_transport_report_call(&self->base, "_add_reader");
    }
    return 0;
}

/* -- the kernel ----------------------------------------------------------- */

static tw_uverr
pipe_write_once(TwPipe *self, const void *p, size_t n)
{
    ssize_t done;

    do {
        done = write(self->base.fd, p, n);
    } while (done < 0 && errno == EINTR);
    if (done < 0) {
        return errno == EAGAIN ? 0 : -errno;
    }
    self->base.loop->stats.bytes_written += (uint64_t)done;
    return done;
}

static tw_uverr
pipe_writev_once(TwPipe *self)
{
    struct iovec iov[PIPE_IOV];
    int count = tw_bufq_iov(&self->queue, iov, PIPE_IOV);
    ssize_t done;

    do {
        done = writev(self->base.fd, iov, count);
    } while (done < 0 && errno == EINTR);
    if (done < 0) {
        return errno == EAGAIN ? 0 : -errno;
    }
    self->base.loop->stats.bytes_written += (uint64_t)done;
    return done;
}

static tw_status
pipe_write_fatal(TwPipe *self, tw_uverr err)
{
    return tw_transport_fatal_errno(&self->base, err, PIPE_FATAL_WRITE);
}

/* -- the cork ------------------------------------------------------------- */

/* Send what the cork held: the queue. */
static tw_status
pipe_send_queue(TwPipe *self)
{
    tw_uverr sent;

    if (self->queue.bytes == 0 || self->base.conn_lost > 0) {
        return 0;
    }
    sent = pipe_writev_once(self);
    if (sent < 0) {
        tw_bufq_clear(&self->queue);
        return pipe_write_fatal(self, sent);
    }
    tw_bufq_consume(&self->queue, (size_t)sent);
    if (self->queue.bytes == 0) {
        return 0;
    }
    if (pipe_watch_writing(self) < 0) {
        return -1;
    }
    return tw_transport_maybe_pause(&self->base);
}

static TwCork *
pipe_take_cork(TwPipe *self)
{
    TwCork *cork = TW_TAKE(self->cork);

    if (cork != NULL) {
        tw_call_cork_take(self->base.loop, cork);
    }
    return cork;
}

tw_status
tw_pipe_uncork(TwPipe *self)
{
    TwCork *cork = pipe_take_cork(self);
    tw_status status;

    if (TW_LIKELY(cork == NULL)) {
        return 0;
    }
    Py_INCREF(self);
    status = pipe_send_queue(self);
    tw_call_cork_free(self->base.loop, cork);
    Py_DECREF(self);
    return status;
}

/* cork->flush: see core/call.h. */
static void
pipe_cork_flush(TwLoop *loop, TwCork *cork)
{
    TwPipe *self = (TwPipe *)cork->owner;

    self->cork = NULL;
    if (pipe_send_queue(self) < 0) {
        tw_call_flush_failed((PyObject *)self);
    }
    tw_call_cork_free(loop, cork);
}

/* May these bytes wait for the end of the running callback? */
static bool
pipe_may_hold(const TwPipe *self, Py_ssize_t size)
{
    return size < TW_CORK_BYTES && tw_call_may_cork(self->base.loop)
           && (self->cork != NULL || self->queue.bytes == 0);
}

static tw_status
pipe_hold(TwPipe *self, PyObject *bytes)
{
    if (self->cork == NULL) {
        self->cork = tw_call_cork_new(self->base.loop, (PyObject *)self,
                                      pipe_cork_flush);
        if (self->cork == NULL) {
            return -1;
        }
    }
    if (tw_bufq_push(&self->queue, bytes, 0) < 0) {
        return -1;
    }
    if (self->queue.count < TW_CORK_PIECES
        && self->queue.bytes < TW_CORK_BYTES
        && self->queue.bytes <= self->base.high) {
        return 0;
    }
    return tw_pipe_uncork(self);
}

/* -- write ---------------------------------------------------------------- */

/* The transport takes no more: asyncio's warning from the sixth time on. */
static tw_status
pipe_write_refused(TwPipe *self)
{
    static const char text[] = "pipe closed by peer or "
                               "os.write(pipe, data) raised exception.";
    PyObject *argv[2], *done = NULL;

    if (self->base.conn_lost + self->refused++ < PIPE_LOST_WRITES) {
        return 0;
    }
    argv[0] = PyUnicode_FromString("warning");
    argv[1] = PyUnicode_FromString(text);
    if (argv[0] != NULL && argv[1] != NULL) {
        done = tw_seam_call(self->base.loop->state, "log", argv, 2);
    }
    Py_XDECREF(argv[0]);
    Py_XDECREF(argv[1]);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* What the kernel did not take waits: a reference if `owner` is exactly a
   bytes object, else a copy. */
static tw_status
pipe_write_later(TwPipe *self, PyObject *owner, const Py_buffer *view,
                 size_t sent)
{
    tw_status status;

    if (PyBytes_CheckExact(owner)) {
        status = tw_bufq_push(&self->queue, owner, sent);
    }
    else {
        status = tw_bufq_push_copy(&self->queue, (char *)view->buf + sent,
                                   (size_t)view->len - sent);
    }
    if (status < 0 || pipe_watch_writing(self) < 0) {
        return -1;
    }
    return tw_transport_maybe_pause(&self->base);
}

static tw_status
pipe_write(TwPipe *self, PyObject *data, const Py_buffer *view)
{
    tw_uverr sent = 0;

    if (view->len == 0) {
        return 0;
    }
    if (self->base.conn_lost || pipe_is_shut(self)) {
        return pipe_write_refused(self);
    }
    if (PyBytes_CheckExact(data) && pipe_may_hold(self, view->len)) {
        return pipe_hold(self, data);
    }
    if (tw_pipe_uncork(self) < 0) {
        return -1;
    }
    if (self->base.conn_lost) {
        return pipe_write_refused(self);
    }
    if (self->queue.bytes == 0) {
        sent = pipe_write_once(self, view->buf, (size_t)view->len);
        if (sent == view->len) {
            return 0;
        }
        if (sent < 0) {
            return pipe_write_fatal(self, sent);
        }
    }
    return pipe_write_later(self, data, view, (size_t)sent);
}

/* -- what the loop says --------------------------------------------------- */

static tw_status
pipe_write_finished(TwPipe *self)
{
    if (tw_transport_maybe_resume(&self->base) < 0) {
        return -1;
    }
    if (self->queue.bytes == 0 && self->base.flags & TW_F_CLOSING
        && !(self->base.flags & (TW_F_LOST_SCHEDULED | TW_F_LOST))) {
        return tw_transport_call_lost(&self->base);
    }
    return 0;
}

static tw_status
pipe_write_ready(TwPipe *self)
{
    tw_uverr sent = pipe_writev_once(self);

    if (sent < 0) {
        tw_bufq_clear(&self->queue);
        return pipe_write_fatal(self, sent);
    }
    tw_bufq_consume(&self->queue, (size_t)sent);
    if (self->queue.bytes > 0) {
        return 0;
    }
    if (pipe_watch_writing(self) < 0) {
        return tw_transport_report_call(&self->base, "_write_ready");
    }
    return pipe_write_finished(self);
}

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
        return pipe_write_fatal(
            self, fcntl(self->base.fd, F_GETFD) < 0 ? -EBADF : -EPERM);
    }
    if (self->ends_on_read && events & (TW_EV_READ | TW_EV_ERROR)) {
        return pipe_peer_closed(self);
    }
    if (self->queue.bytes > 0) {
        return pipe_write_ready(self);
    }
    return 0;
}

/* -- end ------------------------------------------------------------------ */

static size_t
pipe_write_buffer_size(TwTransport *base)
{
    return ((TwPipe *)base)->queue.bytes;
}

static void
pipe_write_buffer_clear(TwTransport *base)
{
    TwPipe *self = (TwPipe *)base;
    TwCork *cork = pipe_take_cork(self);

    tw_bufq_clear(&self->queue);
    if (cork != NULL) {
        tw_call_cork_free(base->loop, cork);
    }
}

static void
pipe_write_lost(TwTransport *base, PyObject *Py_UNUSED(exc))
{
    tw_pipe_release((TwPipe *)base);
}

static tw_status
pipe_write_uncork(TwTransport *base)
{
    return tw_pipe_uncork((TwPipe *)base);
}

static const TwTransportOps pipe_write_ops = {
    .step = TW_TRANSPORT_STEP,
    .buffer_size = pipe_write_buffer_size,
    .buffer_clear = pipe_write_buffer_clear,
    .uncork = pipe_write_uncork,
    .started = pipe_write_started,
    .lost = pipe_write_lost,
};

const TwPipeKind tw_pipe_write_kind = {
    .ops = &pipe_write_ops,
    .on_ready = pipe_write_on_ready,
    .writing = true,
};

/* close() and write_eof(): no more writes; connection_lost when everything
   has left.  The peer's end is watched until then. */
static tw_status
pipe_write_eof(TwPipe *self)
{
    if (tw_pipe_uncork(self) < 0) {
        return -1;
    }
    if (pipe_is_shut(self)) {
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

/* -- Python's side -------------------------------------------------------- */

PyDoc_STRVAR(doc_write,
"write($self, /, data)\n--\n\n"
"Send bytes, bytearray or memoryview; never blocks.\n\n"
"What cannot be sent at once waits (see set_write_buffer_limits).\n"
"AssertionError for another type, as in asyncio.  On a closing or lost pipe\n"
"nothing happens.  See library/asyncio-protocol.");
PyDoc_STRVAR(doc_write_eof,
"write_eof($self, /)\n--\n\n"
"Close when everything is written.  See library/asyncio-protocol.");
PyDoc_STRVAR(doc_can_write_eof,
"can_write_eof($self, /)\n--\n\nTrue.  See library/asyncio-protocol.");

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
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
write_pipe_meth_write_eof(PyObject *op, PyObject *Py_UNUSED(unused))
{
    if (pipe_write_eof((TwPipe *)op) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
write_pipe_meth_can_write_eof(PyObject *Py_UNUSED(op),
                              PyObject *Py_UNUSED(unused))
{
    Py_RETURN_TRUE;
}

static PyObject *
write_pipe_repr(PyObject *op)
{
    TwPipe *self = (TwPipe *)op;
    const char *name = tw_pipe_name(self), *state = tw_pipe_state(self);

    if (self->base.fd < 0) {
        return PyUnicode_FromFormat("<%s %sfd=%d closed>", name, state,
                                    self->fileno);
    }
    return PyUnicode_FromFormat(
        "<%s %sfd=%d %s bufsize=%zu>", name, state, self->fileno,
        self->queue.bytes > 0 ? "polling" : "idle", self->queue.bytes);
}

static PyMethodDef write_pipe_methods[] = {
    TW_PIPE_METHODS,
    {"abort", tw_transport_meth_abort, METH_NOARGS, tw_transport_doc_abort},
    {"_force_close", tw_transport_meth_force_close, METH_O, NULL},
    {"get_write_buffer_size", tw_transport_meth_get_write_buffer_size,
     METH_NOARGS,
     tw_transport_doc_get_write_buffer_size},
    {"get_write_buffer_limits", tw_transport_meth_get_write_buffer_limits,
     METH_NOARGS, tw_transport_doc_get_write_buffer_limits},
    {"set_write_buffer_limits",
     (PyCFunction)(void (*)(void))tw_transport_meth_set_write_buffer_limits,
     METH_FASTCALL | METH_KEYWORDS, tw_transport_doc_set_write_buffer_limits},
    {"close", write_pipe_meth_write_eof, METH_NOARGS, tw_transport_doc_close},
    {"write", (PyCFunction)(void (*)(void))write_pipe_meth_write,
     METH_FASTCALL | METH_KEYWORDS, doc_write},
    {"write_eof", write_pipe_meth_write_eof, METH_NOARGS, doc_write_eof},
    {"can_write_eof", write_pipe_meth_can_write_eof, METH_NOARGS,
     doc_can_write_eof},
    {NULL},
};

PyDoc_STRVAR(doc_write_pipe,
             "The writing end of a pipe: connect_write_pipe().");

static PyType_Slot write_pipe_slots[] = {
    {Py_tp_doc, (void *)doc_write_pipe},
    {Py_tp_dealloc, tw_pipe_dealloc},
    {Py_tp_finalize, tw_transport_finalize},
    {Py_tp_traverse, tw_pipe_traverse},
    {Py_tp_clear, tw_pipe_clear},
    {Py_tp_repr, write_pipe_repr},
    {Py_tp_methods, write_pipe_methods},
    {Py_tp_getset, tw_pipe_write_getset},
    {Py_tp_members, tw_transport_members},
    {0, NULL},
};

static PyType_Spec write_pipe_spec = {
    .name = "tidewire._core.WritePipeTransport",
    .basicsize = sizeof(TwPipe),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = write_pipe_slots,
};

tw_status
tw_pipe_write_setup(tw_state *state)
{
    return tw_transport_add_type(state, &state->write_pipe_type,
                                 &write_pipe_spec, "WriteTransport", true);
}
