/* What both pipe transports share: making, attributes, end. */
#include "net/pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/args.h"
#include "base/errno.h"
#include "base/sys.h"

/* -- open ----------------------------------------------------------------- */

static int
pipe_fileno(TwLoop *loop, PyObject *pipe)
{
    PyObject *number;
    int fd;

    number = tw_call_plain_noargs(pipe, loop->state->str.fileno);
    if (number == NULL) {
        return -1;
    }
    if (PyLong_Check(number) && PyLong_AsLong(number) < 0
        && !PyErr_Occurred()) {
        tw_errno_raise(-EBADF); /* as asyncio's fstat(2) */
        fd = -1;
    }
    else {
        fd = PyObject_AsFileDescriptor(number);
    }
    Py_DECREF(number);
    return fd;
}

/* What kind of file it is; ValueError for one that cannot be a pipe. */
static tw_status
pipe_check_mode(int fd, bool writing, mode_t *mode)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        tw_errno_raise(-errno);
        return -1;
    }
    if (!S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode)
        && !S_ISCHR(st.st_mode)) {
        PyErr_SetString(PyExc_ValueError,
                        writing ? "Pipe transport is only for pipes, sockets "
                                  "and character devices"
                                : "Pipe transport is for pipes/sockets only.");
        return -1;
    }
    *mode = st.st_mode;
    return 0;
}

static tw_status
pipe_set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0
        || (!(flags & O_NONBLOCK)
            && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)) {
        tw_errno_raise(-errno);
        return -1;
    }
    return 0;
}

/* Is each write to it a message: to a device, a pipe in packet mode, a socket
   that is no stream? */
static bool
pipe_has_messages(int fd, mode_t mode)
{
    int type = SOCK_STREAM;
    socklen_t len = sizeof(type);

    if (S_ISFIFO(mode)) {
        return (fcntl(fd, F_GETFL) & TW_PIPE_PACKETS) != 0;
    }
    if (S_ISSOCK(mode)) {
        (void)getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len);
        return type != SOCK_STREAM;
    }
    return true;
}

/* Close the watcher and the duplicate, not the file object. */
static void
pipe_release(TwPipe *self)
{
    tw_source_unwatch(&self->base.watcher);
    if (self->watch_fd > 0) {
        close(self->watch_fd);
        self->watch_fd = 0;
    }
}

/* The transport owns the file from here on.  epoll accepts a descriptor once,
   so the second transport on it watches a duplicate. */
static tw_status
pipe_adopt(TwPipe *self, int fd, PyObject *pipe, TwOnReady on_ready)
{
    int watched = fd;

    if (tw_watcher_live(self->base.loop, fd) != NULL) {
        watched = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (watched < 0) {
            tw_errno_raise(-errno);
            return -1;
        }
        self->watch_fd = watched;
    }
    if (tw_transport_adopt(&self->base, watched, pipe, on_ready) < 0) {
        return -1;
    }
    self->base.fd = self->fileno = fd;
    return 0;
}

/* Release the file without closing it: the call failed. */
static void
pipe_disown(TwPipe *self)
{
    self->base.fd = -1;
    pipe_release(self);
}

/* A dict with `pipe` in it: the caller's own, as in asyncio. */
static PyObject *
pipe_extra(PyObject *extra, PyObject *pipe)
{
    bool none = extra == NULL || extra == Py_None;
    PyObject *dict = none ? PyDict_New() : Py_NewRef(extra);

    if (dict != NULL && PyMapping_SetItemString(dict, "pipe", pipe) < 0) {
        Py_CLEAR(dict);
    }
    return dict;
}

/* The descriptor of `pipe`, checked and non-blocking. */
static int
pipe_prepare(TwLoop *loop, PyObject *pipe, bool writing, mode_t *mode)
{
    int fd = pipe_fileno(loop, pipe);

    if (fd < 0 || pipe_check_mode(fd, writing, mode) < 0
        || pipe_set_nonblocking(fd) < 0) {
        return -1;
    }
    return fd;
}

static PyObject *
pipe_new(TwLoop *loop, PyTypeObject *type, const TwPipeKind *kind,
         PyObject *const *argv)
{
    PyObject *pipe = argv[0], *protocol = argv[1], *extra = argv[3];
    TwPipe *self;
    mode_t mode = 0;
    int fd = pipe_prepare(loop, pipe, kind->writing, &mode);

    if (fd < 0) {
        return NULL;
    }
    self = (TwPipe *)tw_transport_new(type, loop, kind->ops, protocol, NULL,
                                      NULL, argv[2]);
    if (self == NULL) {
        return NULL;
    }
    Py_XSETREF(self->base.extra, pipe_extra(extra, pipe));
    if (self->base.extra == NULL
        || pipe_adopt(self, fd, pipe, kind->on_ready) < 0
        || tw_transport_start(&self->base) < 0) {
        goto error;
    }
    self->ends_on_read = S_ISSOCK(mode) || S_ISFIFO(mode);
    self->messages = pipe_has_messages(fd, mode);
    tw_transport_count(&self->base, TW_KIND_PIPE, false);
    return (PyObject *)self;

error:
    pipe_disown(self);
    Py_DECREF(self);
    return NULL;
}

static PyObject *
pipe_loop_make(PyObject *loop, const TwPipeKind *kind, PyObject *const *args,
               Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"pipe", "protocol", "waiter", "extra"};
    const TwArgs spec = {kind->writing ? "_make_write_pipe_transport"
                                       : "_make_read_pipe_transport",
                         names, 2, 4};
    const tw_state *state = ((TwLoop *)loop)->state;
    PyObject *argv[4];

    if (tw_args_bind(&spec, args, nargs, kwnames, argv) < 0) {
        return NULL;
    }
    return pipe_new((TwLoop *)loop,
                    kind->writing ? state->write_pipe_type
                                  : state->read_pipe_type,
                    kind, argv);
}

static PyObject *
pipe_loop_make_read(PyObject *loop, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames)
{
    return pipe_loop_make(loop, &tw_pipe_read_kind, args, nargs, kwnames);
}

static PyObject *
pipe_loop_make_write(PyObject *loop, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *kwnames)
{
    return pipe_loop_make(loop, &tw_pipe_write_kind, args, nargs, kwnames);
}

/* -- logging -------------------------------------------------------------- */

tw_status
tw_pipe_log(TwPipe *self, const char *level, const char *format)
{
    if (tw_transport_log(&self->base, level, format) < 0) {
        return tw_transport_report_call(&self->base, "_read_ready");
    }
    return 0;
}

const char *
tw_pipe_state(const TwPipe *self)
{
    if (self->base.fd < 0) {
        return "closed ";
    }
    return self->base.flags & TW_F_CLOSING ? "closing " : "";
}

/* -- close ---------------------------------------------------------------- */

void
tw_pipe_lost(TwTransport *base, PyObject *Py_UNUSED(exc))
{
    pipe_release((TwPipe *)base);
}

int
tw_pipe_clear(PyObject *self)
{
    tw_bufq_clear(&((TwPipe *)self)->queue);
    return tw_transport_clear(self);
}

void
tw_pipe_dealloc(PyObject *op)
{
    if (tw_transport_dealloc_begin(op)) {
        pipe_release((TwPipe *)op);
        tw_transport_dealloc_end(op);
    }
}

/* -- methods and attributes ----------------------------------------------- */

static PyObject *
pipe_get_pipe(PyObject *op, void *Py_UNUSED(closure))
{
    TwTransport *base = (TwTransport *)op;

    return Py_NewRef(base->fd < 0 || !base->sock ? Py_None : base->sock);
}

#define PIPE_COMMON_GETSET                                                    \
    {"_pipe", pipe_get_pipe},                                                 \
        {"_fileno", tw_transport_get_int, NULL, NULL, TW_AT(TwPipe, fileno)}, \
        TW_TRANSPORT_PROTOCOL_ATTR, TW_TRANSPORT_CLOSING_ATTR

PyGetSetDef tw_pipe_read_getset[] = {
    TW_PLAIN_SLOTS(TW_SLOT_EXTRA, TW_SLOT_LOOP),
    PIPE_COMMON_GETSET,
    TW_TRANSPORT_FLAG_ATTR("_paused", TW_F_READ_PAUSED),
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict},
    {NULL},
};

PyGetSetDef tw_pipe_write_getset[] = {
    TW_FLOW_SLOTS(TW_SLOT_EXTRA, TW_SLOT_LOOP),
    PIPE_COMMON_GETSET,
    {"_conn_lost", tw_transport_get_int, NULL, NULL, TW_AT(TwPipe, refused)},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict},
    {NULL},
};

PyMethodDef tw_pipe_loop_methods[] = {
    {"_make_read_pipe_transport", TW_FAST(pipe_loop_make_read), TW_FASTKW,
     PyDoc_STR(
"_make_read_pipe_transport($self, pipe, protocol, waiter=None, "
"extra=None)\n--\n\n"
"The hook that asyncio's connect_read_pipe() calls.")},
    {"_make_write_pipe_transport", TW_FAST(pipe_loop_make_write), TW_FASTKW,
     PyDoc_STR(
"_make_write_pipe_transport($self, pipe, protocol, waiter=None, "
"extra=None)\n--\n\n"
"The hook that asyncio's connect_write_pipe() calls.")},
    {NULL},
};
