#include "base/ring.h"

tw_status
tw_ring_grow(TwRing *ring)
{
    uint32_t cap = ring->cap ? ring->cap * 2 : 64;
    void **items = PyMem_RawMalloc(cap * sizeof(void *));

    if (items == NULL || cap < ring->cap) {
        PyMem_RawFree(items);
        PyErr_NoMemory();
        return -1;
    }
    for (uint32_t i = 0; i < ring->count; i++) {
        items[i] = tw_ring_at(ring, i);
    }
    PyMem_RawFree(ring->items);
    ring->items = items;
    ring->head = 0;
    ring->cap = cap;
    return 0;
}

void
tw_ring_fini(TwRing *ring)
{
    PyMem_RawFree(ring->items);
    *ring = (TwRing){0};
}
