/* The monotonic clock that the loop measures itself with. */
#pragma once

#include <time.h>

#include "base/common.h"

/* Nanoseconds of CLOCK_MONOTONIC. */
static inline uint64_t
tw_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
