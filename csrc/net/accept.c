#include "net/accept.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/compat.h"
#include "base/errno.h"
#include "core/call.h"
#include "core/overrides.h"
#include "core/probes.h"
#include "net/sock_object.h"
#include "net/stream.h"

/* A source: a plain connection is accepted in the turn after the one that saw
   it, when asyncio's task makes its transport. */
typedef struct {
    PyObject_HEAD
    PyObject *factory;   /* strong: protocol_factory */
    PyObject *sock;      /* strong: the listening socket, Server's */
    TwLoop *loop;
    PyObject *server;    /* strong */
    PyObject *context;   /* strong: copied for each connection */
    const TwStepOps *ops;
    TwWatcher *watcher;  /* until stopped */
    PyObject *ssl;       /* strong or NULL */
    PyObject *ssl_times; /* strong: (handshake, shutdown) timeouts */
    uint64_t turn;       /* of the last step */
    int64_t batch;       /* connections per turn */
    bool queued;         /* is in the ready queue */
} TwAccept;

TW_CHECK_SOURCE(TwAccept);

/* -- one connection ------------------------------------------------------- */

/* Report the current exception of accept(2).  -1: it leaves the loop. */
static tw_status
accept_report(TwAccept *self)
{
    return tw_call_report(self->loop, "socket.accept() failed", NULL, NULL);
}

static bool
accept_is_exhaustion(int err)
{
    return err == EMFILE || err == ENFILE || err == ENOBUFS || err == ENOMEM;
}

/* Report a failed connection, in debug mode only, as asyncio does.  -1: the
   exception leaves the loop.  `protocol`: the factory's result, or NULL. */
static tw_status
accept_failed(TwAccept *self, PyObject *protocol)
{
    if (tw_call_must_leave()) {
        return -1;
    }
    if (!self->loop->debug) {
        PyErr_Clear();
        return 0;
    }
    return tw_call_report(
        self->loop, "Error on transport creation for incoming connection",
        NULL, protocol == Py_None ? NULL : protocol);
}

/* In any case the descriptor is closed, or owned by the transport,
   afterwards. */
static tw_status
accept_plain(TwAccept *self, int fd, const TwAddr *peer)
{
    TwStreamParts parts = {.server = self->server, .peer = peer};
    PyObject *argv[1] = {NULL};
    tw_status status = 0;
    TwStream *stream;

    parts.protocol = tw_call(self->loop, NULL, self->factory, argv + 1, 0);
    if (parts.protocol == NULL) {
        close(fd);
        return accept_failed(self, NULL);
    }
    stream = tw_stream_new(self->loop, fd, &parts);
    if (stream == NULL) {
        status = accept_failed(self, parts.protocol);
    }
    Py_DECREF(parts.protocol);
    Py_XDECREF(stream);
    return status;
}

/* Must a task make the transport?  With TLS it waits for the handshake.
   asyncio makes one without TLS, too, which a program sees if it replaces
   create_task(), the task factory, or the hook that the task calls. */
static bool
accept_needs_task(TwAccept *self)
{
    return self->ssl != NULL || self->loop->task_factory != NULL
           || tw_overrides(self->loop)
                  & (TW_OWN_CREATE_TASK | TW_OWN_MAKE_SOCKET_TRANSPORT);
}

/* The Python form of the peer's address; None for an unknown family. */
static PyObject *
accept_address(const TwAddr *peer)
{
    PyObject *addr = tw_addr_to_python(&peer->u.any, peer->len);

    return addr == NULL && !PyErr_Occurred() ? Py_NewRef(Py_None) : addr;
}

/* loop.create_task(asyncio's _accept_connection2(...)). */
static tw_status
accept_by_task(TwAccept *self, int fd, const TwAddr *peer)
{
    PyObject *conn = tw_sock_object_of_fd(self->loop->state, fd), *addr;
    PyObject *result = NULL;

    if (conn == NULL) {
        close(fd);
        return accept_failed(self, NULL);
    }
    addr = accept_address(peer);
    if (addr != NULL) {
        PyObject *argv[] = {(PyObject *)self->loop,
                            self->factory,
                            conn,
                            addr,
                            self->ssl ? self->ssl : Py_None,
                            self->server,
                            self->ssl_times};
        result = tw_seam_call(self->loop->state, "accept_by_task", argv, 7);
    }
    Py_DECREF(conn);
    Py_XDECREF(addr);
    return tw_status_steal(result) < 0 ? accept_failed(self, NULL) : 0;
}

/* In debug mode asyncio logs each connection before anything else. */
static tw_status
accept_log(TwAccept *self, int fd, const TwAddr *peer)
{
    PyObject *addr, *number, *result = NULL;

    if (TW_LIKELY(!self->loop->debug)) {
        return 0;
    }
    addr = accept_address(peer);
    number = PyLong_FromLong(fd);
    if (addr != NULL && number != NULL) {
        PyObject *argv[] = {self->server, addr, number};
        result = tw_seam_call(self->loop->state, "log_accepted", argv, 3);
    }
    Py_XDECREF(addr);
    Py_XDECREF(number);
    return tw_status_steal(result);
}

static tw_status
accept_connection(TwAccept *self, int fd, const TwAddr *peer)
{
    PyObject *context = PyContext_Copy(self->context);
    PyObject *entered = context ? tw_call_enter(context) : NULL;
    tw_status status;

    Py_XDECREF(context);
    if (entered == NULL) {
        close(fd);
        return accept_failed(self, NULL);
    }
    if (accept_log(self, fd, peer) < 0) {
        tw_call_leave(entered);
        close(fd);
        return accept_report(self);
    }
    status = accept_needs_task(self) ? accept_by_task(self, fd, peer)
                                     : accept_plain(self, fd, peer);
    tw_call_leave(entered);
    return status;
}

/* -- the turn ------------------------------------------------------------- */

/* No descriptor is free: report it, stop, and resume after asyncio's
   ACCEPT_RETRY_DELAY. */
static tw_status
accept_exhausted(TwAccept *self, int err)
{
    PyObject *argv[] = {(PyObject *)self->loop, (PyObject *)self, self->sock,
                        tw_errno_exception(-err)};
    PyObject *result;

    if (tw_watcher_want(self->watcher, 0) < 0) {
        PyErr_Clear();
    }
    tw_call_begin(self->loop);
    result = tw_seam_call(self->loop->state, "accept_exhausted", argv, 4);
    tw_call_end(self->loop);
    Py_DECREF(argv[3]);
    return tw_status_steal(result) < 0
               ? tw_call_report(self->loop, "accept failed", NULL, NULL)
               : 0;
}

/* Accept one.  1: continue; 0: no more for now; -1. */
static int
accept_one(TwAccept *self)
{
    TwAddr peer;
    int fd, err;

    peer.len = sizeof(peer.u);
    fd = tw_sys_accept(&self->loop->sys, self->watcher->fd, &peer.u.any,
                       &peer.len);
    TW_PROBE2(accept, self->watcher->fd, fd < 0 ? -errno : fd);
    if (fd >= 0) {
        return accept_connection(self, fd, &peer) < 0 ? -1 : 1;
    }
    err = errno;
    if (err == EAGAIN || err == EINTR || err == ECONNABORTED) {
        return 0;
    }
    tw_stats_accept_error(&self->loop->stats, err);
    if (accept_is_exhaustion(err)) {
        return accept_exhausted(self, err);
    }
    tw_errno_raise(-err);
    return accept_report(self);
}

/* At most so many: other descriptors must be served too. */
static tw_status
accept_batch(TwAccept *self)
{
    int result = 1;

    for (int64_t i = 0; i < self->batch && result > 0; i++) {
        if (self->watcher == NULL || !self->watcher->want) {
            return 0;
        }
        result = accept_one(self);
    }
    return result < 0 ? -1 : 0;
}

/* Has the program closed our socket object? */
static bool
accept_is_stale(PyObject *op)
{
    TwAccept *self = (TwAccept *)op;
    int fd = PyObject_AsFileDescriptor(self->sock);

    tw_call_ignore_error();
    return self->watcher == NULL || fd != self->watcher->fd;
}

static tw_status
accept_step(PyObject *op)
{
    TwAccept *self = (TwAccept *)op;

    self->queued = false;
    self->turn = self->loop->stats.turns;
    return accept_is_stale(op) ? 0 : accept_batch(self);
}

static PyObject *
accept_step_call(PyObject *op)
{
    return Py_BuildValue("OsO", op, "_accept_connection2",
                         ((TwAccept *)op)->sock);
}

static const TwStepOps accept_step_ops = {accept_step, accept_step_call};

static tw_status
accept_on_ready(PyObject *op, unsigned events)
{
    TwAccept *self = (TwAccept *)op;

    if (events & TW_EV_BAD) {
        tw_errno_raise(tw_watcher_error(self->watcher));
        tw_source_unwatch(&self->watcher);
        return accept_report(self);
    }
    if (accept_needs_task(self)) {
        return accept_batch(self);
    }
    /* Connections that a poll saw before this turn's step are accepted
       already. */
    if (self->queued || self->turn == self->loop->stats.turns) {
        return 0;
    }
    self->queued = tw_loop_push_step(self->loop, op) == 0;
    return self->queued ? 0 : accept_report(self);
}

/* -- serving -------------------------------------------------------------- */

/* The TwAccept that listens on `sock`, borrowed, or NULL.  The number does
   not find it: the program may have closed the socket. */
static TwAccept *
accept_of_sock(TwLoop *loop, PyObject *sock)
{
    for (int fd = 0; fd < loop->by_fd_cap; fd++) {
        TwWatcher *w = tw_watcher_of_fd(loop, fd);
        if (w != NULL && w->on_ready == accept_on_ready
            && ((TwAccept *)w->owner)->sock == sock) {
            return (TwAccept *)w->owner;
        }
    }
    return NULL;
}

static TwAccept *
accept_new(TwLoop *loop, PyObject *factory, PyObject *sock, PyObject *ssl,
           PyObject *server, PyObject *ssl_times, int backlog)
{
    PyTypeObject *type = loop->state->accept_type;
    TwAccept *self = (TwAccept *)type->tp_alloc(type, 0);
    int fd = self == NULL ? -1 : PyObject_AsFileDescriptor(sock);

    if (fd < 0) {
        Py_XDECREF(self);
        return NULL;
    }
    self->loop = (TwLoop *)Py_NewRef((PyObject *)loop);
    self->factory = Py_NewRef(factory);
    self->sock = Py_NewRef(sock);
    self->ssl = ssl && ssl != Py_None ? Py_NewRef(ssl) : NULL;
    self->server = Py_NewRef(server);
    self->ssl_times = Py_NewRef(ssl_times);
    self->ops = &accept_step_ops;
    self->batch = (int64_t)backlog + loop->state->accepts_one_more;
    self->context = PyContext_CopyCurrent();
    if (self->context != NULL) {
        self->watcher = tw_watcher_open(loop, fd, (PyObject *)self,
                                        accept_on_ready, false);
    }
    if (self->watcher == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    self->watcher->is_stale = accept_is_stale;
    return self;
}

/* Raise at once if the poller refuses the socket, as asyncio does. */
static tw_status
accept_begin(TwAccept *self)
{
    tw_uverr err = tw_watcher_want_now(self->watcher, TW_EV_READ);

    if (err < 0) {
        tw_source_unwatch(&self->watcher);
        tw_errno_raise(err);
        return -1;
    }
    return 0;
}

#define LOOP_START_SERVING "OO|OOiOO" TW_CONTEXT_FORMAT ":_start_serving"

static PyObject *
accept_loop_start_serving(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {
        "protocol_factory",
        "sock",
        "sslcontext",
        "server",
        "backlog",
        "ssl_handshake_timeout",
        "ssl_shutdown_timeout",
        TW_CONTEXT_KEYWORD NULL,
    };
    PyObject *factory, *sock, *ssl = NULL, *server = Py_None, *times;
    PyObject *handshake = Py_None, *shut = Py_None, *context = NULL;
    TwLoop *loop = (TwLoop *)op;
    TwAccept *self;
    int backlog = 100;
    tw_status status;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, LOOP_START_SERVING,
                                     (char **)names, &factory, &sock, &ssl,
                                     &server, &backlog, &handshake, &shut,
                                     &context)
        || tw_loop_check_open(loop) < 0) {
        return NULL;
    }
    times = PyTuple_Pack(2, handshake, shut);
    if (times == NULL) {
        return NULL;
    }
    self = accept_new(loop, factory, sock, ssl, server, times, backlog);
    Py_DECREF(times);
    if (self == NULL) {
        return NULL;
    }
    if (context != NULL && context != Py_None) {
        Py_SETREF(self->context, Py_NewRef(context));
    }
    status = accept_begin(self);
    Py_DECREF(self);
    return tw_none_or_error(status);
}

/* loop._stop_serving(sock): stop accepting, and close the socket.  From 3.13
   on asyncio's method of that name, which then unlinks the path, calls it: see
   _loop.py. */
static PyObject *
accept_loop_stop_serving(PyObject *op, PyObject *sock)
{
    TwLoop *loop = (TwLoop *)op;
    TwAccept *self = accept_of_sock(loop, sock);

    if (self != NULL) {
        Py_INCREF(self);
        tw_source_unwatch(&self->watcher);
        Py_DECREF(self);
    }
    return tw_call_plain_noargs(sock, loop->state->str.close);
}

/* -- the type ------------------------------------------------------------- */

/* Accept again after accept_exhausted() has stopped. */
static PyObject *
accept_meth_resume(PyObject *op, PyObject *unused)
{
    TwAccept *self = (TwAccept *)op;

    if (self->watcher != NULL
        && tw_watcher_want(self->watcher, TW_EV_READ) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static int
accept_traverse(PyObject *op, visitproc visit, void *arg)
{
    TwAccept *self = (TwAccept *)op;

    Py_VISIT(self->ssl);
    Py_VISIT(self->ssl_times);
    return tw_stepper_traverse(op, visit, arg);
}

static int
accept_clear(PyObject *op)
{
    TwAccept *self = (TwAccept *)op;

    Py_CLEAR(self->ssl);
    Py_CLEAR(self->ssl_times);
    return tw_stepper_clear(op);
}

static PyMethodDef accept_methods[] = {
    {"resume", accept_meth_resume, METH_NOARGS, NULL},
    {NULL},
};

static PyType_Slot accept_slots[] = {
    {Py_tp_dealloc, tw_source_dealloc},
    {Py_tp_traverse, accept_traverse},
    {Py_tp_clear, accept_clear},
    {Py_tp_methods, accept_methods},
    {0, NULL},
};

static PyType_Spec accept_spec =
    TW_TYPE_SPEC("_Accept", TwAccept, accept_slots);

tw_status
tw_accept_setup(tw_state *state, PyObject *module)
{
    return tw_state_add_type(state, &state->accept_type, &accept_spec, NULL,
                             0);
}

PyMethodDef tw_accept_loop_methods[] = {
    {"_start_serving", TW_FAST(accept_loop_start_serving),
     METH_VARARGS | METH_KEYWORDS, PyDoc_STR(
"_start_serving($self, protocol_factory, sock, sslcontext=None,\n"
"               server=None, backlog=100, ssl_handshake_timeout=None,\n"
"               ssl_shutdown_timeout=None)\n--\n\n"
"The hook of asyncio's Server: accept connections on `sock`.")},
    {"_stop_serving", accept_loop_stop_serving, METH_O, NULL},
    {NULL},
};
