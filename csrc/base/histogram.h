/* A histogram of numbers, in bounded memory, for counting on hot paths.

   The buckets are log-linear: each power of two is divided into 16 buckets of
   equal width.  A value differs from the middle of its bucket by 3.2 % at
   most.  The first 32 buckets have a width of one unit each; values above the
   last bound are counted in the last bucket.

   All fields are uint64_t and only grow: two histograms can be subtracted word
   by word.  There is no lock: the GIL protects them. */
#pragma once

#include "base/common.h"

#define TW_HIST_SUB_BITS 4
#define TW_HIST_SUB (1 << TW_HIST_SUB_BITS)
#define TW_HIST_POWERS 31 /* values of up to that many bits have a bucket */
#define TW_HIST_BOUNDS                                                        \
    ((TW_HIST_POWERS - TW_HIST_SUB_BITS + 1) * TW_HIST_SUB)

typedef struct {
    uint64_t sum;                        /* of the values, exact */
    uint64_t counts[TW_HIST_BOUNDS + 1]; /* the last: larger than all bounds */
} TwHist;

/* The bucket of a value. */
static inline unsigned
tw_hist_index(uint64_t value)
{
    unsigned shift = (unsigned)(63 - __builtin_clzll(value | TW_HIST_SUB))
                     - TW_HIST_SUB_BITS;
    uint64_t index = (shift << TW_HIST_SUB_BITS) + (value >> shift);

    return index < TW_HIST_BOUNDS ? (unsigned)index : TW_HIST_BOUNDS;
}

/* Count `n` values of about `value` each, in units of the histogram, that are
   `sum` in all. */
static inline void
tw_hist_add(TwHist *hist, uint64_t value, uint64_t n, uint64_t sum)
{
    hist->sum += sum;
    hist->counts[tw_hist_index(value)] += n;
}

/* Values in a bucket are less than this, and not less than that of the bucket
   before. */
uint64_t tw_hist_bound(unsigned index);
