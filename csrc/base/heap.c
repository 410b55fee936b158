#include "base/heap.h"

#include <math.h>

static inline bool
entry_before(const TwHeapEntry *a, const TwHeapEntry *b)
{
    return a->when < b->when || (a->when == b->when && a->seq < b->seq);
}

static void
heap_sift_up(TwHeap *heap, size_t i)
{
    TwHeapEntry moving = heap->entries[i];

    while (i > 0) {
        size_t parent = (i - 1) / 2;
        if (!entry_before(&moving, &heap->entries[parent])) {
            break;
        }
        heap->entries[i] = heap->entries[parent];
        i = parent;
    }
    heap->entries[i] = moving;
}

static void
heap_sift_down(TwHeap *heap, size_t i)
{
    TwHeapEntry moving = heap->entries[i];

    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= heap->count) {
            break;
        }
        if (child + 1 < heap->count
            && entry_before(&heap->entries[child + 1],
                            &heap->entries[child])) {
            child++;
        }
        if (!entry_before(&heap->entries[child], &moving)) {
            break;
        }
        heap->entries[i] = heap->entries[child];
        i = child;
    }
    heap->entries[i] = moving;
}

/* False: there is no memory, and nothing has changed. */
static bool
heap_set_cap(TwHeap *heap, size_t cap)
{
    TwHeapEntry *entries =
        PyMem_RawRealloc(heap->entries, cap * sizeof(*entries));

    if (entries == NULL) {
        return false;
    }
    heap->entries = entries;
    heap->cap = cap;
    return true;
}

void
tw_heap_trim(TwHeap *heap)
{
    size_t cap = heap->count * 2;

    if (TW_UNLIKELY(heap->cap > TW_KEEP_SLOTS
                    && heap->count < heap->cap / 8)) {
        (void)heap_set_cap(heap, cap > TW_KEEP_SLOTS ? cap : TW_KEEP_SLOTS);
    }
}

tw_status
tw_heap_push(TwHeap *heap, double when, void *item)
{
    if (heap->count == heap->cap
        && !heap_set_cap(heap, heap->cap ? heap->cap * 2 : 32)) {
        PyErr_NoMemory();
        return -1;
    }
    heap->entries[heap->count] = (TwHeapEntry){
        .when = isnan(when) ? -INFINITY : when,
        .seq = heap->next_seq++,
        .item = item,
    };
    heap_sift_up(heap, heap->count++);
    return 0;
}

void *
tw_heap_pop(TwHeap *heap)
{
    void *item = heap->entries[0].item;

    heap->entries[0] = heap->entries[--heap->count];
    if (heap->count > 0) {
        heap_sift_down(heap, 0);
    }
    return item;
}

bool
tw_heap_take_last(TwHeap *heap, void *item)
{
    if (heap->count == 0 || heap->entries[heap->count - 1].item != item) {
        return false;
    }
    heap->count--;
    return true;
}

size_t
tw_heap_filter(TwHeap *heap, bool (*drop)(void *item), void **dropped)
{
    size_t kept = 0, gone = 0;

    for (size_t i = 0; i < heap->count; i++) {
        if (drop(heap->entries[i].item)) {
            dropped[gone++] = heap->entries[i].item;
        }
        else {
            heap->entries[kept++] = heap->entries[i];
        }
    }
    heap->count = kept;
    for (size_t i = kept / 2; i-- > 0;) {
        heap_sift_down(heap, i);
    }
    return gone;
}

void
tw_heap_fini(TwHeap *heap)
{
    PyMem_RawFree(heap->entries);
    *heap = (TwHeap){0};
}
