/* sock_connect and sock_accept. */
#include "ops/sock_io.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/errno.h"
#include "core/call.h"
#include "core/watcher.h"
#include "net/sock_object.h"

/* Is it a plain socket in non-blocking mode?  Any other object may block; its
   own method is called.  1, 0, or -1 with an exception. */
static int
conn_is_ours(TwSockOp *op)
{
    PyObject *timeout;
    int is_zero;

    if (!op->plain) {
        return 0;
    }
    timeout = tw_call_plain_noargs(op->sock, TW_SOCK_NAME(op, gettimeout));
    if (timeout == NULL) {
        return -1;
    }
    is_zero = PyFloat_Check(timeout) && PyFloat_AS_DOUBLE(timeout) == 0.0;
    Py_DECREF(timeout);
    return is_zero;
}

/* -- sock_connect --------------------------------------------------------- */

/* An address that needs no resolving, by asyncio's rules: 1, 0, or -1. */
static int
conn_is_literal(TwSockOp *op, TwAddr *addr)
{
    int family, type;

    family = tw_sock_io_attr(op, TW_SOCK_NAME(op, family));
    type = tw_sock_io_attr(op, TW_SOCK_NAME(op, type));
    if (PyErr_Occurred()) {
        return -1;
    }
    if (family == AF_INET6
        && (!PyTuple_Check(op->args[0])
            || PyTuple_GET_SIZE(op->args[0]) != 4)) {
        return 0; /* it needs four items, as in asyncio's errors */
    }
    return (family == AF_UNIX || type == SOCK_STREAM || type == SOCK_DGRAM)
           && tw_addr_from_python(family, op->args[0], addr) == 1;
}

static TwTry
conn_errno(int err, PyObject **result)
{
    if (err == 0) {
        *result = Py_NewRef(Py_None);
        return TW_TRY_DONE;
    }
    if (err == EINPROGRESS || err == EALREADY) {
        return TW_TRY_AGAIN;
    }
    return tw_sock_io_errno(err);
}

/* Count a connection that could not be made. */
static void
conn_count_failure(TwSockOp *op, int fd)
{
    TwAddr local;
    TwKind kind = TW_KIND_TCP;

    local.len = sizeof(local.u);
    if (getsockname(fd, &local.u.any, &local.len) == 0
        && local.u.any.sa_family == AF_UNIX) {
        kind = TW_KIND_UNIX;
    }
    op->loop->stats.kinds[kind].failed++;
}

/* asyncio's message for a connect() that was begun and failed. */
static TwTry
conn_failed(TwSockOp *op, int err)
{
    PyObject *args = Py_BuildValue(
        "(iN)", err, PyUnicode_FromFormat("Connect call failed %S",
                                          op->args[0]));

    if (args != NULL) {
        PyErr_SetObject(PyExc_OSError, args); /* its subclass for `err` */
        Py_DECREF(args);
    }
    return TW_TRY_ERROR;
}

/* Is the connection that connect() began made already?  A failed one is not:
   its error stays in the socket, for conn_connect_again(). */
static bool
conn_is_made(int fd)
{
    struct pollfd ask = {.fd = fd, .events = POLLOUT};

    return poll(&ask, 1, 0) == 1 && ask.revents == POLLOUT;
}

static TwTry
conn_connect_literal(TwSockOp *op, const TwAddr *addr, PyObject **result)
{
    int err, fd = tw_sock_op_fileno(op);

    if (PySys_Audit("socket.connect", "OO", op->sock, op->args[0]) < 0) {
        return TW_TRY_ERROR;
    }
    if (connect(fd, &addr->u.any, addr->len) == 0) {
        return conn_errno(0, result);
    }
    if (op->kind == &tw_sock_conn_connect_at_once && errno == EINPROGRESS
        && !op->loop->closed && conn_is_made(fd)) {
        *result = Py_NewRef(Py_True);
        return TW_TRY_DONE;
    }
    err = errno;
    if (err != EINPROGRESS && err != EALREADY) {
        conn_count_failure(op, fd);
    }
    return conn_errno(err, result);
}

static TwTry
conn_connect_resolved(TwSockOp *op, PyObject *address, PyObject **result)
{
    PyObject *argv[] = {op->sock, address};

    Py_XSETREF(op->args[0], Py_NewRef(address));
    return tw_sock_io_method(TW_SOCK_NAME(op, connect), argv, 2, result);
}

static TwTry
conn_connect_begin(TwSockOp *op, PyObject **result)
{
    PyObject *argv[] = {(PyObject *)op->loop, op->sock, op->args[0]};
    int ours = conn_is_ours(op);
    TwAddr addr;

    if (ours > 0) {
        ours = conn_is_literal(op, &addr);
    }
    if (ours < 0) {
        return TW_TRY_ERROR;
    }
    if (ours > 0) {
        return conn_connect_literal(op, &addr, result);
    }
    op->inner = tw_seam_call(op->loop->state, "sock_address", argv, 3);
    return op->inner == NULL ? TW_TRY_ERROR : TW_TRY_AWAIT;
}

/* A socket that was refused for lack of room is writable, has no error, and is
   not connected. */
static bool
conn_has_peer(int fd)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);

    return getpeername(fd, (struct sockaddr *)&peer, &len) == 0
           || errno != ENOTCONN;
}

static TwTry
conn_connect_again(TwSockOp *op, PyObject **result)
{
    socklen_t len = sizeof(int);
    int err = 0;

    if (getsockopt(op->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0) {
        return tw_sock_io_errno(errno);
    }
    if (err == 0 && !conn_has_peer(op->fd)) {
        err = EAGAIN;
    }
    if (err == 0 || err == EINPROGRESS || err == EALREADY) {
        return conn_errno(err, result);
    }
    conn_count_failure(op, op->fd);
    return conn_failed(op, err);
}

const TwSockKind tw_sock_conn_connect = {
    .name = "sock_connect",
    .event = TW_EV_WRITE,
    .begin = conn_connect_begin,
    .again = conn_connect_again,
    .inner_done = conn_connect_resolved,
};

/* For create_connection().  On the loopback interface a connection is already
   made when connect() says that it is in progress: asking costs less than
   waiting.  The result is then True, because nothing was suspended, and
   otherwise None.  A refusal waits for the loop, as in asyncio; otherwise a
   program that tries again at once would stop all other tasks. */
const TwSockKind tw_sock_conn_connect_at_once = {
    .name = "sock_connect",
    .event = TW_EV_WRITE,
    .begin = conn_connect_begin,
    .again = conn_connect_again,
    .inner_done = conn_connect_resolved,
};

/* -- sock_accept ---------------------------------------------------------- */

/* socket.socket on a new, non-blocking descriptor. */
static PyObject *
conn_new_socket(TwSockOp *op, int family, int fd)
{
    int type = tw_sock_io_attr(op, TW_SOCK_NAME(op, type));
    int proto = type == -1 ? -1 : tw_sock_io_attr(op, TW_SOCK_NAME(op, proto));

    if (proto == -1 && PyErr_Occurred()) {
        return NULL;
    }
    return tw_sock_object_new(op->loop->state, family, type, proto, fd);
}

static TwTry
conn_accept_fast(TwSockOp *op, int family, PyObject **result)
{
    TwAddr addr = {.len = sizeof(addr.u)};
    PyObject *conn, *address;
    int fd = tw_sys_accept(&op->loop->sys, tw_sock_op_fileno(op),
                           &addr.u.any, &addr.len);

    if (fd < 0) {
        return tw_sock_io_errno(errno);
    }
    conn = conn_new_socket(op, family, fd);
    if (conn == NULL) {
        close(fd);
        return TW_TRY_ERROR;
    }
    address = tw_addr_to_python(&addr.u.any, addr.len);
    if (address == NULL) {
        Py_DECREF(conn);
        return TW_TRY_ERROR;
    }
    op->pos = 1;
    *result = Py_BuildValue("(NN)", conn, address);
    return *result == NULL ? TW_TRY_ERROR : TW_TRY_DONE;
}

/* sock.accept(), then conn.setblocking(False). */
static TwTry
conn_accept_method(TwSockOp *op, PyObject **result)
{
    PyObject *argv[] = {op->sock, Py_False};
    TwTry got = tw_sock_io_method(TW_SOCK_NAME(op, accept), argv, 1, result);

    if (got != TW_TRY_DONE) {
        return got;
    }
    if (!PyTuple_Check(*result) || PyTuple_GET_SIZE(*result) != 2) {
        PyErr_SetString(PyExc_TypeError,
                        "accept() did not return (socket, address)");
        Py_CLEAR(*result);
        return TW_TRY_ERROR;
    }
    argv[0] = PyTuple_GET_ITEM(*result, 0);
    if (tw_status_steal(
            tw_call_plain_method(TW_SOCK_NAME(op, setblocking), argv, 2))
        < 0) {
        Py_CLEAR(*result);
        return TW_TRY_ERROR;
    }
    return TW_TRY_DONE;
}

static TwTry
conn_accept(TwSockOp *op, PyObject **result)
{
    int ours = conn_is_ours(op);
    int family = -1;

    if (ours > 0) {
        ours = tw_sock_io_family(op, &family);
    }
    if (ours < 0) {
        return TW_TRY_ERROR;
    }
    return ours ? conn_accept_fast(op, family, result)
                : conn_accept_method(op, result);
}

const TwSockKind tw_sock_conn_accept = {
    .name = "sock_accept",
    .event = TW_EV_READ,
    .again_soon = true,
    .begin = conn_accept,
    .again = conn_accept,
};
