#include "core/watchdog.h"

#include <errno.h>

#include "base/compat.h"
#include "base/sys.h"
#include "core/call.h"

/* While the loop works, the watchdog checks it so many times in a
   threshold. */
#define WATCHDOG_LOOKS 8u

/* A callback that does not return is reported after so many thresholds. */
#define WATCHDOG_STILL 10u

/* What the loop's thread has used is noted so many times in a threshold. */
#define WATCHDOG_BASES 32u

/* A watchdog that was late once may be so again, for this long. */
#define WATCHDOG_LATE_NS 1000000000u

/* -- the loop's side ------------------------------------------------------ */

static TwUsage
watchdog_usage(const TwWatchdog *dog, uint64_t now)
{
    TwUsage usage = {.when = now};

    usage.has_cpu =
        dog->has_cpu_clock && tw_now_of(dog->cpu_clock, &usage.cpu) == 0;
    usage.has_queued =
        tw_sys_thread_queued(dog->thread, &usage.queued) == 0;
    return usage;
}

static void
watchdog_note_usage(TwWatchdog *dog, uint64_t now)
{
    if (now - dog->base.when >= dog->threshold / WATCHDOG_BASES) {
        dog->base = watchdog_usage(dog, now);
    }
}

/* Seconds since `before`, `ns` at most; or None. */
static PyObject *
watchdog_seconds(bool known, uint64_t before, uint64_t now, uint64_t ns)
{
    uint64_t used = now > before ? now - before : 0;

    return known ? PyFloat_FromDouble((double)(used < ns ? used : ns) * 1e-9)
                 : Py_NewRef(Py_None);
}

/* The arguments of a report, of the callback behind `count` others. */
static PyObject *
watchdog_facts(TwWatchdog *dog, PyObject *item, uint64_t count, uint64_t now,
               uint64_t ns)
{
    TwUsage usage = watchdog_usage(dog, now), *base = &dog->base;
    uint64_t gil_ns = 0;
    char state = 0;

    pthread_mutex_lock(&dog->mutex);
    if (dog->seen == count) {
        state = dog->state;
        gil_ns = dog->asked != 0 ? now - dog->asked : dog->gil_ns;
    }
    pthread_mutex_unlock(&dog->mutex);
    return Py_BuildValue(
        "OKdNNs#d", item, (unsigned long long)count, (double)ns * 1e-9,
        watchdog_seconds(usage.has_cpu && base->has_cpu, base->cpu, usage.cpu,
                         ns),
        watchdog_seconds(usage.has_queued && base->has_queued, base->queued,
                         usage.queued, ns),
        &state, (Py_ssize_t)(state != 0), (double)gil_ns * 1e-9);
}

/* Call the report; its errors go to stderr. */
static void
watchdog_report(TwLoop *loop, PyObject *item, uint64_t count, uint64_t now,
                uint64_t ns)
{
    PyObject *report = Py_NewRef(loop->watchdog->report), *exc = tw_err_take();
    PyObject *argv[2] = {NULL}, *result = NULL;

    argv[1] = watchdog_facts(loop->watchdog, item, count, now, ns);
    if (argv[1] != NULL) {
        result = tw_call(loop, NULL, report, argv + 1, 1);
    }
    if (result == NULL) {
        tw_call_flush_failed(report);
    }
    Py_XDECREF(result);
    Py_XDECREF(argv[1]);
    Py_DECREF(report);
    tw_err_restore_steal(exc);
}

/* The latest time at which the last callback of the batch, behind `count`
   others, can have begun; UINT64_MAX: not known. */
static uint64_t
watchdog_latest_begin(TwLoop *loop, uint64_t count)
{
    TwWatchdog *dog = loop->watchdog;
    uint64_t latest = UINT64_MAX;

    if (count <= loop->timing.first) {
        return loop->timing.begin;
    }
    if (dog->tick != 0) {
        return dog->tick + dog->tick_length;
    }
    pthread_mutex_lock(&dog->mutex);
    if (dog->seen == count) {
        latest = dog->seen_ns;
    }
    pthread_mutex_unlock(&dog->mutex);
    return latest;
}

/* Is the watchdog late, or was it a while ago? */
static bool
watchdog_is_late(TwWatchdog *dog, uint64_t now)
{
    uint64_t looked = TW_SHARED_GET(dog->looked);

    if (now > looked + 2 * dog->threshold / WATCHDOG_LOOKS) {
        dog->late_until = now + WATCHDOG_LATE_NS;
    }
    return now < dog->late_until;
}

/* The batch ends at `now`, and with it its last `item`, behind `count`
   others. */
static void
watchdog_batch(TwLoop *loop, PyObject *item, uint64_t count, uint64_t now)
{
    TwWatchdog *dog = loop->watchdog;
    uint64_t ns = now - loop->timing.begin;
    bool slow = ns >= dog->threshold;

    if (TW_UNLIKELY(slow)) {
        uint64_t latest = watchdog_latest_begin(loop, count);
        slow = now >= latest && now - latest >= dog->threshold;
    }
    tw_timing_batch(&loop->timing, &loop->stats, now);
    if (TW_UNLIKELY(slow)) {
        watchdog_report(loop, item, count, now, ns);
        /* The report is no part of the next callback. */
        now = tw_now_ns();
        tw_timing_skip(&loop->timing, &loop->stats, now);
    }
    watchdog_note_usage(dog, now);
    if (TW_UNLIKELY(watchdog_is_late(dog, now))) {
        (void)tw_now_of(TW_SYS_TICK_CLOCK, &dog->tick);
        dog->until = TW_SHARED_GET(loop->timing.until);
        TW_SHARED_SET(loop->timing.until, 0);
    }
    else {
        dog->tick = 0;
    }
}

static inline bool
watchdog_is_on(const TwLoop *loop)
{
    return loop->watchdog != NULL && loop->watchdog->threshold != 0;
}

/* If the watchdog is late: are `count` callbacks no end of the batch? */
static bool
watchdog_goes_on(const TwWatchdog *dog, uint64_t count)
{
    uint64_t tick;

    return dog->tick != 0 && count < dog->until
           && tw_now_of(TW_SYS_TICK_CLOCK, &tick) == 0 && tick == dog->tick;
}

void
tw_watchdog_callback_ended(TwLoop *loop, PyObject *item)
{
    uint64_t count = loop->stats.callbacks;

    if (TW_LIKELY(!watchdog_is_on(loop))) {
        tw_timing_batch(&loop->timing, &loop->stats, tw_now_ns());
    }
    else if (!watchdog_goes_on(loop->watchdog, count)) {
        watchdog_batch(loop, item, count - 1, tw_now_ns());
    }
}

void
tw_watchdog_pauses(TwLoop *loop, uint64_t now)
{
    if (TW_LIKELY(!watchdog_is_on(loop))) {
        tw_timing_batch(&loop->timing, &loop->stats, now);
    }
    else {
        watchdog_batch(loop, Py_None, loop->stats.callbacks, now);
    }
}

static void
watchdog_wake(TwWatchdog *dog, uint64_t now)
{
    /* The later of this exchange and that of watchdog_park_lock_held() sees
       what came before the other: the loop works, or the watchdog is
       parked. */
    if (__atomic_exchange_n(&dog->parked, false, __ATOMIC_ACQ_REL)) {
        TW_SHARED_SET(dog->looked, now);
        pthread_mutex_lock(&dog->mutex);
        pthread_cond_broadcast(&dog->changed);
        pthread_mutex_unlock(&dog->mutex);
    }
}

void
tw_watchdog_works_again(TwLoop *loop)
{
    watchdog_note_usage(loop->watchdog, loop->timing.begin);
    watchdog_wake(loop->watchdog, loop->timing.begin);
}

void
tw_watchdog_run(TwLoop *loop)
{
    TwWatchdog *dog = loop->watchdog;

    if (dog != NULL) {
        pthread_mutex_lock(&dog->mutex);
        dog->has_cpu_clock = tw_sys_thread_clock(&dog->cpu_clock) == 0;
        dog->thread = tw_sys_thread_number();
        pthread_mutex_unlock(&dog->mutex);
        dog->base = watchdog_usage(dog, tw_now_ns());
        TW_SHARED_SET(dog->looked, dog->base.when);
        watchdog_wake(dog, dog->base.when);
    }
}

/* -- the watchdog, without the GIL ---------------------------------------- */

static void
watchdog_sleep_lock_held(TwWatchdog *dog, uint64_t ns)
{
    struct timespec until;

    clock_gettime(TW_SYS_COND_CLOCK, &until);
    ns += (uint64_t)until.tv_nsec;
    until.tv_sec += (time_t)(ns / 1000000000u);
    until.tv_nsec = (long)(ns % 1000000000u);
    pthread_cond_timedwait(&dog->changed, &dog->mutex, &until);
}

static inline bool
watchdog_loop_works(const TwLoop *loop)
{
    return TW_SHARED_GET(loop->running) && !TW_SHARED_GET(loop->sleeping);
}

static void
watchdog_park_lock_held(TwLoop *loop, TwWatchdog *dog)
{
    (void)__atomic_exchange_n(&dog->parked, true, __ATOMIC_ACQ_REL);
    if (!watchdog_loop_works(loop)) {
        pthread_cond_wait(&dog->changed, &dog->mutex);
    }
    TW_SHARED_SET(dog->parked, false);
}

/* For how long the current callback has run; 0: not known yet. */
static uint64_t
watchdog_look(TwLoop *loop, TwWatchdog *dog)
{
    uint64_t count = TW_SHARED_GET(loop->stats.callbacks);
    uint64_t first = TW_SHARED_GET(loop->timing.first);
    uint64_t begin = TW_SHARED_GET(loop->timing.begin), now = tw_now_ns();

    TW_SHARED_SET(dog->looked, now);
    if (dog->seen != count || dog->seen_ns < begin) {
        dog->seen = count;
        dog->seen_ns = now;
        dog->state = 0;
        dog->gil_ns = 0;
        dog->next = dog->threshold;
    }
    TW_SHARED_SET(loop->timing.until, 0);
    if (first == count) {
        return now > begin ? now - begin : 0;
    }
    return now - dog->seen_ns;
}

/* The state of the loop's thread.  A thread that waits for the GIL also wakes
   up every few milliseconds: one that runs at each of several moments
   computes. */
static char
watchdog_state_lock_held(TwWatchdog *dog)
{
    char state = tw_sys_thread_state(dog->thread);

    for (int i = 0; i < 4 && state == 'R'; i++) {
        watchdog_sleep_lock_held(dog, 1500 * 1000);
        state = tw_sys_thread_state(dog->thread);
    }
    return state;
}

/* Check until a callback has run for too long.  False: another generation. */
static bool
watchdog_wait_lock_held(TwLoop *loop, TwWatchdog *dog, uint64_t generation,
                        uint64_t *ns)
{
    while (dog->generation == generation) {
        if (!watchdog_loop_works(loop)) {
            watchdog_park_lock_held(loop, dog);
            continue;
        }
        *ns = watchdog_look(loop, dog);
        if (*ns >= dog->next && watchdog_loop_works(loop)) {
            return true;
        }
        watchdog_sleep_lock_held(dog, dog->threshold / WATCHDOG_LOOKS);
    }
    return false;
}

/* -- for Python ----------------------------------------------------------- */

static TwWatchdog *
watchdog_new(void)
{
    TwWatchdog *dog = PyMem_RawCalloc(1, sizeof(*dog));
    struct timespec tick;

    if (dog == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    tw_watchdog_after_fork(dog);
    clock_getres(TW_SYS_TICK_CLOCK, &tick);
    dog->tick_length = (uint64_t)tick.tv_nsec;
    return dog;
}

void
tw_watchdog_after_fork(TwWatchdog *dog)
{
    /* The watchdog may have held the mutex: make another. */
    pthread_mutex_init(&dog->mutex, NULL);
    tw_sys_cond_init(&dog->changed);
    dog->parked = false;
}

void
tw_watchdog_free(TwWatchdog *dog)
{
    if (dog != NULL) {
        Py_CLEAR(dog->report);
        pthread_mutex_destroy(&dog->mutex);
        pthread_cond_destroy(&dog->changed);
        PyMem_RawFree(dog);
    }
}

/* End the watchdog. */
static uint64_t
watchdog_next_generation(TwWatchdog *dog)
{
    uint64_t generation;

    pthread_mutex_lock(&dog->mutex);
    generation = ++dog->generation;
    pthread_cond_broadcast(&dog->changed);
    pthread_mutex_unlock(&dog->mutex);
    return generation;
}

/* _watch_begin(threshold, report): -> generation, for _watch_wait(). */
static PyObject *
watchdog_loop_begin(PyObject *self, PyObject *args)
{
    TwLoop *loop = (TwLoop *)self;
    PyObject *report;
    double seconds;

    if (!PyArg_ParseTuple(args, "dO:_watch_begin", &seconds, &report)) {
        return NULL;
    }
    if (!(seconds > 0 && seconds < 1e6)) {
        PyErr_SetString(PyExc_ValueError, "threshold must be positive");
        return NULL;
    }
    if (loop->watchdog == NULL) {
        loop->watchdog = watchdog_new();
        if (loop->watchdog == NULL) {
            return NULL;
        }
    }
    pthread_mutex_lock(&loop->watchdog->mutex);
    loop->watchdog->threshold = (uint64_t)(seconds * 1e9);
    pthread_mutex_unlock(&loop->watchdog->mutex);
    Py_XSETREF(loop->watchdog->report, Py_NewRef(report));
    if (tw_loop_is_here(loop)) {
        tw_watchdog_run(loop);
    }
    return PyLong_FromUnsignedLongLong(
        watchdog_next_generation(loop->watchdog));
}

/* The callback has run for `ns`. */
static void
watchdog_found_lock_held(TwWatchdog *dog, uint64_t ns)
{
    dog->state = watchdog_state_lock_held(dog);
    dog->next = dog->next == dog->threshold ? WATCHDOG_STILL * dog->threshold
                                            : 2 * ns;
    dog->asked = tw_now_ns();
}

static PyObject *
watchdog_answer(TwWatchdog *dog, uint64_t ns)
{
    uint64_t now = tw_now_ns(), count;
    bool again;

    pthread_mutex_lock(&dog->mutex);
    count = dog->seen;
    again = dog->next != WATCHDOG_STILL * dog->threshold;
    dog->gil_ns = now - dog->asked;
    dog->asked = 0;
    pthread_mutex_unlock(&dog->mutex);
    return watchdog_facts(dog, again ? Py_True : Py_False, count, now, ns);
}

/* _watch_wait(generation): block until a callback has run for the threshold,
   and again when it has run for ten of them, and each time that doubles.
   (True if it is again, callbacks before it, seconds, seconds of CPU time or
   None, seconds without a processor or None, the thread's state as ps(1) names
   it or "", seconds that the watchdog waited for the GIL); or None: its
   generation has ended. */
static PyObject *
watchdog_loop_wait(PyObject *self, PyObject *number)
{
    TwLoop *loop = (TwLoop *)self;
    TwWatchdog *dog = loop->watchdog;
    unsigned long long generation = PyLong_AsUnsignedLongLong(number);
    uint64_t ns = 0;
    bool found;

    if (generation == (unsigned long long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    if (dog == NULL) {
        Py_RETURN_NONE;
    }
    TW_SHARED_SET(loop->gil.silent, PyThreadState_Get());
    Py_BEGIN_ALLOW_THREADS
    pthread_mutex_lock(&dog->mutex);
    found = watchdog_wait_lock_held(loop, dog, generation, &ns);
    if (found) {
        watchdog_found_lock_held(dog, ns);
    }
    pthread_mutex_unlock(&dog->mutex);
    TW_SHARED_SET(loop->gil.silent, NULL);
    Py_END_ALLOW_THREADS
    if (!found) {
        Py_RETURN_NONE;
    }
    return watchdog_answer(dog, ns);
}

/* _watch_count(): callbacks that have run. */
static PyObject *
watchdog_loop_count(PyObject *self, PyObject *Py_UNUSED(unused))
{
    return PyLong_FromUnsignedLongLong(((TwLoop *)self)->stats.callbacks);
}

/* _watch_end(all): the watchdog ends; if `all` is True, also the reports. */
static PyObject *
watchdog_loop_end(PyObject *self, PyObject *all)
{
    TwWatchdog *dog = ((TwLoop *)self)->watchdog;

    if (dog != NULL) {
        watchdog_next_generation(dog);
        if (all == Py_True) {
            dog->threshold = 0;
            Py_CLEAR(dog->report);
        }
    }
    Py_RETURN_NONE;
}

PyMethodDef tw_watchdog_loop_methods[] = {
    {"_watch_begin", watchdog_loop_begin, METH_VARARGS, NULL},
    {"_watch_wait", watchdog_loop_wait, METH_O, NULL},
    {"_watch_count", watchdog_loop_count, METH_NOARGS, NULL},
    {"_watch_end", watchdog_loop_end, METH_O, NULL},
    {NULL},
};
