/* What datagram transports keep: datagrams in a queue, and the addresses of
   their peers.

   The queue is a ring of entries; each owns its bytes and, if it was given
   one, the Python form of its address.  `bytes` is exact.  An empty queue
   that was never used owns no memory.

   The peers are a small cache between sockaddr and Python's tuple, so that
   the same peer gives the same tuple object, and a tuple that was handed out
   (or used) before costs no parsing when it comes back in sendto().  It holds
   IPv4 and IPv6 addresses only, and is made when first needed.  A cache
   belongs to one transport, hence to one family.  Nothing in this file runs
   Python code. */
#pragma once

#include <netinet/in.h>

#include "base/addr.h"

typedef union {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
} TwInet;

/* Where a datagram goes. */
typedef enum {
    TW_TO_PEER,   /* the socket is connected */
    TW_TO_INET,   /* `to` */
    TW_TO_UNIX,   /* `addr` is a path */
    TW_TO_PYTHON, /* `addr` is for the socket object to understand */
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

/* Append a copy of the entry; takes over its references on success only. */
TW_MUSTCHECK tw_status tw_dgramq_push_steal(TwDgramq *q, const TwDgram *d);

/* Take the oldest out: its references are the caller's.  Not when empty. */
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

/* The tuple of an address that the kernel gave; a new reference, or NULL
   with an exception. */
PyObject *tw_peers_tuple(TwPeers **cache, const struct sockaddr *sa,
                         socklen_t len);

/* The address of a tuple (or of what the user took for one): 1 and filled
   in; or 0, no exception: not of that form. */
int tw_peers_addr(TwPeers **cache, int family, PyObject *obj, TwInet *to,
                  socklen_t *len);

void tw_peers_clear(TwPeers **cache);
int tw_peers_traverse(TwPeers *cache, visitproc visit, void *arg);
