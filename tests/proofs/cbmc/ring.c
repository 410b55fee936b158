/* base/ring: a queue of pointers.

   small: csrc/base/common.h: #define TW_KEEP_SLOTS 4096 ==> #define TW_KEEP_SLOTS 8
   unwind: 18
   small: csrc/base/ring.c: ring->cap * 2 : 64 ==> ring->cap * 2 : 4 */
#include "base/ring.c"

STUB_BLOCKS_OF(void *)

static bool
valid(const TwRing *ring)
{
    uint32_t cap = ring->cap;

    if (cap == 0) {
        return ring->items == NULL && ring->head == 0 && ring->count == 0;
    }
    return (cap & (cap - 1)) == 0 && ring->head < cap && ring->count <= cap
           && __CPROVER_OBJECT_SIZE(ring->items) == cap * sizeof(void *);
}

/* Any ring with so many slots, with any items. */
static TwRing
any_ring(uint32_t cap)
{
    TwRing ring;

    ring.cap = cap;
    ring.items = cap == 0 ? NULL : malloc(cap * sizeof(void *));
    __CPROVER_assume(cap == 0 || ring.items != NULL);
    __CPROVER_assume(valid(&ring));
    return ring;
}

/* The i-th item is what it was: for any i. */
typedef struct {
    uint32_t i;
    void *item;
} Witness;

static Witness
witness(const TwRing *ring)
{
    Witness w;

    w.item = w.i < ring->count ? tw_ring_at(ring, w.i) : NULL;
    return w;
}

/* proof: push: all items stay in order and the new one is the last; without
   memory nothing changes.
   broken: csrc/base/ring.c: ring->head = 0; ==> ; */
static void
push_of(uint32_t cap)
{
    TwRing ring = any_ring(cap), old = ring;
    Witness w = witness(&ring);
    void *item;
    tw_status status = tw_ring_push(&ring, item);

    assert(valid(&ring));
    if (status == 0) {
        assert(ring.count == old.count + 1);
        assert(tw_ring_at(&ring, old.count) == item);
        assert(stub_error == STUB_FINE);
    }
    else {
        assert(status == -1 && stub_error == STUB_MEMORY_ERROR);
        assert(ring.count == old.count && ring.items == old.items);
    }
    if (w.i < old.count) {
        assert(tw_ring_at(&ring, w.i) == w.item);
    }
    tw_ring_fini(&ring);
    assert(valid(&ring) && ring.cap == 0);
}

void
push(void)
{
    STUB_CASE(push_of(0));
    STUB_CASE(push_of(4));
    STUB_CASE(push_of(8));
}

/* proof: pop: the oldest, and the others stay in order.
   broken: csrc/base/ring.h: (ring->head + 1) & ==> ring->head & */
static void
pop_of(uint32_t cap)
{
    TwRing ring = any_ring(cap), old = ring;
    Witness w = witness(&ring);

    __CPROVER_assume(ring.count > 0 && w.i < ring.count);
    void *first = tw_ring_at(&ring, 0);
    void *item = tw_ring_pop(&ring);
    assert(valid(&ring) && ring.count == old.count - 1);
    assert(item == first);
    assert(w.i == 0 ? w.item == item
                    : tw_ring_at(&ring, w.i - 1) == w.item);
    tw_ring_fini(&ring);
}

void
pop(void)
{
    STUB_CASE(pop_of(1));
    STUB_CASE(pop_of(4));
    STUB_CASE(pop_of(8));
}

/* proof: trim: the items stay, there is room for them, and never more slots
   than before.
   broken: csrc/base/ring.c: cap / 2 < ring->count ==> cap / 2 > ring->count */
static void
trim_of(uint32_t cap, uint32_t count)
{
    TwRing ring = any_ring(cap), old;
    Witness w;

    ring.count = count;
    old = ring;
    w = witness(&ring);

    tw_ring_trim(&ring);
    assert(valid(&ring) && ring.count == old.count);
    assert(ring.cap <= old.cap);
    if (w.i < old.count) {
        assert(tw_ring_at(&ring, w.i) == w.item);
    }
    tw_ring_fini(&ring);
}

void
trim(void)
{
    STUB_CASE(trim_of(8, 0));
    STUB_CASE(trim_of(16, 0));
    STUB_CASE(trim_of(16, 1));
    STUB_CASE(trim_of(16, 2));
}

/* proof: shrink: as trim, when it is called for any ring.
   broken: csrc/base/ring.c: PyMem_RawFree(ring->items);\n    ring->items = items; ==> ring->items = items; */
static void
shrink_of(uint32_t cap, uint32_t count)
{
    TwRing ring = any_ring(cap), old;
    Witness w;

    ring.count = count;
    old = ring;
    w = witness(&ring);

    tw_ring_shrink(&ring);
    assert(valid(&ring) && ring.count == old.count);
    if (w.i < old.count) {
        assert(tw_ring_at(&ring, w.i) == w.item);
    }
    tw_ring_fini(&ring);
}

void
shrink(void)
{
    STUB_CASE(shrink_of(8, 3));
    STUB_CASE(shrink_of(8, 5));
    STUB_CASE(shrink_of(16, 2));
}

/* proof: largest: the number of slots never wraps around.
   broken: csrc/base/ring.c: cap < ring->cap || !ring_move ==> !ring_move */
void
largest(void)
{
    TwRing ring = {.cap = 0x80000000u, .count = 0x80000000u}, old = ring;

    assert(tw_ring_grow(&ring) == -1);
    assert(stub_error == STUB_MEMORY_ERROR);
    assert(ring.cap == old.cap && ring.items == old.items);
}
