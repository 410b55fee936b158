/* Preloaded into a process under callgrind, by cost.py.

   Under callgrind a program takes many times as long, and its clock runs on.
   A loop that decides by the clock would decide as if its callbacks were slow:
   poll in between, time each by itself.  Here the monotonic clock is slowed
   down: the CPU time that the process has used counts as a fraction of it,
   and the time in which it waited, or others ran, for hardly anything.
   Readings are counted, and the instructions that they take are not: under
   callgrind they are system calls, elsewhere they are not.  The clock of ticks
   is the same one, every 4 ms.  Waits until a time take as much longer. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <valgrind/callgrind.h>

#define OTHER 1000
#define SECOND 1000000000L

#define TICK 4000000L

unsigned long cost_readings, cost_ticks;
long cost_slower = 1;

static long
read_ns(clockid_t clock)
{
    struct timespec now;

    syscall(SYS_clock_gettime, clock, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
    long ns, cpu;

    if (clock != CLOCK_MONOTONIC && clock != CLOCK_MONOTONIC_COARSE) {
        return (int)syscall(SYS_clock_gettime, clock, now);
    }
    CALLGRIND_TOGGLE_COLLECT;
    *(clock == CLOCK_MONOTONIC ? &cost_readings : &cost_ticks) += 1;
    cpu = read_ns(CLOCK_PROCESS_CPUTIME_ID);
    ns = (read_ns(CLOCK_MONOTONIC) - cpu) / OTHER + cpu / cost_slower;
    if (clock == CLOCK_MONOTONIC_COARSE) {
        ns -= ns % TICK;
    }
    now->tv_sec = ns / SECOND;
    now->tv_nsec = ns % SECOND;
    CALLGRIND_TOGGLE_COLLECT;
    return 0;
}

int
pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                       const struct timespec *until)
{
    struct timespec now, end;
    long ns;

    clock_gettime(CLOCK_MONOTONIC, &now);
    cost_readings--;
    ns = (until->tv_sec - now.tv_sec) * SECOND + until->tv_nsec - now.tv_nsec;
    ns = read_ns(CLOCK_MONOTONIC) + (ns > 0 ? ns * cost_slower : 0);
    end.tv_sec = ns / SECOND;
    end.tv_nsec = ns % SECOND;
    return pthread_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, &end);
}

/* Callgrind writes what it counted since the last time.  (Its way to forget
   that, CALLGRIND_ZERO_STATS, leaves something of the first time.) */
void
cost_dump(void)
{
    cost_readings = cost_ticks = 0;
    CALLGRIND_DUMP_STATS;
}
