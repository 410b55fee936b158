#include "net/sock_object.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/errno.h"

/* What socket.__init__() sets beside the descriptor. */
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

/* SOCK_NONBLOCK in the type tells the object so without a system call. */
PyObject *
tw_sock_object_new(tw_state *state, int family, int type, int proto, int fd)
{
    PyTypeObject *kind = (PyTypeObject *)state->socket_type;
    PyObject *sock = kind->tp_new(kind, state->empty_tuple, NULL);
    PyObject *args = sock == NULL ? NULL
                                  : Py_BuildValue("(iiii)", family,
                                                  type | SOCK_NONBLOCK, proto,
                                                  fd);

    if (args == NULL || object_set_slots(state, sock) < 0
        || kind->tp_base->tp_init(sock, args, NULL) < 0) {
        Py_CLEAR(sock);
    }
    Py_XDECREF(args);
    return sock;
}

static tw_status
object_option(int fd, int option, int *value)
{
    socklen_t len = sizeof(*value);

    if (getsockopt(fd, SOL_SOCKET, option, value, &len) < 0) {
        tw_errno_raise(-errno);
        return -1;
    }
    return 0;
}

PyObject *
tw_sock_object_of_fd(tw_state *state, int fd)
{
    int family, type, proto;

    if (object_option(fd, SO_DOMAIN, &family) < 0
        || object_option(fd, SO_TYPE, &type) < 0
        || object_option(fd, SO_PROTOCOL, &proto) < 0) {
        return NULL;
    }
    return tw_sock_object_new(state, family, type, proto, fd);
}
