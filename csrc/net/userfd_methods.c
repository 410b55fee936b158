/* add_reader() and the like: the Python methods of net/userfd.c. */
#include <limits.h>

#include "base/args.h"
#include "core/call.h"
#include "core/handle.h"
#include "net/userfd.h"

/* -- descriptors ---------------------------------------------------------- */

/* The program's argument. */
typedef struct {
    PyObject *obj;    /* borrowed */
    PyObject *number; /* strong: an int */
    int fd;           /* or one of: */
} UserFdArg;

#define USERFD_NEGATIVE (-1)
#define USERFD_TOO_LARGE (-2)

/* selectors._fileobj_to_fd(), without its check of the sign. */
static PyObject *
userfd_number(TwLoop *loop, PyObject *obj)
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
userfd_small(PyObject *number)
{
    int overflow = 0;
    long n = PyLong_AsLongAndOverflow(number, &overflow);

    if (overflow < 0 || (overflow == 0 && n < 0)) {
        return USERFD_NEGATIVE;
    }
    return overflow > 0 || n > INT_MAX ? USERFD_TOO_LARGE : (int)n;
}

/* asyncio's _ensure_fd_no_transport().  After a success the caller releases
   arg->number. */
static tw_status
userfd_read(TwLoop *loop, PyObject *obj, UserFdArg *arg)
{
    arg->obj = obj;
    arg->number = userfd_number(loop, obj);
    if (arg->number == NULL) {
        return -1;
    }
    arg->fd = userfd_small(arg->number);
    if (arg->fd >= 0 && tw_userfd_check_fd(loop, arg->fd, obj) < 0) {
        Py_CLEAR(arg->number);
        return -1;
    }
    return 0;
}

/* A negative number belongs to a closed object, which may still be watched:
   its descriptor; or -1 with ValueError. */
static int
userfd_closed_fd(TwLoop *loop, const UserFdArg *arg)
{
    int fd = tw_userfd_find_object(loop, arg->obj);

    if (fd < 0) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %S",
                     arg->number);
    }
    return fd;
}

/* -- the methods ---------------------------------------------------------- */

static tw_status
userfd_watch(TwLoop *loop, const UserFdArg *arg, unsigned which,
             PyObject *handle)
{
    int fd = arg->fd;

    if (fd == USERFD_TOO_LARGE) { /* it raises its own exception */
        return PyObject_AsFileDescriptor(arg->number) < 0 ? -1 : 0;
    }
    if (fd >= 0) {
        return tw_userfd_watch(loop, fd, which, arg->obj, handle);
    }
    fd = userfd_closed_fd(loop, arg);
    return fd < 0 ? -1 : tw_userfd_watch_closed(loop, fd, which, handle);
}

/* The Handle of add_reader() and its like, a new reference. */
static PyObject *
userfd_add(PyObject *op, unsigned which, PyObject *const *args,
           Py_ssize_t nargs)
{
    TwLoop *loop = (TwLoop *)op;
    TwHandle *handle = NULL;
    UserFdArg arg;

    if (userfd_read(loop, args[0], &arg) < 0) {
        return NULL;
    }
    if (tw_loop_check_open(loop) == 0) {
        handle = tw_handle_new(loop, args[1], args + 2, nargs - 2, NULL);
    }
    if (handle != NULL) {
        tw_handle_track(handle);
        if (userfd_watch(loop, &arg, which, (PyObject *)handle) < 0) {
            Py_CLEAR(handle);
        }
    }
    Py_DECREF(arg.number);
    return (PyObject *)handle;
}

static PyObject *
userfd_add_public(PyObject *loop, const char *name, unsigned which,
                  PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *handle;

    if (nargs < 2 || kwnames != NULL) {
        return tw_loop_call_by_name(loop, name, args, nargs, kwnames);
    }
    handle = userfd_add(loop, which, args, nargs);
    if (handle == NULL) {
        return NULL;
    }
    Py_DECREF(handle);
    Py_RETURN_NONE;
}

static PyObject *
userfd_add_private(PyObject *loop, const char *name, unsigned which,
                   PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 2) {
        return PyErr_Format(PyExc_TypeError,
                            "%s() takes a descriptor and a callback", name);
    }
    return userfd_add(loop, which, args, nargs);
}

/* 1, 0, or -1. */
static int
userfd_unwatch(TwLoop *loop, const UserFdArg *arg, unsigned which)
{
    int fd = arg->fd;

    if (loop->closed || fd == USERFD_TOO_LARGE) {
        return 0;
    }
    if (fd == USERFD_NEGATIVE) {
        fd = userfd_closed_fd(loop, arg);
    }
    return fd < 0 ? -1
                  : tw_userfd_remove(loop, fd, which,
                                     arg->fd == USERFD_NEGATIVE);
}

static PyObject *
userfd_remove(PyObject *op, unsigned which, PyObject *obj)
{
    TwLoop *loop = (TwLoop *)op;
    UserFdArg arg;
    int removed;

    if (userfd_read(loop, obj, &arg) < 0) {
        return NULL;
    }
    removed = userfd_unwatch(loop, &arg, which);
    Py_DECREF(arg.number);
    return removed < 0 ? NULL : PyBool_FromLong(removed);
}

static PyObject *
userfd_remove_public(PyObject *loop, const char *name, unsigned which,
                     PyObject *const *args, Py_ssize_t nargs,
                     PyObject *kwnames)
{
    PyObject *fd = tw_args_one(name, "fd", args, nargs, kwnames);

    return fd == NULL ? NULL : userfd_remove(loop, which, fd);
}

/* The four methods for an event: public ones, and asyncio's private ones,
   which take no keywords, and return the Handle. */
#define USERFD_METHODS(word, event)                                           \
    static PyObject *userfd_add_##word(PyObject *loop, PyObject *const *args, \
                                       Py_ssize_t nargs, PyObject *kwnames)   \
    {                                                                         \
        return userfd_add_public(loop, "add_" #word, event, args, nargs,      \
                                 kwnames);                                    \
    }                                                                         \
    static PyObject *userfd_remove_##word(PyObject *loop,                     \
                                          PyObject *const *args,              \
                                          Py_ssize_t nargs,                   \
                                          PyObject *kwnames)                  \
    {                                                                         \
        return userfd_remove_public(loop, "remove_" #word, event, args,       \
                                    nargs, kwnames);                          \
    }                                                                         \
    static PyObject *userfd_private_add_##word(                               \
        PyObject *loop, PyObject *const *args, Py_ssize_t nargs)              \
    {                                                                         \
        return userfd_add_private(loop, "_add_" #word, event, args, nargs);   \
    }                                                                         \
    static PyObject *userfd_private_remove_##word(PyObject *loop,             \
                                                  PyObject *fd)               \
    {                                                                         \
        return userfd_remove(loop, event, fd);                                \
    }

USERFD_METHODS(reader, TW_EV_READ)
USERFD_METHODS(writer, TW_EV_WRITE)

static PyObject *
userfd_loop_ensure_no_transport(PyObject *loop, PyObject *obj)
{
    UserFdArg arg;

    if (userfd_read((TwLoop *)loop, obj, &arg) < 0) {
        return NULL;
    }
    Py_DECREF(arg.number);
    Py_RETURN_NONE;
}

PyMethodDef tw_userfd_loop_methods[] = {
    {"add_reader", TW_FAST(userfd_add_reader), TW_FASTKW, PyDoc_STR(
"add_reader($self, /, fd, callback, *args)\n--\n\n"
"Call callback(*args) whenever `fd` (a number, or an object with fileno())\n"
"can be read; an earlier reader is replaced.\n\n"
"ValueError if it is no descriptor, OSError if it cannot be watched (closed,\n"
"a regular file), RuntimeError if a transport uses it or the loop is closed.\n"
"See library/asyncio-eventloop.")},
    {"add_writer", TW_FAST(userfd_add_writer), TW_FASTKW, PyDoc_STR(
"add_writer($self, /, fd, callback, *args)\n--\n\n"
"Call callback(*args) whenever `fd` (a number, or an object with fileno())\n"
"can be written; an earlier writer is replaced.\n\n"
"Errors are those of add_reader().  See library/asyncio-eventloop.")},
    {"remove_reader", TW_FAST(userfd_remove_reader), TW_FASTKW, PyDoc_STR(
"remove_reader($self, /, fd)\n--\n\n"
"Stop watching `fd` for reading: True if it was watched.\n\n"
"ValueError if it is no descriptor, RuntimeError if a transport uses it.\n"
"See library/asyncio-eventloop.")},
    {"remove_writer", TW_FAST(userfd_remove_writer), TW_FASTKW, PyDoc_STR(
"remove_writer($self, /, fd)\n--\n\n"
"Stop watching `fd` for writing: True if it was watched.\n\n"
"Errors are those of remove_reader().  See library/asyncio-eventloop.")},
    {"_add_reader", TW_FAST(userfd_private_add_reader), METH_FASTCALL,
     NULL},
    {"_add_writer", TW_FAST(userfd_private_add_writer), METH_FASTCALL,
     NULL},
    {"_remove_reader", userfd_private_remove_reader, METH_O, NULL},
    {"_remove_writer", userfd_private_remove_writer, METH_O, NULL},
    {"_ensure_fd_no_transport", userfd_loop_ensure_no_transport, METH_O, NULL},
    {NULL},
};
