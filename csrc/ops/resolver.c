#include "ops/resolver.h"

#include <errno.h>
#include <netinet/in.h>

#include "base/clock.h"
#include "base/compat.h"
#include "base/errno.h"
#include "core/call.h"
#include "core/future.h"
#include "core/wakeup.h"
#include "ops/dns.h"
#include "ops/lookup.h"

/* The socket module refuses longer names. */
#define RESOLVER_MAX_HOST 255
#define RESOLVER_MAX_LABEL 63
#define RESOLVER_MAX_SERVICE 63
#define RESOLVER_MAX_FLOWINFO 0xfffff

typedef struct {
    PyObject_HEAD
    TwLoop *loop;       /* strong */
    TwLookups *pool;    /* ours or NULL: see lookup.h */
    TwLookup *asked;    /* all that have a future, the oldest first ... */
    TwLookup *newest;   /* ... and the last of them */
    TwLookup *answers;  /* those that are done and not yet reported */
} TwResolver;

/* -- open ----------------------------------------------------------------- */

static tw_status resolver_deliver(TwLoop *loop);

/* The loop's resolver, borrowed; or NULL, without an exception: use the
   executor. */
static TwResolver *
resolver_of(TwLoop *loop)
{
    PyTypeObject *type = loop->state->resolver_type;
    TwResolver *self = (TwResolver *)loop->resolver;

    if (loop->debug || loop->closed || loop->forked) {
        return NULL;
    }
    if (TW_LIKELY(self != NULL)) {
        return self;
    }
    self = (TwResolver *)type->tp_alloc(type, 0);
    if (self == NULL) {
        PyErr_Clear();
        return NULL;
    }
    self->loop = (TwLoop *)Py_NewRef((PyObject *)loop);
    self->pool = tw_lookups_open(loop->wake_write);
    if (self->pool == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    loop->deliver_lookups = resolver_deliver;
    loop->resolver = (PyObject *)self;
    return self;
}

/* -- lookups under way ---------------------------------------------------- */

static void
resolver_link(TwResolver *self, TwLookup *lookup)
{
    lookup->older = self->newest;
    *(self->newest ? &self->newest->newer : &self->asked) = lookup;
    self->newest = lookup;
}

static void
resolver_unlink(TwResolver *self, TwLookup *lookup)
{
    *(lookup->older ? &lookup->older->newer : &self->asked) = lookup->newer;
    *(lookup->newer ? &lookup->newer->older : &self->newest) = lookup->older;
}

/* It is done, or withdrawn. */
static void
resolver_count(TwLoop *loop, const TwLookup *lookup)
{
    loop->stats.lookups_done++;
    loop->stats.lookups_ns += tw_now_ns() - lookup->asked;
}

/* Queue it.  Its future, or None if no thread can be started. */
static PyObject *
resolver_ask_steal(TwResolver *self, TwLookup *lookup)
{
    PyObject *future = tw_loop_new_future(self->loop);

    if (future == NULL) {
        tw_lookup_free(lookup);
        return NULL;
    }
    if (!tw_lookups_ask(self->pool, lookup)) {
        tw_lookup_free(lookup);
        Py_DECREF(future);
        Py_RETURN_NONE;
    }
    lookup->future = Py_NewRef(future);
    lookup->asked = tw_now_ns();
    self->loop->stats.lookups++;
    resolver_link(self, lookup);
    return future;
}

/* loop._abandon_lookup(future): nobody waits for it any longer. */
static PyObject *
resolver_loop_abandon(PyObject *op, PyObject *future)
{
    TwLoop *loop = (TwLoop *)op;
    TwResolver *self = (TwResolver *)loop->resolver;
    TwLookup *lookup = self == NULL || loop->forked ? NULL : self->asked;

    /* Many are abandoned in the order in which they were asked. */
    while (lookup != NULL && lookup->future != future) {
        lookup = lookup->newer;
    }
    if (lookup != NULL && tw_lookups_withdraw(self->pool, lookup)) {
        resolver_unlink(self, lookup);
        resolver_count(loop, lookup);
        Py_CLEAR(lookup->future);
        tw_lookup_free(lookup);
    }
    Py_RETURN_NONE;
}

/* loop._lookups_waiting(): how many no thread has begun. */
static PyObject *
resolver_loop_waiting(PyObject *op, PyObject *unused)
{
    TwLoop *loop = (TwLoop *)op;
    TwResolver *self = (TwResolver *)loop->resolver;

    return PyLong_FromLong(self == NULL || loop->forked
                               ? 0
                               : tw_lookups_waiting(self->pool));
}

/* -- getaddrinfo's arguments ---------------------------------------------- */

/* Text that the idna codec does not change: ASCII in labels of 1 to 63
   characters, the last of which may be empty. */
static bool
resolver_labels_fit(const char *text, Py_ssize_t n)
{
    Py_ssize_t label = 0;

    for (Py_ssize_t i = 0; i < n; i++) {
        if (text[i] != '.') {
            label++;
        }
        else if (label == 0) {
            return false;
        }
        else {
            label = 0;
        }
        if (label > RESOLVER_MAX_LABEL) {
            return false;
        }
    }
    return true;
}

typedef struct {
    const char *text; /* NULL: None */
    Py_ssize_t n;
} ResolverText;

/* A str or bytes that is also a C string, of at most `max` characters; or
   None. */
static bool
resolver_read_text(ResolverText *out, PyObject *obj, Py_ssize_t max)
{
    out->text = NULL;
    out->n = 0;
    if (obj == Py_None) {
        return true;
    }
    out->text = tw_dns_text(obj, &out->n);
    return out->text != NULL && out->n <= max
           && strlen(out->text) == (size_t)out->n;
}

static bool
resolver_read_host(ResolverText *out, PyObject *obj)
{
    return resolver_read_text(out, obj, RESOLVER_MAX_HOST)
           && (!PyUnicode_Check(obj)
               || resolver_labels_fit(out->text, out->n));
}

/* `digits` has room for those of a number. */
static bool
resolver_read_service(ResolverText *out, PyObject *obj, char *digits,
                      size_t size)
{
    if (!PyLong_CheckExact(obj)) {
        return resolver_read_text(out, obj, RESOLVER_MAX_SERVICE);
    }
    out->text = digits;
    out->n = PyOS_snprintf(digits, size, "%ld", tw_dns_port(obj));
    return digits[0] != '-';
}

static bool
resolver_read_hints(struct addrinfo *hints, PyObject *const *args)
{
    hints->ai_family = tw_dns_number(args[0]);
    hints->ai_socktype = tw_dns_number(args[1]);
    hints->ai_protocol = tw_dns_number(args[2]);
    hints->ai_flags = tw_dns_number(args[3]);
    return hints->ai_family >= 0 && hints->ai_socktype >= 0
           && hints->ai_protocol >= 0 && hints->ai_flags >= 0;
}

/* The lookup has room for both.  Returns its copy of the text, or NULL. */
static const char *
resolver_copy(char **room, const ResolverText *text)
{
    char *copy = *room;

    if (text->text == NULL) {
        return NULL;
    }
    memcpy(copy, text->text, (size_t)text->n);
    *room += text->n + 1;
    return copy;
}

/* 1: done; 0: ask the executor instead; -1: MemoryError. */
static int
resolver_read(TwLookup **lookup, PyObject *const *args)
{
    ResolverText host, service;
    struct addrinfo hints = {0};
    char digits[24], *room;

    if (!resolver_read_host(&host, args[0])
        || !resolver_read_service(&service, args[1], digits, sizeof(digits))
        || !resolver_read_hints(&hints, args + 2)) {
        return 0;
    }
    *lookup = tw_lookup_new((size_t)(host.n + service.n) + 2);
    if (*lookup == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    room = (*lookup)->text;
    (*lookup)->hints = hints;
    (*lookup)->host = resolver_copy(&room, &host);
    (*lookup)->service = resolver_copy(&room, &service);
    return 1;
}

/* loop._look_up_name(host, port, family, type, proto, flags): a future of the
   list that socket.getaddrinfo() returns.  None: ask the executor. */
static PyObject *
resolver_loop_look_up_name(PyObject *op, PyObject *const *args,
                           Py_ssize_t nargs)
{
    TwResolver *self = resolver_of((TwLoop *)op);
    TwLookup *lookup = NULL;
    int usual;

    if (nargs != 6) {
        PyErr_SetString(PyExc_TypeError, "_look_up_name() takes 6 arguments");
        return NULL;
    }
    usual = self == NULL ? 0 : resolver_read(&lookup, args);
    if (usual == 0) {
        Py_RETURN_NONE;
    }
    if (usual < 0) {
        return NULL;
    }
    if (PySys_Audit("socket.getaddrinfo", "OOiii", args[0], args[1],
                    lookup->hints.ai_family, lookup->hints.ai_socktype,
                    lookup->hints.ai_protocol)
        < 0) {
        tw_lookup_free(lookup);
        return NULL;
    }
    self = resolver_of((TwLoop *)op); /* the hook may have closed the loop */
    if (self == NULL) {
        tw_lookup_free(lookup);
        Py_RETURN_NONE;
    }
    return resolver_ask_steal(self, lookup);
}

/* -- getnameinfo's arguments ---------------------------------------------- */

/* flowinfo or scope_id, which may be absent; -1: an unusual value. */
static int
resolver_extra(PyObject *sockaddr, Py_ssize_t i)
{
    return i < PyTuple_GET_SIZE(sockaddr)
               ? tw_dns_number(PyTuple_GET_ITEM(sockaddr, i))
               : 0;
}

/* (host, port) or, for IPv6, (host, port, flowinfo, scope_id). */
static bool
resolver_read_sockaddr(TwAddr *addr, PyObject *sockaddr)
{
    struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)(void *)&addr->u;
    int flowinfo, scope;
    long port;

    if (!PyTuple_CheckExact(sockaddr) || PyTuple_GET_SIZE(sockaddr) < 2
        || PyTuple_GET_SIZE(sockaddr) > 4
        || !PyUnicode_Check(PyTuple_GET_ITEM(sockaddr, 0))
        || !PyLong_CheckExact(PyTuple_GET_ITEM(sockaddr, 1))
        || !tw_dns_literal(PyTuple_GET_ITEM(sockaddr, 0), addr)) {
        return false;
    }
    port = tw_dns_port(PyTuple_GET_ITEM(sockaddr, 1));
    flowinfo = resolver_extra(sockaddr, 2);
    scope = resolver_extra(sockaddr, 3);
    if (port < 0 || flowinfo < 0 || flowinfo > RESOLVER_MAX_FLOWINFO
        || scope < 0) {
        return false;
    }
    sin6->sin6_port = htons((uint16_t)port); /* at one place in both */
    if (addr->u.any.sa_family == AF_INET6) {
        sin6->sin6_flowinfo = htonl((uint32_t)flowinfo);
        sin6->sin6_scope_id = (uint32_t)scope;
        return true;
    }
    return PyTuple_GET_SIZE(sockaddr) == 2;
}

/* loop._look_up_address(sockaddr, flags): the same for getnameinfo(). */
static PyObject *
resolver_loop_look_up_address(PyObject *op, PyObject *const *args,
                              Py_ssize_t nargs)
{
    TwResolver *self = resolver_of((TwLoop *)op);
    TwAddr addr = {0};
    TwLookup *lookup;
    int flags;

    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError,
                        "_look_up_address() takes 2 arguments");
        return NULL;
    }
    flags = tw_dns_number(args[1]);
    if (self == NULL || flags < 0
        || !resolver_read_sockaddr(&addr, args[0])) {
        Py_RETURN_NONE;
    }
    if (PySys_Audit("socket.getnameinfo", "(O)", args[0]) < 0) {
        return NULL;
    }
    self = resolver_of((TwLoop *)op); /* as above */
    if (self == NULL) {
        Py_RETURN_NONE;
    }
    lookup = tw_lookup_new(TW_LOOKUP_NAME_ROOM);
    if (lookup == NULL) {
        return PyErr_NoMemory();
    }
    lookup->addr = addr;
    lookup->flags = flags;
    return resolver_ask_steal(self, lookup);
}

/* -- the result ----------------------------------------------------------- */

/* Always NULL. */
static PyObject *
resolver_raise(tw_state *state, const TwLookup *lookup)
{
    PyObject *args;

    if (lookup->error == EAI_SYSTEM) {
        return tw_errno_raise(-lookup->errnum);
    }
    args = Py_BuildValue("is", lookup->error, gai_strerror(lookup->error));
    if (args != NULL) {
        PyErr_SetObject(tw_dns_gaierror(state), args);
        Py_DECREF(args);
    }
    return NULL;
}

static PyObject *
resolver_list(tw_state *state, const TwLookup *lookup)
{
    PyObject *list = PyList_New(0);

    for (const struct addrinfo *info = lookup->found;
         list != NULL && info != NULL; info = info->ai_next) {
        if (tw_dns_append(state, list, info) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

static PyObject *
resolver_value(tw_state *state, const TwLookup *lookup)
{
    if (lookup->error != 0) {
        return resolver_raise(state, lookup);
    }
    if (lookup->addr.len == 0) {
        return resolver_list(state, lookup);
    }
    return Py_BuildValue(
        "Ns", PyUnicode_DecodeFSDefault(TW_LOOKUP_NAME(lookup)),
        TW_LOOKUP_SERVICE(lookup));
}

/* Set the value or the exception in the future, unless it was cancelled. */
static tw_status
resolver_settle(TwLoop *loop, const TwLookup *lookup, PyObject *future)
{
    PyObject *value = resolver_value(loop->state, lookup), *exc;
    tw_status status;

    if (TW_LIKELY(value != NULL)) {
        status = tw_loop_resolve(loop, future, value);
        Py_DECREF(value);
        return status;
    }
    exc = tw_err_take();
    status = tw_loop_reject(loop, future, exc);
    Py_XDECREF(exc);
    return status;
}

/* In the turn: a thread woke the loop. */
static tw_status
resolver_deliver(TwLoop *loop)
{
    TwResolver *self = (TwResolver *)loop->resolver;
    TwLookup **end;
    tw_status status = 0;

    if (TW_UNLIKELY(self == NULL || loop->forked)) {
        return 0; /* the threads and the lock are the parent's */
    }
    Py_INCREF(self);
    end = &self->answers;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = tw_lookups_collect(self->pool);
    while (self->answers != NULL && status == 0) {
        TwLookup *lookup = self->answers;
        PyObject *future = TW_TAKE(lookup->future);

        self->answers = lookup->next;
        resolver_unlink(self, lookup);
        resolver_count(loop, lookup);
        if (resolver_settle(loop, lookup, future) < 0) {
            status = tw_call_report(loop, "Error in a name lookup",
                                    NULL, NULL);
        }
        tw_lookup_free(lookup);
        Py_DECREF(future);
    }
    if (self->answers != NULL) {
        tw_wakeup_write(loop->wake_write);
    }
    Py_DECREF(self);
    return status;
}

/* -- end ------------------------------------------------------------------ */

static int
resolver_traverse(PyObject *op, visitproc visit, void *arg)
{
    TwResolver *self = (TwResolver *)op;

    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->loop);
    for (TwLookup *l = self->asked; l != NULL; l = l->newer) {
        Py_VISIT(l->future);
    }
    return 0;
}

/* The futures are ours; the lookups belong to their threads from now on. */
static void
resolver_drop_futures(TwResolver *self)
{
    TwLookup *lookup = self->asked;

    self->asked = self->newest = NULL;
    while (lookup != NULL) {
        TwLookup *newer = lookup->newer;
        Py_CLEAR(lookup->future);
        lookup = newer;
    }
}

static void
resolver_drop_answers(TwResolver *self)
{
    while (self->answers != NULL) {
        TwLookup *lookup = self->answers;
        self->answers = lookup->next;
        tw_lookup_free(lookup);
    }
}

/* The collector need not clear it: every cycle goes through the loop. */
static void
resolver_dealloc(PyObject *op)
{
    TwResolver *self = (TwResolver *)op;
    PyTypeObject *type = Py_TYPE(op);
    TwLookups *pool = TW_TAKE(self->pool);

    PyObject_GC_UnTrack(op);
    resolver_drop_futures(self);
    resolver_drop_answers(self);
    if (pool != NULL) {
        tw_lookups_detach(pool);
    }
    Py_CLEAR(self->loop);
    type->tp_free(op);
    Py_DECREF(type);
}

/* -- type ----------------------------------------------------------------- */

static PyType_Slot resolver_slots[] = {
    {Py_tp_dealloc, resolver_dealloc},
    {Py_tp_traverse, resolver_traverse},
    {0, NULL},
};

static PyType_Spec resolver_spec =
    TW_TYPE_SPEC("Resolver", TwResolver, resolver_slots);

tw_status
tw_resolver_setup(tw_state *state, PyObject *Py_UNUSED(module))
{
    return tw_state_add_type(state, &state->resolver_type, &resolver_spec,
                             NULL, false);
}

PyMethodDef tw_resolver_loop_methods[] = {
    {"_look_up_name", TW_FAST(resolver_loop_look_up_name), METH_FASTCALL,
     NULL},
    {"_look_up_address", TW_FAST(resolver_loop_look_up_address), METH_FASTCALL,
     NULL},
    {"_lookups_waiting", resolver_loop_waiting, METH_NOARGS, NULL},
    {"_abandon_lookup", resolver_loop_abandon, METH_O, NULL},
    {NULL},
};
