/* The clocks: the monotonic one, with which the loop measures itself, and the
   wall's. */
#pragma once

#include <time.h>

#include "base/common.h"

/* Seconds of time.time(). */
static inline double
tw_now_wall(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Nanoseconds of CLOCK_MONOTONIC. */
static inline uint64_t
tw_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
