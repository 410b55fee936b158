/* base/bufq: a queue of bytes in pieces.

   unwind: 7
   small: csrc/base/bufq.c: q->cap * 2 : TW_BUFQ_CAP ==> q->cap * 2 : 2 */
#include "base/bufq.c"

STUB_BLOCKS_OF(TwPiece)

#define LONGEST 3 /* bytes in a piece */

static bool
valid(const TwBufq *q)
{
    size_t bytes = 0;

    if (q->count == 0) { /* an empty queue owns no memory */
        return q->pieces == NULL && q->cap == 0 && q->head == 0
               && q->bytes == 0;
    }
    for (uint32_t i = 0; i < q->count; i++) {
        const TwPiece *piece = &q->pieces[q->head + i];
        if (piece->start >= (size_t)piece->data->size) {
            return false;
        }
        bytes += (size_t)piece->data->size - piece->start;
    }
    return bytes == q->bytes && q->head + q->count <= q->cap;
}

/* Bytes of 1 to LONGEST, of which the proof has a reference. */
static PyObject *
any_bytes(void)
{
    PyObject *data = stub_text(STUB_BYTES, LONGEST);

    __CPROVER_assume(data->size > 0);
    return data;
}

/* Any queue of so many pieces at such a place; `own` has a reference to each,
   too. */
static TwBufq
any_bufq(uint32_t cap, uint32_t head, uint32_t count, PyObject **own)
{
    TwBufq q = {.head = head, .count = count, .cap = cap};

    if (count == 0) {
        return (TwBufq){0};
    }
    q.pieces = malloc(cap * sizeof(TwPiece));
    __CPROVER_assume(q.pieces != NULL);
    for (uint32_t i = 0; i < count; i++) {
        size_t start = nondet_size();
        own[i] = any_bytes();
        __CPROVER_assume(start < (size_t)own[i]->size);
        q.pieces[head + i] = (TwPiece){Py_NewRef(own[i]), start};
        q.bytes += (size_t)own[i]->size - start;
    }
    return q;
}

/* The byte at this place of all that is queued. */
static char
byte_at(const TwBufq *q, size_t place)
{
    for (uint32_t i = 0; i < q->count; i++) {
        const TwPiece *piece = &q->pieces[q->head + i];
        size_t n = (size_t)piece->data->size - piece->start;
        if (place < n) {
            return piece->data->text[piece->start + place];
        }
        place -= n;
    }
    assert(false);
    return 0;
}

/* Nothing else refers to them any more. */
static void
release(PyObject **own, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        assert(own[i]->ob_refcnt == 1);
        Py_DECREF(own[i]);
    }
}

/* proof: push: the bytes come behind the others, which stay; one reference is
   taken; without memory nothing changes.
   broken: csrc/base/bufq.h: Py_NewRef(data) ==> data
   broken: csrc/base/bufq.h: PyBytes_GET_SIZE(data) - start ==> PyBytes_GET_SIZE(data) */
static void
push_of(uint32_t cap, uint32_t head, uint32_t count)
{
    PyObject *own[4], *data = any_bytes();
    TwBufq q = any_bufq(cap, head, count, own), old = q;
    size_t start = nondet_size(), place = nondet_size(), added;
    char one = 0;

    __CPROVER_assume(start < (size_t)data->size);
    added = nondet_size();
    __CPROVER_assume(added < (size_t)data->size - start);
    if (count > 0) {
        __CPROVER_assume(place < q.bytes);
        one = byte_at(&q, place);
    }
    if (tw_bufq_push(&q, data, start) == 0) {
        assert(valid(&q) && q.count == count + 1 && data->ob_refcnt == 2);
        assert(byte_at(&q, old.bytes + added) == data->text[start + added]);
    }
    else {
        assert(stub_error == STUB_MEMORY_ERROR && data->ob_refcnt == 1);
        assert(valid(&q) && q.count == count);
    }
    assert(count == 0 || byte_at(&q, place) == one);
    tw_bufq_clear(&q);
    assert(valid(&q) && q.count == 0);
    release(own, count);
    release(&data, 1);
}

void
push(void)
{
    STUB_CASE(push_of(0, 0, 0));
    STUB_CASE(push_of(2, 0, 1));
    STUB_CASE(push_of(2, 0, 2));
    STUB_CASE(push_of(2, 1, 1));
}

/* proof: push_copy: nothing leaks, with memory and without.
   broken: csrc/base/bufq.c: Py_DECREF(data);\n    return status; ==> return status; */
void
push_copy(void)
{
    TwBufq q = {0};
    char bytes[2];

    if (tw_bufq_push_copy(&q, bytes, 2) == 0) {
        assert(valid(&q) && q.bytes == 2 && byte_at(&q, 1) == bytes[1]);
    }
    else {
        assert(stub_error == STUB_MEMORY_ERROR && valid(&q));
    }
    tw_bufq_clear(&q);
}

/* proof: consume: what comes next is what came behind the consumed bytes;
   pieces that are done are released, the others are not.
   broken: csrc/base/bufq.c: piece->start += n; ==> piece->start = n;
   broken: csrc/base/bufq.c: q->bytes -= n; ==> */
static void
consume_of(uint32_t cap, uint32_t head, uint32_t count)
{
    PyObject *own[4];
    TwBufq q = any_bufq(cap, head, count, own), old = q;
    size_t n = nondet_size(), place = nondet_size();
    char one = 0;

    __CPROVER_assume(n <= q.bytes && place >= n && place <= q.bytes);
    if (place < q.bytes) {
        one = byte_at(&q, place);
    }
    tw_bufq_consume(&q, n);
    assert(valid(&q) && q.bytes == old.bytes - n);
    assert(place == old.bytes || byte_at(&q, place - n) == one);
    for (uint32_t i = 0; i < count; i++) {
        assert(own[i]->ob_refcnt == 1 + (i >= count - q.count));
    }
    tw_bufq_clear(&q);
    release(own, count);
}

void
consume(void)
{
    STUB_CASE(consume_of(2, 0, 1));
    STUB_CASE(consume_of(4, 1, 2));
}

/* proof: finish: every piece is released, and the array is kept or freed.
   broken: csrc/base/bufq.c: *spare = q->pieces;\n ==>
   broken: csrc/base/bufq.c: if (*spare == NULL && ==> if ( */
static void
finish_of(uint32_t cap, uint32_t head, uint32_t count, TwPiece *spare)
{
    PyObject *own[4];
    TwBufq q = any_bufq(cap, head, count, own);
    TwPiece *had = spare, *array = q.pieces;

    tw_bufq_finish(&q, &spare);
    assert(valid(&q) && q.count == 0);
    assert(spare == (had != NULL || cap != TW_BUFQ_CAP ? had : array));
    release(own, count);
    free(spare);
}

void
finish(void)
{
    STUB_CASE(finish_of(2, 1, 1, NULL));
    STUB_CASE(finish_of(TW_BUFQ_CAP, 0, 2, NULL));
    STUB_CASE(finish_of(TW_BUFQ_CAP, 0, 1, malloc(sizeof(TwPiece))));
}

/* proof: iov: the oldest bytes in order, and no more vectors than asked for.
   broken: csrc/base/bufq.c: iov[i].iov_len = (size_t)PyBytes_GET_SIZE(piece->data) - piece->start ==> iov[i].iov_len = (size_t)PyBytes_GET_SIZE(piece->data)
   broken: csrc/base/bufq.c: (uint32_t)max ? (int)q->count : max ==> (uint32_t)max ? (int)q->count : (int)q->count */
static void
iov_of(uint32_t cap, uint32_t head, uint32_t count)
{
    PyObject *own[4];
    TwBufq q = any_bufq(cap, head, count, own);
    struct iovec iov[2];
    size_t at = 0, inside = nondet_size();
    int max = nondet_int() ? 1 : 2, which = nondet_int() ? 0 : 1;
    int n = tw_bufq_iov(&q, iov, max);

    assert(n == (count < (uint32_t)max ? (int)count : max));
    if (which < n) {
        for (int i = 0; i < which; i++) {
            at += iov[i].iov_len;
        }
        assert(iov[which].iov_len > 0
               && __CPROVER_r_ok(iov[which].iov_base, iov[which].iov_len));
        __CPROVER_assume(inside < iov[which].iov_len);
        assert(((char *)iov[which].iov_base)[inside]
               == byte_at(&q, at + inside));
    }
    tw_bufq_clear(&q);
    release(own, count);
}

void
iov(void)
{
    STUB_CASE(iov_of(2, 0, 0));
    STUB_CASE(iov_of(2, 1, 1));
    STUB_CASE(iov_of(4, 0, 3));
}

/* proof: copy: the bytes of all pieces in their order, and no byte more.
   broken: csrc/base/bufq.c: p += n; ==> ;
   broken: csrc/base/bufq.c: size_t n = (size_t)PyBytes_GET_SIZE(piece->data) - piece->start;\n\n        memcpy ==> size_t n = (size_t)PyBytes_GET_SIZE(piece->data);\n\n        memcpy */
static void
copy_of(uint32_t cap, uint32_t head, uint32_t count)
{
    PyObject *own[4];
    TwBufq q = any_bufq(cap, head, count, own);
    size_t place = nondet_size();
    char *room = malloc(q.bytes);

    __CPROVER_assume(room != NULL && place < q.bytes);
    tw_bufq_copy(&q, room);
    assert(room[place] == byte_at(&q, place));
    free(room);
    tw_bufq_clear(&q);
    release(own, count);
}

void
copy(void)
{
    STUB_CASE(copy_of(2, 1, 1));
    STUB_CASE(copy_of(4, 1, 2));
}

/* proof: largest: the number of pieces never wraps around.
   broken: csrc/base/bufq.c: cap < q->cap ? NULL\n                          : ==> */
void
largest(void)
{
    TwBufq q = {.cap = 0x80000000u, .count = 0x80000000u}, old = q;

    assert(tw_bufq_grow(&q) == -1);
    assert(stub_error == STUB_MEMORY_ERROR);
    assert(q.cap == old.cap && q.pieces == old.pieces);
}
