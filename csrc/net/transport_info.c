/* The answers of get_extra_info(), and the socket object. */
#include "base/compat.h"
#include "net/sock_object.h"
#include "net/transport.h"

/* -- the socket object ---------------------------------------------------- */

PyObject *
tw_transport_socket(TwTransport *self)
{
    tw_state *state = self->loop->state;

    if (self->sock == NULL && self->fd < 0) {
        return tw_seam_call(state, "closed_socket", NULL, 0);
    }
    if (self->sock == NULL) {
        /* It owns the descriptor from now on. */
        self->sock = tw_sock_object_of_fd(state, self->fd);
    }
    return Py_XNewRef(self->sock);
}

/* A TransportSocket, which sends what is held before each of its methods; kept
   in the extra dict. */
static PyObject *
transport_info_socket(TwTransport *self)
{
    PyObject *sock = tw_transport_socket(self), *wrapped;

    if (sock == NULL) {
        return NULL;
    }
    PyObject *argv[] = {sock, (PyObject *)self};
    wrapped = tw_seam_call(self->loop->state, "TransportSocket", argv, 2);
    Py_DECREF(sock);
    if (wrapped != NULL) {
        self->flags |= TW_F_SHOWN;
    }
    return wrapped;
}

/* -- extra info ----------------------------------------------------------- */

/* "socket", "sockname", "peername" of a socket transport: new reference; NULL
   without an exception for another name. */
static PyObject *
transport_info_make(TwTransport *self, PyObject *name)
{
    if (self->addrs == NULL || !PyUnicode_Check(name)) {
        return NULL;
    }
    if (PyUnicode_CompareWithASCIIString(name, "socket") == 0) {
        return transport_info_socket(self);
    }
    if (PyUnicode_CompareWithASCIIString(name, "peername") == 0) {
        return tw_transport_addr(self, true);
    }
    if (PyUnicode_CompareWithASCIIString(name, "sockname") == 0) {
        return tw_transport_addr(self, false);
    }
    return NULL;
}

PyObject *
tw_transport_extra_known(TwBaseTransport *self, PyObject *name)
{
    PyObject *dict = Py_XNewRef(self->extra), *value = NULL;

    if (dict != NULL) {
        (void)tw_dict_get(dict, name, &value);
        Py_DECREF(dict);
    }
    else if (PyObject_Hash(name) == -1) {
        return NULL; /* as asyncio, which has a dict in any case */
    }
    return value;
}

PyObject *
tw_transport_extra(TwBaseTransport *self)
{
    if (self->extra == NULL) {
        self->extra = PyDict_New();
    }
    return Py_XNewRef(self->extra);
}

PyObject *
tw_transport_extra_keep_steal(TwBaseTransport *self, PyObject *name,
                              PyObject *value)
{
    PyObject *extra = tw_transport_extra(self);

    if (extra == NULL || PyDict_SetItem(extra, name, value) < 0) {
        Py_CLEAR(value);
    }
    Py_XDECREF(extra);
    return value;
}

PyObject *
tw_transport_extra_info(TwTransport *self, PyObject *name, PyObject *dflt)
{
    PyObject *value = tw_transport_extra_known(TW_BASE(self), name);

    if (value != NULL || PyErr_Occurred()) {
        return value;
    }
    value = transport_info_make(self, name);
    if (value == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(dflt);
    }
    return tw_transport_extra_keep_steal(TW_BASE(self), name, value);
}

PyObject *
tw_transport_whole_extra(TwTransport *self)
{
    static const char *const names[] = {"socket", "sockname", "peername"};

    for (size_t i = 0; self->addrs && i < Py_ARRAY_LENGTH(names); i++) {
        PyObject *name = PyUnicode_InternFromString(names[i]);
        PyObject *value =
            name ? tw_transport_extra_info(self, name, Py_None) : NULL;
        Py_XDECREF(name);
        Py_XDECREF(value);
        if (value == NULL) {
            return NULL;
        }
    }
    return tw_transport_extra(TW_BASE(self));
}
