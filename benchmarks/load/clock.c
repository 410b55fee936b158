/* Preloaded into a process under callgrind, by cost.py.

   Under callgrind a program takes many times as long, and its clock runs on.
   A loop that decides by the clock would decide as if its callbacks were slow:
   poll in between, time each by itself.  Here the monotonic clock is slowed
   down: the CPU time that the process has used counts as a fraction of it,
   and the time in which it waited, or others ran, for hardly anything.
   Readings are counted, and the instructions that they take are not: under
   callgrind they are system calls, elsewhere they are not. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <valgrind/callgrind.h>

#define OTHER 1000

unsigned long cost_readings;
long cost_slower = 1;

static long
read_ns(clockid_t clock)
{
    struct timespec now;

    syscall(SYS_clock_gettime, clock, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
    long ns, cpu;

    if (clock != CLOCK_MONOTONIC) {
        return (int)syscall(SYS_clock_gettime, clock, now);
    }
    CALLGRIND_TOGGLE_COLLECT;
    cost_readings++;
    cpu = read_ns(CLOCK_PROCESS_CPUTIME_ID);
    ns = (read_ns(CLOCK_MONOTONIC) - cpu) / OTHER + cpu / cost_slower;
    now->tv_sec = ns / 1000000000L;
    now->tv_nsec = ns % 1000000000L;
    CALLGRIND_TOGGLE_COLLECT;
    return 0;
}

/* Callgrind writes what it counted since the last time.  (Its way to forget
   that, CALLGRIND_ZERO_STATS, leaves something of the first time.) */
void
cost_dump(void)
{
    cost_readings = 0;
    CALLGRIND_DUMP_STATS;
}
