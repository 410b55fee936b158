#include "tls/chunk.h"

#include <string.h>

#define CHUNKS_KEPT 4

char *
tw_chunk_take(TwLoop *loop)
{
    char *chunk = loop->chunks;

    if (chunk == NULL) {
        return PyMem_RawMalloc(TW_CHUNK_SIZE);
    }
    /* The first word of a free chunk is the link to the next. */
    memcpy(&loop->chunks, chunk, sizeof(char *));
    loop->chunk_count--;
    return chunk;
}

void
tw_chunk_give(TwLoop *loop, char *chunk)
{
    if (loop->chunk_count >= CHUNKS_KEPT || !loop->live) {
        PyMem_RawFree(chunk);
        return;
    }
    memcpy(chunk, &loop->chunks, sizeof(char *));
    loop->chunks = chunk;
    loop->chunk_count++;
}

void
tw_buf_rest(TwLoop *loop, TwBuf *buf, bool drop)
{
    if (buf->p == NULL || (buf->r < buf->w && !drop)) {
        return;
    }
    if (buf->cap == TW_CHUNK_SIZE) {
        tw_chunk_give(loop, buf->p);
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
        buf->p = loop ? tw_chunk_take(loop) : PyMem_RawMalloc(TW_CHUNK_SIZE);
        if (buf->p == NULL) {
            return false;
        }
        buf->r = buf->w = 0;
        buf->cap = TW_CHUNK_SIZE;
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
