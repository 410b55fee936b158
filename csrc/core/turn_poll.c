/* The poll, the first step of a turn.  The loop releases the GIL here, and
   nowhere else. */
#include <errno.h>
#include <math.h>

#include "base/clock.h"
#include "base/errno.h"
#include "core/call.h"
#include "core/overrides.h"
#include "core/probes.h"
#include "core/turn.h"
#include "core/watchdog.h"
#include "core/watcher.h"

/* A shorter wait did not sleep: something was ready already. */
#define POLL_SHORT_NS 3000u
/* A loop that never waits frees memory once in this many turns. */
#define POLL_TRIM_TURNS 1024
/* Seconds until watchers for which the poller had no room are tried again. */
#define POLL_RETRY 0.1

/* How long the poll may wait, in seconds: 0 when there is work, -1 for ever.
   NaN, with an exception: the program's clock failed. */
static double
poll_bound(TwLoop *loop)
{
    double now;

    if (loop->ready.count > 0 || loop->due.count > 0 || loop->stopping) {
        return 0;
    }
    if (loop->timers.count == 0) {
        return -1;
    }
    now = tw_loop_time(loop);
    if (TW_UNLIKELY(now == -1.0 && PyErr_Occurred())) {
        return NAN;
    }
    /* The program's clock may have scheduled something. */
    if (loop->ready.count > 0 || loop->changed.count > 0
        || loop->timers.count == 0) {
        return 0;
    }
    return fmax(loop->timers.entries[0].when - now, 0);
}

bool
tw_loop_is_quiet(TwLoop *loop)
{
    if (loop->ready.count > 0 || loop->changed.count > 0 || loop->stopping) {
        return false;
    }
    return loop->timers.count == 0
           || (!tw_overrides_time(loop)
               && loop->timers.entries[0].when > tw_loop_time(loop));
}

/* No callback runs from `now` on: the batch ends. */
static void
poll_end_batch(TwLoop *loop, uint64_t now)
{
    if (TW_METRICS) {
        tw_watchdog_pauses(loop, now);
    }
    tw_timing_skip(&loop->timing, &loop->stats, TW_TIMING_PAUSE);
}

/* A turn ends.  Other threads get the GIL also while the loop does not wait:
   that counts with the turn that begins, but not with a callback. */
static void
poll_share_gil(TwLoop *loop)
{
    uint64_t now = tw_now_ns();

    tw_stats_time(&loop->stats.hist.turn, now - loop->gauges.turn_start);
    loop->gauges.turn_start = now;
    if (tw_gil_must_share(&loop->gil, now)) {
        poll_end_batch(loop, now);
        tw_gil_share(&loop->gil, now);
        tw_timing_skip(&loop->timing, &loop->stats, loop->gil.last_release);
    }
}

/* In milliseconds, rounded up; a day at most. */
static int
poll_ms(double bound)
{
    return bound < 0 ? -1 : (int)ceil(fmin(bound, 86400.0) * 1e3);
}

/* Wait with the select() that replaces Python's in this program (gevent,
   eventlet): its other greenlets run meanwhile.  Its result is not used,
   except for an exception. */
static void
poll_wait_patched(TwLoop *loop, double bound)
{
    const TwPoller *poller = loop->poller;
    PyObject *fd = PyLong_FromLong(poller->ops->fd(poller));
    PyObject *result = NULL;
    PyObject *seconds = bound < 0 ? Py_NewRef(Py_None)
                                  : PyFloat_FromDouble(fmin(bound, 86400.0));
    PyObject *argv[] = {fd, seconds};

    if (fd != NULL && seconds != NULL) {
        result = tw_seam_call(loop->state, "wait_patched", argv, 2);
    }
    Py_XDECREF(fd);
    Py_XDECREF(seconds);
    Py_XDECREF(result);
}

/* Wait for descriptors, without the GIL; `bound` is not 0. */
static int
poll_wait(TwLoop *loop, double bound)
{
    uint64_t start = tw_now_ns(), waited;
    int n = (int)loop->watcher_count;

    if (TW_UNLIKELY(loop->changed.count > 0)
        && (bound < 0 || bound > POLL_RETRY)) {
        bound = POLL_RETRY;
    }
    poll_end_batch(loop, start);
    TW_SHARED_SET(loop->sleeping, true);
    if (TW_UNLIKELY(loop->select_patched)) {
        poll_wait_patched(loop, bound);
        bound = 0;
    }
    Py_BEGIN_ALLOW_THREADS
    n = loop->poller->ops->wait(loop->poller, n, poll_ms(bound));
    Py_END_ALLOW_THREADS
    tw_gil_note_wait(&loop->gil, tw_now_ns());
    waited = loop->gil.last_release - start;
    loop->wait_was_short = waited < POLL_SHORT_NS;
    loop->stats.idle_ns += waited;
    tw_stats_time(&loop->stats.hist.poll, waited);
    loop->gauges.turn_start = loop->gil.last_release;
    tw_timing_skip(&loop->timing, &loop->stats, loop->gil.last_release);
    TW_SHARED_SET(loop->sleeping, false);
    tw_watchdog_works(loop);
    return n;
}

/* How many descriptors are ready, or a negative errno.  If the last wait was
   short, poll without a wait first: that needs neither the clock nor a release
   of the GIL. */
static int
poll_once(TwLoop *loop, double bound)
{
    int n = (int)loop->watcher_count;

    if (bound == 0 || loop->wait_was_short) {
        n = loop->poller->ops->wait(loop->poller, n, 0);
        if (bound == 0 || n > 0) {
            return n;
        }
    }
    return poll_wait(loop, bound);
}

/* An exception that another thread has set for this one is raised by Python
   code only, and perhaps none runs here: a call of any function raises it. */
static tw_status
poll_check_thread(TwLoop *loop)
{
    if (TW_LIKELY(PyThreadState_Get()->async_exc == NULL)) {
        return 0;
    }
    return tw_status_steal(tw_seam_call(loop->state, "do_nothing", NULL, 0));
}

tw_status
tw_turn_poll(TwLoop *loop)
{
    double bound;
    int n;

    if (tw_turn_drop_cancelled(loop) < 0) {
        return -1;
    }
    /* While a greenlet waits inside a callback, that callback does not end,
       and so does not send held writes. */
    tw_call_flush(loop);
    /* First of all, because other threads may add handles and changes.  Also
       if the loop will wait: a short wait leaves them no time. */
    poll_share_gil(loop);
    tw_watcher_apply_changes(loop);
    bound = poll_bound(loop);
    if (TW_UNLIKELY(isnan(bound))) {
        return -1;
    }
    if (bound != 0 || loop->stats.turns % POLL_TRIM_TURNS == 0) {
        tw_loop_trim(loop);
    }
    n = poll_once(loop, bound);
    if (TW_UNLIKELY(loop->select_patched) && PyErr_Occurred()) {
        return -1;
    }
    if (TW_UNLIKELY(n < 0 && n != -EINTR)) {
        tw_errno_raise(n);
        return -1;
    }
    if (bound != 0 || n > 0) {
        loop->chain = TW_CHAIN_NONE;
    }
    TW_PROBE3(turn, loop, loop->stats.turns, n);
    tw_watcher_collect(loop, n);
    return PyErr_CheckSignals() < 0 ? -1 : poll_check_thread(loop);
}
