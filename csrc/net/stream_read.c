/* Reading of stream transports: one read(2) per object and turn. */
#include <errno.h>
#include <sys/socket.h>

#include "base/compat.h"
#include "net/stream.h"

/* From this size of the last read on, copying costs more than it saves. */
#define READ_LARGE (32 * 1024)
#define READ_FATAL "Fatal read error on socket transport"

static tw_uverr
read_some(int fd, void *p, size_t n)
{
    ssize_t got;

    do {
        got = recv(fd, p, n, 0);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static tw_uverr
read_vector(int fd, struct iovec *iov, int n)
{
    ssize_t got;

    do {
        got = readv(fd, iov, n);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

/* -- what came ------------------------------------------------------------ */

static tw_status
read_eof(TwStream *self)
{
    TwTransport *base = &self->base;
    PyObject *result;
    int keep_open;

    base->flags |= TW_F_EOF_GOT;
    if (self->sink != NULL) {
        return self->sink->eof(self, self->sink_owner);
    }
    result = tw_transport_call_protocol(
        base, base->loop->state->str.eof_received, NULL);
    keep_open = result ? PyObject_IsTrue(result) : -1;
    Py_XDECREF(result);
    if (keep_open < 0) {
        return tw_transport_fatal(
            base, "Fatal error: protocol.eof_received() call failed.");
    }
    if (!keep_open) {
        return tw_transport_close(base);
    }
    return base->watcher == NULL
               ? 0
               : tw_watcher_want(base->watcher,
                                 base->watcher->want & ~TW_EV_READ);
}

static tw_status
read_failed(TwStream *self, tw_uverr err)
{
    if (err == -EAGAIN) {
        return 0;
    }
    return tw_transport_fatal_errno(&self->base, err, READ_FATAL);
}

/* Give the protocol a bytes object.  Steals it. */
static tw_status
read_deliver_steal(TwStream *self, PyObject *data)
{
    TwTransport *base = &self->base;
    PyObject *result;

    if (data == NULL) {
        return tw_transport_fatal(base, READ_FATAL);
    }
    result = tw_transport_call_protocol(
        base, base->loop->state->str.data_received, data);
    Py_DECREF(data);
    if (TW_UNLIKELY(result == NULL)) {
        return tw_transport_fatal(
            base, "Fatal error: protocol.data_received() call failed.");
    }
    Py_DECREF(result);
    return 0;
}

/* -- a protocol's own buffer ---------------------------------------------- */

/* get_buffer() and its memory.  0, or -1 with the user's exception set. */
static tw_status
read_get_buffer(TwStream *self, Py_buffer *view, const char **message)
{
    TwTransport *base = &self->base;
    PyObject *hint = PyLong_FromLong(-1), *buffer;
    Py_ssize_t size;

    *message = "Fatal error: protocol.get_buffer() call failed.";
    buffer = hint ? tw_transport_call_protocol(
                 base, base->loop->state->str.get_buffer, hint)
                  : NULL;
    Py_XDECREF(hint);
    if (buffer == NULL) {
        return -1;
    }
    size = PyObject_Size(buffer);
    if (size == 0) {
        PyErr_SetString(PyExc_RuntimeError,
                        "get_buffer() returned an empty buffer");
    }
    if (size <= 0) {
        Py_DECREF(buffer);
        return -1;
    }
    *message = READ_FATAL;
    tw_status status = PyObject_GetBuffer(buffer, view, PyBUF_WRITABLE);
    Py_DECREF(buffer);
    return status;
}

static tw_status
read_into_protocol(TwStream *self)
{
    TwTransport *base = &self->base;
    const char *message;
    PyObject *count, *result;
    Py_buffer view;
    tw_uverr got;

    if (read_get_buffer(self, &view, &message) < 0) {
        return tw_transport_fatal(base, message);
    }
    got = base->conn_lost ? -EAGAIN
                          : read_some(base->fd, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    if (got < 0) {
        return read_failed(self, got);
    }
    if (got == 0) {
        return read_eof(self);
    }
    base->loop->stats.bytes_read += (uint64_t)got;
    count = PyLong_FromSsize_t(got);
    result = count ? tw_transport_call_protocol(
                 base, base->loop->state->str.buffer_updated, count)
                   : NULL;
    Py_XDECREF(count);
    if (result == NULL) {
        return tw_transport_fatal(
            base, "Fatal error: protocol.buffer_updated() call failed.");
    }
    Py_DECREF(result);
    return 0;
}

static tw_status
read_deliver(TwStream *self, char *p, size_t n)
{
    return read_deliver_steal(self,
                              PyBytes_FromStringAndSize(p, (Py_ssize_t)n));
}

/* -- the loop's buffer --------------------------------------------------- */

/* Much is coming: read right into a bytes object of about the size that came
   last, and what does not fit into the loop's buffer behind it. */
static tw_status
read_large(TwStream *self, char *spare)
{
    TwTransport *base = &self->base;
    size_t room = self->read_hint + self->read_hint / 8;
    PyObject *data;
    tw_uverr got;

    if (room > TW_READ_BUFFER_SIZE - 1) {
        room = TW_READ_BUFFER_SIZE - 1;
    }
    data = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)room);
    if (data == NULL) {
        return tw_transport_fatal(base, READ_FATAL);
    }
    struct iovec iov[] = {{PyBytes_AS_STRING(data), room},
                          {spare, TW_READ_BUFFER_SIZE - room}};
    got = read_vector(base->fd, iov, 2);
    if (got <= 0) {
        Py_DECREF(data);
        return got == 0 ? read_eof(self) : read_failed(self, got);
    }
    base->loop->stats.bytes_read += (uint64_t)got;
    self->read_hint = (uint32_t)got;
    if (_PyBytes_Resize(&data, got) == 0 && (size_t)got > room) {
        memcpy(PyBytes_AS_STRING(data) + room, spare, (size_t)got - room);
    }
    return read_deliver_steal(self, data);
}

tw_status
tw_stream_read(TwStream *self)
{
    TwTransport *base = &self->base;
    char *buffer;
    tw_uverr got;

    if (base->conn_lost > 0) {
        return 0;
    }
    if (self->sink == NULL && base->flags & TW_F_BUFFERED) {
        return read_into_protocol(self);
    }
    buffer = tw_loop_read_buffer(base->loop);
    if (buffer == NULL) {
        return tw_transport_fatal(base, READ_FATAL);
    }
    if (self->sink == NULL && self->read_hint >= READ_LARGE) {
        return read_large(self, buffer);
    }
    got = read_some(base->fd, buffer, TW_READ_BUFFER_SIZE);
    if (TW_UNLIKELY(got <= 0)) {
        return got == 0 ? read_eof(self) : read_failed(self, got);
    }
    base->loop->stats.bytes_read += (uint64_t)got;
    self->read_hint = (uint32_t)got;
    if (self->sink != NULL) {
        return self->sink->data(self, self->sink_owner, buffer, (size_t)got);
    }
    return read_deliver(self, buffer, (size_t)got);
}
