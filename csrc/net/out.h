/* The output queue of streams and writing pipes.

   A write is passed to the kernel at once, unless it is held for the next one
   (net/hold.h).  What the kernel refuses waits in `queue`, as references,
   until the descriptor is writable.  With TW_F_HELD the queue has held writes,
   and the kernel has refused nothing; without it the queue has what was
   refused.

   Where the descriptor carries messages (`messages`), each write is one: it is
   sent by a system call of its own, also from the queue. */
#pragma once

#include "base/bufq.h"
#include "net/transport.h"

/* The head of TwStream and TwPipe. */
typedef struct {
    TwTransport base;
    TwBufq queue;
    bool messages;
} TwOut;

/* The functions that differ between them. */
struct TwOutOps {
    /* The report's message for an error of the kernel. */
    const char *fatal;
    /* Send n pieces: returns the bytes sent (0: the kernel's buffer is full),
       or a negative errno. */
    tw_uverr (*send)(TwTransport *self, struct iovec *iov, int n);
    /* Everything that was refused is sent, and the watcher matches that. */
    tw_status (*drained)(TwTransport *self);
    /* Or NULL: sending failed, and the transport is closing. */
    void (*failed)(TwTransport *self);
    /* resume_writing() comes only when nothing waits. */
    bool resume_when_empty;
};

/* Has the kernel refused something that waits in the queue? */
static inline bool
tw_out_waits(const TwOut *self)
{
    return self->queue.count > 0 && !(self->base.flags & TW_F_HELD);
}

/* write() of an exact bytes object, after asyncio's checks.  0; -1 with an
   exception (MemoryError, or one that leaves the loop). */
TW_MUSTCHECK tw_status tw_out_write(TwOut *self, PyObject *bytes);

/* The same for memory that may change afterwards: what is not sent at once is
   copied. */
TW_MUSTCHECK tw_status tw_out_write_copy(TwOut *self, const char *p, size_t n);

/* Our own bytes (TLS records), not a write of the program: sent at once, after
   what is held or waits. */
TW_MUSTCHECK tw_status tw_out_write_own(TwOut *self, const char *p, size_t n);

/* A list of exact bytes objects as one write, with one system call for each 64
   of them. */
TW_MUSTCHECK tw_status tw_out_write_list(TwOut *self, PyObject *pieces);

/* The descriptor is writable. */
TW_MUSTCHECK tw_status tw_out_on_writable(TwOut *self);

/* TwTransportOps of a transport with such a queue. */
tw_status tw_out_flush(TwTransport *self);
size_t tw_out_size(TwTransport *self);
void tw_out_clear(TwTransport *self);
