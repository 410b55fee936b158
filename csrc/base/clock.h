/* The clocks: the monotonic one, with which the loop measures itself, and the
   wall's. */
#pragma once

#include <time.h>

#include "base/common.h"

/* Nanoseconds of any clock.  0, or -1 and errno. */
static inline int
tw_now_of(clockid_t clock, uint64_t *ns)
{
    struct timespec now;

    if (clock_gettime(clock, &now) < 0) {
        return -1;
    }
    *ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    return 0;
}

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
