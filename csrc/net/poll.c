#include "net/poll.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/errno.h"
#include "core/call.h"
#include "core/handle.h"

typedef struct {
    PyObject *target;   /* strong or NULL: the place is empty */
    TwOnReady on_ready; /* NULL: target is a Handle */
} TwPlace;

typedef struct {
    PyObject_HEAD
    TwLoop *loop;       /* strong */
    TwWatcher *watcher; /* ours until both places are empty */
    TwPlace read;
    TwPlace write;
} TwPoll;

static inline TwPlace *
poll_place(TwPoll *self, unsigned which)
{
    return which == TW_EV_READ ? &self->read : &self->write;
}

/* -- the turn -------------------------------------------------------------- */

static tw_status
poll_run_handle(TwLoop *loop, int fd, unsigned which, TwHandle *handle,
                unsigned events)
{
    if (handle->flags & TW_H_CANCELLED) {
        tw_poll_unset(loop, fd, which, (PyObject *)handle);
        return 0;
    }
    if (events & TW_EV_BAD) {
        tw_poll_unset(loop, fd, which, (PyObject *)handle);
        tw_errno_raise(-EBADF);
        return tw_call_report(
            loop, "The descriptor of add_reader() or add_writer() was closed",
            NULL, NULL);
    }
    loop->stats.callbacks++;
    return tw_handle_run(handle);
}

static tw_status
poll_run_place(TwPoll *self, unsigned which, unsigned events)
{
    TwPlace place = *poll_place(self, which);
    TwLoop *loop = self->loop;
    int fd = self->watcher ? self->watcher->fd : -1;
    tw_status status;

    if (place.target == NULL || !(events & (which | TW_EV_BAD))) {
        return 0;
    }
    Py_INCREF(place.target);
    status = place.on_ready ? place.on_ready(place.target, events)
                            : poll_run_handle(loop, fd, which,
                                              (TwHandle *)place.target,
                                              events);
    Py_DECREF(place.target);
    return status;
}

static tw_status
poll_on_ready(PyObject *op, unsigned events)
{
    TwPoll *self = (TwPoll *)op;

    if (poll_run_place(self, TW_EV_READ, events) < 0) {
        return -1;
    }
    return poll_run_place(self, TW_EV_WRITE, events);
}

/* -- places ---------------------------------------------------------------- */

static TwPoll *
poll_of_fd(TwLoop *loop, int fd)
{
    TwWatcher *w = tw_watcher_of_fd(loop, fd);

    return w != NULL && w->on_ready == poll_on_ready ? (TwPoll *)w->owner
                                                     : NULL;
}

/* What epoll would refuse, said at once as the selector does. */
static tw_status
poll_check_fd(int fd)
{
    struct stat st;
    int err = 0;

    if (fstat(fd, &st) < 0) {
        err = errno;
    }
    else if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) {
        err = EPERM;
    }
    if (err != 0) {
        tw_errno_raise(-err);
        return -1;
    }
    return 0;
}

/* A new one, owned by the caller until it wants something. */
static TwPoll *
poll_new(TwLoop *loop, int fd)
{
    PyTypeObject *type = loop->state->poll_type;
    TwPoll *self;

    if (poll_check_fd(fd) < 0) {
        return NULL;
    }
    self = (TwPoll *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->loop = (TwLoop *)Py_NewRef((PyObject *)loop);
    self->watcher = tw_watcher_open(loop, fd, (PyObject *)self, poll_on_ready,
                                    false);
    if (self->watcher == NULL) {
        Py_CLEAR(self);
    }
    return self;
}

/* Release what was in a place; a Handle is cancelled. */
static void
poll_drop_steal(PyObject *target, TwOnReady on_ready)
{
    if (target != NULL && on_ready == NULL) {
        tw_handle_cancel((TwHandle *)target);
    }
    Py_XDECREF(target);
}

static tw_status
poll_put(TwPoll *self, unsigned which, PyObject *target, TwOnReady on_ready)
{
    TwPlace *place = poll_place(self, which), old = *place;
    TwWatcher *w = self->watcher;

    if (tw_watcher_rearm(w) < 0
        || tw_watcher_want(w, w->want | which) < 0) {
        return -1;
    }
    place->target = Py_NewRef(target);
    place->on_ready = on_ready;
    poll_drop_steal(old.target, old.on_ready);
    return 0;
}

tw_status
tw_poll_set(TwLoop *loop, int fd, unsigned which, PyObject *target,
            TwOnReady on_ready)
{
    TwPoll *self = poll_of_fd(loop, fd);
    tw_status status;

    if (self != NULL) {
        Py_INCREF(self);
    }
    else {
        self = poll_new(loop, fd);
        if (self == NULL) {
            return -1;
        }
    }
    status = poll_put(self, which, target, on_ready);
    Py_DECREF(self);
    return status;
}

bool
tw_poll_unset(TwLoop *loop, int fd, unsigned which, PyObject *only)
{
    TwPoll *self = poll_of_fd(loop, fd);
    TwPlace *place, old;
    TwWatcher *w;

    if (self == NULL) {
        return false;
    }
    place = poll_place(self, which);
    old = *place;
    if (old.target == NULL || (only != NULL && old.target != only)) {
        return false;
    }
    *place = (TwPlace){0};
    Py_INCREF(self);
    w = self->watcher;
    if (self->read.target == NULL && self->write.target == NULL) {
        self->watcher = NULL;
        tw_watcher_close(w);
    }
    else if (tw_watcher_want(w, w->want & ~which) < 0) {
        PyErr_Clear();
    }
    poll_drop_steal(old.target, old.on_ready);
    Py_DECREF(self);
    return true;
}

/* -- arguments ------------------------------------------------------------- */

/* RuntimeError if an open transport uses the descriptor. */
static tw_status
poll_refuse_transport(TwLoop *loop, int fd, PyObject *obj)
{
    TwWatcher *w = tw_watcher_of_fd(loop, fd);

    if (w == NULL || !w->transport
        || (w->is_stale != NULL && w->is_stale(w->owner))) {
        return 0;
    }
    PyErr_Format(PyExc_RuntimeError,
                 "File descriptor %R is used by transport %R", obj, w->owner);
    return -1;
}

int
tw_poll_fd_of(TwLoop *loop, PyObject *obj)
{
    int fd = PyObject_AsFileDescriptor(obj);

    if (fd < 0) {
        /* The selectors module's texts. */
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError,
                     PyLong_Check(obj) ? "Invalid file descriptor: %S"
                                       : "Invalid file object: %R",
                     obj);
        return -1;
    }
    return poll_refuse_transport(loop, fd, obj) < 0 ? -1 : fd;
}

static PyObject *
poll_add(PyObject *op, const char *name, unsigned which,
         PyObject *const *args, Py_ssize_t nargs, bool private)
{
    TwLoop *loop = (TwLoop *)op;
    TwHandle *handle;
    int fd;

    if (nargs < 2) {
        return PyErr_Format(PyExc_TypeError,
                            "%s() takes a descriptor and a callback", name);
    }
    fd = tw_poll_fd_of(loop, args[0]);
    if (fd < 0 || tw_loop_check_open(loop) < 0) {
        return NULL;
    }
    handle = tw_handle_new(loop, args[1], args + 2, nargs - 2, NULL);
    if (handle == NULL) {
        return NULL;
    }
    if (tw_poll_set(loop, fd, which, (PyObject *)handle, NULL) < 0) {
        Py_DECREF(handle);
        return NULL;
    }
    if (private) {
        return (PyObject *)handle;
    }
    Py_DECREF(handle);
    Py_RETURN_NONE;
}

static PyObject *
poll_remove(PyObject *op, unsigned which, PyObject *obj)
{
    TwLoop *loop = (TwLoop *)op;
    int fd = tw_poll_fd_of(loop, obj);

    if (fd < 0) {
        return NULL;
    }
    return PyBool_FromLong(!loop->closed
                           && tw_poll_unset(loop, fd, which, NULL));
}

/* -- methods --------------------------------------------------------------- */

const char tw_poll_doc_add_reader[] = PyDoc_STR(
"add_reader($self, fd, callback, /, *args)\n--\n\n"
"Call callback(*args) whenever `fd` (a number, or an object with fileno())\n"
"can be read.  Replaces an earlier reader.  See library/asyncio-eventloop.");

PyObject *
tw_poll_loop_add_reader(PyObject *loop, PyObject *const *args,
                        Py_ssize_t nargs)
{
    return poll_add(loop, "add_reader", TW_EV_READ, args, nargs, false);
}

const char tw_poll_doc_add_writer[] = PyDoc_STR(
"add_writer($self, fd, callback, /, *args)\n--\n\n"
"Call callback(*args) whenever `fd` (a number, or an object with fileno())\n"
"can be written.  Replaces an earlier writer.");

PyObject *
tw_poll_loop_add_writer(PyObject *loop, PyObject *const *args,
                        Py_ssize_t nargs)
{
    return poll_add(loop, "add_writer", TW_EV_WRITE, args, nargs, false);
}

PyObject *
tw_poll_loop_private_add_reader(PyObject *loop, PyObject *const *args,
                                Py_ssize_t nargs)
{
    return poll_add(loop, "_add_reader", TW_EV_READ, args, nargs, true);
}

PyObject *
tw_poll_loop_private_add_writer(PyObject *loop, PyObject *const *args,
                                Py_ssize_t nargs)
{
    return poll_add(loop, "_add_writer", TW_EV_WRITE, args, nargs, true);
}

const char tw_poll_doc_remove_reader[] = PyDoc_STR(
"remove_reader($self, fd, /)\n--\n\n"
"Stop watching `fd` for reading: True if it was watched.");

PyObject *
tw_poll_loop_remove_reader(PyObject *loop, PyObject *fd)
{
    return poll_remove(loop, TW_EV_READ, fd);
}

const char tw_poll_doc_remove_writer[] = PyDoc_STR(
"remove_writer($self, fd, /)\n--\n\n"
"Stop watching `fd` for writing: True if it was watched.");

PyObject *
tw_poll_loop_remove_writer(PyObject *loop, PyObject *fd)
{
    return poll_remove(loop, TW_EV_WRITE, fd);
}

PyObject *
tw_poll_loop_ensure_no_transport(PyObject *loop, PyObject *obj)
{
    int fd = PyObject_AsFileDescriptor(obj);

    if (fd < 0) {
        PyErr_Clear();
        return PyErr_Format(PyExc_ValueError, "Invalid file object: %R", obj);
    }
    if (poll_refuse_transport((TwLoop *)loop, fd, obj) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* -- the type -------------------------------------------------------------- */

static int
poll_traverse(PyObject *op, visitproc visit, void *arg)
{
    TwPoll *self = (TwPoll *)op;

    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->loop);
    Py_VISIT(self->read.target);
    Py_VISIT(self->write.target);
    return 0;
}

static int
poll_clear(PyObject *op)
{
    TwPoll *self = (TwPoll *)op;

    Py_CLEAR(self->read.target);
    Py_CLEAR(self->write.target);
    return 0;
}

static void
poll_dealloc(PyObject *op)
{
    TwPoll *self = (TwPoll *)op;
    PyTypeObject *type = Py_TYPE(op);

    PyObject_GC_UnTrack(op);
    if (self->watcher != NULL) {
        tw_watcher_close(TW_TAKE(self->watcher));
    }
    poll_clear(op);
    Py_CLEAR(self->loop);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyType_Slot poll_slots[] = {
    {Py_tp_dealloc, poll_dealloc},
    {Py_tp_traverse, poll_traverse},
    {Py_tp_clear, poll_clear},
    {0, NULL},
};

static PyType_Spec poll_spec = {
    .name = "tidewire._core._Poll",
    .basicsize = sizeof(TwPoll),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = poll_slots,
};

tw_status
tw_poll_setup(tw_state *state, PyObject *module)
{
    return tw_state_add_type(state, &state->poll_type, &poll_spec, NULL, 0);
}
