#include "net/sock_object.h"

#include <sys/socket.h>

#include "base/compat.h"
#include "base/errno.h"
#include "base/sys.h"
#include "core/call.h"

/* The attributes that socket.__init__() sets. */
static tw_status
object_set_slots(tw_state *state, PyObject *sock)
{
    PyObject *zero = PyLong_FromLong(0);
    tw_status status = -1;

    /* allow: slots of the standard library's own class */
    if (zero != NULL
        && PyObject_SetAttr(sock, state->str._io_refs, zero) == 0
        /* allow: the same */
        && PyObject_SetAttr(sock, state->str._closed, Py_False) == 0) {
        status = 0;
    }
    Py_XDECREF(zero);
    return status;
}

/* The flag in the type makes the object non-blocking without a system call;
   where there is none, its method does. */
static tw_status
object_set_nonblocking(tw_state *state, PyObject *sock)
{
    PyObject *argv[] = {sock, Py_False}, *exc, *none;

    if (TW_SOCK_NONBLOCK != 0
        || tw_status_steal(
               tw_call_plain_method(state->str.setblocking, argv, 2))
               == 0) {
        return 0;
    }
    /* The descriptor is the caller's again. */
    exc = tw_err_take();
    none = PyObject_CallMethod(sock, "detach", NULL); /* allow: C code */
    tw_call_ignore_error();
    Py_XDECREF(none);
    tw_err_restore_steal(exc);
    return -1;
}

PyObject *
tw_sock_object_new(tw_state *state, int family, int type, int proto, int fd)
{
    PyTypeObject *kind = (PyTypeObject *)state->socket_type;
    PyObject *sock = kind->tp_new(kind, state->empty_tuple, NULL);
    PyObject *args = sock == NULL ? NULL
                                  : Py_BuildValue("(iiii)", family,
                                                  type | TW_SOCK_NONBLOCK,
                                                  proto, fd);

    if (args == NULL || object_set_slots(state, sock) < 0
        || kind->tp_base->tp_init(sock, args, NULL) < 0
        || object_set_nonblocking(state, sock) < 0) {
        Py_CLEAR(sock);
    }
    Py_XDECREF(args);
    return sock;
}

PyObject *
tw_sock_object_of_fd(tw_state *state, int fd)
{
    int family, type, proto;
    tw_uverr err = tw_sys_socket_kind(fd, &family, &type, &proto);

    if (err < 0) {
        return tw_errno_raise(err);
    }
    return tw_sock_object_new(state, family, type, proto, fd);
}

bool
tw_sock_object_check_class(tw_state *state)
{
    PyTypeObject *type = (PyTypeObject *)state->socket_type;
    PyObject *original = tw_seam_call(state, "is_original_socket",
                                      &state->socket_type, 1);

    if (original == NULL) {
        tw_call_ignore_error(); /* a replacement that lacks what ours has */
    }
    state->socket_original = original == Py_True;
    Py_XDECREF(original);
    state->socket_version = tw_type_assign_version(type, state->str.fileno)
                                ? type->tp_version_tag
                                : 0;
    return state->socket_original;
}
