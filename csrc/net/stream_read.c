/* Reading of stream transports: one read(2) per object and turn. */
#include <errno.h>
#include <sys/socket.h>

#include "base/compat.h"
#include "net/reader.h"
#include "net/stream.h"

/* From this size of the last read on, copying costs more than it saves. */
#define READ_LARGE (32 * 1024)
/* At most so much by one read, while it all comes. */
#define READ_LARGEST (256 * 1024)
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

/* About as much as came last. */
static size_t
read_expected(const TwStream *self)
{
    size_t room = self->read_hint + self->read_hint / 8;

    return room < READ_LARGEST ? room : READ_LARGEST;
}

/* Into p[0:room], and what does not fit into the loop's buffer; no more than
   that holds, if the room is not larger. */
static tw_uverr
read_split(int fd, char *p, size_t room, char *spare)
{
    ssize_t got;

    if (room >= TW_READ_BUFFER_SIZE) {
        return read_some(fd, p, room);
    }
    struct iovec iov[] = {{p, room}, {spare, TW_READ_BUFFER_SIZE - room}};
    do {
        got = readv(fd, iov, 2);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

/* Much is coming: read right into a bytes object of about that size. */
static tw_status
read_large(TwStream *self, char *spare)
{
    TwTransport *base = &self->base;
    size_t room = read_expected(self);
    PyObject *data = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)room);
    tw_uverr got;

    if (data == NULL) {
        return tw_transport_fatal(base, READ_FATAL);
    }
    got = read_split(base->fd, PyBytes_AS_STRING(data), room, spare);
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

/* -- asyncio's StreamReader ----------------------------------------------- */

/* Much is coming: right into the reader's buffer. */
static tw_status
read_large_to_reader(TwStream *self, TwReader *reader, char *spare,
                     tw_uverr *got)
{
    size_t room = read_expected(self);
    char *p = tw_reader_room(reader, room);

    if (p == NULL) {
        return -1;
    }
    *got = read_split(self->base.fd, p, room, spare);
    if (*got > 0 && (size_t)*got > room) {
        p = tw_reader_room(reader, (size_t)*got);
        if (p == NULL) {
            return -1;
        }
        memcpy(p + room, spare, (size_t)*got - room);
    }
    return tw_reader_fed(reader, *got > 0 ? (size_t)*got : 0);
}

static tw_status
read_to_reader(TwStream *self, TwReader *reader, char *buffer)
{
    TwTransport *base = &self->base;
    tw_status status = 0;
    tw_uverr got = 0;

    if (self->read_hint >= READ_LARGE) {
        status = read_large_to_reader(self, reader, buffer, &got);
    }
    else {
        got = read_some(base->fd, buffer, TW_READ_BUFFER_SIZE);
        if (got > 0) {
            status = tw_reader_feed(reader, buffer, (size_t)got);
        }
    }
    tw_reader_release(reader);
    if (TW_UNLIKELY(status < 0)) {
        return tw_transport_fatal(
            base, "Fatal error: protocol.data_received() call failed.");
    }
    if (TW_UNLIKELY(got <= 0)) {
        return got == 0 ? read_eof(self) : read_failed(self, got);
    }
    base->loop->stats.bytes_read += (uint64_t)got;
    self->read_hint = (uint32_t)got;
    return 0;
}

tw_status
tw_stream_read(TwStream *self)
{
    TwTransport *base = &self->base;
    TwReader reader;
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
    if (self->sink == NULL && tw_reader_find(base, &reader)) {
        return read_to_reader(self, &reader, buffer);
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
