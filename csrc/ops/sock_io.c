#include "ops/sock_io.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/addr.h"
#include "base/errno.h"
#include "core/call.h"
#include "core/watcher.h"

/* A result of up to this size is allocated before the read. */
#define SOCK_SMALL 512

/* -- tools ---------------------------------------------------------------- */

TwTry
tw_sock_io_errno(int err)
{
    if (err == EAGAIN || err == EINTR) {
        return TW_TRY_AGAIN;
    }
    (void)tw_errno_raise(-err);
    return TW_TRY_ERROR;
}

static TwTry
io_would_block(void)
{
    if (PyErr_ExceptionMatches(PyExc_BlockingIOError)
        || PyErr_ExceptionMatches(PyExc_InterruptedError)) {
        PyErr_Clear();
        return TW_TRY_AGAIN;
    }
    return TW_TRY_ERROR;
}

TwTry
tw_sock_io_method(PyObject *name, PyObject *const *argv, size_t n,
                  PyObject **result)
{
    *result = tw_call_plain_method(name, argv, n);
    return *result == NULL ? io_would_block() : TW_TRY_DONE;
}

/* The system call moved `n` bytes. */
static void
io_count(TwSockOp *op, Py_ssize_t n)
{
    if (op->kind->event == TW_EV_READ) {
        tw_stats_in(&op->loop->stats, TW_KIND_SOCK, (size_t)n);
    }
    else {
        tw_stats_out(&op->loop->stats, TW_KIND_SOCK, (size_t)n);
    }
}

/* A read moved that many. */
static void
io_received(TwSockOp *op, ssize_t n)
{
    op->pos = n;
    io_count(op, n);
}

/* The same of a method's result: the bytes, or their number; or a tuple with
   that and an address. */
static void
io_count_result(TwSockOp *op, PyObject *result)
{
    if (PyTuple_Check(result) && PyTuple_GET_SIZE(result) > 0) {
        result = PyTuple_GET_ITEM(result, 0);
    }
    if (PyBytes_Check(result)) {
        io_count(op, PyBytes_GET_SIZE(result));
    }
    else if (PyLong_CheckExact(result)) {
        Py_ssize_t n = PyLong_AsSsize_t(result);
        PyErr_Clear();
        io_count(op, n > 0 ? n : 0);
    }
}

/* Call the object's method with one or two arguments of the operation. */
static TwTry
io_method_args(TwSockOp *op, PyObject *name, PyObject **result)
{
    PyObject *argv[] = {op->sock, op->args[0], op->args[1]};
    TwTry got;

    if (tw_sock_op_was_closed(op)) {
        return TW_TRY_AGAIN;
    }
    got = tw_sock_io_method(name, argv, op->args[1] == NULL ? 2 : 3, result);
    if (got == TW_TRY_DONE) {
        io_count_result(op, *result);
    }
    return got;
}

static TwTry
io_done(PyObject *value, PyObject **result)
{
    *result = value;
    return value == NULL ? TW_TRY_ERROR : TW_TRY_DONE;
}

int
tw_sock_io_attr(TwSockOp *op, PyObject *name)
{
    PyTypeObject *type = (PyTypeObject *)op->loop->state->socket_type;
    PyObject *descr, *value = NULL;
    long number = -1;

    /* allow: attributes of the standard library's own class */
    descr = PyObject_GetAttr((PyObject *)type->tp_base, name); /* allow */
    if (descr != NULL && Py_TYPE(descr)->tp_descr_get != NULL) {
        value = Py_TYPE(descr)->tp_descr_get(descr, op->sock,
                                             (PyObject *)type);
    }
    if (value != NULL) {
        number = PyLong_AsLong(value);
    }
    Py_XDECREF(descr);
    Py_XDECREF(value);
    return (int)number;
}

/* A positive int.  0 for anything else, which the method checks. */
static Py_ssize_t
io_size(PyObject *obj)
{
    Py_ssize_t n;

    if (obj == NULL || !PyLong_CheckExact(obj)) {
        return 0;
    }
    n = PyLong_AsSsize_t(obj);
    if (n < 0) {
        PyErr_Clear();
        return 0;
    }
    return n;
}

/* -- sock_recv ------------------------------------------------------------ */

static TwTry
io_recv_fresh(TwSockOp *op, int fd, Py_ssize_t n, PyObject **result)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, n);
    ssize_t got;

    if (bytes == NULL) {
        return TW_TRY_ERROR;
    }
    got = recv(fd, PyBytes_AS_STRING(bytes), (size_t)n, MSG_DONTWAIT);
    if (got < 0) {
        int err = errno;
        Py_DECREF(bytes);
        return tw_sock_io_errno(err);
    }
    io_received(op, got);
    op->loop->sock_hint = (size_t)got;
    if (got != n && _PyBytes_Resize(&bytes, got) < 0) {
        return TW_TRY_ERROR;
    }
    return io_done(bytes, result);
}

/* Read into the loop's buffer, and copy into an object that fits: for a small
   message in answer to sock_recv(sock, 65536). */
static TwTry
io_recv_copied(TwSockOp *op, int fd, Py_ssize_t n, PyObject **result)
{
    char *buffer = tw_loop_read_buffer(op->loop);
    ssize_t got;

    if (buffer == NULL) {
        return TW_TRY_ERROR;
    }
    got = recv(fd, buffer, (size_t)n, MSG_DONTWAIT);
    if (got < 0) {
        return tw_sock_io_errno(errno);
    }
    io_received(op, got);
    op->loop->sock_hint = (size_t)got;
    return io_done(PyBytes_FromStringAndSize(buffer, got), result);
}

static TwTry
io_recv(TwSockOp *op, PyObject **result)
{
    Py_ssize_t n = io_size(op->args[0]);
    int fd;

    if (!op->plain || n == 0) {
        return io_method_args(op, TW_SOCK_NAME(op, recv), result);
    }
    fd = tw_sock_op_fileno(op);
    /* Where reads fill the requested size, copying would cost more. */
    if (n <= SOCK_SMALL || n > TW_READ_BUFFER_SIZE
        || op->loop->sock_hint >= (size_t)n / 2) {
        return io_recv_fresh(op, fd, n, result);
    }
    return io_recv_copied(op, fd, n, result);
}

const TwSockKind tw_sock_io_recv = {
    .name = "sock_recv",
    .event = TW_EV_READ,
    .again_soon = true,
    .begin = io_recv,
    .again = io_recv,
};

/* -- sock_recv_into ------------------------------------------------------- */

/* Get the argument's buffer, if it has at least `least` bytes.  DONE: `view`
   must be released; AWAIT: the object's method handles it; AGAIN: the
   argument's own code has closed the coroutine. */
static TwTry
io_get_buffer(TwSockOp *op, Py_buffer *view, Py_ssize_t least)
{
    if (PyObject_GetBuffer(op->args[0], view, PyBUF_WRITABLE) < 0) {
        tw_call_ignore_error();
        view->obj = NULL;
    }
    if (tw_sock_op_was_closed(op)) {
        PyBuffer_Release(view);
        return TW_TRY_AGAIN;
    }
    if (view->obj == NULL || view->len < least) {
        PyBuffer_Release(view);
        return TW_TRY_AWAIT;
    }
    return TW_TRY_DONE;
}

/* The buffer is exported only while the kernel writes to it, as in asyncio.
   The object's method handles an empty one, without a system call. */
static TwTry
io_recv_into(TwSockOp *op, PyObject **result)
{
    TwTry ready = TW_TRY_AWAIT;
    Py_buffer view;
    ssize_t got;
    int err;

    if (op->plain) {
        ready = io_get_buffer(op, &view, 1);
    }
    if (ready == TW_TRY_AWAIT) {
        return io_method_args(op, TW_SOCK_NAME(op, recv_into), result);
    }
    if (ready == TW_TRY_AGAIN) {
        return ready;
    }
    got = recv(tw_sock_op_fileno(op), view.buf, (size_t)view.len,
               MSG_DONTWAIT);
    err = errno;
    PyBuffer_Release(&view);
    if (got < 0) {
        return tw_sock_io_errno(err);
    }
    io_received(op, got);
    return io_done(PyLong_FromSsize_t(got), result);
}

const TwSockKind tw_sock_io_recv_into = {
    .name = "sock_recv_into",
    .event = TW_EV_READ,
    .again_soon = true,
    .begin = io_recv_into,
    .again = io_recv_into,
};

/* -- sock_recvfrom, sock_recvfrom_into ------------------------------------ */

int
tw_sock_io_family(TwSockOp *op, int *family)
{
    *family = tw_sock_io_attr(op, TW_SOCK_NAME(op, family));
    if (*family == -1 && PyErr_Occurred()) {
        return -1;
    }
    return *family == AF_INET || *family == AF_INET6 || *family == AF_UNIX;
}

/* (value, address); steals value. */
static TwTry
io_with_address(PyObject *value, const TwAddr *addr, PyObject **result)
{
    PyObject *address =
        value == NULL ? NULL : tw_addr_to_python(&addr->u.any, addr->len);

    if (address == NULL) {
        if (!PyErr_Occurred()) {
            (void)tw_errno_raise(-EAFNOSUPPORT);
        }
        Py_XDECREF(value);
        return TW_TRY_ERROR;
    }
    return io_done(Py_BuildValue("(NN)", value, address), result);
}

static TwTry
io_recvfrom(TwSockOp *op, PyObject **result)
{
    Py_ssize_t n = io_size(op->args[0]);
    int family;
    int known = op->plain && n > 0 ? tw_sock_io_family(op, &family) : 0;
    TwAddr addr = {.len = sizeof(addr.u)};
    char *buffer;
    ssize_t got;

    if (known < 0) {
        return TW_TRY_ERROR;
    }
    if (known == 0 || n > TW_READ_BUFFER_SIZE) {
        return io_method_args(op, TW_SOCK_NAME(op, recvfrom), result);
    }
    buffer = tw_loop_read_buffer(op->loop);
    if (buffer == NULL) {
        return TW_TRY_ERROR;
    }
    got = recvfrom(tw_sock_op_fileno(op), buffer, (size_t)n, MSG_DONTWAIT,
                   &addr.u.any, &addr.len);
    if (got < 0) {
        return tw_sock_io_errno(errno);
    }
    io_received(op, got);
    return io_with_address(PyBytes_FromStringAndSize(buffer, got), &addr,
                           result);
}

const TwSockKind tw_sock_io_recvfrom = {
    .name = "sock_recvfrom",
    .event = TW_EV_READ,
    .again_soon = true,
    .begin = io_recvfrom,
    .again = io_recvfrom,
};

/* asyncio: `if not nbytes: nbytes = len(buf)`. */
static tw_status
io_recvfrom_into_size(TwSockOp *op)
{
    int given = op->args[1] == NULL ? 0 : PyObject_IsTrue(op->args[1]);
    Py_ssize_t n;

    if (given != 0) {
        return given < 0 ? -1 : 0;
    }
    n = PyObject_Size(op->args[0]);
    if (n < 0) {
        return -1;
    }
    Py_XSETREF(op->args[1], PyLong_FromSsize_t(n));
    return op->args[1] == NULL ? -1 : 0;
}

static TwTry
io_recvfrom_into_fast(TwSockOp *op, const Py_buffer *view, Py_ssize_t n,
                      PyObject **result)
{
    TwAddr addr = {.len = sizeof(addr.u)};
    ssize_t got = recvfrom(tw_sock_op_fileno(op), view->buf, (size_t)n,
                           MSG_DONTWAIT, &addr.u.any, &addr.len);

    if (got < 0) {
        return tw_sock_io_errno(errno);
    }
    io_received(op, got);
    return io_with_address(PyLong_FromSsize_t(got), &addr, result);
}

static TwTry
io_recvfrom_into(TwSockOp *op, PyObject **result)
{
    Py_ssize_t n = io_size(op->args[1]);
    int family;
    int known = op->plain && n > 0 ? tw_sock_io_family(op, &family) : 0;
    TwTry got = TW_TRY_AWAIT;
    Py_buffer view;

    if (known < 0) {
        return TW_TRY_ERROR;
    }
    if (known > 0) {
        got = io_get_buffer(op, &view, n);
    }
    if (got == TW_TRY_AWAIT) {
        return io_method_args(op, TW_SOCK_NAME(op, recvfrom_into), result);
    }
    if (got == TW_TRY_DONE) {
        got = io_recvfrom_into_fast(op, &view, n, result);
        PyBuffer_Release(&view);
    }
    return got;
}

static TwTry
io_recvfrom_into_begin(TwSockOp *op, PyObject **result)
{
    if (io_recvfrom_into_size(op) < 0) {
        return TW_TRY_ERROR;
    }
    return io_recvfrom_into(op, result);
}

const TwSockKind tw_sock_io_recvfrom_into = {
    .name = "sock_recvfrom_into",
    .event = TW_EV_READ,
    .again_soon = true,
    .begin = io_recvfrom_into_begin,
    .again = io_recvfrom_into,
};

/* -- sock_sendall --------------------------------------------------------- */

/* The rest to send, for the object's method, which may keep it: a view that
   holds the argument, or a copy if the argument does not count bytes. */
static PyObject *
io_send_rest(TwSockOp *op)
{
    PyObject *whole, *rest;
    const Py_buffer *shape;

    if (op->pos == 0) {
        return Py_NewRef(op->args[0]);
    }
    whole = PyMemoryView_FromObject(op->args[0]);
    if (whole == NULL) {
        return NULL;
    }
    shape = PyMemoryView_GET_BUFFER(whole);
    rest = shape->ndim == 1 && shape->itemsize == 1
               ? PySequence_GetSlice(whole, op->pos, op->view.len)
               : PyBytes_FromStringAndSize(
                     (const char *)op->view.buf + op->pos,
                     op->view.len - op->pos);
    Py_DECREF(whole);
    return rest;
}

/* sock.send() of the rest, by the object's own method: bytes sent, or -1 with
   an exception. */
static Py_ssize_t
io_send_method(TwSockOp *op)
{
    PyObject *argv[] = {op->sock, io_send_rest(op)};
    PyObject *sent;
    Py_ssize_t n = -1;

    if (argv[1] == NULL) {
        return -1;
    }
    sent = tw_call_plain_method(TW_SOCK_NAME(op, send), argv, 2);
    Py_DECREF(argv[1]);
    if (sent != NULL) {
        n = PyLong_AsSsize_t(sent);
        Py_DECREF(sent);
    }
    return n;
}

static TwTry
io_send_some(TwSockOp *op)
{
    Py_ssize_t n;

    if (op->plain) {
        n = send(tw_sock_op_fileno(op), (char *)op->view.buf + op->pos,
                 (size_t)(op->view.len - op->pos),
                 MSG_DONTWAIT | TW_MSG_NOSIGNAL);
        if (n < 0) {
            return tw_sock_io_errno(errno);
        }
    }
    else {
        n = io_send_method(op);
        if (n == -1 && PyErr_Occurred()) {
            return io_would_block();
        }
    }
    op->pos += n;
    io_count(op, n);
    return op->pos >= op->view.len ? TW_TRY_DONE : TW_TRY_AGAIN;
}

static TwTry
io_sendall(TwSockOp *op, PyObject **result)
{
    TwTry got = io_send_some(op);

    if (got == TW_TRY_DONE) {
        *result = Py_NewRef(Py_None);
    }
    return got;
}

/* The view stays until the end of the operation, as asyncio's memoryview. */
static TwTry
io_sendall_begin(TwSockOp *op, PyObject **result)
{
    if (PyObject_GetBuffer(op->args[0], &op->view, PyBUF_SIMPLE) < 0) {
        return TW_TRY_ERROR;
    }
    return io_sendall(op, result);
}

const TwSockKind tw_sock_io_sendall = {
    .name = "sock_sendall",
    .event = TW_EV_WRITE,
    .begin = io_sendall_begin,
    .again = io_sendall,
};

/* -- sock_sendto ---------------------------------------------------------- */

/* 1: `addr` is filled; 0: the object's method must do it; -1.  Audit hooks run
   code of the program. */
static int
io_sendto_address(TwSockOp *op, TwAddr *addr)
{
    int family;

    if (!op->plain) {
        return 0;
    }
    if (tw_sock_io_family(op, &family) < 0) {
        return -1;
    }
    if (tw_addr_from_python(family, op->args[1], addr) != 1) {
        return 0;
    }
    return PySys_Audit("socket.sendto", "OO", op->sock, op->args[1]) < 0 ? -1
                                                                         : 1;
}

static TwTry
io_sendto(TwSockOp *op, PyObject **result)
{
    TwAddr addr;
    Py_buffer view;
    ssize_t n;
    int err, fast = io_sendto_address(op, &addr);

    if (fast < 0) {
        return TW_TRY_ERROR;
    }
    if (fast == 0) {
        return io_method_args(op, TW_SOCK_NAME(op, sendto), result);
    }
    if (tw_sock_op_was_closed(op)) {
        return TW_TRY_AGAIN;
    }
    if (PyObject_GetBuffer(op->args[0], &view, PyBUF_SIMPLE) < 0) {
        return TW_TRY_ERROR;
    }
    if (tw_sock_op_was_closed(op)) {
        PyBuffer_Release(&view);
        return TW_TRY_AGAIN;
    }
    n = sendto(tw_sock_op_fileno(op), view.buf, (size_t)view.len,
               MSG_DONTWAIT | TW_MSG_NOSIGNAL, &addr.u.any, addr.len);
    err = errno;
    PyBuffer_Release(&view);
    if (n < 0) {
        return tw_sock_io_errno(err);
    }
    io_count(op, n);
    return io_done(PyLong_FromSsize_t(n), result);
}

const TwSockKind tw_sock_io_sendto = {
    .name = "sock_sendto",
    .event = TW_EV_WRITE,
    .begin = io_sendto,
    .again = io_sendto,
};
