/* TCP and Unix stream transports, on a descriptor of ours.

   Reading.  When the descriptor is readable, one read(2) of up to 256 KiB
   fills the loop's buffer, or memory of the protocol; then the sink gets the
   data.  If it filled all the room, a few more reads follow.  The sink is the
   protocol (net/stream_read.c), or a TLS transport between the stream and its
   protocol (tls/filter.c).  Through this one pointer a lower room reaches a
   higher one.

   Writing.  Bytes are sent at once, or with the next write of the same
   callback (net/hold.h); what the kernel refuses waits (net/out.h).

   All functions run on the loop's thread, and none leaves an exception set
   unless its comment says so. */
#pragma once

#include "net/out.h"

typedef struct TwStream TwStream;

/* The receiver of a stream's bytes and events.  Each function returns 0, or -1
   with an exception that leaves the loop (all other errors were reported).
   After any of them the stream may be closed, or have another sink. */
typedef struct {
    /* Bytes were read into memory that is valid during the call only. */
    tw_status (*data)(TwStream *stream, PyObject *owner, char *p, size_t n);
    /* The peer ended its side. */
    tw_status (*eof)(TwStream *stream, PyObject *owner);
    /* connection_made, connection_lost: instead of the protocol's. */
    tw_status (*made)(TwStream *stream, PyObject *owner);
    tw_status (*lost)(TwStream *stream, PyObject *owner, PyObject *exc);
    /* The write queue rose above the high mark, or fell to the low one. */
    tw_status (*pause_writing)(TwStream *stream, PyObject *owner);
    tw_status (*resume_writing)(TwStream *stream, PyObject *owner);
    /* Bytes that wait in the owner and below. */
    size_t (*waiting)(PyObject *owner);
} TwSink;

struct TwStream {
    TwTransport base;
    TwBufq queue;         /* as in TwOut: see net/out.h */
    bool messages;        /* the same */
    const TwSink *sink;   /* NULL: the protocol */
    PyObject *sink_owner; /* strong or NULL */
    PyObject *empty_waiter; /* strong or NULL: sendfile waits for the queue */
    uint32_t read_hint;   /* size of the last read: see stream_read.c */
    bool filled;          /* the last read filled all its room */
    bool sends;           /* data was sent while the last data was handled */
};

_Static_assert(offsetof(TwStream, queue) == offsetof(TwOut, queue)
                   && offsetof(TwStream, messages)
                          == offsetof(TwOut, messages),
               "a stream begins as TwOut");

/* What a new stream is made of; each member may be NULL. */
typedef struct {
    PyObject *sock;     /* it owns the descriptor; NULL: the stream does */
    PyObject *protocol; /* or a sink that gets events from the start: */
    const TwSink *sink;
    PyObject *sink_owner;
    PyObject *waiter, *extra, *server;
    const TwAddr *peer; /* as in tw_transport_keep_addrs() */
} TwStreamParts;

/* Make a stream transport on `fd`, which must be connected and non-blocking.
   Without parts->sock the descriptor is ours from now on, also when this
   fails.  Schedules connection_made.  New reference, or NULL with an
   exception. */
TwStream *tw_stream_new(TwLoop *loop, int fd, const TwStreamParts *parts);

/* Insert `sink` between the stream and its protocol, or remove it (NULL).
   Calls nothing. */
void tw_stream_set_sink(TwStream *self, const TwSink *sink,
                        PyObject *sink_owner);

/* Read the available data: net/stream_read.c. */
TW_MUSTCHECK tw_status tw_stream_read(TwStream *self);

/* net/stream_write.c */
extern const TwOutOps tw_stream_out_ops;

extern PyMethodDef tw_stream_loop_methods[]; /* _make_socket_transport() */

TW_MUSTCHECK tw_status tw_stream_setup(tw_state *state, PyObject *module);
