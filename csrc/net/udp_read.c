/* Reading of datagram transports. */
#include <errno.h>
#include <sys/socket.h>

#include "base/compat.h"
#include "base/errno.h"
#include "base/pages.h"
#include "core/spare.h"
#include "net/udp.h"

#define READ_FATAL "Fatal read error on datagram transport"
#define READ_MAX (256 * 1024) /* asyncio's max_size */

/* Every slot takes the largest UDP datagram.  The odd bytes keep the slots'
   first lines in different sets of the cache; pages that no datagram reached
   cost nothing. */
#define SLOT_SIZE (64 * 1024 + 1024 + 64)
/* Unix datagrams may be as long as READ_MAX: four slots each. */
#define SLOTS_OF_UNIX 4

/* Datagrams held back leave after this time at the latest, even if the
   batch whose callbacks sent them is not delivered yet. */
#define HELD_NS (200 * 1000)

/* While datagrams come one by one only one is asked for (recvmmsg pays for
   finding nothing more); each so many reads it is tried again. */
#define ASK_AGAIN 8

typedef struct {
    TwMmsg msgs[TW_UDP_BATCH];
    struct iovec iov[TW_UDP_BATCH];
    struct sockaddr_storage from[TW_UDP_BATCH];
    char data[];
} TwBatch;

/* -- the batch ------------------------------------------------------------ */

/* The loop's one, or a new one: a callback that is being delivered to may
   run the loop further (a greenlet), hence it is taken while in use. */
static TwBatch *
batch_take(TwLoop *loop)
{
    TwBatch *batch = TW_TAKE(loop->dgram_batch);

    if (batch != NULL) {
        return batch;
    }
    batch = tw_pages_new(sizeof(*batch) + TW_UDP_BATCH * SLOT_SIZE);
    if (batch == NULL) {
        return NULL;
    }
    for (int i = 0; i < TW_UDP_BATCH; i++) {
        batch->msgs[i].msg_hdr = (struct msghdr){
            .msg_name = &batch->from[i],
            .msg_iov = &batch->iov[i],
            .msg_iovlen = 1,
        };
    }
    return batch;
}

static void
batch_put(TwLoop *loop, TwBatch *batch)
{
    if (loop->dgram_batch == NULL && loop->uv_open) {
        loop->dgram_batch = batch;
    }
    else {
        tw_pages_free(batch);
    }
}

static void
batch_prepare(const TwUdp *self, TwBatch *batch, int n)
{
    bool is_unix = self->family == AF_UNIX;
    size_t step = (is_unix ? SLOTS_OF_UNIX : 1) * (size_t)SLOT_SIZE;
    size_t room = is_unix ? READ_MAX : SLOT_SIZE;

    for (int i = 0; i < n; i++) {
        batch->iov[i].iov_base = batch->data + (size_t)i * step;
        batch->iov[i].iov_len = room;
        batch->msgs[i].msg_hdr.msg_namelen = sizeof(batch->from[i]);
    }
}

/* One datagram: recvfrom is cheaper than recvmmsg. */
static int
batch_receive_one(TwUdp *self, TwBatch *batch)
{
    struct msghdr *hdr = &batch->msgs[0].msg_hdr;
    ssize_t n = recvfrom(self->base.fd, batch->iov[0].iov_base,
                         batch->iov[0].iov_len, MSG_DONTWAIT, hdr->msg_name,
                         &hdr->msg_namelen);

    if (n < 0) {
        return -1;
    }
    batch->msgs[0].msg_len = (unsigned)n;
    return 1;
}

/* recvmmsg(2), or one datagram where a sandbox refuses it. */
static int
batch_receive_many(TwUdp *self, TwBatch *batch, int ask)
{
    TwSys *sys = &self->base.loop->sys;
    int n = tw_sys_recvmmsg(sys, self->base.fd, batch->msgs, (unsigned)ask,
                            MSG_DONTWAIT);

    if (n < 0 && tw_sys_is_refusal(errno)) {
        n = batch_receive_one(self, batch);
        if (n > 0) {
            sys->refused |= TW_SYS_RECVMMSG;
        }
    }
    self->asked = n > 1 ? (uint8_t)ask : 1;
    return n;
}

static int
batch_size_next(TwUdp *self)
{
    int most = self->family == AF_UNIX ? TW_UDP_BATCH / SLOTS_OF_UNIX
                                       : TW_UDP_BATCH;

    if (self->asked == 1 && ++self->turns < ASK_AGAIN) {
        return 1;
    }
    self->turns = 0;
    return most;
}

/* How many came (0: none after all), or a negative errno. */
static int
batch_receive(TwUdp *self, TwBatch *batch)
{
    int ask = batch_size_next(self), n;

    batch_prepare(self, batch, ask);
    if (ask == 1) {
        n = batch_receive_one(self, batch);
    }
    else {
        n = batch_receive_many(self, batch, ask);
    }
    if (n >= 0) {
        return n;
    }
    return errno == EAGAIN || errno == EINTR
               ? 0
               : -errno;
}

/* -- delivery ------------------------------------------------------------- */

/* protocol.datagram_received(data, addr).  -1: an exception leaves. */
static tw_status
read_deliver(TwUdp *self, PyObject *data, PyObject *addr)
{
    TwTransport *base = &self->base;
    PyObject *argv[] = {Py_NewRef(base->protocol), data, addr};
    PyObject *context = Py_NewRef(base->context), *result;
    tw_status status = 0;

    result = tw_call_method(base->loop, context,
                            base->loop->state->str.datagram_received, argv,
                            3);
    if (TW_UNLIKELY(result == NULL)) {
        status = tw_call_report(base->loop,
                                "Exception in callback datagram_received()",
                                (PyObject *)self, argv[0]);
    }
    Py_XDECREF(result);
    Py_DECREF(context);
    Py_DECREF(argv[0]);
    return status;
}

/* The i-th of a batch as Python objects; -1 with an exception. */
static tw_status
read_make(TwUdp *self, TwBatch *batch, int i, TwSpare *data, PyObject **addr)
{
    const struct msghdr *hdr = &batch->msgs[i].msg_hdr;
    size_t n = batch->msgs[i].msg_len;

    if (tw_spare_copy(self->base.loop, hdr->msg_iov->iov_base, n, data) < 0) {
        return -1;
    }
    *addr = tw_peers_tuple(&self->peers, hdr->msg_name, hdr->msg_namelen);
    if (*addr == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_OSError, "address of unknown family");
        }
        tw_spare_give(self->base.loop, data);
        return -1;
    }
    self->base.loop->stats.bytes_read += n;
    return 0;
}

/* Keep what came but may not be delivered now: [i, n). */
static void
read_keep(TwUdp *self, TwBatch *batch, int i, int n)
{
    PyObject *exc = tw_err_take();
    TwDgram d = {0};
    TwSpare data;

    for (; i < n && !(self->base.flags & TW_F_CLOSING); i++) {
        if (read_make(self, batch, i, &data, &d.addr) < 0) {
            PyErr_WriteUnraisable((PyObject *)self);
            continue;
        }
        d.data = data.bytes;
        if (tw_dgramq_push_steal(&self->in, &d) < 0) {
            PyErr_WriteUnraisable((PyObject *)self);
            Py_DECREF(d.data);
            Py_DECREF(d.addr);
        }
    }
    if (self->in.count > 0 && tw_udp_is_reading(self)
        && tw_udp_schedule_backlog(self) < 0) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    if (exc != NULL) {
        tw_err_restore_steal(exc);
    }
}

/* Deliver a batch within one stretch of held-back writes. */
static tw_status
read_deliver_batch(TwUdp *self, TwBatch *batch, int n)
{
    TwLoop *loop = self->base.loop;
    uint64_t since = n > 1 ? uv_hrtime() : 0;
    tw_status status = 0;
    PyObject *addr;
    TwSpare data;
    int i = 0;

    tw_call_begin(loop);
    while (i < n && status == 0 && tw_udp_is_reading(self)) {
        if (read_make(self, batch, i++, &data, &addr) < 0) {
            status = tw_transport_fatal(&self->base, READ_FATAL);
            break;
        }
        status = read_deliver(self, data.bytes, addr);
        tw_spare_give(loop, &data);
        Py_DECREF(addr);
        if (loop->corks != NULL && i < n && uv_hrtime() - since > HELD_NS) {
            tw_call_flush(loop);
            since = uv_hrtime();
        }
    }
    if (i < n) {
        read_keep(self, batch, i, n);
    }
    tw_call_end(loop);
    return status;
}

/* -- through the socket object -------------------------------------------- */

/* The exception that a method of the socket raised.  0: dealt with. */
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
        return tw_transport_fatal(&self->base, READ_FATAL);
    }
    exc = tw_err_take();
    status = tw_udp_tell_error(self, exc);
    Py_DECREF(exc);
    return status;
}

/* One datagram of a family that only the socket object understands. */
static tw_status
read_python(TwUdp *self)
{
    PyObject *size = PyLong_FromLong(READ_MAX), *pair;
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
        return tw_transport_fatal(&self->base, READ_FATAL);
    }
    status = read_deliver(self, PyTuple_GET_ITEM(pair, 0),
                          PyTuple_GET_ITEM(pair, 1));
    Py_DECREF(pair);
    return status;
}

/* -- the turn ------------------------------------------------------------- */

static tw_status
read_failed(TwUdp *self, int err)
{
    PyObject *exc = tw_errno_exception(err);
    tw_status status;

    if (exc == NULL) {
        return tw_transport_fatal(&self->base, READ_FATAL);
    }
    status = tw_udp_tell_error(self, exc);
    Py_DECREF(exc);
    return status;
}

tw_status
tw_udp_read(TwUdp *self)
{
    TwLoop *loop = self->base.loop;
    TwBatch *batch;
    tw_status status = 0;
    int n;

    if (TW_UNLIKELY(self->in.count > 0)) {
        status = tw_udp_read_backlog(self);
        if (status < 0 || !tw_udp_is_reading(self)) {
            return status;
        }
    }
    if (TW_UNLIKELY(self->family != AF_INET && self->family != AF_INET6
                    && self->family != AF_UNIX)) {
        return read_python(self);
    }
    batch = batch_take(loop);
    if (batch == NULL) {
        return tw_transport_fatal(&self->base, READ_FATAL);
    }
    n = batch_receive(self, batch);
    if (n > 0) {
        status = read_deliver_batch(self, batch, n);
    }
    else if (n < 0) {
        status = read_failed(self, n);
    }
    batch_put(loop, batch);
    return status;
}

tw_status
tw_udp_read_backlog(TwUdp *self)
{
    tw_status status = 0;

    while (status == 0 && self->in.count > 0 && tw_udp_is_reading(self)) {
        TwDgram d = tw_dgramq_pop(&self->in);
        status = read_deliver(self, d.data, d.addr);
        Py_DECREF(d.data);
        Py_DECREF(d.addr);
    }
    if (status < 0 && self->in.count > 0 && tw_udp_is_reading(self)) {
        PyObject *exc = tw_err_take();
        if (tw_udp_schedule_backlog(self) < 0) {
            PyErr_WriteUnraisable((PyObject *)self);
        }
        tw_err_restore_steal(exc);
    }
    return status;
}

tw_status
tw_udp_schedule_backlog(TwUdp *self)
{
    PyObject *method = PyObject_GetAttrString( /* allow: our own method */
        (PyObject *)self, "_read_backlog");
    tw_status status;

    if (method == NULL) {
        return -1;
    }
    status = tw_loop_call_soon(self->base.loop, method, NULL, 0, NULL);
    Py_DECREF(method);
    return status;
}
