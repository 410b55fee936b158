/* Writing of datagram transports: at once, with those that follow in the same
   callback (net/hold.h), or when the descriptor is writable. */
#include <errno.h>

#include "base/args.h"
#include "base/compat.h"
#include "base/errno.h"
#include "net/hold.h"
#include "net/udp.h"

#define WRITE_FATAL "Fatal write error on datagram transport"

/* A larger datagram is not held: its copy into the kernel should find it in
   the cache, and its error (EMSGSIZE) must be raised at once. */
#define HOLD_MAX (16 * 1024)

/* -- the target ----------------------------------------------------------- */

/* Set the kind of target and the address; `addr` is None or the user's
   object. */
static void
dgram_set_target(TwUdp *self, PyObject *addr, TwDgram *d)
{
    TwAddr path;

    d->addr = NULL;
    d->to_len = 0;
    if (self->connected && (self->named || addr == Py_None)) {
        d->how = TW_TO_PEER;
        return;
    }
    d->addr = Py_NewRef(addr);
    switch (self->family) {
    case AF_INET:
    case AF_INET6:
        d->how = tw_peers_addr(&self->peers, self->family, addr, &d->to,
                               &d->to_len)
                     ? TW_TO_INET
                     : TW_TO_PYTHON;
        break;
    case AF_UNIX:
        d->how = tw_addr_from_python(AF_UNIX, addr, &path) == 1
                     ? TW_TO_UNIX
                     : TW_TO_PYTHON;
        break;
    default:
        d->how = TW_TO_PYTHON;
    }
}

/* -- errors --------------------------------------------------------------- */

static PyObject *
udp_meth_error_received(PyObject *op, PyObject *exc)
{
    TwTransport *base = (TwTransport *)op;

    if (base->protocol == NULL) {
        Py_RETURN_NONE;
    }
    PyObject *argv[] = {Py_NewRef(base->protocol), exc};
    PyObject *result = tw_call_method(
        base->loop, NULL, base->loop->state->str.error_received, argv, 2);
    Py_DECREF(argv[0]);
    return result;
}

tw_status
tw_udp_error_later(TwUdp *self, PyObject *exc)
{
    PyObject *method = PyObject_GetAttrString( /* allow: our own method */
        (PyObject *)self, "_error_received");
    tw_status status = -1;

    if (method != NULL) {
        status = tw_loop_call_soon(self->base.loop, method, &exc, 1,
                                   self->base.context);
        Py_DECREF(method);
    }
    if (status < 0) {
        tw_call_flush_failed((PyObject *)self);
    }
    return 0;
}

typedef enum {
    BY_USER, /* within sendto(), which raises the exception of
                error_received() */
    BY_CALL_SOON, /* sendto() has returned: nothing may be raised */
    BY_TURN, /* reported */
} SentBy;

/* A send failed, with the current exception.  0: handled. */
static tw_status
write_failed(TwUdp *self, SentBy by)
{
    PyObject *exc, *result;
    tw_status status = 0;

    if (!PyErr_ExceptionMatches(PyExc_OSError)) {
        return tw_transport_fatal(&self->base, WRITE_FATAL);
    }
    exc = tw_err_take();
    if (by == BY_CALL_SOON) {
        status = tw_udp_error_later(self, exc);
    }
    else if (by == BY_TURN) {
        status = tw_udp_error_received(self, exc);
    }
    else {
        result = udp_meth_error_received((PyObject *)self, exc);
        status = result ? 0 : -1;
        Py_XDECREF(result);
    }
    Py_DECREF(exc);
    return status;
}

/* -- the queue ------------------------------------------------------------ */

size_t
tw_udp_buffer_size(TwTransport *base)
{
    const TwUdp *self = (TwUdp *)base;

    return self->out.bytes + (size_t)self->out.count * TW_DATAGRAM_HEADER;
}

void
tw_udp_buffer_clear(TwTransport *base)
{
    TwUdp *self = (TwUdp *)base;

    tw_dgramq_clear(&self->out);
    self->waiting = false;
    tw_hold_end(base);
}

/* Send from the queue until it is empty or the kernel's buffer is full.  -1
   with an exception as `by` says. */
static tw_status
queue_flush(TwUdp *self, SentBy by)
{
    while (self->out.count > 0 && self->base.fd >= 0) {
        int sent = tw_udp_send_queued(self);
        if (sent == 0) {
            break;
        }
        /* A datagram that failed is dropped, as in asyncio. */
        if (self->out.count > 0) {
            tw_dgramq_drop(&self->out, sent > 0 ? (uint32_t)sent : 1);
        }
        if (sent < 0 && write_failed(self, by) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The kernel refused the queue: wait until the descriptor is writable. */
static tw_status
queue_wait(TwUdp *self)
{
    if (self->base.conn_lost > 0) {
        tw_udp_buffer_clear(&self->base);
        return 0;
    }
    self->waiting = true;
    if (tw_transport_watch(&self->base) < 0) {
        return -1;
    }
    return tw_transport_maybe_pause(&self->base);
}

/* -- held datagrams ------------------------------------------------------- */

tw_status
tw_udp_flush(TwTransport *base)
{
    TwUdp *self = (TwUdp *)base;

    tw_hold_end(base);
    if (self->waiting || self->out.count == 0) {
        return 0;
    }
    if (queue_flush(self, BY_CALL_SOON) < 0) {
        return -1;
    }
    return self->out.count > 0 ? queue_wait(self) : 0;
}

/* Append it to what is held, if anything is; steals its references.  If it is
   not to be `held` itself all of them are sent. */
static tw_status
hold_steal(TwUdp *self, TwDgram *d, bool held)
{
    tw_status status = 0;

    if (tw_dgramq_push_steal(&self->out, d) < 0) {
        return -1;
    }
    if (!(self->base.flags & TW_F_HELD)) {
        tw_hold_begin(&self->base);
    }
    if (!held) {
        Py_INCREF(self);
        status = tw_udp_flush(&self->base);
        Py_DECREF(self);
    }
    return status;
}

/* -- sendto() ------------------------------------------------------------- */

static int
write_now(TwUdp *self, const TwDgram *d, PyObject *data)
{
    Py_buffer view;
    int sent;

    if (d->how == TW_TO_PYTHON) {
        return tw_udp_send_python(self, data, d->addr);
    }
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    sent = tw_udp_send_one(self, d, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return sent;
}

/* Append it to the datagrams that wait; steals d->addr. */
static tw_status
write_queue_steal(TwUdp *self, TwDgram *d, PyObject *data)
{
    d->data = PyBytes_FromObject(data); /* exact: its deallocation runs no
                                           Python */
    return tw_dgramq_push_steal(&self->out, d) < 0 ? -1 : queue_wait(self);
}

/* May `data`, of that size, be queued with what is held?  Not above the
   high-water mark: pause_writing() must be called before sendto() returns (a
   mark of 0 asks for just this). */
static bool
write_may_join(const TwUdp *self, const TwDgram *d, PyObject *data,
               Py_ssize_t size)
{
    return size <= HOLD_MAX && d->how != TW_TO_PYTHON
           && (PyBytes_Check(data) || PyByteArray_Check(data))
           && self->base.high >= tw_udp_buffer_size((TwTransport *)self)
                                     + (size_t)size + TW_DATAGRAM_HEADER;
}

/* May it be held itself, because more will follow?  The program's habit says
   so; or more datagrams are about to be delivered, and each of the last ones
   was answered. */
static bool
write_may_hold(TwUdp *self)
{
    bool habit;

    if (self->waiting) {
        return false;
    }
    habit = tw_hold_next(&self->base);
    return (habit
            || (self->more && self->answers == TW_UDP_ANSWERS
                && tw_hold_is_private(&self->base)))
           && self->out.count < TW_UDP_BATCH - 1
           && self->out.bytes < TW_HOLD_BYTES
           && tw_call_may_hold(self->base.loop);
}

static tw_status
write_datagram(TwUdp *self, PyObject *data, PyObject *addr)
{
    TwDgram d = {0};
    Py_ssize_t size = PyObject_Length(data); /* HOLD_MAX is compared with
                                                this */
    int sent;
    bool held;

    if (size < 0) {
        return -1;
    }
    dgram_set_target(self, addr, &d);
    self->answered = true;
    held = write_may_hold(self);
    if ((held || self->base.flags & TW_F_HELD)
        && write_may_join(self, &d, data, size)) {
        d.data = PyBytes_FromObject(data);
        return hold_steal(self, &d, held);
    }
    if (self->base.flags & TW_F_HELD && tw_udp_flush(&self->base) < 0) {
        Py_XDECREF(d.addr);
        return -1;
    }
    if (self->waiting) {
        return write_queue_steal(self, &d, data);
    }
    sent = write_now(self, &d, data);
    if (sent == 0) {
        return write_queue_steal(self, &d, data);
    }
    Py_XDECREF(d.addr);
    return sent < 0 ? write_failed(self, BY_USER) : 0;
}

/* asyncio's check of the address against `peer`, the endpoint's address or
   NULL; *addr becomes that one.  -1 with ValueError. */
static tw_status
write_check_address(PyObject *peer, PyObject **addr)
{
    int same;

    if (peer == NULL) {
        return 0;
    }
    if (*addr != Py_None && *addr != peer) {
        same = PyObject_RichCompareBool(*addr, peer, Py_EQ);
        if (same == 0) {
            PyErr_Format(PyExc_ValueError,
                         "Invalid address: must be None or %S", peer);
        }
        if (same <= 0) {
            return -1;
        }
    }
    *addr = peer;
    return 0;
}

/* Nothing to do: an empty datagram before 3.13. */
static int
write_is_nothing(PyObject *data)
{
    if (TW_DATAGRAM_EMPTY) {
        return 0;
    }
    return PyBytes_CheckExact(data) ? PyBytes_GET_SIZE(data) == 0
                                    : PyObject_Not(data);
}

static tw_status
write_to(TwUdp *self, PyObject *data, PyObject *addr, PyObject *peer)
{
    if (write_check_address(peer, &addr) < 0) {
        return -1;
    }
    if (TW_UNLIKELY(self->base.fd < 0
                    || (self->base.conn_lost > 0 && peer != NULL))) {
        return tw_transport_warn_lost(self->base.loop, self->base.conn_lost++,
                                      TW_TRANSPORT_LOST);
    }
    return write_datagram(self, data, addr);
}

static PyObject *
udp_meth_sendto(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    static const char *const names[] = {"data", "addr"};
    static const TwArgs spec = {"sendto", names, 1, 2};
    TwUdp *self = (TwUdp *)op;
    PyObject *given[2], *data, *peer;
    tw_status status;
    int nothing;

    if (tw_args_bind(&spec, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    data = given[0];
    if (!PyBytes_Check(data) && !PyByteArray_Check(data)
        && !PyMemoryView_Check(data)) {
        tw_args_refuse(
            "data argument must be a bytes-like object, not '%U'", data);
        return NULL;
    }
    nothing = write_is_nothing(data);
    if (nothing != 0) {
        return nothing < 0 ? NULL : Py_NewRef(Py_None);
    }
    peer = Py_XNewRef(self->address); /* a comparison may replace it */
    status = write_to(self, data, given[1] ? given[1] : Py_None, peer);
    Py_XDECREF(peer);
    return tw_none_or_error(status);
}

/* -- the turn ------------------------------------------------------------- */

tw_status
tw_udp_on_writable(TwUdp *self)
{
    if (self->base.conn_lost > 0 || !self->waiting) {
        return 0;
    }
    if (queue_flush(self, BY_TURN) < 0) {
        return -1;
    }
    if (self->out.count == 0) {
        /* Datagrams that resume_writing() sends are sent at once. */
        self->waiting = false;
        if (tw_transport_watch(&self->base) < 0) {
            return -1;
        }
    }
    if (tw_transport_maybe_resume(&self->base) < 0) {
        return -1;
    }
    if (self->out.count > 0 || self->base.conn_lost > 0) {
        return 0;
    }
    return self->base.flags & TW_F_CLOSING
               ? tw_transport_call_lost(&self->base)
               : 0;
}

PyMethodDef tw_udp_write_methods[] = {
    {"sendto", TW_FAST(udp_meth_sendto), TW_FASTKW, PyDoc_STR(
"sendto($self, /, data, addr=None)\n--\n\n"
"Send a datagram to addr, or to the peer that was given when the endpoint\n"
"was made; never blocks.\n\n"
"What cannot be sent at once waits (see set_write_buffer_limits).  TypeError\n"
"for data of another type than bytes, bytearray, memoryview; ValueError for\n"
"another address than the peer's.  Errors of sending go to the protocol's\n"
"error_received().  See library/asyncio-protocol.")},
    {"_error_received", udp_meth_error_received, METH_O, NULL},
    {NULL},
};
