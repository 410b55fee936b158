#include "net/dgram.h"

#include <string.h>

/* -- the queue ------------------------------------------------------------ */

/* An empty queue keeps memory for so many. */
#define DGRAMQ_KEEP 64

static tw_status
dgramq_grow(TwDgramq *q)
{
    uint32_t cap = q->cap ? q->cap * 2 : 8;
    TwDgram *items = PyMem_Malloc(cap * sizeof(*items));

    if (items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (uint32_t i = 0; i < q->count; i++) {
        items[i] = *tw_dgramq_at(q, i);
    }
    PyMem_Free(q->items);
    q->items = items;
    q->head = 0;
    q->cap = cap;
    return 0;
}

tw_status
tw_dgramq_push_steal(TwDgramq *q, const TwDgram *d)
{
    if (d->data == NULL || (q->count == q->cap && dgramq_grow(q) < 0)) {
        Py_XDECREF(d->data);
        Py_XDECREF(d->addr);
        return -1;
    }
    *tw_dgramq_at(q, q->count++) = *d;
    q->bytes += (size_t)PyBytes_GET_SIZE(d->data);
    return 0;
}

/* An empty queue that was long returns its memory. */
static void
dgramq_trim(TwDgramq *q)
{
    if (q->count == 0 && q->cap > DGRAMQ_KEEP) {
        PyMem_Free(q->items);
        *q = (TwDgramq){0};
    }
}

TwDgram
tw_dgramq_pop(TwDgramq *q)
{
    TwDgram d = *tw_dgramq_at(q, 0);

    q->head = (q->head + 1) & (q->cap - 1);
    q->count--;
    q->bytes -= (size_t)PyBytes_GET_SIZE(d.data);
    dgramq_trim(q);
    return d;
}

void
tw_dgramq_drop(TwDgramq *q, uint32_t n)
{
    while (n-- > 0) {
        TwDgram d = tw_dgramq_pop(q);
        Py_DECREF(d.data);
        Py_XDECREF(d.addr);
    }
}

void
tw_dgramq_clear(TwDgramq *q)
{
    TwDgramq old = *q;

    memset(q, 0, sizeof(*q));
    tw_dgramq_drop(&old, old.count);
    PyMem_Free(old.items);
}

int
tw_dgramq_traverse(TwDgramq *q, visitproc visit, void *arg)
{
    for (uint32_t i = 0; i < q->count; i++) {
        Py_VISIT(tw_dgramq_at(q, i)->addr);
    }
    return 0;
}

/* -- the peers ------------------------------------------------------------ */

#define PEERS_RECEIVED 32 /* a power of two: a table by hash of the address */

typedef struct {
    PyObject *tuple; /* strong or NULL */
    TwInet sa;
    socklen_t len;
} TwPeer;

struct TwPeers {
    uint32_t last;                   /* the one that was used last */
    TwPeer entries[PEERS_RECEIVED + 1]; /* and one for the user's own tuple */
};

static TwPeers *
peers_get(TwPeers **cache)
{
    if (*cache == NULL) {
        *cache = PyMem_Calloc(1, sizeof(**cache));
        if (*cache == NULL) {
            PyErr_NoMemory();
        }
    }
    return *cache;
}

/* memcmp() and the hash read whole structs: the kernel, and inet_pton()'s
   callers here, set every byte of them. */
static uint32_t
peers_place(const struct sockaddr *sa)
{
    uint32_t key;

    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)sa;
        key = in->sin_addr.s_addr ^ ((uint32_t)in->sin_port << 8);
    }
    else {
        const struct sockaddr_in6 *in6 = (const void *)sa;
        uint32_t word[4];
        memcpy(word, &in6->sin6_addr, sizeof(word));
        key = word[0] ^ word[1] ^ word[2] ^ word[3]
              ^ ((uint32_t)in6->sin6_port << 8);
    }
    return (key * 2654435761u) >> 27;
}

static void
peers_put(TwPeers *cache, uint32_t place, PyObject *tuple,
          const struct sockaddr *sa, socklen_t len)
{
    TwPeer *peer = &cache->entries[place];

    memcpy(&peer->sa, sa, len);
    peer->len = len;
    cache->last = place;
    Py_XSETREF(peer->tuple, Py_NewRef(tuple));
}

PyObject *
tw_peers_tuple(TwPeers **cache, const struct sockaddr *sa, socklen_t len)
{
    TwPeers *peers;
    TwPeer *peer;
    PyObject *tuple;
    uint32_t place;

    if (len == 0 || (sa->sa_family != AF_INET && sa->sa_family != AF_INET6)
        || len > sizeof(TwInet)) {
        return tw_addr_to_python(sa, len);
    }
    peers = peers_get(cache);
    if (peers == NULL) {
        return NULL;
    }
    place = peers_place(sa);
    peer = &peers->entries[place];
    if (TW_LIKELY(peer->tuple != NULL && peer->len == len
                  && memcmp(&peer->sa, sa, len) == 0)) {
        peers->last = place;
        return Py_NewRef(peer->tuple);
    }
    tuple = tw_addr_to_python(sa, len);
    if (tuple != NULL) {
        peers_put(peers, place, tuple, sa, len);
    }
    return tuple;
}

static const TwPeer *
peers_find(const TwPeers *peers, PyObject *tuple)
{
    if (peers == NULL) {
        return NULL;
    }
    if (TW_LIKELY(peers->entries[peers->last].tuple == tuple)) {
        return &peers->entries[peers->last];
    }
    for (uint32_t i = 0; i <= PEERS_RECEIVED; i++) {
        if (peers->entries[i].tuple == tuple) {
            return &peers->entries[i];
        }
    }
    return NULL;
}

int
tw_peers_addr(TwPeers **cache, int family, PyObject *obj, TwInet *to,
              socklen_t *len)
{
    const TwPeer *peer = peers_find(*cache, obj);
    TwPeers *peers;
    TwAddr addr;

    if (TW_LIKELY(peer != NULL)) {
        *to = peer->sa;
        *len = peer->len;
        return 1;
    }
    if (tw_addr_from_python(family, obj, &addr) != 1
        || addr.len > sizeof(*to)) {
        return 0;
    }
    memcpy(to, &addr.u, addr.len);
    *len = addr.len;
    peers = peers_get(cache);
    if (peers == NULL) {
        PyErr_Clear(); /* only a cache */
        return 1;
    }
    peers_put(peers, PEERS_RECEIVED, obj, &to->any, addr.len);
    return 1;
}

void
tw_peers_clear(TwPeers **cache)
{
    TwPeers *peers = *cache;

    *cache = NULL;
    if (peers == NULL) {
        return;
    }
    for (uint32_t i = 0; i <= PEERS_RECEIVED; i++) {
        Py_CLEAR(peers->entries[i].tuple);
    }
    PyMem_Free(peers);
}

int
tw_peers_traverse(TwPeers *peers, visitproc visit, void *arg)
{
    if (peers == NULL) {
        return 0;
    }
    for (uint32_t i = 0; i <= PEERS_RECEIVED; i++) {
        Py_VISIT(peers->entries[i].tuple);
    }
    return 0;
}
