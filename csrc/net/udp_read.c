/* Reading of datagram transports.

   Each datagram is delivered before the next is read.  A socket may have other
   readers (a duplicate, a forked child, another loop): when a protocol pauses
   or closes, the datagrams that it did not get stay in the kernel for them. */
#include <errno.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/compat.h"
#include "base/errno.h"
#include "core/probes.h"
#include "core/readbytes.h"
#include "net/udp.h"

#define UDP_READ_FATAL "Fatal read error on datagram transport"

/* The most datagrams in one turn.  While they arrive one by one only one is
   read, because a call that finds nothing costs time; every ASK_AGAIN turns
   more are tried. */
#define UDP_READS_A_TURN 32
#define ASK_AGAIN 8

/* Held datagrams are sent after this time at the latest, even if more are
   delivered in this turn. */
#define HELD_NS (200 * 1000)

/* -- delivery ------------------------------------------------------------- */

/* protocol.datagram_received(data, addr).  -1: an exception leaves. */
static tw_status
udp_deliver(TwUdp *self, PyObject *data, PyObject *addr)
{
    TwTransport *base = &self->base;
    PyObject *argv[] = {Py_NewRef(base->protocol), data, addr};
    PyObject *context = Py_NewRef(base->context), *result;
    tw_status status = 0;

    tw_stats_in(&base->loop->stats, TW_KIND_UDP,
                PyBytes_Check(data) ? (size_t)PyBytes_GET_SIZE(data) : 0);
    result = tw_call_method(base->loop, context,
                            base->loop->state->str.datagram_received, argv,
                            3);
    if (TW_UNLIKELY(result == NULL)) {
        status = tw_transport_report_call(base, "_read_ready");
    }
    Py_XDECREF(result);
    Py_DECREF(context);
    Py_DECREF(argv[0]);
    return status;
}

/* The received datagram as Python objects; -1 with an exception. */
static tw_status
read_make(TwUdp *self, const char *p, size_t n, const TwAddr *from,
          TwReadBytes *data, PyObject **addr)
{
    if (tw_readbytes_copy(self->base.loop, p, n, data) < 0) {
        return -1;
    }
    *addr = tw_peers_tuple(&self->peers, &from->u.any, from->len);
    if (*addr == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_OSError, "address of unknown family");
        }
        tw_readbytes_release(self->base.loop, data);
        return -1;
    }
    return 0;
}

/* -- through the socket object -------------------------------------------- */

/* Handle the exception of a method of the socket.  0: reported. */
static tw_status
read_python_failed(TwUdp *self)
{
    PyObject *exc;
    tw_status status;

    if (PyErr_ExceptionMatches(PyExc_BlockingIOError)
        || PyErr_ExceptionMatches(PyExc_InterruptedError)) {
        PyErr_Clear();
        return 0;
    }
    if (!PyErr_ExceptionMatches(PyExc_OSError)) {
        return tw_transport_fatal(&self->base, UDP_READ_FATAL);
    }
    exc = tw_err_take();
    status = tw_udp_error_received(self, exc);
    Py_DECREF(exc);
    return status;
}

/* One datagram of a family that only the socket object understands. */
static tw_status
read_python(TwUdp *self)
{
    PyObject *size = PyLong_FromLong(TW_UDP_READ_MAX), *pair;
    PyObject *argv[] = {self->base.sock, size};
    tw_status status;

    if (size == NULL) {
        return -1;
    }
    pair = tw_call_plain_method(self->base.loop->state->str.recvfrom, argv, 2);
    Py_DECREF(size);
    if (pair == NULL) {
        return read_python_failed(self);
    }
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
        Py_DECREF(pair);
        PyErr_SetString(PyExc_TypeError, "recvfrom() must return a pair");
        return tw_transport_fatal(&self->base, UDP_READ_FATAL);
    }
    status = udp_deliver(self, PyTuple_GET_ITEM(pair, 0),
                         PyTuple_GET_ITEM(pair, 1));
    Py_DECREF(pair);
    return status;
}

/* -- the turn ------------------------------------------------------------- */

static tw_status
udp_read_failed(TwUdp *self, int err)
{
    PyObject *exc;
    tw_status status;

    if (err == EAGAIN || err == EINTR) {
        return 0;
    }
    exc = tw_errno_exception(-err);
    status = tw_udp_error_received(self, exc);
    Py_DECREF(exc);
    return status;
}

/* Deliver datagrams that were read before. */
static int
read_kept(TwUdp *self)
{
    TwDgram d = tw_dgramq_pop(&self->in);
    tw_status status;

    status = udp_deliver(self, d.data, d.addr);
    Py_DECREF(d.data);
    Py_DECREF(d.addr);
    return status < 0 ? -1 : 1;
}

/* recvfrom(): p[0:result] is in the loop's buffer; or a negative errno. */
static ssize_t
read_from(TwUdp *self, const char **p, TwAddr *from)
{
    char *buffer = self->base.loop->read_buffer;
    ssize_t n;

    from->len = sizeof(from->u);
    n = recvfrom(self->base.fd, buffer, TW_UDP_READ_MAX, MSG_DONTWAIT,
                 &from->u.any, &from->len);
    *p = buffer;
    return n < 0 ? -errno : n;
}

/* Read one and deliver it.  1: done; 0: there is none; -1: an exception
   leaves the loop. */
static int
read_one(TwUdp *self)
{
    TwLoop *loop = self->base.loop;
    TwAddr room;
    const TwAddr *from = &room;
    const char *p;
    PyObject *addr;
    TwReadBytes data;
    ssize_t n;
    tw_status status;

    if (TW_UNLIKELY(self->in.count > 0)) {
        return read_kept(self);
    }
    if (!tw_udp_has_rest(self) && tw_loop_read_buffer(loop) == NULL) {
        return tw_transport_fatal(&self->base, UDP_READ_FATAL);
    }
    n = self->merged ? tw_udp_merged_read(self, &p, &from)
                     : read_from(self, &p, &room);
    TW_PROBE2(read, self->base.fd, n);
    if (n < 0) {
        return udp_read_failed(self, (int)-n);
    }
    self->more |= tw_udp_has_rest(self);
    if (read_make(self, p, (size_t)n, from, &data, &addr) < 0) {
        return tw_transport_fatal(&self->base, UDP_READ_FATAL);
    }
    status = udp_deliver(self, data.bytes, addr);
    tw_readbytes_release(loop, &data);
    Py_DECREF(addr);
    return status < 0 ? -1 : 1;
}

static int
udp_read_most(TwUdp *self)
{
    if (!self->several && ++self->turns < ASK_AGAIN) {
        return 1;
    }
    self->turns = 0;
    return UDP_READS_A_TURN;
}

/* May the transport be read again, after a callback?  The program may have
   paused or closed it, or closed the socket. */
static bool
read_goes_on(TwUdp *self)
{
    const TwWatcher *w = self->base.watcher;

    return tw_transport_is_reading(&self->base) && w != NULL
           && !w->is_stale((PyObject *)self);
}

/* read_one(), and learn whether the program answers each datagram, and
   quickly.  `since`: when it was asked for, or 0 if it is the only one of this
   turn. */
static int
read_and_judge(TwUdp *self, uint64_t since)
{
    int got;

    self->more = since != 0;
    self->answered = false;
    self->base.loop->callback_number++; /* one callback for net/hold.h */
    got = read_one(self);
    if (got <= 0) {
        return got;
    }
    if (!self->answered || (since && tw_now_ns() - since > HELD_NS)) {
        self->answers = 0;
    }
    else if (self->answers < TW_UDP_ANSWERS) {
        self->answers++;
    }
    return got;
}

/* Look once in a while whether datagrams come in bursts. */
static void
read_note_several(TwUdp *self, int most, int done)
{
    if (most > 1 || done > 1) {
        self->several = done > 1;
    }
    if (TW_UNLIKELY(self->several && !self->merge_asked)) {
        tw_udp_merge(self);
    }
}

/* Datagrams that the callbacks of one turn send may be sent together, at the
   end. */
static tw_status
read_several(TwUdp *self)
{
    TwLoop *loop = self->base.loop;
    int most = udp_read_most(self), done = 0, got;
    uint64_t now = 0, held_since = 0;

    tw_call_begin(loop);
    do {
        if (most > 1) {
            now = tw_now_ns();
            if (now - held_since > HELD_NS) {
                tw_call_flush(loop);
                held_since = now;
            }
        }
        got = read_and_judge(self, done + 1 < most ? now : 0);
        done += got > 0;
        if (done == 1 && tw_udp_has_rest(self)) {
            most = UDP_READS_A_TURN;
        }
    } while (got > 0 && done < most && read_goes_on(self));
    read_note_several(self, most, done);
    self->more = false;
    tw_call_end(loop);
    tw_udp_rouse(&self->base);
    return got < 0 ? -1 : 0;
}

tw_status
tw_udp_read(TwUdp *self)
{
    int family = self->family;

    if (TW_LIKELY(family == AF_INET || family == AF_INET6
                  || family == AF_UNIX)) {
        return read_several(self);
    }
    return read_python(self);
}
