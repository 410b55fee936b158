#include "base/vec.h"

#include <errno.h>

tw_uverr
tw_vec_reserve(TwVec *vec, uint32_t n)
{
    uint32_t cap = vec->cap ? vec->cap : 16;

    if (vec->cap - vec->count >= n) {
        return 0;
    }
    if (n > UINT32_MAX / 2 - vec->count) { /* a number of slots would wrap */
        return -ENOMEM;
    }
    while (cap - vec->count < n) {
        cap *= 2;
    }
    void **items = PyMem_RawRealloc(vec->items, cap * sizeof(void *));
    if (items == NULL) {
        return -ENOMEM;
    }
    vec->items = items;
    vec->cap = cap;
    return 0;
}

void
tw_vec_trim(TwVec *vec, uint32_t least)
{
    uint32_t cap = 2 * (vec->count > least ? vec->count : least);
    void **items;

    if (TW_LIKELY(vec->cap <= TW_KEEP_SLOTS || cap >= vec->cap / 4)) {
        return;
    }
    cap = cap > TW_KEEP_SLOTS ? cap : TW_KEEP_SLOTS;
    items = PyMem_RawRealloc(vec->items, cap * sizeof(void *));
    if (items != NULL) {
        vec->items = items;
        vec->cap = cap;
    }
}

void
tw_vec_fini(TwVec *vec)
{
    PyMem_RawFree(vec->items);
    vec->items = NULL;
    vec->count = vec->cap = 0;
}
