#include "base/ring.h"

/* Move the items to `cap` slots, which must be enough.  False: no memory. */
static bool
ring_move(TwRing *ring, uint32_t cap)
{
    void **items = PyMem_RawMalloc(cap * sizeof(void *));

    if (items == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < ring->count; i++) {
        items[i] = tw_ring_at(ring, i);
    }
    PyMem_RawFree(ring->items);
    ring->items = items;
    ring->head = 0;
    ring->cap = cap;
    return true;
}

tw_status
tw_ring_grow(TwRing *ring)
{
    uint32_t cap = ring->cap ? ring->cap * 2 : 64;

    if (cap < ring->cap || !ring_move(ring, cap)) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

void
tw_ring_shrink(TwRing *ring)
{
    uint32_t cap = TW_KEEP_SLOTS;

    while (cap / 2 < ring->count) {
        cap *= 2;
    }
    (void)ring_move(ring, cap); /* without memory the ring stays as it is */
}

void
tw_ring_fini(TwRing *ring)
{
    PyMem_RawFree(ring->items);
    *ring = (TwRing){0};
}
