#include "net/transport.h"

#include <unistd.h>

#include "base/compat.h"
#include "core/future.h"
#include "core/overrides.h"
#include "net/hold.h"

#define TRANSPORT_HIGH_WATER (64 * 1024)
#define TRANSPORT_LOW_WATER (16 * 1024)

/* -- life ----------------------------------------------------------------- */

static PyObject *
none_is_null(PyObject *obj)
{
    return obj == Py_None ? NULL : Py_XNewRef(obj);
}

tw_status
tw_transport_init(TwBaseTransport *self, TwLoop *loop, const TwStepOps *ops,
                  PyObject *protocol, PyObject *extra, PyObject *waiter)
{
    self->loop = (TwLoop *)Py_NewRef((PyObject *)loop);
    self->ops = ops;
    self->high = TRANSPORT_HIGH_WATER;
    self->low = TRANSPORT_LOW_WATER;
    self->waiter = none_is_null(waiter);
    if (extra != NULL && extra != Py_None) {
        self->extra = PyDict_New();
        if (self->extra == NULL || PyDict_Update(self->extra, extra) < 0) {
            return -1;
        }
    }
    self->context = PyContext_CopyCurrent();
    if (self->context == NULL) {
        return -1;
    }
    if (protocol != NULL) {
        tw_transport_set_protocol(self, protocol);
    }
    return 0;
}

TwTransport *
tw_transport_new(PyTypeObject *type, TwLoop *loop, const TwTransportOps *ops,
                 PyObject *protocol, PyObject *server, PyObject *extra,
                 PyObject *waiter)
{
    TwTransport *self = (TwTransport *)type->tp_alloc(type, 0);

    if (self == NULL) {
        return NULL;
    }
    self->fd = self->fd_shown = -1;
    self->server = none_is_null(server);
    if (tw_transport_init(TW_BASE(self), loop, &ops->step, protocol, extra,
                          waiter)
        < 0) {
        Py_CLEAR(self);
    }
    return self;
}

/* Has the program closed our socket object? */
static bool
transport_is_stale(PyObject *op)
{
    TwTransport *self = (TwTransport *)op;
    PyObject *number;
    long fd;

    if (self->sock == NULL) {
        return self->fd < 0;
    }
    number = tw_call_plain_noargs(self->sock, self->loop->state->str.fileno);
    fd = number ? PyLong_AsLong(number) : -1;
    Py_XDECREF(number);
    tw_call_ignore_error();
    return fd != self->fd;
}

tw_status
tw_transport_adopt(TwTransport *self, int fd, PyObject *sock,
                   TwOnReady on_ready)
{
    self->watcher = tw_watcher_open(self->loop, fd, (PyObject *)self,
                                    on_ready, true);
    if (self->watcher == NULL) {
        return -1;
    }
    self->watcher->is_stale = transport_is_stale;
    self->fd = self->fd_shown = fd;
    self->sock = Py_XNewRef(sock);
    return 0;
}

void
tw_transport_count(TwTransport *self, TwKind kind, bool accepted)
{
    TwTransportStats *stats = &self->loop->stats.kinds[kind];

    self->kind = kind;
    self->loop->gauges.open[kind]++;
    if (accepted) {
        stats->accepted++;
    }
    else {
        stats->opened++;
    }
}

/* It ends, with `exc` or without. */
static void
transport_count_end(TwTransport *self, PyObject *exc)
{
    TwTransportStats *stats = &self->loop->stats.kinds[self->kind];

    if (exc == NULL) {
        stats->closed++;
    }
    else if (PyErr_GivenExceptionMatches(exc, PyExc_ConnectionError)) {
        stats->reset++;
    }
    else {
        stats->lost++;
    }
}

/* server._attach(self), server._detach(self): without self before 3.13. */
static tw_status
transport_call_server(TwTransport *self, PyObject *server, PyObject *name)
{
    PyObject *argv[] = {server, (PyObject *)self};
    size_t n = self->loop->state->server_takes_transport ? 2 : 1;

    return tw_status_steal(tw_call_plain_method(name, argv, n));
}

/* A closed server may wait for its last connection. */
static void
transport_detach_server(TwTransport *self)
{
    PyObject *server = TW_TAKE(self->server);

    if (server != NULL
        && transport_call_server(self, server, self->loop->state->str._detach)
               < 0) {
        PyErr_WriteUnraisable(server);
    }
    Py_XDECREF(server);
}

/* asyncio reads the attribute connection_made when it makes the transport:
   this reports a factory that returned another object. */
static tw_status
transport_check_protocol(TwTransport *self)
{
    PyObject *name = self->loop->state->str.connection_made;

    if (self->protocol == NULL) {
        return 0; /* a sink's */
    }
    return tw_status_steal(
        PyObject_GetAttr(self->protocol, name)); /* allow: no call */
}

/* The program has replaced call_soon(): it sees one call each for
   connection_made(), for the start of reading, and for the waiter, as with
   asyncio.  Each step does the next of these. */
static tw_status
transport_start_by_call_soon(TwTransport *self)
{
    int steps = self->waiter == NULL ? 2 : 3;

    self->flags |= TW_F_APART;
    for (int i = 0; i < steps; i++) {
        if (tw_loop_push_step(self->loop, (PyObject *)self) < 0) {
            return -1;
        }
    }
    return 0;
}

tw_status
tw_transport_start(TwTransport *self)
{
    if (transport_check_protocol(self) < 0) {
        return -1;
    }
    if (self->server != NULL
        && transport_call_server(self, self->server,
                                 self->loop->state->str._attach)
               < 0) {
        return -1;
    }
    if (TW_UNLIKELY(tw_overrides(self->loop) & TW_OWN_CALL_SOON)) {
        return transport_start_by_call_soon(self);
    }
    return tw_loop_push_step(self->loop, (PyObject *)self);
}

/* protocol.<name>(arg), or the call of another object instead. */
static tw_status
transport_step_call(TwTransport *self, TwProtocolCall what, PyObject *name,
                    PyObject *arg)
{
    int asked = 1;

    if (self->ops->intercept != NULL) {
        asked = self->ops->intercept(
            self, what, what == TW_CALL_LOST ? arg : NULL);
    }
    return asked <= 0 ? asked
                      : tw_transport_call_step(TW_BASE(self), name, arg);
}

static tw_status
transport_made(TwTransport *self)
{
    self->flags |= TW_F_MADE;
    return transport_step_call(self, TW_CALL_MADE,
                               self->loop->state->str.connection_made,
                               (PyObject *)self);
}

static tw_status
transport_started(TwTransport *self)
{
    self->flags |= TW_F_STARTED;
    if (tw_transport_watch(self) < 0) {
        return tw_transport_report_call(self, "_add_reader");
    }
    return 0;
}

static void
transport_wake_waiter(TwTransport *self)
{
    PyObject *waiter = TW_TAKE(self->waiter);

    if (waiter != NULL
        && tw_loop_resolve(self->loop, waiter, Py_None) < 0) {
        PyErr_WriteUnraisable(waiter);
    }
    Py_XDECREF(waiter);
}

/* connection_made, then what asyncio schedules as handles of their own: they
   also follow a connection_made whose exception leaves the loop. */
static tw_status
transport_start_at_once(TwTransport *self)
{
    tw_status status = transport_made(self);
    PyObject *exc = tw_err_take();

    if (transport_started(self) < 0) {
        status = -1;
        if (exc == NULL) {
            exc = tw_err_take();
        }
        PyErr_Clear();
    }
    transport_wake_waiter(self);
    tw_err_restore_steal(exc);
    return status;
}

tw_status
tw_transport_step(PyObject *op)
{
    TwTransport *self = (TwTransport *)op;

    if (!(self->flags & TW_F_MADE)) {
        return self->flags & TW_F_APART ? transport_made(self)
                                        : transport_start_at_once(self);
    }
    if (!(self->flags & TW_F_STARTED)) {
        return transport_started(self);
    }
    if (self->waiter != NULL) {
        transport_wake_waiter(self);
        return 0;
    }
    if (self->flags & TW_F_LOST_SCHEDULED && !(self->flags & TW_F_LOST)) {
        return tw_transport_call_lost(self);
    }
    return 0;
}

PyObject *
tw_transport_step_call(PyObject *op)
{
    TwTransport *self = (TwTransport *)op;

    if (!(self->flags & TW_F_MADE)) {
        return Py_BuildValue(
            "NsO", Py_NewRef(self->protocol ? self->protocol : Py_None),
            "connection_made", op);
    }
    return Py_BuildValue(
        "OsN", op, "_call_connection_lost",
        Py_NewRef(self->lost_exc ? self->lost_exc : Py_None));
}

/* -- closing -------------------------------------------------------------- */

static tw_status
transport_schedule_lost(TwTransport *self, PyObject *exc)
{
    if (self->watcher != NULL && tw_watcher_want(self->watcher, 0) < 0) {
        PyErr_Clear();
    }
    self->conn_lost++;
    self->flags |= TW_F_LOST_SCHEDULED;
    Py_XSETREF(self->lost_exc, none_is_null(exc));
    return tw_loop_push_step(self->loop, (PyObject *)self);
}

/* `self` may lose its last reference when its watcher stops: each closing
   function holds one. */
tw_status
tw_transport_close(TwTransport *self)
{
    tw_status status = 0;

    if (tw_hold_flush(self) < 0) {
        return -1;
    }
    if (self->flags & TW_F_CLOSING) {
        return 0;
    }
    Py_INCREF(self);
    self->flags |= TW_F_CLOSING;
    if (tw_transport_watch(self) < 0) {
        PyErr_Clear();
    }
    if (self->ops->buffer_size(self) == 0 && self->conn_lost == 0) {
        status = transport_schedule_lost(self, NULL);
    }
    Py_DECREF(self);
    return status;
}

tw_status
tw_transport_force_close(TwTransport *self, PyObject *exc)
{
    tw_status status;

    if (self->conn_lost > 0) {
        return 0;
    }
    Py_INCREF(self);
    self->flags |= TW_F_CLOSING;
    self->ops->buffer_clear(self);
    status = transport_schedule_lost(self, exc);
    Py_DECREF(self);
    return status;
}

tw_status
tw_transport_call_lost(TwTransport *self)
{
    PyObject *exc, *pending;
    tw_status status;

    if (self->flags & TW_F_LOST) {
        return 0;
    }
    Py_INCREF(self);
    self->flags |= TW_F_LOST | TW_F_CLOSING;
    if (self->conn_lost == 0) {
        self->conn_lost = 1;
    }
    exc = TW_TAKE(self->lost_exc);
    transport_count_end(self, exc);
    status = transport_step_call(self, TW_CALL_LOST,
                                 self->loop->state->str.connection_lost,
                                 exc ? exc : Py_None);
    pending = status < 0 ? tw_err_take() : NULL;
    self->ops->lost(self, exc);
    tw_transport_release(self);
    transport_detach_server(self);
    Py_CLEAR(self->protocol);
    Py_XDECREF(exc);
    Py_DECREF(self);
    tw_err_restore_steal(pending);
    return status;
}

void
tw_transport_release(TwTransport *self)
{
    PyObject *exc;
    int fd = self->fd;

    if (fd < 0) {
        return;
    }
    exc = tw_err_take(); /* of the transport that failed */
    self->fd = -1;
    if (self->kind != TW_KIND_NONE) {
        self->loop->gauges.open[self->kind]--;
    }
    tw_source_unwatch(&self->watcher);
    if (self->sock == NULL) {
        close(fd);
    }
    else if (tw_status_steal(tw_call_plain_noargs(
                 self->sock, self->loop->state->str.close))
             < 0) {
        PyErr_WriteUnraisable(self->sock);
    }
    tw_err_restore_steal(exc);
}

void
tw_transport_warn_unclosed(PyObject *op)
{
    PyObject *exc = tw_err_take();

    if (PyErr_ResourceWarning(op, 1, "unclosed transport %R", op) < 0) {
        PyErr_WriteUnraisable(op);
    }
    tw_err_restore_steal(exc);
}

void
tw_transport_finalize(PyObject *op)
{
    TwTransport *self = (TwTransport *)op;
    PyObject *exc;

    if (self->fd < 0 || self->loop == NULL) {
        return;
    }
    tw_transport_warn_unclosed(op);
    exc = tw_err_take();
    transport_count_end(self, NULL);
    tw_transport_release(self);
    transport_detach_server(self);
    tw_err_restore_steal(exc);
}

/* -- pausing and resuming ------------------------------------------------- */

tw_status
tw_transport_watch(TwTransport *self)
{
    if (self->watcher == NULL || self->conn_lost > 0) {
        return 0;
    }
    return tw_watcher_want(self->watcher, self->ops->wants(self));
}

tw_status
tw_transport_pause_reading(TwTransport *self)
{
    if (!tw_transport_is_reading(self)) {
        return 0;
    }
    self->flags |= TW_F_READ_PAUSED;
    if (tw_transport_watch(self) < 0) {
        return -1;
    }
    return tw_transport_log(self, "debug", "%r pauses reading");
}

tw_status
tw_transport_resume_reading(TwTransport *self)
{
    if (self->flags & TW_F_CLOSING || !(self->flags & TW_F_READ_PAUSED)) {
        return 0;
    }
    self->flags &= ~TW_F_READ_PAUSED;
    if (tw_loop_check_open(self->loop) < 0) {
        return -1;
    }
    if (self->ops->resumed != NULL) {
        self->ops->resumed(self);
    }
    if (tw_transport_watch(self) < 0) {
        return -1;
    }
    return tw_transport_log(self, "debug", "%r resumes reading");
}

/* -- protocol callbacks --------------------------------------------------- */

PyObject *
tw_transport_call_protocol(TwBaseTransport *self, PyObject *name,
                           PyObject *arg)
{
    /* Pinned: the callback may swap the protocol, or close the transport. */
    PyObject *argv[] = {Py_XNewRef(self->protocol), arg};
    PyObject *context, *result;

    if (argv[0] == NULL) {
        Py_RETURN_NONE; /* TLS was removed, and there is no protocol */
    }
    context = Py_XNewRef(self->context);
    result = tw_call_method(self->loop, context, name, argv, arg ? 2 : 1);
    Py_XDECREF(context);
    Py_DECREF(argv[0]);
    return result;
}

void
tw_transport_set_protocol(TwBaseTransport *self, PyObject *protocol)
{
    int buffered =
        PyObject_IsInstance(protocol, self->loop->state->buffered_protocol);

    if (buffered < 0) {
        tw_call_ignore_error();
    }
    self->flags &= ~(TW_F_BUFFERED | TW_F_READER);
    if (buffered > 0) {
        self->flags |= TW_F_BUFFERED;
    }
    else if (Py_IS_TYPE(protocol, self->loop->state->reader.protocol_type)) {
        self->flags |= TW_F_READER;
    }
    Py_XSETREF(self->protocol, Py_NewRef(protocol));
}
