#include "tls/buf.h"

#include <string.h>

#define BLOCKS_KEPT 4

/* A block of the loop, or a new one; needs the GIL.  NULL without an exception
   if there is no memory. */
static char *
block_alloc(TwLoop *loop)
{
    char *block = loop->free_blocks;

    if (block == NULL) {
        return PyMem_RawMalloc(TW_BLOCK_SIZE);
    }
    /* The first word of a free block is the link to the next. */
    memcpy(&loop->free_blocks, block, sizeof(char *));
    loop->free_block_count--;
    return block;
}

static void
block_free(TwLoop *loop, char *block)
{
    if (loop->free_block_count >= BLOCKS_KEPT || !loop->live) {
        PyMem_RawFree(block);
        return;
    }
    memcpy(block, &loop->free_blocks, sizeof(char *));
    loop->free_blocks = block;
    loop->free_block_count++;
}

void
tw_buf_release(TwLoop *loop, TwBuf *buf, bool drop)
{
    if (buf->p == NULL || (buf->r < buf->w && !drop)) {
        return;
    }
    if (buf->cap == TW_BLOCK_SIZE) {
        block_free(loop, buf->p);
    }
    else {
        PyMem_RawFree(buf->p);
    }
    *buf = (TwBuf){0};
}

static bool
buf_grow(TwBuf *buf, size_t n)
{
    size_t cap = buf->cap;
    char *p;

    while (cap < buf->w + n) {
        if (cap > SIZE_MAX / 2) {
            return false;
        }
        cap *= 2;
    }
    p = PyMem_RawRealloc(buf->p, cap);
    if (p == NULL) {
        return false;
    }
    buf->p = p;
    buf->cap = cap;
    return true;
}

bool
tw_buf_reserve(TwLoop *loop, TwBuf *buf, size_t n)
{
    if (buf->p == NULL) {
        buf->p = loop ? block_alloc(loop) : PyMem_RawMalloc(TW_BLOCK_SIZE);
        if (buf->p == NULL) {
            return false;
        }
        buf->r = buf->w = 0;
        buf->cap = TW_BLOCK_SIZE;
    }
    if (buf->cap - buf->w >= n) {
        return true;
    }
    if (buf->r > 0) {
        memmove(buf->p, buf->p + buf->r, buf->w - buf->r);
        buf->w -= buf->r;
        buf->r = 0;
        if (buf->cap - buf->w >= n) {
            return true;
        }
    }
    return buf_grow(buf, n);
}
