/* base/addr: addresses from Python and to Python.

   unwind: 12
   small: csrc/base/addr.c: sizeof(sun->sun_path) ==> (size_t)8 */
#include "base/addr.c"

/* The C library's: any answer, any text that fits. */
const char *
inet_ntop(int family, const void *address, char *text, socklen_t size)
{
    socklen_t most = family == AF_INET ? INET_ADDRSTRLEN : INET6_ADDRSTRLEN;

    assert(size >= most && __CPROVER_w_ok(text, most));
    assert(__CPROVER_r_ok(address, family == AF_INET ? 4 : 16));
    text[0] = '\0';
    return text;
}

int
inet_pton(int family, const char *text, void *address)
{
    assert(__CPROVER_r_ok(text, 1));
    assert(__CPROVER_w_ok(address, family == AF_INET ? 4 : 16));
    return nondet_int() ? 1 : 0;
}

size_t
strnlen(const char *text, size_t most)
{
    size_t n = 0;

    stub_reads(text, most);
    while (n < most && text[n] != '\0') {
        n++;
    }
    return n;
}

/* Any object: of a type that an address may have, or another. */
static PyObject *
any_object(Py_ssize_t longest)
{
    PyObject *op = stub_text(STUB_OTHER, longest);

    op->kind = (StubKind)nondet_int();
    __CPROVER_assume(op->kind >= STUB_OTHER && op->kind <= STUB_INT);
    op->too_large = nondet_int() != 0;
    return op;
}

static PyObject *
any_tuple(Py_ssize_t n)
{
    PyObject *op = stub_new(STUB_TUPLE);

    __CPROVER_assume(op != NULL);
    op->size = n;
    op->items = malloc((size_t)n * sizeof(PyObject *));
    __CPROVER_assume(op->items != NULL);
    for (Py_ssize_t i = 0; i < n; i++) {
        op->items[i] = any_object(2);
    }
    return op;
}

static void
release(PyObject *op)
{
    Py_ssize_t n = op->kind == STUB_TUPLE ? op->size : 0;

    for (Py_ssize_t i = 0; i < n; i++) {
        Py_DECREF(op->items[i]);
    }
    Py_DECREF(op);
}

static bool
is_int(PyObject *op, long long max)
{
    return op->kind == STUB_INT && !op->too_large && op->value >= 0
           && op->value <= max;
}

static bool
is_host(PyObject *op)
{
    return op->kind == STUB_STR && op->ascii
           && strlen(op->text) == (size_t)op->size;
}

/* proof: inet: only (host, port) with a port of 16 bits is taken, and no
   exception is left.
   broken: csrc/base/addr.c: PyTuple_GET_SIZE(obj) != 2 ==> PyTuple_GET_SIZE(obj) > 2
   broken: csrc/base/addr.c: return value > max ? -1 : value; ==> return value; */
static void
inet_of(Py_ssize_t n)
{
    PyObject *obj = n < 0 ? any_object(2) : any_tuple(n);
    TwAddr out;
    int known = tw_addr_from_python(AF_INET, obj, &out);
    const struct sockaddr_in *sin = (void *)&out.u;

    assert(known == 0 || known == 1);
    assert(stub_error == STUB_FINE);
    if (known) {
        assert(n == 2 && is_host(obj->items[0])
               && is_int(obj->items[1], 65535));
        assert(out.len == sizeof(*sin) && sin->sin_family == AF_INET);
        assert(ntohs(sin->sin_port) == obj->items[1]->value);
    }
    release(obj);
}

void
inet(void)
{
    STUB_CASE(inet_of(-1));
    STUB_CASE(inet_of(0));
    STUB_CASE(inet_of(1));
    STUB_CASE(inet_of(2));
    STUB_CASE(inet_of(3));
}

/* proof: inet6: the same for two to four items, within their bounds.
   broken: csrc/base/addr.c: n < 2 || n > 4 ==> n > 4
   broken: csrc/base/addr.c: flow < 0 || scope < 0 ==> scope < 0 */
static void
inet6_of(Py_ssize_t n)
{
    PyObject *obj = n < 0 ? any_object(2) : any_tuple(n);
    TwAddr out;
    int known = tw_addr_from_python(AF_INET6, obj, &out);
    const struct sockaddr_in6 *sin6 = (void *)&out.u;

    assert(known == 0 || known == 1);
    assert(stub_error == STUB_FINE);
    if (known) {
        assert(n >= 2 && n <= 4 && is_host(obj->items[0])
               && is_int(obj->items[1], 65535));
        assert(out.len == sizeof(*sin6) && sin6->sin6_family == AF_INET6);
        assert(ntohs(sin6->sin6_port) == obj->items[1]->value);
        assert(n < 3 || (is_int(obj->items[2], 0xfffff)
                         && ntohl(sin6->sin6_flowinfo)
                                == obj->items[2]->value));
        assert(n < 4 || (is_int(obj->items[3], UINT32_MAX)
                         && sin6->sin6_scope_id == obj->items[3]->value));
    }
    release(obj);
}

void
inet6(void)
{
    STUB_CASE(inet6_of(-1));
    STUB_CASE(inet6_of(1));
    STUB_CASE(inet6_of(2));
    STUB_CASE(inet6_of(3));
    STUB_CASE(inet6_of(4));
    STUB_CASE(inet6_of(5));
}

/* proof: unix_there_and_back: what is taken fits with its NUL, and comes back
   as it was, abstract or not.
   broken: csrc/base/addr.c: (abstract ? 0 : 1) > (size_t)8 ==> 0 > (size_t)8
   broken: csrc/base/addr.c: (size_t)n\n                           + (abstract ? 0 : 1)); ==> (size_t)n); */
void
unix_there_and_back(void)
{
    PyObject *obj = any_object(9);
    TwAddr out;
    int known = tw_addr_from_python(AF_UNIX, obj, &out);
    const struct sockaddr_un *sun = (void *)&out.u;
    size_t head = offsetof(struct sockaddr_un, sun_path), n, i;

    assert(stub_error == STUB_FINE);
    if (known) {
        bool abstract = obj->text[0] == '\0';
        n = (size_t)obj->size;
        assert(obj->kind == STUB_BYTES
               || (obj->kind == STUB_STR && obj->ascii));
        assert(n > 0 && out.len == head + n + !abstract
               && out.len <= head + 8);
        assert(abstract || sun->sun_path[n] == '\0');
        /* A C string ends at its first NUL. */
        size_t seen = abstract ? n : strnlen(obj->text, n);
        PyObject *back = tw_addr_to_python(&out.u.any, out.len);
        if (back != NULL) {
            assert(back->kind == (abstract ? STUB_BYTES : STUB_STR));
            assert((size_t)back->size == seen);
            __CPROVER_assume(i < seen);
            assert(back->text[i] == obj->text[i]);
            Py_DECREF(back);
        }
    }
    release(obj);
}

/* proof: to_python: reads no byte behind `len`, for any address of the
   kernel's; leaves no exception but MemoryError.
   unwind: 28
   broken: csrc/base/addr.c: strnlen(sun->sun_path, room) ==> strnlen(sun->sun_path, room + 1)
   broken: csrc/base/addr.c: PyBytes_FromStringAndSize(sun->sun_path, (Py_ssize_t)room) ==> PyBytes_FromStringAndSize(sun->sun_path, (Py_ssize_t)len) */
static void
to_python_of(socklen_t len)
{
    struct sockaddr_storage storage;
    struct sockaddr *sa = (struct sockaddr *)(void *)&storage;
    PyObject *op;

    stub_end = (const char *)sa + len;
    __CPROVER_assume(sa->sa_family != AF_INET
                     || len >= sizeof(struct sockaddr_in));
    __CPROVER_assume(sa->sa_family != AF_INET6
                     || len >= sizeof(struct sockaddr_in6));
    op = tw_addr_to_python(sa, len);
    assert(op != NULL || stub_error == STUB_MEMORY_ERROR
           || (sa->sa_family != AF_INET && sa->sa_family != AF_INET6
               && sa->sa_family != AF_UNIX));
    if (op != NULL) {
        Py_DECREF(op);
    }
    stub_end = NULL;
}

void
to_python(void)
{
    STUB_CASE(to_python_of(2));
    STUB_CASE(to_python_of(3));
    STUB_CASE(to_python_of(8));
    STUB_CASE(to_python_of(sizeof(struct sockaddr_in)));
    STUB_CASE(to_python_of(sizeof(struct sockaddr_in6)));
    assert(tw_addr_to_python(NULL, 0) == Py_None);
}
