/* A binary min-heap of timers.

   Order: by `when`, and timers of the same moment in the order in which they
   were made.  NaN is before every number, so that the order is total.
   Cancelled timers stay until they reach the top, or until the owner removes
   them with tw_heap_filter(); the last one in the array can be removed at
   once (the common "schedule, then cancel").  Never runs Python. */
#pragma once

#include "base/common.h"

typedef struct {
    double when;  /* seconds of time.monotonic(); NaN is kept as -inf */
    uint64_t seq; /* breaks ties */
    void *item;   /* the owner's reference */
} TwHeapEntry;

typedef struct {
    TwHeapEntry *entries; /* ours */
    size_t count;
    size_t cap;
    uint64_t next_seq;
} TwHeap;

/* Add; on success the heap owns the caller's reference. */
TW_MUSTCHECK tw_status tw_heap_push(TwHeap *heap, double when, void *item);

/* Remove the earliest; the heap must not be empty. */
void *tw_heap_pop(TwHeap *heap);

/* Remove `item` if it is the last of the array; return whether it was. */
bool tw_heap_take_last(TwHeap *heap, void *item);

/* Move the items for which `drop` is true to `dropped` (room for `count`
   pointers), restore the order, return how many. */
size_t tw_heap_filter(TwHeap *heap, bool (*drop)(void *item),
                      void **dropped);

/* Free memory that only a burst of timers needed.  Cheap. */
void tw_heap_trim(TwHeap *heap);

void tw_heap_fini(TwHeap *heap);
