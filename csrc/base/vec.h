/* A set of pointers in an array, where each member knows its own place.

   The member keeps its index (TW_VEC_NONE: not in the set) in a field of its
   own, so that its removal takes constant time.  Members are in the order of
   their arrival until one is removed. */
#pragma once

#include "base/common.h"

#define TW_VEC_NONE UINT32_MAX

typedef struct {
    void **items;  /* borrowed pointers */
    uint32_t count;
    uint32_t cap;
    size_t place; /* offset of the uint32_t index in a member */
} TwVec;

/* Room for `n` more.  Raw allocator: usable without the GIL.  0 or -ENOMEM. */
TW_MUSTCHECK tw_uverr tw_vec_reserve(TwVec *vec, uint32_t n);

/* Free memory, but keep room for `least` members.  Cheap. */
void tw_vec_trim(TwVec *vec, uint32_t least);

void tw_vec_fini(TwVec *vec);

static inline uint32_t *
tw_vec_place(const TwVec *vec, void *item)
{
    return (uint32_t *)((char *)item + vec->place);
}

/* Add a member that is not in the set; room must have been reserved. */
static inline void
tw_vec_add(TwVec *vec, void *item)
{
    *tw_vec_place(vec, item) = vec->count;
    vec->items[vec->count++] = item;
}

/* Remove a member, if it is in the set: the last one gets its place. */
static inline void
tw_vec_discard(TwVec *vec, void *item)
{
    uint32_t i = *tw_vec_place(vec, item);

    if (i == TW_VEC_NONE) {
        return;
    }
    *tw_vec_place(vec, item) = TW_VEC_NONE;
    vec->count--;
    if (i < vec->count) {
        vec->items[i] = vec->items[vec->count];
        *tw_vec_place(vec, vec->items[i]) = i;
    }
}

/* The same, but the order stays: NULL gets its place, unless it was the
   last. */
static inline void
tw_vec_leave_gap(TwVec *vec, void *item)
{
    uint32_t i = *tw_vec_place(vec, item);

    if (i == TW_VEC_NONE) {
        return;
    }
    *tw_vec_place(vec, item) = TW_VEC_NONE;
    vec->items[i] = NULL;
    while (vec->count > 0 && vec->items[vec->count - 1] == NULL) {
        vec->count--;
    }
}
