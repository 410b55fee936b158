/* Datagram transports: UDP over IPv4 and IPv6, Unix datagrams, and every other
   family that the socket module knows (through the socket object, slowly).

   Reading.  Up to 32 datagrams per turn; each is delivered before the next is
   read.  Where datagrams arrive in bursts, the kernel may return several
   merged (net/udp_merge.c).

   Writing.  sendto() sends at once, or holds the datagram for those that
   follow in the same callback (net/hold.h: at most 32, or 64 KiB; none of more
   than 16 KiB).  If an endpoint answered each of the last datagrams, and
   quickly, its answers are held while more datagrams are read in the same
   turn.  What the kernel refuses stays in `out`; then the transport is
   `waiting`, and only then do write limits count.

   Errors.  error_received() is called at once for a datagram that is sent at
   once or from the queue, as in asyncio, and by call_soon() for one that was
   held.  The kernel forgets an error that ends a sendmmsg(2) halfway: the rest
   is sent again and has its own error.

   The watcher owns the transport while it reads or waits.  All functions
   belong to the loop's thread. */
#pragma once

#include "net/dgram.h"
#include "net/transport.h"

#define TW_UDP_BATCH 32
#define TW_UDP_READ_MAX (256 * 1024) /* asyncio's max_size */
/* This many must be answered before answers are held. */
#define TW_UDP_ANSWERS 8

_Static_assert(TW_UDP_READ_MAX <= TW_READ_BUFFER_SIZE, "the loop's buffer");

typedef struct TwMerged TwMerged;

typedef struct {
    TwTransport base;
    PyObject *address; /* strong or NULL: create_datagram_endpoint's remote */
    TwDgramq out;      /* held back, or refused by the kernel */
    TwDgramq in;       /* read, and not delivered yet: see udp_merge.c */
    TwMerged *merged;  /* ours; NULL: the kernel does not merge */
    TwPeers *peers;    /* ours or NULL */
    int family;
    bool connected;    /* the kernel knows the peer */
    bool named;        /* ... and the peer has an address */
    bool waiting;      /* `out` was refused */
    bool merge_asked;  /* the kernel was asked to merge, or must not be */
    bool several;      /* several came in one turn, when last tried */
    uint8_t turns;     /* since then, with one datagram each */
    bool more;         /* another one will be read in this turn */
    bool answered;     /* something was sent since the last one */
    uint8_t answers;   /* delivered in a row and answered quickly */
    int32_t segment;   /* longest that may go in one train: see udp_send.c */
} TwUdp;

/* error_received(exc), in the transport's context; what it raises is
   reported.  -1: an exception leaves the loop. */
TW_MUSTCHECK tw_status tw_udp_error_received(TwUdp *self, PyObject *exc);

/* -- net/udp_read.c ------------------------------------------------------- */

/* The turn: something can be read.  -1: an exception leaves the loop. */
TW_MUSTCHECK tw_status tw_udp_read(TwUdp *self);

/* -- net/udp_merge.c ------------------------------------------------------ */

/* Have the kernel merge datagrams from now on, if it can and may. */
void tw_udp_merge(TwUdp *self);

/* The next datagram, p[0:result], of the last read or of a new one into the
   loop's buffer, which must be there.  `*p` and `*from` are valid until the
   next call, and until Python code runs.  Or a negative errno. */
ssize_t tw_udp_merged_read(TwUdp *self, const char **p, const TwAddr **from);

/* Was something read that is not delivered yet? */
bool tw_udp_has_rest(const TwUdp *self);

/* TwTransportOps: deliver that in the next turn, if the transport is
   reading. */
void tw_udp_rouse(TwTransport *self);

/* Drop all of it, and the memory. */
void tw_udp_merged_drop(TwUdp *self);

/* TwTransportOps: the kernel merges nothing any more. */
void tw_udp_shared(TwTransport *self);

/* -- net/udp_send.c ------------------------------------------------------- */

/* Each returns 0 if the kernel's buffer is full, and -1 with an exception (of
   the first datagram of several). */

/* 1: one datagram, p[0:n], was sent. */
TW_MUSTCHECK int tw_udp_send_one(TwUdp *self, const TwDgram *d, const void *p,
                                 size_t n);

/* 1: the socket object's sendto(data, addr) sent it: it resolves names and
   knows every family. */
TW_MUSTCHECK int tw_udp_send_python(TwUdp *self, PyObject *data,
                                    PyObject *addr);

/* How many of the oldest in `out` were sent, with one system call; they are
   still in the queue. */
TW_MUSTCHECK int tw_udp_send_queued(TwUdp *self);

/* -- net/udp_write.c ------------------------------------------------------ */

extern PyMethodDef tw_udp_write_methods[];

/* error_received(exc) by call_soon.  0. */
tw_status tw_udp_error_later(TwUdp *self, PyObject *exc);

/* TwTransportOps: send what is held. */
tw_status tw_udp_flush(TwTransport *self);

/* The turn: the descriptor is writable. */
TW_MUSTCHECK tw_status tw_udp_on_writable(TwUdp *self);

size_t tw_udp_buffer_size(TwTransport *self);
void tw_udp_buffer_clear(TwTransport *self);

/* -- net/udp.c ------------------------------------------------------------ */

extern PyMethodDef tw_udp_loop_methods[]; /* _make_datagram_transport() */

TW_MUSTCHECK tw_status tw_udp_setup(tw_state *state, PyObject *module);
