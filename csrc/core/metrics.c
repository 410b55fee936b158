#include "core/metrics.h"

#include <errno.h>

/* The most callbacks that share a reading of the clock; `mean` is of as
   many. */
#define TIMING_MOST_BITS 6
#define TIMING_MOST (1u << TIMING_MOST_BITS)
/* With a mean below this there are as many as that... */
#define TIMING_LEAST_BITS 10
#define TIMING_LEAST ((1u << TIMING_LEAST_BITS) - 1)
/* ...and a batch takes up to 64 us: one that takes twice as long has a slow
   callback. */
#define TIMING_BATCH_NS 131072u

void
tw_stats_accept_error(TwStats *stats, int err)
{
    uint64_t *counter = err == EMFILE    ? &stats->accept_errors.emfile
                        : err == ENFILE  ? &stats->accept_errors.enfile
                        : err == ENOBUFS ? &stats->accept_errors.enobufs
                        : err == ENOMEM  ? &stats->accept_errors.enomem
                                         : &stats->accept_errors.other;

    (*counter)++;
}

/* How many callbacks the next batch has. */
static uint64_t
timing_length(uint64_t mean)
{
    unsigned bits = 64 - TIMING_LEAST_BITS
                    - (unsigned)__builtin_clzll(mean | TIMING_LEAST);

    return TIMING_MOST >> (bits < TIMING_MOST_BITS ? bits : TIMING_MOST_BITS);
}

/* A batch that had a slow callback. */
static TW_COLD void
timing_record_slow(const TwTiming *timing, TwHist *hist, uint64_t n,
                   uint64_t ns)
{
    uint64_t mean = ns / n < timing->mean ? ns / n : timing->mean;

    tw_hist_add(hist, mean >> TW_TIME_SHIFT, n - 1, mean * (n - 1));
    tw_stats_time(hist, ns - mean * (n - 1));
}

void
tw_timing_batch(TwTiming *timing, TwStats *stats, uint64_t now)
{
    uint64_t callbacks = stats->callbacks, n = callbacks - timing->first;
    uint64_t ns = now - timing->begin;

    TW_SHARED_SET(timing->begin, now);
    TW_SHARED_SET(timing->first, callbacks);
    if (n == 0) {
        return;
    }
    if (TW_LIKELY(n == 1 || ns <= TIMING_BATCH_NS)) {
        tw_hist_add(&stats->hist.callback, ns / n >> TW_TIME_SHIFT, n, ns);
    }
    else {
        timing_record_slow(timing, &stats->hist.callback, n, ns);
    }
    timing->mean +=
        (uint64_t)((int64_t)(ns - timing->mean * n) >> TIMING_MOST_BITS);
    TW_SHARED_SET(timing->until, callbacks + timing_length(timing->mean));
}

void
tw_timing_depth_changed(TwTiming *timing, TwStats *stats, uint64_t depth)
{
    tw_hist_add(&stats->hist.ready, timing->depth, timing->depth_runs,
                timing->depth * timing->depth_runs);
    timing->depth = depth;
    timing->depth_runs = 0;
}
