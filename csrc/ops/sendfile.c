/* sendfile(2) as an awaitable socket operation.

   One call per turn, as much as the socket accepts; the watcher stays armed
   from the first refusal to the end.  tidewire._seam does the cold part: it
   reads the file's attributes and chooses the exception. */
#include "ops/sendfile.h"

#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "base/args.h"
#include "base/compat.h"
#include "core/call.h"
#include "core/probes.h"
#include "core/watcher.h"
#include "net/stream.h"
#include "ops/sock_io.h"

/* The most that one call sends, as in asyncio. */
#define FILE_MOST (1LL << 62)

/* Set the file's position, at the end. */
static void
file_move(TwSockOp *op)
{
    TwSockFile *file = &op->file;

    if ((file->total > 0 || op->loop->state->sendfile_always_moves)
        && file->block >= 0) {
        (void)lseek(file->file, (off_t)file->offset, SEEK_SET);
    }
    file->block = -1;
}

static TwTry
file_done(TwSockOp *op, PyObject **result)
{
    file_move(op);
    *result = PyLong_FromLongLong(op->file.total);
    return *result == NULL ? TW_TRY_ERROR : TW_TRY_DONE;
}

/* Replace the current OSError by the exception that asyncio raises. */
static TwTry
file_failed(TwSockOp *op)
{
    PyObject *cause = tw_err_take();
    PyObject *sent = PyLong_FromLongLong(op->file.total);
    PyObject *exc = NULL;

    file_move(op);
    if (sent != NULL) {
        PyObject *argv[] = {cause, sent,
                            op->state == TW_OP_NEW ? Py_False : Py_True};
        exc = tw_seam_call(op->loop->state, "sendfile_error", argv, 3);
    }
    if (exc != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    }
    Py_DECREF(cause);
    Py_XDECREF(sent);
    Py_XDECREF(exc);
    return TW_TRY_ERROR;
}

/* The most that the next call may send; 0: everything was sent. */
static size_t
file_block(const TwSockFile *file)
{
    long long block =
        file->count ? file->count - file->total : file->block;

    return (size_t)(block < FILE_MOST ? block : FILE_MOST);
}

static TwTry
file_try(TwSockOp *op, PyObject **result)
{
    TwSockFile *file = &op->file;
    size_t block = file_block(file);
    int err, fd = tw_sock_op_fileno(op);
    ssize_t n;

    if (block == 0) {
        return file_done(op, result);
    }
    /* The kernel may have to read the file from a disk. */
    Py_BEGIN_ALLOW_THREADS
    n = tw_sys_sendfile(fd, file->file, (off_t)file->offset, block);
    err = errno;
    Py_END_ALLOW_THREADS
    TW_PROBE2(write, fd, n < 0 ? -err : n);
    if (n < 0) {
        TwTry got = tw_sock_io_errno(err);
        return got == TW_TRY_ERROR ? file_failed(op) : got;
    }
    if (n == 0) {
        return file_done(op, result);
    }
    tw_stats_out(&op->loop->stats, TW_KIND_SOCK, (size_t)n);
    file->offset += n;
    file->total += n;
    return TW_TRY_AGAIN;
}

/* args[0]: the file; args[1]: (offset, count). */
static tw_status
file_read_args(TwSockOp *op)
{
    PyObject *count = PyTuple_GET_ITEM(op->args[1], 1);
    int over = 0;

    op->file.offset = PyLong_AsLongLong(PyTuple_GET_ITEM(op->args[1], 0));
    if (count != Py_None) {
        op->file.count = PyLong_AsLongLongAndOverflow(count, &over);
        if (over > 0) {
            op->file.count = LLONG_MAX;
        }
    }
    return PyErr_Occurred() ? -1 : 0;
}

static TwTry
file_begin(TwSockOp *op, PyObject **result)
{
    PyObject *argv[] = {op->args[0], PyTuple_GET_ITEM(op->args[1], 1)};
    PyObject *about =
        tw_seam_call(op->loop->state, "sendfile_file", argv, 2);
    int ok;

    op->file.block = 0;
    if (about == NULL) {
        return TW_TRY_ERROR;
    }
    ok = PyArg_ParseTuple(about, "iL", &op->file.file, &op->file.block);
    Py_DECREF(about);
    if (!ok || file_read_args(op) < 0) {
        return TW_TRY_ERROR;
    }
    if (op->file.block == 0) { /* an empty file */
        *result = PyLong_FromLong(0);
        return *result == NULL ? TW_TRY_ERROR : TW_TRY_DONE;
    }
    return file_try(op, result);
}

/* When a stream closes it resolves its empty waiter, which is our future. */
static void
file_waits(TwSockOp *op)
{
    if (op->file.stream != NULL) {
        TwStream *stream = (TwStream *)op->file.stream;
        Py_XSETREF(stream->empty_waiter, Py_NewRef(op->future));
    }
}

static const TwSockKind file_kind = {
    .name = "_sock_sendfile_native",
    .event = TW_EV_WRITE,
    .begin = file_begin,
    .again = file_try,
    .waits = file_waits,
    .fini = file_move,
};

static PyObject *
sendfile_loop_sock_sendfile_native(PyObject *self, PyObject *const *args,
                                   Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"sock", "file", "offset", "count",
                                        "transport"};
    static const TwArgs spec = {"_sock_sendfile_native", names, 4, 5};
    TwLoop *loop = (TwLoop *)self;
    PyObject *out[5], *range;
    TwSockOp *op;

    if (tw_args_bind(&spec, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    if (out[4] != NULL
        && !PyObject_TypeCheck(out[4], loop->state->stream_type)) {
        PyErr_SetString(PyExc_TypeError, "transport must be a stream");
        return NULL;
    }
    range = PyTuple_Pack(2, out[2], out[3]);
    if (range == NULL) {
        return NULL;
    }
    op = tw_sock_op_new(loop, &file_kind, out[0], out[1], range);
    Py_DECREF(range);
    if (op != NULL) {
        op->file.stream = Py_XNewRef(out[4]);
    }
    return (PyObject *)op;
}

PyMethodDef tw_sendfile_loop_methods[] = {
    {"_sock_sendfile_native", TW_FAST(sendfile_loop_sock_sendfile_native),
     TW_FASTKW, PyDoc_STR(
"_sock_sendfile_native($self, /, sock, file, offset, count, "
"transport=None)\n--\n\n"
"Send a regular file with sendfile(2); return the number of bytes.")},
    {NULL},
};
