/* Buffers of TLS connections, in large blocks that the loop keeps.

   An idle connection has no buffer.  An operation (encrypt and send, keep what
   a paused reader has not read) allocates a block and frees it as soon as it
   is empty.  The loop keeps a few free ones, so that one connection after the
   other uses the same warm memory.  All blocks have one size and come from the
   raw allocator, because OpenSSL's calls allocate some without the GIL. */
#pragma once

#include "core/loop.h"

/* Eight full records with their headers and tags. */
#define TW_BLOCK_SIZE (132 * 1024)
#define TW_BLOCK_PLAIN (128 * 1024)

/* A buffer: its bytes are p[r:w]. p is NULL when it is empty, except during
   an operation. */
typedef struct {
    char *p;
    size_t r, w, cap;
} TwBuf;

/* Free the memory of a buffer that is empty, or of any buffer if `drop`; needs
   the GIL. */
void tw_buf_release(TwLoop *loop, TwBuf *buf, bool drop);

/* Make room for n more bytes.  Without the GIL pass NULL as `loop`.  False if
   there is no memory. */
TW_MUSTCHECK bool tw_buf_reserve(TwLoop *loop, TwBuf *buf, size_t n);

static inline size_t
tw_buf_size(const TwBuf *buf)
{
    return buf->w - buf->r;
}
