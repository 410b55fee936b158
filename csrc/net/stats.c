#include "net/stats.h"

#include <unistd.h>

#include "base/args.h"
#include "base/clock.h"
#include "core/watcher.h"
#include "net/stream.h"

/* The version of stats()'s form: it changes if a key is removed, or means
   something else. */
#define STATS_VERSION 1

#define STATS_TIME_UNIT ((double)(1 << TW_TIME_SHIFT) * 1e-9)

typedef struct {
    const char *key;
    uint64_t value;
} StatsField;

static const char *const stats_kinds[TW_KIND_COUNT] = {
    NULL, "tcp", "unix", "pipe", "udp", "tls", "sock",
};

static double
stats_seconds(uint64_t ns)
{
    return (double)ns * 1e-9;
}

/* -- building ------------------------------------------------------------- */

static tw_status
stats_put_steal(PyObject *dict, const char *key, PyObject *value)
{
    tw_status status =
        value == NULL ? -1 : PyDict_SetItemString(dict, key, value);

    Py_XDECREF(value);
    return status;
}

static PyObject *
stats_dict(const StatsField *fields, size_t n)
{
    PyObject *dict = PyDict_New();

    for (size_t i = 0; dict != NULL && i < n; i++) {
        PyObject *value = PyLong_FromUnsignedLongLong(fields[i].value);
        if (stats_put_steal(dict, fields[i].key, value) < 0) {
            Py_CLEAR(dict);
        }
    }
    return dict;
}

/* -- histograms ----------------------------------------------------------- */

static PyObject *
stats_bounds(double unit)
{
    PyObject *tuple = PyTuple_New(TW_HIST_BOUNDS);

    for (unsigned i = 0; tuple != NULL && i < TW_HIST_BOUNDS; i++) {
        uint64_t bound = tw_hist_bound(i);
        PyObject *value = unit == 0
                              ? PyLong_FromUnsignedLongLong(bound)
                              : PyFloat_FromDouble((double)bound * unit);
        if (value == NULL) {
            Py_CLEAR(tuple);
            break;
        }
        PyTuple_SET_ITEM(tuple, i, value);
    }
    return tuple;
}

tw_status
tw_stats_setup(tw_state *state, PyObject *Py_UNUSED(module))
{
    state->time_bounds = stats_bounds(STATS_TIME_UNIT);
    state->size_bounds = stats_bounds(0);
    return state->time_bounds == NULL || state->size_bounds == NULL ? -1 : 0;
}

static PyObject *
stats_counts(const TwHist *hist, uint64_t *total)
{
    PyObject *tuple = PyTuple_New(TW_HIST_BOUNDS + 1);
    PyObject *zero = PyLong_FromLong(0); /* most of them */

    *total = 0;
    for (unsigned i = 0; tuple != NULL && i <= TW_HIST_BOUNDS; i++) {
        PyObject *value = hist->counts[i] == 0
                              ? Py_NewRef(zero)
                              : PyLong_FromUnsignedLongLong(hist->counts[i]);
        if (value == NULL) {
            Py_CLEAR(tuple);
            break;
        }
        PyTuple_SET_ITEM(tuple, i, value);
        *total += hist->counts[i];
    }
    Py_XDECREF(zero);
    return tuple;
}

static PyObject *
stats_histogram(const tw_state *state, const TwHist *hist, bool is_time)
{
    uint64_t total;
    PyObject *counts = stats_counts(hist, &total);

    if (counts == NULL) {
        return NULL;
    }
    if (is_time) {
        return Py_BuildValue("{sKsdsOsN}", "count", total, "sum",
                             stats_seconds(hist->sum), "bounds",
                             state->time_bounds, "counts", counts);
    }
    return Py_BuildValue("{sKsKsOsN}", "count", total, "sum", hist->sum,
                         "bounds", state->size_bounds, "counts", counts);
}

static PyObject *
stats_histograms(const tw_state *state, const TwStats *st)
{
    PyObject *dict = PyDict_New();

    if (dict == NULL) {
        return NULL;
    }
#define X(name)                                                               \
    if (stats_put_steal(dict, #name,                                          \
                        stats_histogram(state, &st->hist.name,                \
                                        &st->hist.name != &st->hist.ready))   \
        < 0) {                                                                \
        Py_DECREF(dict);                                                      \
        return NULL;                                                          \
    }
    TW_HISTOGRAMS(X)
#undef X
    return dict;
}

/* -- transports ----------------------------------------------------------- */

static PyObject *
stats_kind(const TwLoop *loop, const TwTransportStats *st, unsigned kind)
{
    const StatsField fields[] = {
#define X(name) {#name, st->name},
        TW_TRAFFIC(X) TW_CONNECTIONS(X)
#undef X
            {"open", loop->gauges.open[kind]},
    };
    size_t traffic = 0;

#define X(name) traffic++;
    TW_TRAFFIC(X)
#undef X
    return stats_dict(fields, kind == TW_KIND_TLS || kind == TW_KIND_SOCK
                                  ? traffic
                                  : Py_ARRAY_LENGTH(fields));
}

static PyObject *
stats_transports(const TwLoop *loop, const TwStats *st)
{
    PyObject *dict = PyDict_New();

    for (unsigned kind = TW_KIND_TCP; dict && kind < TW_KIND_COUNT; kind++) {
        if (stats_put_steal(dict, stats_kinds[kind],
                            stats_kind(loop, &st->kinds[kind], kind))
            < 0) {
            Py_CLEAR(dict);
        }
    }
    return dict;
}

/* A TLS transport shows its own data and that of the transport below. */
static PyObject *
stats_writing(const TwLoop *loop, const TwStats *st)
{
    StatsField fields[] = {
        {"pauses", st->pauses}, {"paused", 0}, {"waiting_bytes", 0}};

    for (uint32_t i = 0; i < loop->writers.count; i++) {
        TwWatcher *w = loop->writers.items[i];
        TwTransport *transport = (TwTransport *)w->owner;
        const TwStream *stream = (TwStream *)w->owner;
        if (!w->transport) {
            continue;
        }
        if (Py_IS_TYPE(w->owner, loop->state->stream_type)
            && stream->sink != NULL) {
            fields[1].value += (TW_BASE(stream->sink_owner)->flags
                                & TW_F_WRITE_PAUSED) != 0;
            fields[2].value += stream->sink->waiting(stream->sink_owner);
            continue;
        }
        fields[1].value += (transport->flags & TW_F_WRITE_PAUSED) != 0;
        fields[2].value += transport->ops->buffer_size(transport);
    }
    return stats_dict(fields, Py_ARRAY_LENGTH(fields));
}

/* -- the rest ------------------------------------------------------------- */

static PyObject *
stats_accept_errors(const TwStats *st)
{
    const StatsField fields[] = {
#define X(name, key) {key, st->accept_errors.name},
        TW_ACCEPT_ERRORS(X)
#undef X
    };

    return stats_dict(fields, Py_ARRAY_LENGTH(fields));
}

static PyObject *
stats_timers(const TwLoop *loop, const TwStats *st)
{
    const StatsField fields[] = {
        {"scheduled", st->timers},
        {"cancelled", st->timers_cancelled},
        {"pending", loop->timers.count - loop->timers_cancelled},
    };

    return stats_dict(fields, Py_ARRAY_LENGTH(fields));
}

static PyObject *
stats_tls(const TwStats *st)
{
    return Py_BuildValue("{sKsKsKsd}", "handshakes", st->tls_handshakes,
                         "failures", st->tls_failures, "resumed",
                         st->tls_resumed, "seconds",
                         stats_seconds(st->tls_ns));
}

/* Work done elsewhere: begun, done, pending, and how long it took. */
static PyObject *
stats_work(uint64_t begun, uint64_t done, uint64_t ns, uint64_t pending)
{
    return Py_BuildValue("{sKsKsKsd}", "submitted", begun, "done", done,
                         "pending", pending, "seconds", stats_seconds(ns));
}

static tw_status
stats_put_parts(PyObject *dict, const TwLoop *loop, const TwStats *st)
{
    const TwStats *live = &loop->stats;
    const StatsField processes[] = {
        {"started", st->processes},
        {"exited", st->processes_ended},
        {"running", live->processes - live->processes_ended},
    };
    const struct {
        const char *key;
        PyObject *value;
    } parts[] = {
        {"timers", stats_timers(loop, st)},
        {"transports", stats_transports(loop, st)},
        {"writing", stats_writing(loop, st)},
        {"accept_errors", stats_accept_errors(st)},
        {"tls", stats_tls(st)},
        {"lookups", stats_work(st->lookups, st->lookups_done, st->lookups_ns,
                               live->lookups - live->lookups_done)},
        {"executor", stats_work(st->jobs, st->jobs_done, st->jobs_ns,
                                live->jobs - live->jobs_done)},
        {"subprocesses",
         stats_dict(processes, Py_ARRAY_LENGTH(processes))},
        {"histograms", stats_histograms(loop->state, st)},
    };
    tw_status status = 0;

    for (size_t i = 0; i < Py_ARRAY_LENGTH(parts); i++) {
        if (stats_put_steal(dict, parts[i].key, parts[i].value) < 0) {
            status = -1;
        }
    }
    return status;
}

static PyObject *
stats_name(const TwLoop *loop)
{
    return loop->name != NULL
               ? Py_NewRef(loop->name)
               : PyUnicode_FromFormat(
                     "loop-%llu", (unsigned long long)loop->gauges.number);
}

/* Seconds of time.time(); None if it has not happened. */
static PyObject *
stats_when(double when)
{
    return when == 0 ? Py_NewRef(Py_None) : PyFloat_FromDouble(when);
}

static PyObject *
stats_begin(const TwLoop *loop, const TwStats *st)
{
    bool runs = loop->thread_id != NULL && loop->thread_id != Py_None;

    return Py_BuildValue(
        "{sisKsNsisOssszsdsdsNsKsKsdsdsIsK}", "version", STATS_VERSION, "id",
        loop->gauges.number, "name", stats_name(loop), "pid", (int)getpid(),
        "thread", runs ? loop->thread_id : Py_None, "state",
        loop->closed ? "closed" : runs ? "running" : "stopped", "poller",
        loop->poller == NULL ? NULL : loop->poller->ops->name, "time",
        tw_now_wall(), "made", loop->gauges.made, "closed",
        stats_when(loop->gauges.closed), "turns", st->turns, "callbacks",
        st->callbacks, "busy", stats_seconds(st->running_ns - st->idle_ns),
        "idle", stats_seconds(st->idle_ns), "ready", loop->ready.count,
        "signals", st->signals);
}

/* -- taking --------------------------------------------------------------- */

/* The counters as of now. */
static void
stats_take(TwLoop *loop, TwStats *out)
{
    tw_timing_depth_changed(&loop->timing, &loop->stats, loop->timing.depth);
    *out = loop->stats;
    if (loop->gauges.run_start != 0) {
        out->running_ns += tw_now_ns() - loop->gauges.run_start;
    }
}

static void
stats_subtract(TwStats *from, const TwStats *base)
{
    uint64_t *words = (uint64_t *)from;
    const uint64_t *less = (const uint64_t *)base;

    for (size_t i = 0; i < sizeof(*from) / sizeof(*words); i++) {
        words[i] -= less[i];
    }
}

/* Later calls count from `now` on. */
static tw_status
stats_reset(TwLoop *loop, const TwStats *now)
{
    if (loop->stats_base == NULL) {
        loop->stats_base = PyMem_RawMalloc(sizeof(*now));
        if (loop->stats_base == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    *loop->stats_base = *now;
    return 0;
}

static PyObject *
stats_loop_meth_stats(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames)
{
    static const char *const names[] = {"reset"};
    static const TwArgs spec = {"stats", names, 0, 1};
    TwLoop *loop = (TwLoop *)self;
    PyObject *given[1], *dict;
    TwStats now, shown;
    int reset;

    if (tw_args_bind(&spec, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    reset = given[0] == NULL ? 0 : PyObject_IsTrue(given[0]);
    if (reset < 0) {
        return NULL;
    }
    stats_take(loop, &now);
    shown = now;
    if (loop->stats_base != NULL) {
        stats_subtract(&shown, loop->stats_base);
    }
    if (reset && stats_reset(loop, &now) < 0) {
        return NULL;
    }
    dict = stats_begin(loop, &shown);
    if (dict != NULL && stats_put_parts(dict, loop, &shown) < 0) {
        Py_CLEAR(dict);
    }
    return dict;
}

/* _count(name, n=1, ns=0): for work that is done in Python. */
static PyObject *
stats_loop_meth_count(PyObject *self, PyObject *args)
{
    TwStats *st = &((TwLoop *)self)->stats;
    const struct {
        const char *name;
        uint64_t *counter;
    } counters[] = {
        {"jobs", &st->jobs},
        {"jobs_done", &st->jobs_done},
        {"jobs_ns", &st->jobs_ns},
        {"processes", &st->processes},
        {"processes_ended", &st->processes_ended},
    };
    const char *name;
    unsigned long long n = 1;

    if (!PyArg_ParseTuple(args, "s|K:_count", &name, &n)) {
        return NULL;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(counters); i++) {
        if (strcmp(counters[i].name, name) == 0) {
            *counters[i].counter += n;
            Py_RETURN_NONE;
        }
    }
    PyErr_SetString(PyExc_ValueError, name);
    return NULL;
}

PyMethodDef tw_stats_loop_methods[] = {
    {"stats", TW_FAST(stats_loop_meth_stats), TW_FASTKW, PyDoc_STR(
"stats($self, /, reset=False)\n--\n\n"
"Counters and measurements of the loop since it was made, as a dict.\n\n"
"reset: later calls count from this one on.  Works in any thread, and on a\n"
"closed loop.  docs/observability.rst says what each key means.")},
    {"_count", stats_loop_meth_count, METH_VARARGS, NULL},
    {NULL},
};
