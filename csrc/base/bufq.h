/* A queue of bytes to write: references, not copies.

   Every piece is a bytes object (immutable, so that a reference is enough)
   with the offset of its first unwritten byte.  `bytes` is exact.  An empty
   queue owns no memory: many queues that are filled and emptied in turn share
   a spare array.  Releasing a reference to a bytes object runs no Python code,
   so no function here does. */
#pragma once

#include <sys/uio.h>

#include "base/common.h"

/* Pieces for which a queue has room at first. */
#define TW_BUFQ_CAP 16

typedef struct {
    PyObject *data; /* strong: exactly a bytes object */
    size_t start;   /* first byte that was not written */
} TwPiece;

typedef struct {
    TwPiece *pieces; /* ours */
    uint32_t head;   /* first piece in use */
    uint32_t count;
    uint32_t cap;
    size_t bytes; /* unwritten bytes in all pieces */
} TwBufq;

/* Make room for one more piece.  -1 with MemoryError. */
TW_MUSTCHECK tw_status tw_bufq_grow(TwBufq *q);

/* Append data[start:].  `data` is exactly a bytes object (the deallocation of
   a subclass could run Python), `start` is less than its size.  The queue
   takes a reference of its own.  -1 with MemoryError. */
TW_MUSTCHECK static inline tw_status
tw_bufq_push(TwBufq *q, PyObject *data, size_t start)
{
    assert(PyBytes_CheckExact(data));
    if (TW_UNLIKELY(q->head + q->count == q->cap) && tw_bufq_grow(q) < 0) {
        return -1;
    }
    q->pieces[q->head + q->count++] =
        (TwPiece){.data = Py_NewRef(data), .start = start};
    q->bytes += (size_t)PyBytes_GET_SIZE(data) - start;
    return 0;
}

/* Append a copy of memory. */
TW_MUSTCHECK tw_status tw_bufq_push_copy(TwBufq *q, const void *p, size_t n);

/* Fill at most `max` iovecs with the oldest bytes; returns how many. */
int tw_bufq_iov(const TwBufq *q, struct iovec *iov, int max);

/* Copy all bytes to `p`, which has room for them. */
void tw_bufq_copy(const TwBufq *q, char *p);

/* The first `n` bytes were written: release them. */
void tw_bufq_consume(TwBufq *q, size_t n);

/* `q`, which is empty, gets the array *spare, if there is one. */
static inline void
tw_bufq_borrow(TwBufq *q, TwPiece **spare)
{
    if (q->pieces == NULL && *spare != NULL) {
        q->pieces = *spare;
        q->cap = TW_BUFQ_CAP;
        *spare = NULL;
    }
}

/* All of it was written: release it, and keep the array as *spare if that is
   NULL. */
void tw_bufq_finish(TwBufq *q, TwPiece **spare);

void tw_bufq_clear(TwBufq *q);
