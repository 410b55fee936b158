/* base/heap: timers in order.

   small: csrc/base/common.h: #define TW_KEEP_SLOTS 4096 ==> #define TW_KEEP_SLOTS 4
   unwind: 7
   small: csrc/base/heap.c: heap->cap * 2 : 32 ==> heap->cap * 2 : 2 */
#include "base/heap.c"

STUB_BLOCKS_OF(TwHeapEntry)

#define MOST 5 /* timers */

static bool
valid(const TwHeap *heap)
{
    if (heap->count > heap->cap
        || (heap->cap == 0) != (heap->entries == NULL)) {
        return false;
    }
    for (size_t i = 0; i < heap->count; i++) {
        if (isnan(heap->entries[i].when)) {
            return false;
        }
        if (i > 0
            && entry_before(&heap->entries[i], &heap->entries[(i - 1) / 2])) {
            return false;
        }
    }
    return true;
}

/* Any heap of so many timers; all are of different numbers, smaller than the
   next one. */
static TwHeap
any_heap(size_t cap, size_t count)
{
    TwHeap heap;

    heap.cap = cap;
    heap.count = count;
    heap.entries = cap == 0 ? NULL : malloc(cap * sizeof(TwHeapEntry));
    __CPROVER_assume(cap == 0 || heap.entries != NULL);
    __CPROVER_assume(valid(&heap));
    __CPROVER_assume(heap.next_seq < UINT64_MAX);
    for (size_t i = 0; i < heap.count; i++) {
        __CPROVER_assume(heap.entries[i].seq < heap.next_seq);
        for (size_t j = 0; j < i; j++) {
            __CPROVER_assume(heap.entries[i].seq != heap.entries[j].seq);
        }
    }
    return heap;
}

static bool
same(const TwHeapEntry *a, const TwHeapEntry *b)
{
    return a->when == b->when && a->seq == b->seq && a->item == b->item;
}

static bool
contains(const TwHeap *heap, const TwHeapEntry *entry)
{
    for (size_t i = 0; i < heap->count; i++) {
        if (same(&heap->entries[i], entry)) {
            return true;
        }
    }
    return false;
}

/* Any one of its timers: what holds for it holds for all. */
static TwHeapEntry
any_entry(const TwHeap *heap, size_t *i)
{
    size_t n = nondet_size();

    __CPROVER_assume(n < heap->count);
    *i = n;
    return heap->entries[n];
}

/* proof: push: in order, nothing is lost, the new one is there; NaN comes
   before all numbers; without memory nothing changes.
   broken: csrc/base/heap.c: i = parent; ==> i = 0; */
static void
push_of(size_t cap, size_t count)
{
    TwHeap heap = any_heap(cap, count), old = heap;
    TwHeapEntry one, added;
    size_t i;
    double when;

    if (count > 0) {
        one = any_entry(&heap, &i);
    }
    added.when = isnan(when) ? -INFINITY : when;
    added.seq = heap.next_seq;
    if (tw_heap_push(&heap, when, added.item) == 0) {
        assert(heap.count == count + 1 && heap.next_seq == old.next_seq + 1);
        assert(contains(&heap, &added));
    }
    else {
        assert(stub_error == STUB_MEMORY_ERROR);
        assert(heap.count == count && heap.next_seq == old.next_seq);
    }
    assert(valid(&heap));
    assert(count == 0 || contains(&heap, &one));
    tw_heap_fini(&heap);
    assert(heap.entries == NULL && heap.count == 0);
}

void
push(void)
{
    STUB_CASE(push_of(0, 0));
    STUB_CASE(push_of(2, 1));
    STUB_CASE(push_of(2, 2));
    STUB_CASE(push_of(4, 3));
}

/* proof: pop: the earliest, of equal ones the first that was made; the others
   stay, in order.
   broken: csrc/base/heap.c: a->seq < b->seq ==> a->seq > b->seq
   broken: csrc/base/heap.c: child++; ==> ; */
static void
pop_of(size_t cap, size_t count)
{
    TwHeap heap = any_heap(cap, count);
    size_t i;

    TwHeapEntry first = heap.entries[0], one = any_entry(&heap, &i);
    assert(tw_heap_pop(&heap) == first.item);
    assert(first.when < one.when
           || (first.when == one.when && first.seq <= one.seq));
    assert(heap.count == count - 1 && valid(&heap));
    assert(i == 0 || contains(&heap, &one));
    tw_heap_fini(&heap);
}

void
pop(void)
{
    STUB_CASE(pop_of(1, 1));
    STUB_CASE(pop_of(2, 2));
    STUB_CASE(pop_of(3, 3));
    STUB_CASE(pop_of(MOST, MOST));
}

/* proof: take_last: only the last one of the array, and the order stays.
   broken: csrc/base/heap.c: heap->count--;\n    return true; ==> return true; */
static void
take_last_of(size_t cap, size_t count)
{
    TwHeap heap = any_heap(cap, count);
    size_t i;
    void *item;

    bool is_last = count > 0 && heap.entries[count - 1].item == item;
    assert(tw_heap_take_last(&heap, item) == is_last);
    assert(heap.count == count - is_last && valid(&heap));
    if (heap.count > 0) {
        any_entry(&heap, &i);
        assert(i < count);
    }
    tw_heap_fini(&heap);
}

void
take_last(void)
{
    STUB_CASE(take_last_of(0, 0));
    STUB_CASE(take_last_of(2, 0));
    STUB_CASE(take_last_of(2, 2));
    STUB_CASE(take_last_of(MOST, MOST));
}

static bool
is_odd(void *item)
{
    return ((uintptr_t)item & 1) != 0;
}

/* proof: filter: what shall go is gone and handed over, in order; all else
   stays, and the heap is one.
   broken: csrc/base/heap.c: heap_sift_down(heap, i);\n    }\n    return gone ==> }\n    return gone */
static void
filter_of(size_t cap, size_t count)
{
    TwHeap heap = any_heap(cap, count);
    void *dropped[MOST];
    size_t i;

    TwHeapEntry one = any_entry(&heap, &i);
    size_t gone = tw_heap_filter(&heap, is_odd, dropped);
    assert(heap.count + gone == count && valid(&heap));
    assert(contains(&heap, &one) == !is_odd(one.item));
    bool handed_over = false;
    for (size_t j = 0; j < gone; j++) {
        assert(is_odd(dropped[j]));
        handed_over |= dropped[j] == one.item;
    }
    assert(handed_over || !is_odd(one.item));
    tw_heap_fini(&heap);
}

void
filter(void)
{
    filter_of(3, 3);
}

/* proof: trim: all timers stay, and there is room for them.
   unwind: 34
   broken: csrc/base/heap.c: cap > TW_KEEP_SLOTS ? cap : TW_KEEP_SLOTS ==> 1 */
static void
trim_of(size_t cap, size_t count)
{
    TwHeap heap = {.cap = cap, .count = count};
    size_t i;

    heap.entries = malloc(cap * sizeof(TwHeapEntry));
    __CPROVER_assume(heap.entries != NULL);
    TwHeapEntry one = any_entry(&heap, &i);
    __CPROVER_assume(!isnan(one.when));
    tw_heap_trim(&heap);
    assert(heap.count == count && heap.cap >= count && heap.cap <= cap);
    assert(same(&heap.entries[i], &one));
    tw_heap_fini(&heap);
}

void
trim(void)
{
    STUB_CASE(trim_of(32, 1));
    STUB_CASE(trim_of(32, 3));
    STUB_CASE(trim_of(32, 4));
    STUB_CASE(trim_of(4, 1));
}

/* proof: sorts: timers of any moments come out by time and, where that is
   equal, in the order in which they went in.
   broken: csrc/base/heap.c: heap->next_seq++ ==> heap->next_seq */
void
sorts(void)
{
    TwHeap heap = {.cap = 4};
    double when[3];
    uintptr_t last = 0;

    heap.entries = malloc(4 * sizeof(TwHeapEntry));
    __CPROVER_assume(heap.entries != NULL);
    for (uintptr_t i = 1; i <= 3; i++) {
        __CPROVER_assume(!isnan(when[i - 1]));
        __CPROVER_assume(tw_heap_push(&heap, when[i - 1], (void *)i) == 0);
    }
    for (int i = 0; i < 3; i++) {
        uintptr_t now = (uintptr_t)tw_heap_pop(&heap);
        assert(last == 0 || when[last - 1] < when[now - 1]
               || (when[last - 1] == when[now - 1] && last < now));
        last = now;
    }
    tw_heap_fini(&heap);
}
