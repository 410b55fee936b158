/* The turn: a poll, and the generations of callbacks that follow it.

       poll: pass the watchers' changes to the poller, poll or wait
       generation: 1. handles that were ready before the poll
                   2. due descriptors   3. due timers
       more generations without a poll, if no descriptor can be ready

   docs/internals/core.rst has a picture. */
#include "core/turn.h"

#include "base/clock.h"
#include "core/debug.h"
#include "core/handle.h"
#include "core/nest.h"
#include "core/overrides.h"
#include "core/probes.h"
#include "core/source.h"
#include "core/watchdog.h"
#include "core/watcher.h"

/* Reading the clock costs as much as a small callback.  While no descriptor is
   watched, it is read after every generation that is slower than this, and
   after one in so many quicker ones. */
#define TURN_QUICK_NS 2000u
#define TURN_QUICK_READ 16
/* This many generations whose polls found nothing make a chain. */
#define TURN_CHAIN_LENGTH 64
/* Compared with a slower generation a poll costs little. */
#define TURN_CHAIN_NS 1000u
/* A callback that makes a descriptor ready takes longer than this. */
#define TURN_CALL_NS 150u

/* Run the next `n` of the ready queue. */
static tw_status
turn_run_ready(TwLoop *loop, Py_ssize_t n)
{
    tw_state *state = loop->state;
    tw_status status = 0;

    while (n-- > 0 && status == 0 && loop->ready.count > 0) {
        PyObject *item = tw_ring_pop(&loop->ready);
        if (TW_LIKELY(tw_handle_is(state, item))) {
            if (tw_nest_is_entered(loop, (TwHandle *)item)) {
                status = tw_nest_put_aside_steal(loop, (TwHandle *)item);
                continue;
            }
            TW_PROBE2(callback__begin, loop, item);
            status = tw_handle_run((TwHandle *)item);
            TW_PROBE2(callback__end, loop, item);
            tw_watchdog_callback(loop, item);
            tw_handle_retire_steal((TwHandle *)item, status);
        }
        else {
            TW_PROBE2(callback__begin, loop, item);
            status = TW_UNLIKELY(loop->debug)
                         ? tw_debug_step(loop, item)
                         : ((TwStepper *)item)->ops->step(item);
            TW_PROBE2(callback__end, loop, item);
            tw_watchdog_callback(loop, item);
            Py_DECREF(item);
        }
    }
    return status;
}

/* How late a timer is, as of the last reading of the clock.  The program's own
   clock may tell another time. */
static void
turn_note_lag(TwLoop *loop, PyObject *item)
{
    TwHandle *handle = (TwHandle *)item;
    uint64_t begin = loop->timing.begin, turn = loop->gauges.turn_start;
    double ns;

    if (tw_handle_is(loop->state, item) && handle->flags & TW_H_TIMER
        && !(handle->flags & TW_H_CANCELLED) && !tw_overrides_time(loop)) {
        ns = (double)(turn > begin ? turn : begin) - handle->when * 1e9;
        tw_stats_time(&loop->stats.hist.lag, ns > 0 ? (uint64_t)ns : 0);
    }
}

/* Run the next `n`, which were timers. */
static tw_status
turn_run_timers(TwLoop *loop, Py_ssize_t n)
{
    tw_status status = 0;

    while (n-- > 0 && status == 0 && loop->ready.count > 0) {
        turn_note_lag(loop, tw_ring_at(&loop->ready, 0));
        status = turn_run_ready(loop, 1);
    }
    return status;
}

static tw_status
turn_run_generation(TwLoop *loop)
{
    Py_ssize_t ready = loop->ready.count;
    Py_ssize_t timers = tw_turn_collect_timers(loop);

    if (timers < 0) {
        return -1;
    }
    tw_timing_depth(&loop->timing, &loop->stats,
                    loop->ready.count + loop->due.count);
    if (turn_run_ready(loop, ready) < 0
        || (loop->due.count > 0 && tw_watcher_run_due(loop) < 0)) {
        return -1;
    }
    return timers > 0 ? turn_run_timers(loop, timers) : 0;
}

static bool
turn_has_signal_handlers(const TwLoop *loop)
{
    PyObject *handlers = loop->signal_handlers;

    return handlers == NULL || !PyDict_Check(handlers)
           || PyDict_GET_SIZE(handlers) > 0;
}

/* Could a callback make a descriptor ready that the loop watches?  The wakeup
   descriptor, which is always watched, is written to by signals and other
   threads. */
static bool
turn_has_descriptors(const TwLoop *loop)
{
    return loop->watchers.count > 1 || turn_has_signal_handlers(loop);
}

/* A generation took `ns`.  Was it too quick for a system call that makes a
   descriptor ready?  asyncio polls after every generation, and programs (and
   more tests) rely on it: they write to a socket in any way they like, and
   expect the data after so many sleep(0).  So a poll is skipped only in a long
   chain of generations whose polls found nothing, and only after a generation
   that took hardly longer than the quickest of them. */
static bool
turn_was_quick(TwChain *chain, uint64_t ns)
{
    if (ns < chain->quickest) {
        chain->quickest = ns;
    }
    if (chain->length < TURN_CHAIN_LENGTH) {
        chain->length++;
        return false;
    }
    return chain->quickest < TURN_CHAIN_NS
           && ns < chain->quickest + TURN_CALL_NS;
}

/* What was there before a generation. */
typedef struct {
    uint32_t due, fed, calls;
} TurnFed;

/* The generations that follow one poll. */
typedef struct {
    uint64_t start;  /* ns: of the first, if something was ready; or 0 */
    uint64_t before; /* ns: of the last for which the clock was read */
    int unread;      /* so many may end without reading it */
    TurnFed fed;     /* before the last */
} TurnStretch;

static inline TurnFed
turn_note_fed(const TwLoop *loop)
{
    return (TurnFed){loop->ready.count == 0 ? loop->due.count : 0, loop->fed,
                     loop->callback_number};
}

/* Did the generation do nothing but feed a few bytes to each of some
   StreamReaders?  That makes no descriptor of this process ready, and no code
   of the program ran.  So asyncio's next poll could only find what comes from
   outside at this moment; it may as well come after the readers' tasks. */
static inline bool
turn_only_fed(const TwLoop *loop, const TurnFed *before)
{
    return before->due > 0 && loop->fed - before->fed == before->due
           && loop->callback_number == before->calls
           && loop->ready.count > 0 && loop->changed.count == 0
           && !loop->stopping;
}

static TurnStretch
turn_begin_stretch(const TwLoop *loop)
{
    uint64_t now = loop->ready.count > 0 ? tw_now_ns() : 0;

    return (TurnStretch){.start = now, .before = now};
}

/* After a generation: run the next one, or poll?  A poll is needed if nothing
   is ready, if a descriptor may be ready, or if the generations have taken
   their time. */
static bool
turn_skips_poll(TwLoop *loop, TurnStretch *stretch)
{
    uint64_t now, ns;

    if (turn_only_fed(loop, &stretch->fed)) {
        return true;
    }
    if (loop->ready.count == 0 || loop->changed.count > 0 || loop->stopping) {
        return false;
    }
    if (stretch->unread > 0 && !turn_has_descriptors(loop)) {
        stretch->unread--;
        return true;
    }
    now = tw_now_ns();
    ns = now - stretch->before;
    if (now - stretch->start > tw_gil_stretch(&loop->gil, now)
        || (turn_has_descriptors(loop)
            && !turn_was_quick(&loop->chain, ns))) {
        return false;
    }
    stretch->unread = ns < TURN_QUICK_NS && !tw_gil_is_wanted(&loop->gil, now)
                          ? TURN_QUICK_READ - 1
                          : 0;
    stretch->before = now;
    return true;
}

static void
turn_track_ring(const TwLoop *loop, const TwRing *ring)
{
    for (uint32_t i = 0; i < ring->count; i++) {
        PyObject *item = tw_ring_at(ring, i);
        if (tw_handle_is(loop->state, item)) {
            tw_handle_track((TwHandle *)item);
        }
    }
}

/* Show the handles in the queues to the collector: a loop that has stopped may
   be garbage, with everything that its queues hold. */
static void
turn_track_queued(TwLoop *loop)
{
    turn_track_ring(loop, &loop->ready);
    turn_track_ring(loop, &loop->aside);
    for (size_t i = 0; i < loop->timers.count; i++) {
        tw_handle_track(loop->timers.entries[i].item);
    }
}

tw_status
tw_turn_once(TwLoop *loop)
{
    loop->stats.turns++;
    return tw_turn_poll(loop) < 0 ? -1 : turn_run_generation(loop);
}

static tw_status
turn_run_to_stop(TwLoop *loop)
{
    TurnStretch stretch;

    do {
        loop->stats.turns++;
        if (tw_turn_poll(loop) < 0) {
            return -1;
        }
        stretch = turn_begin_stretch(loop);
        do {
            stretch.fed = turn_note_fed(loop);
            if (turn_run_generation(loop) < 0) {
                return -1;
            }
        } while (turn_skips_poll(loop, &stretch));
    } while (!loop->stopping);
    return 0;
}

tw_status
tw_turn_run(TwLoop *loop, PyObject *future)
{
    tw_status status;
    uint64_t now;

    loop->owner = PyThread_get_thread_ident();
    loop->chain = TW_CHAIN_NONE;
    now = tw_now_ns();
    tw_gil_note_wait(&loop->gil, now);
    loop->gauges.run_start = loop->gauges.turn_start = now;
    tw_timing_skip(&loop->timing, &loop->stats, now);
    TW_SHARED_SET(loop->running, true);
    tw_watchdog_run(loop);
    status = future == Py_None ? turn_run_to_stop(loop)
                               : tw_nest_run(loop, future);
    TW_SHARED_SET(loop->running, false);
    turn_track_queued(loop);
    now = tw_now_ns();
    tw_watchdog_pauses(loop, now);
    loop->stats.running_ns += now - loop->gauges.run_start;
    loop->gauges.run_start = 0;
    return status;
}
