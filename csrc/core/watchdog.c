#include "core/watchdog.h"

#include <errno.h>

#include "base/compat.h"
#include "base/sys.h"
#include "core/call.h"

/* While the loop works, the watchdog checks it so many times in a
   threshold. */
#define WATCHDOG_LOOKS 8u

#define WATCHDOG_READ(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)

/* -- the loop's side ------------------------------------------------------ */

/* CPU seconds of the callback that ends, or -1.  Only the part that the
   watchdog saw was measured; the rest, an eighth at most, is assumed to be
   alike. */
static double
watchdog_cpu(const TwWatchdog *dog, uint64_t count, uint64_t now, uint64_t ns)
{
    uint64_t cpu;

    if (dog->seen != count || now <= dog->seen_ns
        || !dog->has_cpu_clock || tw_now_cpu(dog->cpu_clock, &cpu) < 0) {
        return -1;
    }
    return (double)(cpu - dog->seen_cpu) / (double)(now - dog->seen_ns)
           * (double)ns * 1e-9;
}

/* The arguments of a report, of the callback behind `count` others. */
static PyObject *
watchdog_facts(TwWatchdog *dog, PyObject *item, uint64_t count, uint64_t now,
               uint64_t ns)
{
    double cpu;
    uint64_t gil_ns = 0;
    char state = 0;

    pthread_mutex_lock(&dog->mutex);
    cpu = watchdog_cpu(dog, count, now, ns);
    if (dog->seen == count) {
        state = dog->state;
        gil_ns = dog->asked != 0 ? now - dog->asked : dog->gil_ns;
    }
    pthread_mutex_unlock(&dog->mutex);
    return Py_BuildValue(
        "OKdNs#d", item == NULL ? Py_None : item, (unsigned long long)count,
        (double)ns * 1e-9,
        cpu < 0 ? Py_NewRef(Py_None) : PyFloat_FromDouble(cpu), &state,
        (Py_ssize_t)(state != 0), (double)gil_ns * 1e-9);
}

/* Call the report; its errors go to stderr. */
static void
watchdog_report(TwLoop *loop, PyObject *item, uint64_t now, uint64_t ns)
{
    PyObject *report = Py_NewRef(loop->watchdog->report), *exc = tw_err_take();
    PyObject *argv[2] = {NULL}, *result = NULL;

    argv[1] = watchdog_facts(loop->watchdog, item, loop->stats.callbacks - 1,
                             now, ns);
    if (argv[1] != NULL) {
        result = tw_call(loop, NULL, report, argv + 1, 1);
    }
    if (result == NULL) {
        tw_call_flush_failed(report);
    }
    Py_XDECREF(result);
    Py_XDECREF(argv[1]);
    Py_DECREF(report);
    if (exc != NULL) {
        tw_err_restore_steal(exc);
    }
}

void
tw_watchdog_batch(TwLoop *loop, PyObject *item, uint64_t now)
{
    const TwWatchdog *dog = loop->watchdog;
    uint64_t n = loop->stats.callbacks - loop->timing.first;
    uint64_t ns = now - loop->timing.begin;

    tw_timing_batch(&loop->timing, &loop->stats, now);
    if (TW_LIKELY(dog == NULL || dog->threshold == 0
                  || ns < dog->threshold || n == 0)) {
        return;
    }
    /* The callbacks before it in the batch were quick; otherwise the watchdog
       would have ended the batch after one of its checks. */
    if (n == 1 || ns >= dog->threshold + dog->threshold / WATCHDOG_LOOKS) {
        watchdog_report(loop, item, now, ns);
        /* The report is no part of the next callback. */
        tw_timing_skip(&loop->timing, &loop->stats, tw_now_ns());
    }
}

void
tw_watchdog_wake(TwWatchdog *dog)
{
    /* With the one in watchdog_park_lock_held(): either that one sees that
       the loop works, or we see that the watchdog is parked. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (WATCHDOG_READ(dog->parked)) {
        pthread_mutex_lock(&dog->mutex);
        dog->parked = false;
        pthread_cond_broadcast(&dog->changed);
        pthread_mutex_unlock(&dog->mutex);
    }
}

void
tw_watchdog_run(TwLoop *loop)
{
    if (loop->watchdog != NULL) {
        loop->watchdog->has_cpu_clock =
            tw_sys_thread_clock(&loop->watchdog->cpu_clock) == 0;
        loop->watchdog->thread = tw_sys_thread_number();
        tw_watchdog_wake(loop->watchdog);
    }
}

/* -- the watchdog, without the GIL ---------------------------------------- */

static void
watchdog_sleep_lock_held(TwWatchdog *dog, uint64_t ns)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    ns += (uint64_t)until.tv_nsec;
    until.tv_sec += (time_t)(ns / 1000000000u);
    until.tv_nsec = (long)(ns % 1000000000u);
    pthread_cond_timedwait(&dog->changed, &dog->mutex, &until);
}

static inline bool
watchdog_loop_works(const TwLoop *loop)
{
    return WATCHDOG_READ(loop->running) && !WATCHDOG_READ(loop->sleeping);
}

static void
watchdog_park_lock_held(TwLoop *loop, TwWatchdog *dog)
{
    dog->parked = true;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!watchdog_loop_works(loop)) {
        pthread_cond_wait(&dog->changed, &dog->mutex);
    }
    dog->parked = false;
}

/* For how long the current callback has run; 0: not known yet. */
static uint64_t
watchdog_look(TwLoop *loop, TwWatchdog *dog)
{
    uint64_t count = WATCHDOG_READ(loop->stats.callbacks);
    uint64_t begin = WATCHDOG_READ(loop->timing.begin), now = tw_now_ns();

    if (dog->seen != count || dog->seen_ns < begin) {
        dog->seen = count;
        dog->seen_ns = now;
        dog->state = 0;
        dog->gil_ns = 0;
        if (!dog->has_cpu_clock
            || tw_now_cpu(dog->cpu_clock, &dog->seen_cpu) < 0) {
            dog->seen_cpu = 0;
        }
    }
    __atomic_store_n(&loop->timing.until, 0, __ATOMIC_RELAXED);
    if (WATCHDOG_READ(loop->timing.first) == count) {
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
                        uint64_t seen, uint64_t seen_for, uint64_t *ns)
{
    while (dog->generation == generation) {
        if (!watchdog_loop_works(loop)) {
            watchdog_park_lock_held(loop, dog);
            continue;
        }
        *ns = watchdog_look(loop, dog);
        if (*ns >= (dog->seen == seen ? seen_for : dog->threshold)
            && watchdog_loop_works(loop)) {
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

    if (dog == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    tw_watchdog_after_fork(dog);
    return dog;
}

void
tw_watchdog_after_fork(TwWatchdog *dog)
{
    /* The watchdog may have held the mutex: make another. */
    pthread_mutex_init(&dog->mutex, NULL);
    pthread_cond_init(&dog->changed, NULL);
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
    loop->watchdog->threshold = (uint64_t)(seconds * 1e9);
    Py_XSETREF(loop->watchdog->report, Py_NewRef(report));
    if (tw_loop_is_here(loop)) {
        tw_watchdog_run(loop);
    }
    return PyLong_FromUnsignedLongLong(
        watchdog_next_generation(loop->watchdog));
}

static PyObject *
watchdog_answer(TwWatchdog *dog, uint64_t ns)
{
    uint64_t now = tw_now_ns();

    dog->gil_ns = now - dog->asked;
    dog->asked = 0;
    return watchdog_facts(dog, NULL, dog->seen, now, ns);
}

/* _watch_wait(generation, seen, seconds): block until a callback has run for
   the threshold; if it is the one after `seen` others, for so many seconds.
   (None, callbacks before it, seconds, cpu or None, the thread's state as
   ps(1) names it or "", seconds that the watchdog waited for the GIL); or
   None: its generation has ended. */
static PyObject *
watchdog_loop_wait(PyObject *self, PyObject *args)
{
    TwLoop *loop = (TwLoop *)self;
    TwWatchdog *dog = loop->watchdog;
    unsigned long long generation, seen;
    uint64_t ns = 0;
    double seconds;
    bool found;

    if (!PyArg_ParseTuple(args, "KKd:_watch_wait", &generation, &seen,
                          &seconds)) {
        return NULL;
    }
    if (dog == NULL) {
        Py_RETURN_NONE;
    }
    __atomic_store_n(&loop->gil.silent, PyThreadState_Get(),
                     __ATOMIC_RELAXED);
    Py_BEGIN_ALLOW_THREADS
    pthread_mutex_lock(&dog->mutex);
    found = watchdog_wait_lock_held(loop, dog, generation, seen,
                                    (uint64_t)(seconds * 1e9), &ns);
    if (found) {
        dog->state = watchdog_state_lock_held(dog);
        dog->asked = tw_now_ns();
    }
    pthread_mutex_unlock(&dog->mutex);
    __atomic_store_n(&loop->gil.silent, NULL, __ATOMIC_RELAXED);
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
    {"_watch_wait", watchdog_loop_wait, METH_VARARGS, NULL},
    {"_watch_count", watchdog_loop_count, METH_NOARGS, NULL},
    {"_watch_end", watchdog_loop_end, METH_O, NULL},
    {NULL},
};
