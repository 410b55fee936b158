/* add_reader() and its kin: the Python face of net/poll.c. */
#include <limits.h>

#include "base/args.h"
#include "core/call.h"
#include "core/handle.h"
#include "net/poll.h"

/* -- descriptors ---------------------------------------------------------- */

/* What the program named. */
typedef struct {
    PyObject *obj;    /* borrowed */
    PyObject *number; /* strong: an int */
    int fd;           /* or one of: */
} PollArg;

#define POLL_NEGATIVE (-1)
#define POLL_TOO_LARGE (-2)

/* selectors._fileobj_to_fd(), but for its look at the sign. */
static PyObject *
poll_number(TwLoop *loop, PyObject *obj)
{
    PyObject *argv[] = {obj}, *answer, *number = NULL;

    if (PyLong_Check(obj)) {
        return Py_NewRef(obj);
    }
    answer = tw_call_plain_method(loop->state->str.fileno, argv, 1);
    if (answer != NULL) {
        number = PyNumber_Long(answer);
        Py_DECREF(answer);
    }
    if (number == NULL
        && (PyErr_ExceptionMatches(PyExc_AttributeError)
            || PyErr_ExceptionMatches(PyExc_TypeError)
            || PyErr_ExceptionMatches(PyExc_ValueError))) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "Invalid file object: %R", obj);
    }
    return number;
}

static int
poll_small(PyObject *number)
{
    int overflow = 0;
    long n = PyLong_AsLongAndOverflow(number, &overflow);

    if (overflow < 0 || (overflow == 0 && n < 0)) {
        return POLL_NEGATIVE;
    }
    return overflow > 0 || n > INT_MAX ? POLL_TOO_LARGE : (int)n;
}

/* asyncio's _ensure_fd_no_transport().  After a success the caller releases
   arg->number. */
static tw_status
poll_read(TwLoop *loop, PyObject *obj, PollArg *arg)
{
    arg->obj = obj;
    arg->number = poll_number(loop, obj);
    if (arg->number == NULL) {
        return -1;
    }
    arg->fd = poll_small(arg->number);
    if (arg->fd >= 0 && tw_poll_check_fd(loop, arg->fd, obj) < 0) {
        Py_CLEAR(arg->number);
        return -1;
    }
    return 0;
}

/* A negative number is a closed object's, which may still be watched: its
   descriptor; or -1 with ValueError. */
static int
poll_closed_fd(TwLoop *loop, const PollArg *arg)
{
    int fd = tw_poll_find_object(loop, arg->obj);

    if (fd < 0) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %S",
                     arg->number);
    }
    return fd;
}

/* -- the methods ---------------------------------------------------------- */

static tw_status
poll_watch(TwLoop *loop, const PollArg *arg, unsigned which, PyObject *handle)
{
    int fd = arg->fd;

    if (fd == POLL_TOO_LARGE) { /* it fails, in its own words */
        return PyObject_AsFileDescriptor(arg->number) < 0 ? -1 : 0;
    }
    if (fd >= 0) {
        return tw_poll_watch(loop, fd, which, arg->obj, handle);
    }
    fd = poll_closed_fd(loop, arg);
    return fd < 0 ? -1 : tw_poll_watch_closed(loop, fd, which, handle);
}

/* The Handle of add_reader() and its like, a new reference. */
static PyObject *
poll_add(PyObject *op, unsigned which, PyObject *const *args,
         Py_ssize_t nargs)
{
    TwLoop *loop = (TwLoop *)op;
    TwHandle *handle = NULL;
    PollArg arg;

    if (poll_read(loop, args[0], &arg) < 0) {
        return NULL;
    }
    if (tw_loop_check_open(loop) == 0) {
        handle = tw_handle_new(loop, args[1], args + 2, nargs - 2, NULL);
    }
    if (handle != NULL) {
        tw_handle_track(handle);
        if (poll_watch(loop, &arg, which, (PyObject *)handle) < 0) {
            Py_CLEAR(handle);
        }
    }
    Py_DECREF(arg.number);
    return (PyObject *)handle;
}

static PyObject *
poll_add_public(PyObject *loop, const char *name, unsigned which,
                PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *handle;

    if (nargs < 2 || kwnames != NULL) {
        return tw_loop_call_by_name(loop, name, args, nargs, kwnames);
    }
    handle = poll_add(loop, which, args, nargs);
    if (handle == NULL) {
        return NULL;
    }
    Py_DECREF(handle);
    Py_RETURN_NONE;
}

static PyObject *
poll_add_private(PyObject *loop, const char *name, unsigned which,
                 PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 2) {
        return PyErr_Format(PyExc_TypeError,
                            "%s() takes a descriptor and a callback", name);
    }
    return poll_add(loop, which, args, nargs);
}

/* 1, 0, or -1. */
static int
poll_unwatch(TwLoop *loop, const PollArg *arg, unsigned which)
{
    int fd = arg->fd;

    if (loop->closed || fd == POLL_TOO_LARGE) {
        return 0;
    }
    if (fd == POLL_NEGATIVE) {
        fd = poll_closed_fd(loop, arg);
    }
    return fd < 0 ? -1
                  : tw_poll_remove(loop, fd, which, arg->fd == POLL_NEGATIVE);
}

static PyObject *
poll_remove(PyObject *op, unsigned which, PyObject *obj)
{
    TwLoop *loop = (TwLoop *)op;
    PollArg arg;
    int removed;

    if (poll_read(loop, obj, &arg) < 0) {
        return NULL;
    }
    removed = poll_unwatch(loop, &arg, which);
    Py_DECREF(arg.number);
    return removed < 0 ? NULL : PyBool_FromLong(removed);
}

static PyObject *
poll_remove_public(PyObject *loop, const char *name, unsigned which,
                   PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *fd = tw_args_one(name, "fd", args, nargs, kwnames);

    return fd == NULL ? NULL : poll_remove(loop, which, fd);
}

const char tw_poll_doc_add_reader[] = PyDoc_STR(
"add_reader($self, /, fd, callback, *args)\n--\n\n"
"Call callback(*args) whenever `fd` (a number, or an object with fileno())\n"
"can be read; an earlier reader is replaced.\n\n"
"ValueError if it is no descriptor, OSError if it cannot be watched (closed,\n"
"a regular file), RuntimeError if a transport uses it or the loop is closed.\n"
"See library/asyncio-eventloop.");

PyObject *
tw_poll_loop_add_reader(PyObject *loop, PyObject *const *args,
                        Py_ssize_t nargs, PyObject *kwnames)
{
    return poll_add_public(loop, "add_reader", TW_EV_READ, args, nargs,
                           kwnames);
}

const char tw_poll_doc_add_writer[] = PyDoc_STR(
"add_writer($self, /, fd, callback, *args)\n--\n\n"
"Call callback(*args) whenever `fd` (a number, or an object with fileno())\n"
"can be written; an earlier writer is replaced.\n\n"
"Errors are those of add_reader().  See library/asyncio-eventloop.");

PyObject *
tw_poll_loop_add_writer(PyObject *loop, PyObject *const *args,
                        Py_ssize_t nargs, PyObject *kwnames)
{
    return poll_add_public(loop, "add_writer", TW_EV_WRITE, args, nargs,
                           kwnames);
}

const char tw_poll_doc_remove_reader[] = PyDoc_STR(
"remove_reader($self, /, fd)\n--\n\n"
"Stop watching `fd` for reading: True if it was watched.\n\n"
"ValueError if it is no descriptor, RuntimeError if a transport uses it.\n"
"See library/asyncio-eventloop.");

PyObject *
tw_poll_loop_remove_reader(PyObject *loop, PyObject *const *args,
                           Py_ssize_t nargs, PyObject *kwnames)
{
    return poll_remove_public(loop, "remove_reader", TW_EV_READ, args, nargs,
                              kwnames);
}

const char tw_poll_doc_remove_writer[] = PyDoc_STR(
"remove_writer($self, /, fd)\n--\n\n"
"Stop watching `fd` for writing: True if it was watched.\n\n"
"Errors are those of remove_reader().  See library/asyncio-eventloop.");

PyObject *
tw_poll_loop_remove_writer(PyObject *loop, PyObject *const *args,
                           Py_ssize_t nargs, PyObject *kwnames)
{
    return poll_remove_public(loop, "remove_writer", TW_EV_WRITE, args,
                              nargs, kwnames);
}

PyObject *
tw_poll_loop_private_add_reader(PyObject *loop, PyObject *const *args,
                                Py_ssize_t nargs)
{
    return poll_add_private(loop, "_add_reader", TW_EV_READ, args, nargs);
}

PyObject *
tw_poll_loop_private_add_writer(PyObject *loop, PyObject *const *args,
                                Py_ssize_t nargs)
{
    return poll_add_private(loop, "_add_writer", TW_EV_WRITE, args, nargs);
}

PyObject *
tw_poll_loop_private_remove_reader(PyObject *loop, PyObject *fd)
{
    return poll_remove(loop, TW_EV_READ, fd);
}

PyObject *
tw_poll_loop_private_remove_writer(PyObject *loop, PyObject *fd)
{
    return poll_remove(loop, TW_EV_WRITE, fd);
}

PyObject *
tw_poll_loop_ensure_no_transport(PyObject *loop, PyObject *obj)
{
    PollArg arg;

    if (poll_read((TwLoop *)loop, obj, &arg) < 0) {
        return NULL;
    }
    Py_DECREF(arg.number);
    Py_RETURN_NONE;
}
