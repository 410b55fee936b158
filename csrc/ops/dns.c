#include "ops/dns.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>

#include "base/addr.h"
#include "base/sys.h"

/* These flags change nothing for an address and a number. */
#define DNS_FLAGS (AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV)
#define DNS_MAX_DIGITS 5

typedef struct {
    TwAddr addr;
    const char *canonical;      /* borrowed, or NULL */
    int family, type, proto, flags;
} DnsQuestion;

typedef struct {
    int type, proto;
} DnsKind;

/* What an address can be used for, in the C library's order.  Other libraries
   than glibc leave out the raw one; there the library is asked. */
static const DnsKind dns_kinds[] = {
    {SOCK_STREAM, IPPROTO_TCP},
    {SOCK_DGRAM, IPPROTO_UDP},
    {SOCK_RAW, 0},
};

/* The numbers of state->dns: two families, three types. */
static const int dns_numbers[] = {AF_INET, AF_INET6, SOCK_STREAM, SOCK_DGRAM,
                                  SOCK_RAW};

/* -- arguments ------------------------------------------------------------ */

const char *
tw_dns_text(PyObject *obj, Py_ssize_t *n)
{
    if (PyUnicode_CheckExact(obj) && PyUnicode_IS_COMPACT_ASCII(obj)) {
        *n = PyUnicode_GET_LENGTH(obj);
        return (const char *)PyUnicode_1BYTE_DATA(obj);
    }
    if (PyBytes_CheckExact(obj)) {
        *n = PyBytes_GET_SIZE(obj);
        return PyBytes_AS_STRING(obj);
    }
    return NULL;
}

bool
tw_dns_literal(PyObject *obj, TwAddr *addr)
{
    struct sockaddr_in *sin = (struct sockaddr_in *)(void *)&addr->u;
    struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)(void *)&addr->u;
    Py_ssize_t n;
    const char *text = tw_dns_text(obj, &n);
    struct in_addr v4;          /* musl writes to it before it fails */

    if (text == NULL || (size_t)n != strlen(text)) {
        return false;
    }
    if (inet_pton(AF_INET, text, &v4) == 1) {
        sin->sin_family = AF_INET;
        sin->sin_addr = v4;
        addr->len = sizeof(*sin);
        return true;
    }
    sin6->sin6_family = AF_INET6;
    addr->len = sizeof(*sin6);
    return inet_pton(AF_INET6, text, &sin6->sin6_addr) == 1;
}

long
tw_dns_port(PyObject *obj)
{
    const char *text;
    long port = 0;
    Py_ssize_t n;

    if (obj == Py_None) {
        return 0;
    }
    if (PyLong_CheckExact(obj)) {
        int overflow;
        port = PyLong_AsLongAndOverflow(obj, &overflow);
        return port > 65535 ? -1 : port;
    }
    text = tw_dns_text(obj, &n);
    if (text == NULL || n < 1 || n > DNS_MAX_DIGITS) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return -1;
        }
        port = 10 * port + (text[i] - '0');
    }
    return port > 65535 ? -1 : port;
}

int
tw_dns_number(PyObject *obj)
{
    int overflow;
    long value;

    if (!PyLong_Check(obj)) {
        return -1;
    }
    value = PyLong_AsLongAndOverflow(obj, &overflow);
    return overflow || value < 0 || value > INT_MAX ? -1 : (int)value;
}

/* Can the question be answered here? */
static bool
dns_read(DnsQuestion *q, PyObject *const *args)
{
    long port = tw_dns_port(args[1]);
    Py_ssize_t n;

    q->canonical = TW_HAVE_MUSL_NAMES ? tw_dns_text(args[0], &n) : NULL;
    memset(&q->addr, 0, sizeof(q->addr));
    q->family = tw_dns_number(args[2]);
    q->type = tw_dns_number(args[3]);
    q->proto = tw_dns_number(args[4]);
    q->flags = tw_dns_number(args[5]);
    if (port < 0 || q->family < 0 || q->type < 0 || q->proto < 0
        || q->flags < 0 || q->flags & ~DNS_FLAGS
        || !tw_dns_literal(args[0], &q->addr)) {
        return false;
    }
    /* The port is at the same place in both. */
    ((struct sockaddr_in *)(void *)&q->addr.u)->sin_port =
        htons((uint16_t)port);
    return q->family == AF_UNSPEC || q->family == q->addr.u.any.sa_family;
}

/* -- the result ----------------------------------------------------------- */

static bool
dns_kind_fits(const DnsQuestion *q, const DnsKind *kind)
{
    return (q->type == 0 || q->type == kind->type)
           && (q->proto == 0 || q->proto == kind->proto);
}

/* Which of dns_kinds, as bits.  0: ask the C library. */
static unsigned
dns_choose(const DnsQuestion *q)
{
    unsigned chosen = 0;

    for (size_t i = 0; i < Py_ARRAY_LENGTH(dns_kinds); i++) {
        if (dns_kind_fits(q, &dns_kinds[i])) {
            chosen |= 1u << i;
        }
    }
    if (TW_HAVE_GLIBC_ORDER && chosen == 7) {
        return chosen;
    }
    return chosen == 1 || chosen == 2 ? chosen : 0;
}

/* The member of an enum (they are in state->dns), or the number. */
static PyObject *
dns_member(tw_state *state, int number, const char *name, Py_ssize_t first,
           Py_ssize_t end)
{
    PyObject *argv[1], *member;

    for (Py_ssize_t i = first; i < end; i++) {
        if (dns_numbers[i] == number) {
            return Py_NewRef(PyTuple_GET_ITEM(state->dns, i));
        }
    }
    argv[0] = PyLong_FromLong(number);
    member = argv[0] ? tw_seam_call(state, name, argv, 1) : NULL;
    Py_XDECREF(argv[0]);
    return member;
}

/* For an unknown family the socket module returns the bytes. */
static PyObject *
dns_address(const struct sockaddr *sa, socklen_t len)
{
    PyObject *address = tw_addr_to_python(sa, len);

    if (address == NULL && !PyErr_Occurred()) {
        address = Py_BuildValue(
            "iy#", sa->sa_family, sa->sa_data,
            (Py_ssize_t)(len - offsetof(struct sockaddr, sa_data)));
    }
    return address;
}

static PyObject *
dns_entry(tw_state *state, const struct addrinfo *info)
{
    const char *canon = info->ai_canonname ? info->ai_canonname : "";
    PyObject *entry = PyTuple_New(5);
    PyObject *items[5] = {0};
    int n = 0;

    if (entry != NULL
        && (items[n++] = dns_member(state, info->ai_family, "address_family",
                                    0, 2))
        && (items[n++] = dns_member(state, info->ai_socktype, "socket_kind",
                                    2, 5))
        && (items[n++] = PyLong_FromLong(info->ai_protocol))
        && (items[n++] = PyUnicode_FromString(canon))) {
        items[n++] = dns_address(info->ai_addr, info->ai_addrlen);
    }
    if (items[4] == NULL) {
        Py_CLEAR(entry);
    }
    for (int i = 0; i < 5; i++) {
        if (entry != NULL) {
            PyTuple_SET_ITEM(entry, i, items[i]);
        }
        else {
            Py_XDECREF(items[i]);
        }
    }
    return entry;
}

tw_status
tw_dns_append(tw_state *state, PyObject *list, const struct addrinfo *info)
{
    PyObject *entry = dns_entry(state, info);
    tw_status status = entry == NULL ? -1 : PyList_Append(list, entry);

    Py_XDECREF(entry);
    return status;
}

static PyObject *
dns_make_result(tw_state *state, DnsQuestion *q, unsigned chosen)
{
    struct addrinfo info = {
        .ai_family = q->addr.u.any.sa_family,
        .ai_addr = &q->addr.u.any,
        .ai_addrlen = q->addr.len,
        .ai_canonname = (char *)q->canonical,
    };
    PyObject *list = PyList_New(0);

    for (size_t i = 0; list && i < Py_ARRAY_LENGTH(dns_kinds); i++) {
        info.ai_socktype = dns_kinds[i].type;
        info.ai_protocol = dns_kinds[i].proto;
        if (chosen & 1u << i && tw_dns_append(state, list, &info) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

/* loop._literal_addresses(host, port, family, type, proto, flags): a list as
   socket.getaddrinfo() makes it.  None: call socket.getaddrinfo() (also for
   the exceptions, in debug mode, and when the loop is closed). */
static PyObject *
dns_loop_literal_addresses(PyObject *op, PyObject *const *args,
                           Py_ssize_t nargs)
{
    TwLoop *loop = (TwLoop *)op;
    DnsQuestion q;
    unsigned chosen;

    if (nargs != 6) {
        PyErr_SetString(PyExc_TypeError,
                        "_literal_addresses() takes 6 arguments");
        return NULL;
    }
    if (loop->debug || loop->closed || !dns_read(&q, args)) {
        Py_RETURN_NONE;
    }
    chosen = dns_choose(&q);
    if (chosen == 0) {
        Py_RETURN_NONE;
    }
    if (PySys_Audit("socket.getaddrinfo", "OOiii", args[0], args[1],
                    q.family, q.type, q.proto)
        < 0) {
        return NULL;
    }
    return dns_make_result(loop->state, &q, chosen);
}

/* -- set-up --------------------------------------------------------------- */

/* The objects that socket.getaddrinfo() returns and raises: members of enums,
   in the order of dns_numbers, and its own exception. */
tw_status
tw_dns_setup(tw_state *state, PyObject *Py_UNUSED(module))
{
    static const char *const names[] = {
        "AF_INET",    "AF_INET6", "SOCK_STREAM",
        "SOCK_DGRAM", "SOCK_RAW", "gaierror",
    };
    const Py_ssize_t n = Py_ARRAY_LENGTH(names);

    state->dns = PyTuple_New(n);
    for (Py_ssize_t i = 0; state->dns != NULL && i < n; i++) {
        PyObject *member = tw_state_import("socket", names[i]);
        if (member == NULL) {
            return -1;
        }
        PyTuple_SET_ITEM(state->dns, i, member);
    }
    return state->dns == NULL ? -1 : 0;
}

PyMethodDef tw_dns_loop_methods[] = {
    {"_literal_addresses", TW_FAST(dns_loop_literal_addresses), METH_FASTCALL,
     NULL},
    {NULL},
};
