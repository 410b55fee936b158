/* A growing first-in first-out queue of pointers: the loop's ready queue.

   It never runs Python and never looks at what it holds: the references are
   the caller's.  All functions need the GIL (it is what protects the ready
   queue against call_soon_threadsafe from other threads). */
#pragma once

#include "base/common.h"

typedef struct {
    void **items;  /* ours: `cap` slots (a power of two), or NULL */
    uint32_t head; /* index of the oldest item */
    uint32_t count;
    uint32_t cap;
} TwRing;

/* Make room for one more.  0, or -1 with MemoryError. */
TW_MUSTCHECK tw_status tw_ring_grow(TwRing *ring);

/* Free memory that the items do not need.  See tw_ring_trim(). */
void tw_ring_shrink(TwRing *ring);

/* Free the slots, but no references. */
void tw_ring_fini(TwRing *ring);

/* Append; on success the ring owns the caller's reference. */
TW_MUSTCHECK static inline tw_status
tw_ring_push(TwRing *ring, void *item)
{
    if (TW_UNLIKELY(ring->count == ring->cap) && tw_ring_grow(ring) < 0) {
        return -1;
    }
    ring->items[(ring->head + ring->count++) & (ring->cap - 1)] = item;
    return 0;
}

/* Remove the oldest; the ring must not be empty. */
static inline void *
tw_ring_pop(TwRing *ring)
{
    void *item = ring->items[ring->head];

    ring->head = (ring->head + 1) & (ring->cap - 1);
    ring->count--;
    return item;
}

/* Free what only a burst needed, but keep some room.  Cheap. */
static inline void
tw_ring_trim(TwRing *ring)
{
    if (TW_UNLIKELY(ring->cap > TW_KEEP_SLOTS
                    && ring->count < ring->cap / 8)) {
        tw_ring_shrink(ring);
    }
}

/* The i-th oldest item, borrowed: valid while it stays in the ring. */
static inline void *
tw_ring_at(const TwRing *ring, uint32_t i)
{
    return ring->items[(ring->head + i) & (ring->cap - 1)];
}
