/* Data of datagram transports: a queue of datagrams, and the addresses of
   peers.

   The queue is a ring of entries.  Each owns its bytes and, if there is one,
   the Python form of its address.  `bytes` is exact.  A queue that was never
   used owns no memory.

   The peers are a small cache between sockaddr and Python's tuples.  The same
   peer gets the same tuple object, and sendto() need not parse a tuple that it
   has seen before.  The cache has IPv4 and IPv6 addresses only, and is made
   when first needed.  It belongs to one transport, and so to one family.
   Nothing in this file runs Python code. */
#pragma once

#include <netinet/in.h>

#include "base/addr.h"

typedef union {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
} TwInet;

/* The target of a datagram. */
typedef enum {
    TW_TO_PEER,   /* the socket is connected */
    TW_TO_INET,   /* `to` */
    TW_TO_UNIX,   /* `addr` is a path */
    TW_TO_PYTHON, /* `addr` is converted by the socket object */
} TwTo;

typedef struct {
    PyObject *data; /* strong: bytes */
    PyObject *addr; /* strong or NULL: as the user wrote it, or received */
    TwInet to;
    socklen_t to_len;
    TwTo how;
} TwDgram;

typedef struct {
    TwDgram *items; /* ours: `cap` entries (a power of two), or NULL */
    uint32_t head;
    uint32_t count;
    uint32_t cap;
    size_t bytes; /* of all data */
} TwDgramq;

/* Append a copy of the entry, and take over its references, also if this
   fails.  -1 with an exception: MemoryError, or the one that is set if `data`
   is NULL. */
TW_MUSTCHECK tw_status tw_dgramq_push_steal(TwDgramq *q, const TwDgram *d);

/* Remove the oldest; the caller owns its references.  The queue must not be
   empty. */
TwDgram tw_dgramq_pop(TwDgramq *q);

/* Release the `n` oldest. */
void tw_dgramq_drop(TwDgramq *q, uint32_t n);

/* Release all of them, and the memory. */
void tw_dgramq_clear(TwDgramq *q);

int tw_dgramq_traverse(TwDgramq *q, visitproc visit, void *arg);

/* The i-th oldest, borrowed: valid until the queue changes. */
static inline TwDgram *
tw_dgramq_at(const TwDgramq *q, uint32_t i)
{
    return &q->items[(q->head + i) & (q->cap - 1)];
}

typedef struct TwPeers TwPeers;

/* The tuple of a kernel's address; a new reference, or NULL with an
   exception. */
PyObject *tw_peers_tuple(TwPeers **cache, const struct sockaddr *sa,
                         socklen_t len);

/* Convert a tuple to an address.  1: `to` is filled; 0, without an exception:
   the object has another form. */
int tw_peers_addr(TwPeers **cache, int family, PyObject *obj, TwInet *to,
                  socklen_t *len);

void tw_peers_clear(TwPeers **cache);
int tw_peers_traverse(TwPeers *cache, visitproc visit, void *arg);
