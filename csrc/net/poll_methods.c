/* add_reader() and its kin: the Python face of net/poll.c. */
#include "base/args.h"
#include "core/handle.h"
#include "net/poll.h"

/* The Handle of add_reader() and its like, a new reference. */
static PyObject *
poll_add(PyObject *op, unsigned which, PyObject *const *args,
         Py_ssize_t nargs)
{
    TwLoop *loop = (TwLoop *)op;
    TwHandle *handle;
    int fd = tw_poll_fd_of(loop, args[0]);

    if (fd < 0 || tw_loop_check_open(loop) < 0) {
        return NULL;
    }
    handle = tw_handle_new(loop, args[1], args + 2, nargs - 2, NULL);
    if (handle == NULL) {
        return NULL;
    }
    tw_handle_track(handle);
    if (tw_poll_set(loop, fd, which, NULL, (PyObject *)handle, NULL) < 0) {
        Py_CLEAR(handle);
    }
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

static PyObject *
poll_remove(PyObject *op, unsigned which, PyObject *obj)
{
    TwLoop *loop = (TwLoop *)op;
    int fd = tw_poll_fd_of(loop, obj);

    if (fd < 0 && PyErr_ExceptionMatches(PyExc_OverflowError)) {
        PyErr_Clear();
        Py_RETURN_FALSE;
    }
    if (fd < 0) {
        return NULL;
    }
    return PyBool_FromLong(!loop->closed
                           && tw_poll_unset(loop, fd, which, NULL));
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
    int fd = PyObject_AsFileDescriptor(obj);

    if (fd < 0) {
        PyErr_Clear();
        return PyErr_Format(PyExc_ValueError, "Invalid file object: %R", obj);
    }
    if (tw_poll_check_fd((TwLoop *)loop, fd, obj) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}
