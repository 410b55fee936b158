/* What a loop counts and measures, always.

   The counters (TwStats) are uint64_t, only grow, and belong to the loop;
   gauges are in TwGauges.  loop.stats() shows both: net/stats.c;
   docs/observability.rst explains each key.

   How callbacks are timed.  A reading of the clock costs about as much as a
   small callback.  So callbacks that take less than 32 us on average are timed
   in batches: as many as take some 64 us, 64 at most, share one reading, and
   each is recorded with the batch's mean.  If a batch takes twice as long, it
   had a slow callback; then the others are recorded with the average, and the
   rest of the time as one callback.  Slower callbacks are timed one by one.
   Numbers and sums are exact; a batch ends before the loop waits. */
#pragma once

#include "base/histogram.h"

/* benchmarks/cost.py compares with a build in which this is 0.  Bytes and
   turns are counted all the same, because the loop needs them. */
#define TW_METRICS 1

/* What carries bytes.  TW_KIND_SOCK: the loop's sock_*() methods. */
typedef enum {
    TW_KIND_NONE, /* a transport that is not complete yet */
    TW_KIND_TCP,
    TW_KIND_UNIX,
    TW_KIND_PIPE,
    TW_KIND_UDP,
    TW_KIND_TLS,
    TW_KIND_SOCK,
    TW_KIND_COUNT
} TwKind;

/* Field, and key in loop.stats(): bytes and messages of a kind. */
#define TW_TRAFFIC(X) X(bytes_in) X(bytes_out) X(messages_in) X(messages_out)

/* Connections of a kind: how they began and ended. */
#define TW_CONNECTIONS(X)                                                     \
    X(opened) X(accepted) X(failed) X(closed) X(reset) X(lost)

/* Errors of accept(2): field, key. */
#define TW_ACCEPT_ERRORS(X)                                                   \
    X(emfile, "EMFILE")                                                       \
    X(enfile, "ENFILE")                                                       \
    X(enobufs, "ENOBUFS")                                                     \
    X(enomem, "ENOMEM")                                                       \
    X(other, "other")

/* Times have 32 ns as their unit; the ready queue's length has 1. */
#define TW_TIME_SHIFT 5
#define TW_HISTOGRAMS(X) X(callback) X(turn) X(lag) X(poll) X(ready)

typedef struct {
#define X(name) uint64_t name;
    TW_TRAFFIC(X)
    TW_CONNECTIONS(X)
#undef X
} TwTransportStats;

typedef struct {
    uint64_t turns;
    uint64_t callbacks;
    uint64_t idle_ns;
    uint64_t running_ns; /* of finished run_forever() calls */
    TwTransportStats kinds[TW_KIND_COUNT];
    struct {
#define X(name, key) uint64_t name;
        TW_ACCEPT_ERRORS(X)
#undef X
    } accept_errors;
    uint64_t pauses; /* calls of pause_writing() */
    uint64_t timers, timers_cancelled;
    uint64_t signals;
    uint64_t processes, processes_ended;
    uint64_t tls_handshakes, tls_failures, tls_resumed, tls_ns;
    uint64_t lookups, lookups_done, lookups_ns;
    uint64_t jobs, jobs_done, jobs_ns;
    struct {
#define X(name) TwHist name;
        TW_HISTOGRAMS(X)
#undef X
    } hist;
} TwStats;

typedef struct {
    uint64_t run_start;  /* ns: when the present run_forever() began, or 0 */
    uint64_t turn_start; /* ns: when the last poll ended */
    double made, closed; /* time.time(); closed: 0 if it is not */
    uint32_t open[TW_KIND_COUNT]; /* transports */
    uint64_t number;     /* of the loop: 1, 2, ... */
} TwGauges;

typedef struct {
    /* The watchdog's thread reads `first`, then `begin`, and writes `until`:
       core/watchdog.h. */
    uint64_t until;      /* callbacks: the batch ends there */
    uint64_t first;      /* callbacks when it began; written after: */
    uint64_t begin;      /* ns: when it began */
    uint64_t mean;       /* ns: of about the last 64 callbacks */
    uint64_t depth;      /* of the ready queue, in the last generations */
    uint64_t depth_runs; /* so many generations */
} TwTiming;

static inline void
tw_stats_in(TwStats *stats, unsigned kind, size_t bytes)
{
    stats->kinds[kind].bytes_in += bytes;
    stats->kinds[kind].messages_in += TW_METRICS;
}

static inline void
tw_stats_out_many(TwStats *stats, unsigned kind, size_t bytes, size_t n)
{
    stats->kinds[kind].bytes_out += bytes;
    stats->kinds[kind].messages_out += TW_METRICS ? n : 0;
}

static inline void
tw_stats_out(TwStats *stats, unsigned kind, size_t bytes)
{
    tw_stats_out_many(stats, kind, bytes, 1);
}

/* Record a time of `ns`. */
static inline void
tw_stats_time(TwHist *hist, uint64_t ns)
{
    if (TW_METRICS) {
        tw_hist_add(hist, ns >> TW_TIME_SHIFT, 1, ns);
    }
}

/* Count an error of accept(2). */
void tw_stats_accept_error(TwStats *stats, int err);

/* End the batch of callbacks that began last, at `now`, and begin another.
   (core/watchdog.h counts callbacks, and finds that a batch is full.) */
void tw_timing_batch(TwTiming *timing, TwStats *stats, uint64_t now);

/* The time until `now` was not spent in callbacks.  TW_TIMING_PAUSE: none
   runs until the next call. */
#define TW_TIMING_PAUSE UINT64_MAX

static inline void
tw_timing_skip(TwTiming *timing, const TwStats *stats, uint64_t now)
{
    TW_SHARED_SET(timing->begin, now);
    TW_SHARED_SET(timing->first, stats->callbacks);
}

/* Count the generations of that depth. */
void tw_timing_depth_changed(TwTiming *timing, TwStats *stats, uint64_t depth);

/* A generation begins with `depth` ready handles. */
static inline void
tw_timing_depth(TwTiming *timing, TwStats *stats, uint64_t depth)
{
    if (TW_UNLIKELY(depth != timing->depth) && TW_METRICS) {
        tw_timing_depth_changed(timing, stats, depth);
    }
    timing->depth_runs += TW_METRICS;
}
