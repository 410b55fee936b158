#include "core/metrics.h"

#include <errno.h>

/* The most callbacks that share a reading of the clock; `mean` is of as
   many. */
#define TIMING_MOST_BITS 6
#define TIMING_MOST (1u << TIMING_MOST_BITS)
/* With a mean below this there are as many as that... */
#define TIMING_LEAST_BITS 10
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
    unsigned bits = 64 - (unsigned)__builtin_clzll(mean | 1);

    if (bits <= TIMING_LEAST_BITS) {
        return TIMING_MOST;
    }
    bits -= TIMING_LEAST_BITS;
    return bits < TIMING_MOST_BITS ? TIMING_MOST >> bits : 1;
}

static void
timing_record(const TwTiming *timing, TwHist *hist, uint64_t n, uint64_t ns)
{
    uint64_t mean = n == 1 ? ns : ns / n;

    if (TW_LIKELY(n == 1 || ns <= TIMING_BATCH_NS)) {
        tw_hist_add(hist, mean >> TW_TIME_SHIFT, n, ns);
        return;
    }
    if (mean > timing->mean) {
        mean = timing->mean;
    }
    tw_hist_add(hist, mean >> TW_TIME_SHIFT, n - 1, mean * (n - 1));
    tw_stats_time(hist, ns - mean * (n - 1));
}

void
tw_timing_batch(TwTiming *timing, TwStats *stats, uint64_t now)
{
    uint64_t n = stats->callbacks - timing->first;
    uint64_t ns = now - timing->begin;

    tw_timing_skip(timing, stats, now);
    if (n == 0) {
        return;
    }
    timing_record(timing, &stats->hist.callback, n, ns);
    timing->mean += (uint64_t)((int64_t)(ns - timing->mean * n)
                               / (int64_t)TIMING_MOST);
    timing->until = stats->callbacks + timing_length(timing->mean);
}

void
tw_timing_depth_changed(TwTiming *timing, TwStats *stats, uint64_t depth)
{
    tw_hist_add(&stats->hist.ready, timing->depth, timing->depth_runs,
                timing->depth * timing->depth_runs);
    timing->depth = depth;
    timing->depth_runs = 0;
}
