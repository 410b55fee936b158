/* Big pieces of memory that TLS connections lend from their loop.

   A connection has no buffer of its own while it is idle: it takes a chunk
   for one operation (encrypt and send, keep what a paused reader has not
   read) and gives it back as soon as it is empty.  The loop keeps a few, so
   that the same warm memory serves one connection after the other.  Chunks
   are of one size, from the raw allocator: what OpenSSL makes without the
   GIL can become one, and one can be freed anywhere. */
#pragma once

#include "core/loop.h"

/* Eight full records of ciphertext, and room for what the protocol adds. */
#define TW_CHUNK_SIZE (132 * 1024)
#define TW_CHUNK_PLAIN (128 * 1024)

/* Bytes between r and w of memory of our own; p is NULL when there are none
   (or, during an operation, an empty chunk). */
typedef struct {
    char *p;
    size_t r, w, cap;
} TwBuf;

/* A chunk, with the GIL.  NULL without an exception for lack of memory. */
char *tw_chunk_take(TwLoop *loop);

/* Give back what was taken, with the GIL. */
void tw_chunk_give(TwLoop *loop, char *chunk);

/* Give the memory of an empty buffer back (of any, if `drop`). */
void tw_buf_rest(TwLoop *loop, TwBuf *buf, bool drop);

/* Make room for n more bytes; usable without the GIL (`loop` NULL).  False
   for lack of memory. */
TW_MUSTCHECK bool tw_buf_reserve(TwLoop *loop, TwBuf *buf, size_t n);

static inline size_t
tw_buf_size(const TwBuf *buf)
{
    return buf->w - buf->r;
}
