#include "base/addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

#include "base/sys.h"

static PyObject *
addr_inet_to_python(const struct sockaddr_in *sin)
{
    char host[INET_ADDRSTRLEN];

    inet_ntop(AF_INET, &sin->sin_addr, host, sizeof(host));
    return Py_BuildValue("(si)", host, ntohs(sin->sin_port));
}

static PyObject *
addr_inet6_to_python(const struct sockaddr_in6 *sin6)
{
    char host[INET6_ADDRSTRLEN];

    inet_ntop(AF_INET6, &sin6->sin6_addr, host, sizeof(host));
    return Py_BuildValue("(siII)", host, ntohs(sin6->sin6_port),
                         ntohl(sin6->sin6_flowinfo), sin6->sin6_scope_id);
}

static PyObject *
addr_unix_to_python(const struct sockaddr_un *sun, socklen_t len)
{
    size_t room = len - offsetof(struct sockaddr_un, sun_path);

    if (len <= offsetof(struct sockaddr_un, sun_path)) {
        return PyUnicode_FromString("");
    }
    if (TW_HAVE_ABSTRACT_NAMES && sun->sun_path[0] == '\0') {
        return PyBytes_FromStringAndSize(sun->sun_path, (Py_ssize_t)room);
    }
    return PyUnicode_DecodeFSDefaultAndSize(
        sun->sun_path, (Py_ssize_t)strnlen(sun->sun_path, room));
}

PyObject *
tw_addr_to_python(const struct sockaddr *sa, socklen_t len)
{
    if (len == 0) {
        Py_RETURN_NONE;
    }
    switch (sa->sa_family) {
    case AF_INET:
        return addr_inet_to_python(
            (const struct sockaddr_in *)(const void *)sa);
    case AF_INET6:
        return addr_inet6_to_python(
            (const struct sockaddr_in6 *)(const void *)sa);
    case AF_UNIX:
        return addr_unix_to_python(
            (const struct sockaddr_un *)(const void *)sa, len);
    default:
        return NULL;
    }
}

/* An integer item of a tuple within 0..max, or -1 (no exception). */
static int64_t
addr_item_uint(PyObject *tuple, Py_ssize_t i, int64_t max)
{
    PyObject *item = PyTuple_GET_ITEM(tuple, i);
    int64_t value;

    if (!PyLong_CheckExact(item)) {
        return -1;
    }
    value = PyLong_AsLongLong(item);
    if (value == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        return -1;
    }
    return value > max ? -1 : value;
}

/* The text of a host, or NULL if it contains a NUL: C would stop there. */
static const char *
addr_item_host(PyObject *tuple)
{
    PyObject *item = PyTuple_GET_ITEM(tuple, 0);
    const char *host;

    if (!PyUnicode_CheckExact(item) || !PyUnicode_IS_ASCII(item)) {
        return NULL;
    }
    host = (const char *)PyUnicode_1BYTE_DATA(item);
    return strlen(host) == (size_t)PyUnicode_GET_LENGTH(item) ? host : NULL;
}

static int
addr_inet_from_python(PyObject *obj, TwAddr *out)
{
    struct sockaddr_in *sin = (struct sockaddr_in *)(void *)&out->u;
    const char *host;
    int64_t port;

    if (!PyTuple_CheckExact(obj) || PyTuple_GET_SIZE(obj) != 2) {
        return 0;
    }
    host = addr_item_host(obj);
    port = addr_item_uint(obj, 1, 65535);
    if (host == NULL || port < 0
        || inet_pton(AF_INET, host, &sin->sin_addr) != 1) {
        return 0;
    }
    sin->sin_family = AF_INET;
    sin->sin_port = htons((uint16_t)port);
    out->len = sizeof(*sin);
    return 1;
}

static int
addr_inet6_from_python(PyObject *obj, TwAddr *out)
{
    struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)(void *)&out->u;
    const char *host;
    int64_t port, flow = 0, scope = 0;
    Py_ssize_t n;

    if (!PyTuple_CheckExact(obj)) {
        return 0;
    }
    n = PyTuple_GET_SIZE(obj);
    if (n < 2 || n > 4) {
        return 0;
    }
    host = addr_item_host(obj);
    port = addr_item_uint(obj, 1, 65535);
    flow = n > 2 ? addr_item_uint(obj, 2, 0xfffff) : 0;
    scope = n > 3 ? addr_item_uint(obj, 3, UINT32_MAX) : 0;
    if (host == NULL || port < 0 || flow < 0 || scope < 0
        || inet_pton(AF_INET6, host, &sin6->sin6_addr) != 1) {
        return 0;
    }
    sin6->sin6_family = AF_INET6;
    sin6->sin6_port = htons((uint16_t)port);
    sin6->sin6_flowinfo = htonl((uint32_t)flow);
    sin6->sin6_scope_id = (uint32_t)scope;
    out->len = sizeof(*sin6);
    return 1;
}

static int
addr_unix_from_python(PyObject *obj, TwAddr *out)
{
    struct sockaddr_un *sun = (struct sockaddr_un *)(void *)&out->u;
    const char *path;
    Py_ssize_t n;
    bool abstract;

    if (PyUnicode_CheckExact(obj) && PyUnicode_IS_ASCII(obj)) {
        path = (const char *)PyUnicode_1BYTE_DATA(obj);
        n = PyUnicode_GET_LENGTH(obj);
    }
    else if (PyBytes_CheckExact(obj)) {
        path = PyBytes_AS_STRING(obj);
        n = PyBytes_GET_SIZE(obj);
    }
    else {
        return 0;
    }
    abstract = n > 0 && path[0] == '\0';
    if (n == 0 || (abstract && !TW_HAVE_ABSTRACT_NAMES)
        || (size_t)n + (abstract ? 0 : 1) > sizeof(sun->sun_path)) {
        return 0;
    }
    sun->sun_family = AF_UNIX;
    memcpy(sun->sun_path, path, (size_t)n);
    out->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n
                           + (abstract ? 0 : 1));
    if (!abstract) {
        sun->sun_path[n] = '\0';
    }
    return 1;
}

int
tw_addr_from_python(int family, PyObject *obj, TwAddr *out)
{
    int known = 0;

    memset(out, 0, sizeof(*out));
    switch (family) {
    case AF_INET:
        known = addr_inet_from_python(obj, out);
        break;
    case AF_INET6:
        known = addr_inet6_from_python(obj, out);
        break;
    case AF_UNIX:
        known = addr_unix_from_python(obj, out);
    }
    if (known == 1) {
        tw_sys_set_addr_len(&out->u.any, out->len);
    }
    return known;
}
