/* Reading of stream transports: one read(2) per object and turn, or a few
   while more data is there and nothing else would run in between. */
#include <errno.h>
#include <sys/param.h>
#include <sys/socket.h>

#include "base/compat.h"
#include "core/probes.h"
#include "core/readbytes.h"
#include "net/feeder.h"
#include "net/stream.h"

/* After a read of this size or more, copying costs more than it saves (where
   the object of the last read can be filled again; 32 KiB otherwise). */
#define READ_LARGE (8 * 1024)
/* The most for one read, while reads fill their room.  Pieces that stay in the
   processor's cache if the program keeps the data; larger ones if it sends
   (each send has its price, and wakes the peer). */
#define READ_TO_KEEP (128 * 1024)
#define READ_TO_SEND (512 * 1024)
/* The most in one turn, while each read fills its room: other transports wait
   meanwhile.  READ_BYTES_A_TURN is for each transport that is due; if there
   are many they share it, but each has one read. */
#define STREAM_READS_A_TURN 16
#define READ_BYTES_A_TURN (2 * 1024 * 1024)
#define READ_MANY 8
#define STREAM_READ_FATAL "Fatal read error on socket transport"

static tw_uverr
read_some(int fd, void *p, size_t n)
{
    ssize_t got;

    do {
        got = recv(fd, p, n, 0);
    } while (got < 0 && errno == EINTR);
    got = got < 0 ? -errno : got;
    TW_PROBE2(read, fd, got);
    return got;
}

/* -- delivery ------------------------------------------------------------- */

static tw_status
read_call_eof(TwStream *self)
{
    TwTransport *base = &self->base;
    PyObject *result;
    int keep_open;

    if (tw_transport_log(base, "debug", "%r received EOF") < 0) {
        return tw_transport_fatal(base, STREAM_READ_FATAL);
    }
    if (self->sink != NULL) {
        return self->sink->eof(self, self->sink_owner);
    }
    result = tw_transport_call_protocol(
        TW_BASE(base), base->loop->state->str.eof_received, NULL);
    keep_open = result ? PyObject_IsTrue(result) : -1;
    Py_XDECREF(result);
    if (keep_open < 0) {
        return tw_transport_fatal(
            base, "Fatal error: protocol.eof_received() call failed.");
    }
    if (!keep_open) {
        return tw_transport_close(base);
    }
    return tw_transport_watch(base);
}

/* If KeyboardInterrupt or SystemExit leaves the loop here, the next run reads
   the end again, as with asyncio; otherwise the transport would stay open. */
static tw_status
read_eof(TwStream *self)
{
    TwTransport *base = &self->base;
    tw_status status;
    PyObject *exc;

    base->flags |= TW_F_EOF_GOT;
    status = read_call_eof(self);
    if (status < 0) {
        exc = tw_err_take();
        base->flags &= ~TW_F_EOF_GOT;
        if (tw_transport_watch(base) < 0) {
            PyErr_Clear();
        }
        tw_err_restore_steal(exc);
    }
    return status;
}

static tw_status
stream_read_failed(TwStream *self, tw_uverr err)
{
    if (err == -EAGAIN) {
        return 0;
    }
    return tw_transport_fatal_errno(&self->base, err, STREAM_READ_FATAL);
}

static tw_status
stream_deliver(TwStream *self, TwReadBytes *data)
{
    TwTransport *base = &self->base;
    const uint64_t *out = &base->loop->stats.kinds[base->kind].bytes_out;
    uint64_t written = *out;
    PyObject *result;

    result = tw_transport_call_protocol(
        TW_BASE(base), base->loop->state->str.data_received, data->bytes);
    tw_readbytes_release(base->loop, data);
    self->sends = *out != written;
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
                 TW_BASE(base), base->loop->state->str.get_buffer, hint)
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
    *message = STREAM_READ_FATAL;
    tw_status status = PyObject_GetBuffer(buffer, view, PyBUF_WRITABLE);
    if (status < 0) { /* in recv_into()'s words, as with asyncio */
        tw_args_refuse("recv_into() argument 1 must be read-write bytes-like "
                       "object, not %U", buffer);
    }
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
    bool filled;

    if (read_get_buffer(self, &view, &message) < 0) {
        return tw_transport_fatal(base, message);
    }
    /* Also if get_buffer() has closed the transport, as with asyncio. */
    got = base->fd < 0 ? -EAGAIN
                       : read_some(base->fd, view.buf, (size_t)view.len);
    filled = got == view.len;
    PyBuffer_Release(&view);
    if (got < 0) {
        return stream_read_failed(self, got);
    }
    if (got == 0) {
        return read_eof(self);
    }
    tw_stats_in(&base->loop->stats, base->kind, (size_t)got);
    self->filled = filled;
    count = PyLong_FromSsize_t(got);
    result = count ? tw_transport_call_protocol(
                 TW_BASE(base), base->loop->state->str.buffer_updated, count)
                   : NULL;
    Py_XDECREF(count);
    if (result == NULL) {
        return tw_transport_fatal(
            base, "Fatal error: protocol.buffer_updated() call failed.");
    }
    Py_DECREF(result);
    return 0;
}

/* -- the loop's buffer --------------------------------------------------- */

/* `room`: the requested size. */
static void
read_note_size(TwStream *self, tw_uverr got, size_t room)
{
    tw_stats_in(&self->base.loop->stats, self->base.kind, (size_t)got);
    self->read_hint = (uint32_t)got;
    self->filled = (size_t)got >= room;
}

static size_t
stream_read_most(const TwStream *self)
{
    return self->sends ? READ_TO_SEND : READ_TO_KEEP;
}

/* Read into the memory that the program gets?  Not on a Unix socket: its peer
   wakes when three quarters of the waiting bytes are read.  A program that
   only keeps the bytes would be done before the peer sends more, and sleep.
   The copy uses that time. */
static bool
read_in_place(const TwStream *self)
{
    return self->read_hint >= READ_LARGE
           && (self->sends || self->base.flags & TW_F_INET);
}

/* The size of the last read; more, if that filled its room. */
static size_t
read_expected(const TwStream *self, size_t most)
{
    size_t room = self->read_hint;

    room += room >= READ_TO_KEEP ? room : room / 8;
    return room < most ? room : most;
}

/* Read into p[0:room], and what does not fit into the loop's buffer; `most` in
   all. */
static tw_uverr
read_split(int fd, char *p, size_t room, char *buffer, size_t most)
{
    ssize_t got;

    if (room >= most) {
        return read_some(fd, p, room);
    }
    struct iovec iov[] = {{p, room}, {buffer, most - room}};
    do {
        got = readv(fd, iov, 2);
    } while (got < 0 && errno == EINTR);
    got = got < 0 ? -errno : got;
    TW_PROBE2(read, fd, got);
    return got;
}

/* Many bytes are expected: read into a bytes object of about that size. */
static tw_status
read_large(TwStream *self, char *buffer)
{
    TwTransport *base = &self->base;
    size_t most = stream_read_most(self);
    size_t room = read_expected(self, most), all;
    TwReadBytes data;
    tw_uverr got;

    if (!tw_readbytes_reuse(base->loop, self->read_hint, room, &data)
        && tw_readbytes_new(base->loop, room, &data) < 0) {
        return tw_transport_fatal(base, STREAM_READ_FATAL);
    }
    room = (size_t)PyBytes_GET_SIZE(data.bytes);
    all = room < TW_READ_BUFFER_SIZE ? MIN(most, TW_READ_BUFFER_SIZE) : room;
    got = read_split(base->fd, PyBytes_AS_STRING(data.bytes), room, buffer,
                     all);
    if (got <= 0) {
        tw_readbytes_release(base->loop, &data);
        return got == 0 ? read_eof(self) : stream_read_failed(self, got);
    }
    read_note_size(self, got, all);
    if (tw_readbytes_resize(&data, (size_t)got) < 0) {
        return tw_transport_fatal(base, STREAM_READ_FATAL);
    }
    if ((size_t)got > room) {
        memcpy(PyBytes_AS_STRING(data.bytes) + room, buffer,
               (size_t)got - room);
    }
    return stream_deliver(self, &data);
}

/* -- asyncio's StreamReader ----------------------------------------------- */

/* Many bytes are expected: read into the StreamReader's buffer. */
static tw_status
read_large_to_reader(TwStream *self, TwFeeder *reader, char *buffer,
                     tw_uverr *got)
{
    size_t room = read_expected(self, TW_READ_BUFFER_SIZE);
    char *p = tw_feeder_reserve(reader, room);

    if (p == NULL) {
        return -1;
    }
    *got = read_split(self->base.fd, p, room, buffer, TW_READ_BUFFER_SIZE);
    if (*got > 0 && (size_t)*got > room) {
        p = tw_feeder_reserve(reader, (size_t)*got);
        if (p == NULL) {
            return -1;
        }
        memcpy(p + room, buffer, (size_t)*got - room);
    }
    return tw_feeder_fed(reader, *got > 0 ? (size_t)*got : 0);
}

static tw_status
read_to_reader(TwStream *self, TwFeeder *reader, char *buffer)
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
            base->loop->fed += got < READ_LARGE;
            status = tw_feeder_feed(reader, buffer, (size_t)got);
        }
    }
    tw_feeder_release(reader);
    if (TW_UNLIKELY(status < 0)) {
        return tw_transport_fatal(
            base, "Fatal error: protocol.data_received() call failed.");
    }
    if (TW_UNLIKELY(got <= 0)) {
        return got == 0 ? read_eof(self) : stream_read_failed(self, got);
    }
    read_note_size(self, got, TW_READ_BUFFER_SIZE);
    return 0;
}

static tw_status
read_once(TwStream *self)
{
    TwTransport *base = &self->base;
    TwFeeder reader;
    TwReadBytes data;
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
        return tw_transport_fatal(base, STREAM_READ_FATAL);
    }
    if (self->sink == NULL && tw_feeder_find(TW_BASE(base), &reader)) {
        return read_to_reader(self, &reader, buffer);
    }
    if (self->sink == NULL && read_in_place(self)) {
        return read_large(self, buffer);
    }
    got = read_some(base->fd, buffer, TW_READ_BUFFER_SIZE);
    if (TW_UNLIKELY(got <= 0)) {
        return got == 0 ? read_eof(self) : stream_read_failed(self, got);
    }
    read_note_size(self, got, TW_READ_BUFFER_SIZE);
    if (self->sink != NULL) {
        return self->sink->data(self, self->sink_owner, buffer, (size_t)got);
    }
    if (tw_readbytes_copy(base->loop, buffer, (size_t)got, &data) < 0) {
        return tw_transport_fatal(base, STREAM_READ_FATAL);
    }
    return stream_deliver(self, &data);
}

/* The last read filled its room.  Read again only where asyncio would also
   read this transport next: the callback scheduled nothing, and no timer is
   due.  `start`: the bytes that were read before this turn. */
static tw_status
read_more(TwStream *self, uint64_t start)
{
    TwLoop *loop = self->base.loop;
    uint32_t share = MAX(loop->due.count / READ_MANY, 1);
    const uint64_t *in = &loop->stats.kinds[self->base.kind].bytes_in;
    uint64_t enough = start + READ_BYTES_A_TURN / share;
    int reads = (int)(STREAM_READS_A_TURN / share);

    while (self->filled && --reads > 0 && *in < enough
           && tw_transport_is_reading(&self->base)
           && tw_loop_is_quiet(loop)) {
        self->filled = false;
        if (read_once(self) < 0) {
            return -1;
        }
    }
    return 0;
}

tw_status
tw_stream_read(TwStream *self)
{
    uint64_t start = self->base.loop->stats.kinds[self->base.kind].bytes_in;

    self->filled = false;
    if (read_once(self) < 0) {
        return -1;
    }
    return TW_LIKELY(!self->filled) ? 0 : read_more(self, start);
}
