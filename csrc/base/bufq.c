#include "base/bufq.h"

#include <string.h>

tw_status
tw_bufq_grow(TwBufq *q)
{
    uint32_t cap = q->cap ? q->cap * 2 : TW_BUFQ_CAP;
    TwPiece *pieces;

    if (q->head > 0 && q->head >= q->cap / 2) {
        memmove(q->pieces, q->pieces + q->head, q->count * sizeof(TwPiece));
        q->head = 0;
        return 0;
    }
    pieces = cap < q->cap ? NULL
                          : PyMem_RawRealloc(q->pieces, cap * sizeof(TwPiece));
    if (pieces == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    q->pieces = pieces;
    q->cap = cap;
    return 0;
}

tw_status
tw_bufq_push_copy(TwBufq *q, const void *p, size_t n)
{
    PyObject *data = PyBytes_FromStringAndSize(p, (Py_ssize_t)n);
    tw_status status;

    if (data == NULL) {
        return -1;
    }
    status = tw_bufq_push(q, data, 0);
    Py_DECREF(data);
    return status;
}

int
tw_bufq_iov(const TwBufq *q, struct iovec *iov, int max)
{
    int n = q->count < (uint32_t)max ? (int)q->count : max;

    for (int i = 0; i < n; i++) {
        const TwPiece *piece = &q->pieces[q->head + (uint32_t)i];
        iov[i].iov_base = PyBytes_AS_STRING(piece->data) + piece->start;
        iov[i].iov_len = (size_t)PyBytes_GET_SIZE(piece->data) - piece->start;
    }
    return n;
}

void
tw_bufq_copy(const TwBufq *q, char *p)
{
    const TwPiece *piece = q->pieces + q->head;

    for (const TwPiece *end = piece + q->count; piece < end; piece++) {
        size_t n = (size_t)PyBytes_GET_SIZE(piece->data) - piece->start;

        memcpy(p, PyBytes_AS_STRING(piece->data) + piece->start, n);
        p += n;
    }
}

static void
bufq_free(TwBufq *q)
{
    PyMem_RawFree(q->pieces);
    *q = (TwBufq){0};
}

void
tw_bufq_consume(TwBufq *q, size_t n)
{
    q->bytes -= n;
    while (n > 0) {
        TwPiece *piece = &q->pieces[q->head];
        size_t len = (size_t)PyBytes_GET_SIZE(piece->data) - piece->start;
        if (n < len) {
            piece->start += n;
            return;
        }
        n -= len;
        q->head++;
        q->count--;
        Py_DECREF(piece->data);
    }
    if (q->count == 0) {
        bufq_free(q);
    }
}

static void
bufq_release(const TwBufq *q)
{
    for (uint32_t i = 0; i < q->count; i++) {
        Py_DECREF(q->pieces[q->head + i].data);
    }
}

void
tw_bufq_finish(TwBufq *q, TwPiece **spare)
{
    bufq_release(q);
    if (*spare == NULL && q->cap == TW_BUFQ_CAP) {
        *spare = q->pieces;
        *q = (TwBufq){0};
        return;
    }
    bufq_free(q);
}

void
tw_bufq_clear(TwBufq *q)
{
    TwBufq old = *q;

    *q = (TwBufq){0};
    bufq_release(&old);
    bufq_free(&old);
}
