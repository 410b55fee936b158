#include "core/watch.h"

#include <errno.h>

#include "base/compat.h"
#include "base/sys.h"
#include "core/call.h"

/* While the loop works, the watchdog checks it so many times in a
   threshold. */
#define WATCH_LOOKS 8u

#define WATCH_READ(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)

/* -- the loop's side ------------------------------------------------------ */

/* CPU seconds of the callback that ends, or -1.  Only the part that the
   watchdog saw was measured; the rest, an eighth at most, is assumed to be
   alike. */
static double
watch_cpu(const TwWatch *watch, uint64_t count, uint64_t now, uint64_t ns)
{
    uint64_t cpu;

    if (watch->seen != count || now <= watch->seen_ns
        || !watch->has_cpu_clock || tw_now_cpu(watch->cpu_clock, &cpu) < 0) {
        return -1;
    }
    return (double)(cpu - watch->seen_cpu) / (double)(now - watch->seen_ns)
           * (double)ns * 1e-9;
}

/* The arguments of a report, of the callback behind `count` others. */
static PyObject *
watch_facts(TwWatch *watch, PyObject *item, uint64_t count, uint64_t now,
            uint64_t ns)
{
    double cpu;
    uint64_t gil_ns = 0;
    char state = 0;

    pthread_mutex_lock(&watch->mutex);
    cpu = watch_cpu(watch, count, now, ns);
    if (watch->seen == count) {
        state = watch->state;
        gil_ns = watch->asked != 0 ? now - watch->asked : watch->gil_ns;
    }
    pthread_mutex_unlock(&watch->mutex);
    return Py_BuildValue(
        "OKdNs#d", item == NULL ? Py_None : item, (unsigned long long)count,
        (double)ns * 1e-9,
        cpu < 0 ? Py_NewRef(Py_None) : PyFloat_FromDouble(cpu), &state,
        (Py_ssize_t)(state != 0), (double)gil_ns * 1e-9);
}

/* Call the report; its errors go to stderr. */
static void
watch_report(TwLoop *loop, PyObject *item, uint64_t now, uint64_t ns)
{
    PyObject *report = Py_NewRef(loop->watch->report), *exc = tw_err_take();
    PyObject *argv[2] = {NULL}, *result = NULL;

    argv[1] = watch_facts(loop->watch, item, loop->stats.callbacks - 1, now,
                          ns);
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
tw_watch_batch(TwLoop *loop, PyObject *item, uint64_t now)
{
    const TwWatch *watch = loop->watch;
    uint64_t n = loop->stats.callbacks - loop->timing.first;
    uint64_t ns = now - loop->timing.begin;

    tw_timing_batch(&loop->timing, &loop->stats, now);
    if (TW_LIKELY(watch == NULL || watch->threshold == 0
                  || ns < watch->threshold || n == 0)) {
        return;
    }
    /* The callbacks before it in the batch were quick; otherwise the watchdog
       would have ended the batch after one of its checks. */
    if (n == 1 || ns >= watch->threshold + watch->threshold / WATCH_LOOKS) {
        watch_report(loop, item, now, ns);
        /* The report is no part of the next callback. */
        tw_timing_skip(&loop->timing, &loop->stats, tw_now_ns());
    }
}

void
tw_watch_wake(TwWatch *watch)
{
    /* With the one in watch_park(): either it sees that the loop works, or we
       see that it is parked. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (WATCH_READ(watch->parked)) {
        pthread_mutex_lock(&watch->mutex);
        watch->parked = false;
        pthread_cond_broadcast(&watch->changed);
        pthread_mutex_unlock(&watch->mutex);
    }
}

void
tw_watch_run(TwLoop *loop)
{
    if (loop->watch != NULL) {
        loop->watch->has_cpu_clock =
            tw_sys_thread_clock(&loop->watch->cpu_clock) == 0;
        loop->watch->thread = tw_sys_thread_number();
        tw_watch_wake(loop->watch);
    }
}

/* -- the watchdog, without the GIL ---------------------------------------- */

static void
watch_sleep_lock_held(TwWatch *watch, uint64_t ns)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    ns += (uint64_t)until.tv_nsec;
    until.tv_sec += (time_t)(ns / 1000000000u);
    until.tv_nsec = (long)(ns % 1000000000u);
    pthread_cond_timedwait(&watch->changed, &watch->mutex, &until);
}

static inline bool
watch_loop_works(const TwLoop *loop)
{
    return WATCH_READ(loop->running) && !WATCH_READ(loop->sleeping);
}

static void
watch_park_lock_held(TwLoop *loop, TwWatch *watch)
{
    watch->parked = true;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!watch_loop_works(loop)) {
        pthread_cond_wait(&watch->changed, &watch->mutex);
    }
    watch->parked = false;
}

/* For how long the current callback has run; 0: not known yet. */
static uint64_t
watch_look(TwLoop *loop, TwWatch *watch)
{
    uint64_t count = WATCH_READ(loop->stats.callbacks);
    uint64_t begin = WATCH_READ(loop->timing.begin), now = tw_now_ns();

    if (watch->seen != count || watch->seen_ns < begin) {
        watch->seen = count;
        watch->seen_ns = now;
        watch->state = 0;
        watch->gil_ns = 0;
        if (!watch->has_cpu_clock
            || tw_now_cpu(watch->cpu_clock, &watch->seen_cpu) < 0) {
            watch->seen_cpu = 0;
        }
    }
    __atomic_store_n(&loop->timing.until, 0, __ATOMIC_RELAXED);
    if (WATCH_READ(loop->timing.first) == count) {
        return now > begin ? now - begin : 0;
    }
    return now - watch->seen_ns;
}

/* The state of the loop's thread.  A thread that waits for the GIL also wakes
   up every few milliseconds: one that runs at each of several moments
   computes. */
static char
watch_state_lock_held(TwWatch *watch)
{
    char state = tw_sys_thread_state(watch->thread);

    for (int i = 0; i < 4 && state == 'R'; i++) {
        watch_sleep_lock_held(watch, 1500 * 1000);
        state = tw_sys_thread_state(watch->thread);
    }
    return state;
}

/* Check until a callback has run for too long.  False: another generation. */
static bool
watch_wait_lock_held(TwLoop *loop, TwWatch *watch, uint64_t generation,
                     uint64_t seen, uint64_t seen_for, uint64_t *ns)
{
    while (watch->generation == generation) {
        if (!watch_loop_works(loop)) {
            watch_park_lock_held(loop, watch);
            continue;
        }
        *ns = watch_look(loop, watch);
        if (*ns >= (watch->seen == seen ? seen_for : watch->threshold)
            && watch_loop_works(loop)) {
            return true;
        }
        watch_sleep_lock_held(watch, watch->threshold / WATCH_LOOKS);
    }
    return false;
}

/* -- for Python ----------------------------------------------------------- */

static TwWatch *
watch_new(void)
{
    TwWatch *watch = PyMem_RawCalloc(1, sizeof(*watch));

    if (watch == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    tw_watch_after_fork(watch);
    return watch;
}

void
tw_watch_after_fork(TwWatch *watch)
{
    /* The watchdog may have held the mutex: make another. */
    pthread_mutex_init(&watch->mutex, NULL);
    pthread_cond_init(&watch->changed, NULL);
    watch->parked = false;
}

void
tw_watch_free(TwWatch *watch)
{
    if (watch != NULL) {
        Py_CLEAR(watch->report);
        pthread_mutex_destroy(&watch->mutex);
        pthread_cond_destroy(&watch->changed);
        PyMem_RawFree(watch);
    }
}

/* End the watchdog. */
static uint64_t
watch_next_generation(TwWatch *watch)
{
    uint64_t generation;

    pthread_mutex_lock(&watch->mutex);
    generation = ++watch->generation;
    pthread_cond_broadcast(&watch->changed);
    pthread_mutex_unlock(&watch->mutex);
    return generation;
}

PyObject *
tw_watch_loop_begin(PyObject *self, PyObject *args)
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
    if (loop->watch == NULL) {
        loop->watch = watch_new();
        if (loop->watch == NULL) {
            return NULL;
        }
    }
    loop->watch->threshold = (uint64_t)(seconds * 1e9);
    Py_XSETREF(loop->watch->report, Py_NewRef(report));
    if (tw_loop_is_here(loop)) {
        tw_watch_run(loop);
    }
    return PyLong_FromUnsignedLongLong(watch_next_generation(loop->watch));
}

static PyObject *
watch_answer(TwWatch *watch, uint64_t ns)
{
    uint64_t now = tw_now_ns();

    watch->gil_ns = now - watch->asked;
    watch->asked = 0;
    return watch_facts(watch, NULL, watch->seen, now, ns);
}

PyObject *
tw_watch_loop_wait(PyObject *self, PyObject *args)
{
    TwLoop *loop = (TwLoop *)self;
    TwWatch *watch = loop->watch;
    unsigned long long generation, seen;
    uint64_t ns = 0;
    double seconds;
    bool found;

    if (!PyArg_ParseTuple(args, "KKd:_watch_wait", &generation, &seen,
                          &seconds)) {
        return NULL;
    }
    if (watch == NULL) {
        Py_RETURN_NONE;
    }
    __atomic_store_n(&loop->gil.silent, PyThreadState_Get(),
                     __ATOMIC_RELAXED);
    Py_BEGIN_ALLOW_THREADS
    pthread_mutex_lock(&watch->mutex);
    found = watch_wait_lock_held(loop, watch, generation, seen,
                                 (uint64_t)(seconds * 1e9), &ns);
    if (found) {
        watch->state = watch_state_lock_held(watch);
        watch->asked = tw_now_ns();
    }
    pthread_mutex_unlock(&watch->mutex);
    __atomic_store_n(&loop->gil.silent, NULL, __ATOMIC_RELAXED);
    Py_END_ALLOW_THREADS
    if (!found) {
        Py_RETURN_NONE;
    }
    return watch_answer(watch, ns);
}

PyObject *
tw_watch_loop_count(PyObject *self, PyObject *Py_UNUSED(unused))
{
    return PyLong_FromUnsignedLongLong(((TwLoop *)self)->stats.callbacks);
}

PyObject *
tw_watch_loop_end(PyObject *self, PyObject *all)
{
    TwWatch *watch = ((TwLoop *)self)->watch;

    if (watch != NULL) {
        watch_next_generation(watch);
        if (all == Py_True) {
            watch->threshold = 0;
            Py_CLEAR(watch->report);
        }
    }
    Py_RETURN_NONE;
}
