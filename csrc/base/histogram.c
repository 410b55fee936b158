#include "base/histogram.h"

uint64_t
tw_hist_bound(unsigned index)
{
    unsigned next = index + 1, shift;

    if (next < 2 * TW_HIST_SUB) {
        return next;
    }
    shift = next / TW_HIST_SUB - 1;
    return (uint64_t)(next % TW_HIST_SUB + TW_HIST_SUB) << shift;
}
