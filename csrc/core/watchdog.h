/* Slow callbacks in production: tidewire.watch() (pkg/tidewire/_watch.py).

   Two parts detect them.  The loop: it measures its callbacks anyway
   (core/metrics.h); when one took longer than the threshold, it calls `report`
   after that callback has returned.  And a watchdog, a thread in
   _watch_wait(): while a callback runs too long, it returns to Python, which
   reads the stack of the loop's thread.

   The watchdog needs no GIL to check the loop.  It checks several times in a
   threshold while the loop works; while the loop waits, or does not run, it
   sleeps until the loop wakes it.  It reads `callbacks`, `first`, `begin`,
   `sleeping` and `running` of the loop without a lock (TW_SHARED_GET): an old
   value only causes another check.  It also writes `until`: the running
   callback then ends its batch, so that the loop measures that one by itself.

   On a busy machine the watchdog is late.  Then the loop reads the clock of
   ticks after each callback, and a tick ends the batch: the other callbacks of
   the batch began and ended between two ticks.

   The struct belongs to the loop, and lives as long as the loop.  `mutex`
   protects the fields between it and `base`; the rest needs the GIL. */
#pragma once

#include <pthread.h>

#include "base/clock.h"
#include "core/loop.h"

/* What the loop's thread had used, all in ns. */
typedef struct {
    uint64_t when;
    uint64_t cpu;    /* CPU time */
    uint64_t queued; /* ready to run, but without a processor */
    bool has_cpu, has_queued;
} TwUsage;

struct TwWatchdog {
    PyObject *report;      /* strong or NULL: gets a tuple of the callback or
                              None, and what _watch_wait() returns */
    uint64_t threshold;    /* ns; 0: off */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t generation;   /* of the watchdog: an older one ends */
    bool parked;           /* it sleeps until the loop wakes it */
    uint64_t seen;         /* callbacks, as of the last look... */
    uint64_t seen_ns;      /* ...and when it first saw so many */
    uint64_t next;         /* ns: the watchdog returns when it has run for so
                              long: the threshold, ten, twice as long... */
    char state;            /* of the loop's thread, when it took too long */
    uint64_t asked;        /* ns: when the watchdog asked for the GIL; or 0 */
    uint64_t gil_ns;       /* it got the GIL after so long */
    clockid_t cpu_clock;   /* of the loop's thread */
    bool has_cpu_clock;
    pid_t thread;          /* its number, or 0 */
    TwUsage base;          /* a bit before the current batch began */
    uint64_t looked;       /* ns: when the watchdog checked last */
    uint64_t late_until;   /* ns: it is thought to be late until then */
    uint64_t tick;         /* ns: if it is late, the tick in which the batch
                              began; or 0 */
    uint64_t tick_length;
    uint64_t until;        /* if it is late, TwTiming's, which is 0 */
};

/* The batch is full, or the watchdog wants it to end with `item`: a handle, a
   stepper, or the owner of a watcher.  Keeps the exception that is set.  May
   run Python. */
void tw_watchdog_callback_ended(TwLoop *loop, PyObject *item);

/* The loop waits, or stops, from `now` on: the batch ends.  The same. */
void tw_watchdog_pauses(TwLoop *loop, uint64_t now);

/* `item` has run. */
static inline void
tw_watchdog_callback(TwLoop *loop, PyObject *item)
{
    uint64_t n = loop->stats.callbacks + 1;

    TW_SHARED_SET(loop->stats.callbacks, n);
    if (TW_METRICS && TW_UNLIKELY(n >= TW_SHARED_GET(loop->timing.until))) {
        tw_watchdog_callback_ended(loop, item);
    }
}

/* The loop has waited.  Wakes the watchdog, if it sleeps. */
void tw_watchdog_works_again(TwLoop *loop);

static inline void
tw_watchdog_works(TwLoop *loop)
{
    if (TW_UNLIKELY(loop->watchdog != NULL)) {
        tw_watchdog_works_again(loop);
    }
}

/* The loop begins to run on this thread. */
void tw_watchdog_run(TwLoop *loop);

/* In a forked child, which has no watchdog. */
void tw_watchdog_after_fork(TwWatchdog *dog);

void tw_watchdog_free(TwWatchdog *dog);

/* _watch_begin(), _watch_wait(), _watch_count(), _watch_end(). */
extern PyMethodDef tw_watchdog_loop_methods[];
