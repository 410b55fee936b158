/* The transports' extra info, and the methods and attributes that all of
   them share. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/args.h"
#include "base/compat.h"
#include "net/hold.h"
#include "net/sock_object.h"
#include "net/transport.h"

/* -- addresses ------------------------------------------------------------ */

/* self->addrs: two addresses packed one behind the other, each a length byte
   and that many bytes: ours, and the peer's. */
#define ADDR_MAX 110 /* sizeof(struct sockaddr_un) */

static unsigned char *
addr_pack(unsigned char *to, const TwAddr *addr)
{
    size_t len = addr->len > ADDR_MAX ? ADDR_MAX : addr->len;

    *to = (unsigned char)len;
    memcpy(to + 1, &addr->u, len);
    return to + 1 + len;
}

tw_status
tw_transport_keep_addrs(TwTransport *self, const TwAddr *peer)
{
    TwAddr local, asked;

    local.len = asked.len = sizeof(local.u);
    if (getsockname(self->fd, &local.u.any, &local.len) < 0) {
        local.len = 0;
    }
    if (peer == NULL) {
        if (getpeername(self->fd, &asked.u.any, &asked.len) < 0) {
            asked.len = 0;
        }
        peer = &asked;
    }
    self->addrs = PyMem_Malloc(2 + (size_t)local.len + peer->len);
    if (self->addrs == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    addr_pack(addr_pack(self->addrs, &local), peer);
    return 0;
}

/* The Python form of one of the two; new reference. */
static PyObject *
transport_addr(TwTransport *self, bool peer)
{
    const unsigned char *p = self->addrs;
    struct sockaddr_storage aligned;
    PyObject *result;

    if (peer) {
        p += 1 + p[0];
    }
    memset(&aligned, 0, sizeof(aligned));
    memcpy(&aligned, p + 1, p[0]);
    result = tw_addr_to_python((struct sockaddr *)&aligned, p[0]);
    if (result == NULL && !PyErr_Occurred()) {
        /* A family that only the socket module knows. */
        tw_state *state = self->loop->state;
        PyObject *sock = tw_transport_socket(self);
        if (sock == NULL) {
            return NULL;
        }
        PyObject *argv[] = {sock};
        result = tw_call_plain_method(
            peer ? state->str.getpeername : state->str.getsockname, argv, 1);
        Py_DECREF(sock);
        if (result == NULL && PyErr_ExceptionMatches(PyExc_OSError)) {
            PyErr_Clear();
            result = Py_NewRef(Py_None);
        }
    }
    return result;
}

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
        return transport_addr(self, true);
    }
    if (PyUnicode_CompareWithASCIIString(name, "sockname") == 0) {
        return transport_addr(self, false);
    }
    return NULL;
}

PyObject *
tw_transport_extra_known(TwTransport *self, PyObject *name)
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
tw_transport_extra_info(TwTransport *self, PyObject *name, PyObject *dflt)
{
    PyObject *value = tw_transport_extra_known(self, name);

    if (value != NULL || PyErr_Occurred()) {
        return value;
    }
    value = transport_info_make(self, name);
    if (value == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(dflt);
    }
    if (self->extra == NULL) {
        self->extra = PyDict_New();
    }
    if (self->extra == NULL || PyDict_SetItem(self->extra, name, value) < 0) {
        Py_DECREF(value);
        return NULL;
    }
    return value;
}

/* `_extra`, complete. */
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
    if (self->extra == NULL) {
        self->extra = PyDict_New();
    }
    return Py_XNewRef(self->extra);
}

/* -- shared methods ------------------------------------------------------- */

const char tw_transport_doc_close[] = PyDoc_STR(
"close($self, /)\n--\n\n"
"Close the transport: what was written is sent, nothing more is read, then\n"
"connection_lost(None) is called.  See library/asyncio-protocol.");

PyObject *
tw_transport_closed(TwTransport *self, unsigned before)
{
    PyObject *context;

    if (self->flags & ~before & TW_F_LOST_SCHEDULED && self->server == NULL) {
        context = PyContext_CopyCurrent();
        if (context == NULL) {
            return NULL;
        }
        Py_XSETREF(self->context, context);
    }
    Py_RETURN_NONE;
}

PyObject *
tw_transport_meth_close(PyObject *op, PyObject *unused)
{
    TwTransport *self = (TwTransport *)op;
    unsigned before = self->flags;

    return tw_transport_close(self) < 0 ? NULL
                                        : tw_transport_closed(self, before);
}

const char tw_transport_doc_abort[] = PyDoc_STR(
"abort($self, /)\n--\n\n"
"Close the transport at once; what waits to be sent is lost.\n"
"connection_lost(None) is called soon.  See library/asyncio-protocol.");

PyObject *
tw_transport_meth_abort(PyObject *self, PyObject *unused)
{
    return tw_transport_meth_force_close(self, NULL);
}

PyObject *
tw_transport_meth_force_close(PyObject *op, PyObject *exc)
{
    TwTransport *self = (TwTransport *)op;
    unsigned before = self->flags;

    if (tw_hold_flush(self) < 0 || tw_transport_force_close(self, exc) < 0) {
        return NULL;
    }
    return tw_transport_closed(self, before);
}

const char tw_transport_doc_is_closing[] = PyDoc_STR(
"is_closing($self, /)\n--\n\n"
"True if the transport is closing or closed.\n\n"
"See library/asyncio-protocol.");

PyObject *
tw_transport_meth_is_closing(PyObject *self, PyObject *unused)
{
    TwTransport *base = (TwTransport *)self;

    if (tw_hold_flush(base) < 0) {
        return NULL;
    }
    return PyBool_FromLong(base->flags & TW_F_CLOSING);
}

const char tw_transport_doc_get_protocol[] = PyDoc_STR(
"get_protocol($self, /)\n--\n\n"
"The current protocol; None when the connection is lost.\n\n"
"See library/asyncio-protocol.");

PyObject *
tw_transport_meth_get_protocol(PyObject *self, PyObject *unused)
{
    PyObject *protocol = ((TwTransport *)self)->protocol;

    return Py_NewRef(protocol ? protocol : Py_None);
}

const char tw_transport_doc_set_protocol[] = PyDoc_STR(
"set_protocol($self, /, protocol)\n--\n\n"
"Call this protocol from now on; its connection_made() is not called.\n\n"
"See library/asyncio-protocol.");

PyObject *
tw_transport_meth_set_protocol(PyObject *self, PyObject *const *args,
                               Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *protocol =
        tw_args_one("set_protocol", "protocol", args, nargs, kwnames);

    if (protocol == NULL || tw_hold_flush((TwTransport *)self) < 0) {
        return NULL;
    }
    tw_transport_set_protocol((TwTransport *)self, protocol);
    Py_RETURN_NONE;
}

const char tw_transport_doc_get_extra_info[] = PyDoc_STR(
"get_extra_info($self, /, name, default=None)\n--\n\n"
"What is known of the connection: 'socket', 'sockname', 'peername',\n"
"'pipe'...; `default` for a name that is not.  See library/asyncio-protocol.");

PyObject *
tw_transport_meth_get_extra_info(PyObject *self, PyObject *const *args,
                                 Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"name", "default"};
    static const TwArgs spec = {"get_extra_info", names, 1, 2};
    PyObject *given[2];

    if (tw_args_bind(&spec, args, nargs, kwnames, given) < 0
        || tw_hold_flush((TwTransport *)self) < 0) {
        return NULL;
    }
    return tw_transport_extra_info((TwTransport *)self, given[0],
                                   given[1] ? given[1] : Py_None);
}

/* The TransportSocket's: send what is held, and hold nothing any more if the
   program got the descriptor itself. */
PyObject *
tw_transport_meth_flush_held(PyObject *op, PyObject *shared)
{
    TwTransport *self = (TwTransport *)op;

    if ((shared == Py_True ? tw_hold_share(self) : tw_hold_flush(self)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* -- write limits --------------------------------------------------------- */

const char tw_transport_doc_get_write_buffer_size[] = PyDoc_STR(
"get_write_buffer_size($self, /)\n--\n\n"
"Bytes that wait to be sent.  See library/asyncio-protocol.");

PyObject *
tw_transport_meth_get_write_buffer_size(PyObject *op, PyObject *unused)
{
    TwTransport *self = (TwTransport *)op;

    if (tw_hold_flush(self) < 0) {
        return NULL;
    }
    return PyLong_FromSize_t(self->ops->buffer_size(self));
}

const char tw_transport_doc_get_write_buffer_limits[] = PyDoc_STR(
"get_write_buffer_limits($self, /)\n--\n\n"
"(low, high): the marks of write flow control, in bytes.\n\n"
"See library/asyncio-protocol.");

PyObject *
tw_transport_meth_get_write_buffer_limits(PyObject *op, PyObject *unused)
{
    TwTransport *self = (TwTransport *)op;

    return Py_BuildValue("(nn)", (Py_ssize_t)self->low,
                         (Py_ssize_t)self->high);
}

const char tw_transport_doc_set_write_buffer_limits[] = PyDoc_STR(
"set_write_buffer_limits($self, /, high=None, low=None)\n--\n\n"
"Set the marks of write flow control, in bytes.  With low alone high is\n"
"4*low, with high alone low is high//4.  ValueError unless\n"
"high >= low >= 0.  See library/asyncio-protocol.");

/* A number of bytes; one that is too large for C is as good as no limit. */
static tw_status
limit_from_python(PyObject *obj, Py_ssize_t *out)
{
    PyObject *number;
    int overflow;

    if (!PyNumber_Check(obj)) {
        PyErr_Format(PyExc_TypeError,
                     "'>=' not supported between instances of '%.200s' and "
                     "'int'",
                     Py_TYPE(obj)->tp_name);
        return -1;
    }
    number = PyNumber_Long(obj);
    if (number == NULL) {
        return -1;
    }
    *out = (Py_ssize_t)PyLong_AsLongLongAndOverflow(number, &overflow);
    Py_DECREF(number);
    if (overflow) {
        *out = overflow > 0 ? PY_SSIZE_T_MAX : -1;
    }
    return *out == -1 && PyErr_Occurred() ? -1 : 0;
}

tw_status
tw_transport_limits(PyObject *const given[2], Py_ssize_t dflt, size_t *high,
                    size_t *low)
{
    bool has_high = given[0] != NULL && given[0] != Py_None;
    bool has_low = given[1] != NULL && given[1] != Py_None;
    Py_ssize_t most = 0, least = 0;

    if ((has_high && limit_from_python(given[0], &most) < 0)
        || (has_low && limit_from_python(given[1], &least) < 0)) {
        return -1;
    }
    if (!has_high) {
        most = !has_low                     ? dflt
               : least > PY_SSIZE_T_MAX / 4 ? PY_SSIZE_T_MAX
               : least < PY_SSIZE_T_MIN / 4 ? PY_SSIZE_T_MIN
                                            : 4 * least;
    }
    if (!has_low) {
        least = most >> 2; /* rounded down, as // does */
    }
    if (!(most >= least && least >= 0)) {
        PyErr_Format(PyExc_ValueError,
                     "high (%zd) must be >= low (%zd) must be >= 0", most,
                     least);
        return -1;
    }
    *high = (size_t)most;
    *low = (size_t)least;
    return 0;
}

PyObject *
tw_transport_meth_set_write_buffer_limits(PyObject *op, PyObject *const *args,
                                          Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"high", "low"};
    static const TwArgs spec = {"set_write_buffer_limits", names, 0, 2};
    TwTransport *self = (TwTransport *)op;
    PyObject *given[2];
    size_t high, low;

    if (tw_args_bind(&spec, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    if (tw_transport_limits(given, 64 * 1024, &high, &low) < 0) {
        return NULL;
    }
    if (tw_hold_flush(self) < 0) {
        return NULL;
    }
    self->high = high;
    self->low = low;
    if (tw_transport_maybe_pause(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}
