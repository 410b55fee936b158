/* The turn.

       poll: pass the watchers' changes to the poller, ask it or wait in it
       generation: 1. handles that were ready before the poll
                   2. due descriptors   3. due timers
       more generations without a poll, if no descriptor can be ready

   The GIL is given away and taken back in loop_poll(), and nowhere else. */
#include <errno.h>
#include <math.h>

#include "base/clock.h"
#include "base/compat.h"
#include "base/errno.h"
#include "core/call.h"
#include "core/debug.h"
#include "core/handle.h"
#include "core/loop_type.h"
#include "core/overrides.h"
#include "core/watcher.h"

/* The clock costs as much as a small callback: it is read after each of them,
   but after so quick ones only every sixteenth time: where they become slow
   all at once, up to fifteen pass before that is noticed. */
#define RUN_QUICK_NS 2000u
#define RUN_QUICK_READ 16
/* After so many generations whose polls found nothing, quick ones do without
   a poll; the quickest must have taken less than this, or a poll costs little
   beside it. */
#define RUN_CHAIN_LENGTH 64
#define RUN_CHAIN_NS 1000u
/* A callback that makes a descriptor ready takes longer than this. */
#define RUN_CALL_NS 150u
/* A wait that short was none: there was something already. */
#define RUN_PROMPT_NS 3000u
/* asyncio's: timers due within the clock's resolution are due (or within that
   of a float, see TW_TIMER_ULP). */
#define RUN_CLOCK_RESOLUTION 1e-9
/* As asyncio: when this many timers, and half of all, are cancelled ones. */
#define RUN_CANCELLED_MIN 100
/* How often a loop that never waits gives memory back. */
#define RUN_TRIM_TURNS 1024
/* When watchers for which the poller had no room are tried again: seconds. */
#define RUN_RETRY 0.1

/* -- timers --------------------------------------------------------------- */

static bool
timer_is_cancelled(void *item)
{
    return ((TwHandle *)item)->flags & TW_H_CANCELLED;
}

/* Throw out cancelled timers: all of them when they are many, else those at
   the top. */
static tw_status
run_drop_cancelled(TwLoop *loop)
{
    TwHeap *heap = &loop->timers;

    if (loop->timers_cancelled > RUN_CANCELLED_MIN
        && loop->timers_cancelled * 2 > heap->count) {
        void **dropped = PyMem_RawMalloc(heap->count * sizeof(void *));
        if (dropped == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        size_t n = tw_heap_filter(heap, timer_is_cancelled, dropped);
        loop->timers_cancelled = 0;
        for (size_t i = 0; i < n; i++) {
            ((TwHandle *)dropped[i])->flags &= ~TW_H_SCHEDULED;
            tw_handle_release_steal(dropped[i]);
        }
        PyMem_RawFree(dropped);
    }
    while (heap->count > 0 && timer_is_cancelled(heap->entries[0].item)) {
        TwHandle *handle = tw_heap_pop(heap);
        handle->flags &= ~TW_H_SCHEDULED;
        loop->timers_cancelled--;
        tw_handle_release_steal(handle);
    }
    return 0;
}

/* How far ahead of the clock a timer is due. */
static double
run_clock_step(double now)
{
    return TW_TIMER_ULP ? fmax(RUN_CLOCK_RESOLUTION,
                               nextafter(now, INFINITY) - now)
                        : RUN_CLOCK_RESOLUTION;
}

/* Move the due timers behind the ready handles.  How many, or -1. */
static Py_ssize_t
run_collect_timers(TwLoop *loop)
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
    limit += run_clock_step(limit);
    /* Not "when < limit": to a clock that says NaN every timer is due. */
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

/* -- the poll ------------------------------------------------------------- */

/* How long the poll may wait: 0 when work is due, -1 for ever; in seconds.
   Decided last, right before it.  NaN, with an exception: the program's clock
   failed. */
static double
run_poll_bound(TwLoop *loop)
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

/* Others get the GIL also while the loop does not wait. */
static void
run_share_gil(TwLoop *loop)
{
    uint64_t now = tw_now_ns();
    double busy = (double)(now - loop->gil.given) * 1e-9;

    if (busy > loop->stats.longest) {
        loop->stats.longest = busy;
    }
    tw_gil_share(&loop->gil, now);
}

/* In milliseconds, rounded up; a day at most. */
static int
run_poll_ms(double bound)
{
    return bound < 0 ? -1 : (int)ceil(fmin(bound, 86400.0) * 1e3);
}

/* Wait by the select() that the program has put in the place of Python's
   (gevent, eventlet): its other greenlets run meanwhile, those that it takes
   for threads too.  Sets an exception if that raised one. */
static void
run_wait_patched(TwLoop *loop, double bound)
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

/* Wait for descriptors, without the GIL; `bound` as above, not 0. */
static int
run_poll_wait(TwLoop *loop, double bound)
{
    uint64_t start = tw_now_ns(), waited;
    int n;

    if (TW_UNLIKELY(loop->changed.count > 0)
        && (bound < 0 || bound > RUN_RETRY)) {
        bound = RUN_RETRY; /* some lack room in the poller: try again */
    }
    loop->sleeping = true;
    if (TW_UNLIKELY(loop->select_patched)) {
        run_wait_patched(loop, bound);
        bound = 0;
    }
    Py_BEGIN_ALLOW_THREADS
    n = loop->poller->ops->wait(loop->poller, run_poll_ms(bound));
    Py_END_ALLOW_THREADS
    loop->sleeping = false;
    tw_gil_note_wait(&loop->gil, tw_now_ns());
    waited = loop->gil.given - start;
    loop->prompt = waited < RUN_PROMPT_NS;
    loop->stats.idle += (double)waited * 1e-9;
    return n;
}

/* While something is ready each time, the poller is asked without a wait: that
   needs neither the clock nor a release of the GIL.  How many are ready, or a
   negative errno. */
static int
run_poll(TwLoop *loop, double bound)
{
    int n;

    if (bound == 0 || loop->prompt) {
        n = loop->poller->ops->wait(loop->poller, 0);
        if (bound == 0 || n > 0) {
            return n;
        }
    }
    return run_poll_wait(loop, bound);
}

static tw_status
loop_poll(TwLoop *loop)
{
    double bound;
    int n;

    if (run_drop_cancelled(loop) < 0) {
        return -1;
    }
    /* A greenlet that waits inside a nested callback keeps the outer ones
       from their end. */
    tw_call_flush(loop);
    /* May bring work and changes: they are seen to behind it.  A wait that
       ends at once gives no other thread the time to take the GIL. */
    run_share_gil(loop);
    tw_watcher_apply_changes(loop);
    bound = run_poll_bound(loop);
    if (TW_UNLIKELY(isnan(bound))) {
        return -1;
    }
    if (bound != 0 || loop->stats.turns % RUN_TRIM_TURNS == 0) {
        tw_loop_trim(loop);
    }
    n = run_poll(loop, bound);
    if (TW_UNLIKELY(loop->select_patched) && PyErr_Occurred()) {
        return -1;
    }
    if (TW_UNLIKELY(n < 0 && n != -EINTR)) {
        tw_errno_raise(n);
        return -1;
    }
    if (bound != 0 || n > 0) {
        loop->chain = (TwChain){0, UINT64_MAX};
    }
    tw_watcher_take(loop, n);
    return PyErr_CheckSignals();
}

/* -- generations ---------------------------------------------------------- */

/* Run the next `n` of the ready queue. */
static tw_status
run_ready(TwLoop *loop, Py_ssize_t n)
{
    tw_state *state = loop->state;
    tw_status status = 0;

    while (n-- > 0 && status == 0 && loop->ready.count > 0) {
        PyObject *item = tw_ring_pop(&loop->ready);
        if (TW_LIKELY(tw_handle_is(state, item))) {
            status = tw_handle_run((TwHandle *)item);
            tw_handle_retire_steal((TwHandle *)item, status);
        }
        else {
            status = TW_UNLIKELY(loop->debug)
                         ? tw_debug_step(loop, item)
                         : ((TwStepper *)item)->ops->step(item);
            Py_DECREF(item);
        }
        loop->stats.callbacks++;
    }
    return status;
}

static tw_status
run_generation(TwLoop *loop)
{
    Py_ssize_t ready = loop->ready.count;
    Py_ssize_t timers = run_collect_timers(loop);

    if (timers < 0) {
        return -1;
    }
    if (loop->ready.count > loop->stats.ready_peak) {
        loop->stats.ready_peak = loop->ready.count;
    }
    if (run_ready(loop, ready) < 0
        || (loop->due.count > 0 && tw_watcher_run_due(loop) < 0)) {
        return -1;
    }
    return timers > 0 ? run_ready(loop, timers) : 0;
}

static bool
run_has_signal_handlers(const TwLoop *loop)
{
    PyObject *handlers = loop->signal_handlers;

    return handlers == NULL || !PyDict_Check(handlers)
           || PyDict_GET_SIZE(handlers) > 0;
}

/* Could a callback make a descriptor ready that the loop watches?  Its own,
   which it always watches, is written to by signals and by other threads. */
static bool
run_has_descriptors(const TwLoop *loop)
{
    return loop->watchers.count > 1 || run_has_signal_handlers(loop);
}

/* A generation took `ns`.  Was it too quick for a system call that makes a
   descriptor ready?  asyncio polls behind every generation, and programs (and
   more tests) count on it: they write to a socket in any way they like, and
   expect the data after so many sleep(0).  So a poll is left out only in a
   long chain of generations behind which polls found nothing, and only behind
   one that took hardly longer than the quickest of them. */
static bool
run_was_quick(TwChain *chain, uint64_t ns)
{
    if (ns < chain->quickest) {
        chain->quickest = ns;
    }
    if (chain->length < RUN_CHAIN_LENGTH) {
        chain->length++;
        return false;
    }
    return chain->quickest < RUN_CHAIN_NS
           && ns < chain->quickest + RUN_CALL_NS;
}

/* Run generations until there must be a poll: because nothing is ready, a
   descriptor may be, or they have taken their time. */
static tw_status
run_generations(TwLoop *loop)
{
    uint64_t start = 0, before = 0, now;
    int unread = 0;

    if (loop->ready.count > 0) {
        start = before = tw_now_ns();
    }
    for (;;) {
        if (run_generation(loop) < 0) {
            return -1;
        }
        if (loop->ready.count == 0 || loop->changed.count > 0
            || loop->stopping) {
            return 0;
        }
        if (unread > 0 && !run_has_descriptors(loop)) {
            unread--;
            continue;
        }
        now = tw_now_ns();
        if (now - start > tw_gil_stretch(&loop->gil, now)
            || (run_has_descriptors(loop)
                && !run_was_quick(&loop->chain, now - before))) {
            return 0;
        }
        unread = now - before < RUN_QUICK_NS
                         && !tw_gil_is_wanted(&loop->gil, now)
                     ? RUN_QUICK_READ - 1
                     : 0;
        before = now;
    }
}

/* The loop stops, and may be dropped with what waits in its queues. */
static void
run_track_queued(TwLoop *loop)
{
    for (uint32_t i = 0; i < loop->ready.count; i++) {
        PyObject *item = tw_ring_at(&loop->ready, i);
        if (tw_handle_is(loop->state, item)) {
            tw_handle_track((TwHandle *)item);
        }
    }
    for (size_t i = 0; i < loop->timers.count; i++) {
        tw_handle_track(loop->timers.entries[i].item);
    }
}

tw_status
tw_loop_run(TwLoop *loop)
{
    tw_status status;

    loop->running = true;
    loop->owner = PyThread_get_thread_ident();
    loop->chain = (TwChain){0, UINT64_MAX};
    tw_gil_note_wait(&loop->gil, tw_now_ns());
    loop->stats.run_start = (double)loop->gil.given / 1e9;
    do {
        loop->stats.turns++;
        status = loop_poll(loop) < 0 ? -1 : run_generations(loop);
    } while (status == 0 && !loop->stopping);
    loop->running = false;
    run_track_queued(loop);
    loop->stats.running +=
        (double)tw_now_ns() / 1e9 - loop->stats.run_start;
    loop->stats.run_start = 0;
    return status;
}

/* -- methods -------------------------------------------------------------- */

/* A builtin of asyncio's or of Python's: runs no Python code. */
static void
run_call_builtin(TwLoop *loop, const char *name, PyObject *const *args,
                 Py_ssize_t nargs)
{
    PyObject *result = tw_seam_call(loop->state, name, args, nargs);

    if (result == NULL) {
        PyErr_WriteUnraisable((PyObject *)loop);
    }
    Py_XDECREF(result);
}

/* The hooks of asynchronous generators from before the run. */
static void
run_restore_hooks(TwLoop *loop)
{
    PyObject *old = PyObject_GetAttr((PyObject *)loop, /* allow: our own */
                                     loop->state->str._old_agen_hooks);

    if (old == NULL) {
        PyErr_Clear();
        return;
    }
    if (PyTuple_Check(old) && PyTuple_GET_SIZE(old) == 2) {
        PyObject *hooks[] = {PyTuple_GET_ITEM(old, 0),
                             PyTuple_GET_ITEM(old, 1)};
        run_call_builtin(loop, "set_asyncgen_hooks", hooks, 2);
    }
    Py_DECREF(old);
}

/* Debug mode: coroutines note their origin no more than before the run. */
static void
run_restore_tracking(TwLoop *loop)
{
    PyObject *self = (PyObject *)loop, *depth = NULL;
    PyObject *name = loop->state->str._coroutine_origin_tracking_enabled;
    PyObject *on = PyObject_GetAttr(self, name); /* allow: our own */

    if (on != NULL && PyObject_IsTrue(on) == 1) {
        depth = PyObject_GetAttr( /* allow: our own */
            self, loop->state->str._coroutine_origin_tracking_saved_depth);
    }
    if (depth != NULL) {
        run_call_builtin(loop, "set_origin_tracking", &depth, 1);
        if (PyObject_SetAttr(self, name, Py_False) < 0) { /* allow: our own */
            PyErr_Clear();
        }
    }
    PyErr_Clear();
    Py_XDECREF(depth);
    Py_XDECREF(on);
}

/* The loop does not run any more: said here, where no signal can come in
   between, as it could in the Python code that says it again. */
static void
run_not_running(TwLoop *loop)
{
    PyObject *exc = tw_err_take(), *none[] = {Py_None};

    loop->stopping = false;
    Py_XSETREF(loop->thread_id, Py_NewRef(Py_None));
    run_call_builtin(loop, "set_running_loop", none, 1);
    run_restore_hooks(loop);
    run_restore_tracking(loop);
    if (exc != NULL) {
        tw_err_restore_steal(exc);
    }
}

PyObject *
tw_loop_meth_run_turns(PyObject *self, PyObject *unused)
{
    TwLoop *loop = (TwLoop *)self;
    const char *refusal =
        loop->running    ? "This event loop is already running"
        : loop->forked   ? "The event loop ran before a fork: here it can "
                           "only be closed"
        : !loop->live    ? "Event loop is closed"
        : loop->wakeup == NULL ? "Loop.__init__() was not called"
                               : NULL;

    if (refusal != NULL) {
        PyErr_SetString(PyExc_RuntimeError, refusal);
        return NULL;
    }
    tw_status status = tw_loop_run(loop);
    run_not_running(loop);
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *
tw_loop_meth_shut(PyObject *self, PyObject *unused)
{
    tw_loop_shut((TwLoop *)self);
    Py_RETURN_NONE;
}

PyObject *
tw_loop_meth_flush_held(PyObject *self, PyObject *unused)
{
    if (tw_loop_is_here((TwLoop *)self)) {
        tw_call_flush((TwLoop *)self);
    }
    Py_RETURN_NONE;
}

PyObject *
tw_loop_meth_after_fork(PyObject *self, PyObject *unused)
{
    tw_loop_after_fork((TwLoop *)self);
    Py_RETURN_NONE;
}

PyObject *
tw_loop_meth_stop(PyObject *self, PyObject *unused)
{
    ((TwLoop *)self)->stopping = true;
    Py_RETURN_NONE;
}

PyObject *
tw_loop_meth_is_running(PyObject *self, PyObject *unused)
{
    return PyBool_FromLong(((TwLoop *)self)->thread_id != NULL
                           && ((TwLoop *)self)->thread_id != Py_None);
}

PyObject *
tw_loop_meth_is_closed(PyObject *self, PyObject *unused)
{
    return PyBool_FromLong(((TwLoop *)self)->closed);
}

PyObject *
tw_loop_meth_get_debug(PyObject *self, PyObject *unused)
{
    return PyBool_FromLong(((TwLoop *)self)->debug);
}
