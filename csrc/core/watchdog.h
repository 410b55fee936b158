/* Slow callbacks in production: tidewire.watch() (pkg/tidewire/_watch.py).

   Two parts detect them.  The loop: when the metrics' clock says that a
   callback took longer than the threshold (core/metrics.h), it calls `report`
   after that callback has returned.  And a watchdog, a thread in
   _watch_wait(): while a callback runs too long, it returns to
   Python, which reads the stack of the loop's thread.

   The watchdog needs no GIL to check the loop.  It checks several times in a
   threshold while the loop works; while the loop waits, or does not run, it
   sleeps until the loop wakes it.  It reads `callbacks`, `first`, `begin`,
   `sleeping` and `running` of the loop without a lock (TW_SHARED_GET): an old
   value only causes another check.  It also writes `until`: the running
   callback then ends its batch, so that the loop measures that one by
   itself.

   The struct belongs to the loop, and lives as long as the loop.  `mutex`
   protects the fields below it; the rest needs the GIL. */
#pragma once

#include <pthread.h>

#include "base/clock.h"
#include "core/loop.h"

struct TwWatchdog {
    PyObject *report;      /* strong or NULL: gets a tuple of item or None,
                              and what _watch_wait() returns */
    uint64_t threshold;    /* ns; 0: off */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t generation;   /* of the watchdog: an older one ends */
    bool parked;           /* it sleeps until the loop wakes it */
    clockid_t cpu_clock;   /* of the loop's thread */
    bool has_cpu_clock;
    pid_t thread;          /* its number, or 0 */
    uint64_t seen;         /* callbacks, as of the last look... */
    uint64_t seen_ns;      /* ...when it first saw so many... */
    uint64_t seen_cpu;     /* ...and the loop's CPU time then, ns */
    uint64_t next;         /* ns: the watchdog returns when it has run for so
                              long: the threshold, ten, twice as long... */
    char state;            /* of the loop's thread, when it took too long */
    uint64_t asked;        /* ns: when the watchdog asked for the GIL; or 0 */
    uint64_t gil_ns;       /* it got the GIL after so long */
};

/* A batch of callbacks ends at `now` with `item`: a handle, a stepper, or the
   owner of a watcher; NULL: with the turn.  Keeps the exception that is set.
   May run Python. */
void tw_watchdog_batch(TwLoop *loop, PyObject *item, uint64_t now);

/* `item` has run. */
static inline void
tw_watchdog_callback(TwLoop *loop, PyObject *item)
{
    uint64_t n = loop->stats.callbacks + 1;

    TW_SHARED_SET(loop->stats.callbacks, n);
    if (TW_METRICS && TW_UNLIKELY(n >= TW_SHARED_GET(loop->timing.until))) {
        tw_watchdog_batch(loop, item, tw_now_ns());
    }
}

/* Wake the watchdog, if it sleeps: the loop works. */
void tw_watchdog_wake(TwWatchdog *dog);

static inline void
tw_watchdog_works(const TwLoop *loop)
{
    if (TW_UNLIKELY(loop->watchdog != NULL)) {
        tw_watchdog_wake(loop->watchdog);
    }
}

/* The loop begins to run on this thread. */
void tw_watchdog_run(TwLoop *loop);

/* In a forked child, which has no watchdog. */
void tw_watchdog_after_fork(TwWatchdog *dog);

void tw_watchdog_free(TwWatchdog *dog);

/* _watch_begin(), _watch_wait(), _watch_count(), _watch_end(). */
extern PyMethodDef tw_watchdog_loop_methods[];
