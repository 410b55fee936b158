/* Timers in the turn: those that are due move to the ready queue. */
#include <math.h>

#include "base/compat.h"
#include "core/handle.h"
#include "core/turn.h"

/* A timer that is due within the clock's resolution is due, as in asyncio (or
   within that of a float, see TW_TIMER_ULP). */
#define TIMERS_RESOLUTION 1e-9
/* As in asyncio: cancelled timers are removed when there are this many, and
   they are half of all. */
#define TIMERS_CANCELLED_MIN 100

static bool
timers_is_cancelled(void *item)
{
    return ((TwHandle *)item)->flags & TW_H_CANCELLED;
}

tw_status
tw_turn_drop_cancelled(TwLoop *loop)
{
    TwHeap *heap = &loop->timers;

    if (loop->timers_cancelled > TIMERS_CANCELLED_MIN
        && loop->timers_cancelled * 2 > heap->count) {
        void **dropped = PyMem_RawMalloc(heap->count * sizeof(void *));
        if (dropped == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        size_t n = tw_heap_filter(heap, timers_is_cancelled, dropped);
        loop->timers_cancelled = 0;
        for (size_t i = 0; i < n; i++) {
            ((TwHandle *)dropped[i])->flags &= ~TW_H_SCHEDULED;
            tw_handle_release_steal(dropped[i]);
        }
        PyMem_RawFree(dropped);
    }
    while (heap->count > 0 && timers_is_cancelled(heap->entries[0].item)) {
        TwHandle *handle = tw_heap_pop(heap);
        handle->flags &= ~TW_H_SCHEDULED;
        loop->timers_cancelled--;
        tw_handle_release_steal(handle);
    }
    return 0;
}

/* A timer is due this long before its time. */
static double
timers_clock_step(double now)
{
    return TW_TIMER_ULP ? fmax(TIMERS_RESOLUTION,
                               nextafter(now, INFINITY) - now)
                        : TIMERS_RESOLUTION;
}

Py_ssize_t
tw_turn_collect_timers(TwLoop *loop)
{
    Py_ssize_t n = 0;
    double limit;

    if (TW_LIKELY(loop->timers.count == 0)) {
        return 0;
    }
    limit = tw_loop_time(loop);
    if (limit == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    limit += timers_clock_step(limit);
    /* Not "when < limit": if the clock says NaN, every timer is due. */
    while (loop->timers.count > 0
           && !(loop->timers.entries[0].when >= limit)) {
        TwHandle *handle = loop->timers.entries[0].item;
        if (tw_ring_push(&loop->ready, handle) < 0) {
            return -1;
        }
        tw_heap_pop(&loop->timers);
        handle->flags &= ~TW_H_SCHEDULED;
        if (handle->flags & TW_H_CANCELLED) {
            loop->timers_cancelled--;
        }
        n++;
    }
    return n;
}
