#define _GNU_SOURCE
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define SAMPLES (1u << 21)

static struct {
    uint64_t start, open, close;        /* wall clock, ns */
    uint64_t cpu_open, cpu_close;       /* the server's CPU clock, ns */
    uint64_t own_open, own_close;       /* this program's */
    long resident;                      /* the server's, KiB, at the end */
    uint64_t messages, bytes, seen, lost;
    uint32_t *sample;                   /* latencies, ns / 16 */
    uint64_t rng;
    clockid_t server;
} st;

void
die(const char *what)
{
    perror(what);
    exit(1);
}

uint64_t
now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t
cpu_ns(clockid_t clock)
{
    struct timespec ts;
    if (clock_gettime(clock, &ts)) {
        return 0;
    }
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t
server_cpu(void)
{
    return opt.pid ? cpu_ns(st.server) : 0;
}

static long
server_resident_kib(void)
{
    char path[64];
    long pages = 0;
    snprintf(path, sizeof(path), "/proc/%d/statm", (int)opt.pid);
    FILE *statm = opt.pid ? fopen(path, "r") : NULL;
    if (!statm) {
        return 0;
    }
    if (fscanf(statm, "%*d %ld", &pages) != 1) {
        pages = 0;
    }
    fclose(statm);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

void
stats_init(void)
{
    if (opt.pid && clock_getcpuclockid(opt.pid, &st.server)) {
        die("clock_getcpuclockid");
    }
    st.sample = malloc(SAMPLES * sizeof(*st.sample));
    st.rng = 88172645463325252u;
    st.start = now_ns();
}

int
stats_open(void)
{
    return st.open != 0;
}

int
stats_tick(void)
{
    uint64_t now = now_ns();
    if (!st.open) {
        if (now - st.start >= (uint64_t)(opt.warm * 1e9)) {
            st.own_open = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
            st.cpu_open = server_cpu();
            st.open = now_ns();
        }
        return 1;
    }
    if (opt.count ? st.messages < opt.count
                  : now - st.open < (uint64_t)(opt.seconds * 1e9)) {
        return 1;
    }
    st.cpu_close = server_cpu();
    st.close = now_ns();
    st.own_close = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
    st.resident = server_resident_kib();
    return 0;
}

/* Latencies beyond SAMPLES replace earlier ones at random (a reservoir). */
void
stats_message(uint64_t began_ns)
{
    if (!st.open) {
        return;
    }
    st.messages++;
    uint64_t at = st.seen++;
    if (at >= SAMPLES) {
        st.rng ^= st.rng << 13;
        st.rng ^= st.rng >> 7;
        st.rng ^= st.rng << 17;
        at = st.rng % st.seen;
        if (at >= SAMPLES) {
            return;
        }
    }
    uint64_t took = (now_ns() - began_ns) >> 4;
    st.sample[at] = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
}

void
stats_lost(int n)
{
    if (st.open) {
        st.lost += (uint64_t)n;
    }
}

void
stats_bytes(size_t n)
{
    if (st.open) {
        st.bytes += n;
    }
}

static int
by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double
percentile_us(double p)
{
    uint64_t n = st.seen < SAMPLES ? st.seen : SAMPLES;
    if (!n) {
        return 0;
    }
    return (double)st.sample[(uint64_t)(p * (double)(n - 1))] * 16 / 1e3;
}

void
stats_print(void)
{
    uint64_t n = st.seen < SAMPLES ? st.seen : SAMPLES;
    qsort(st.sample, n, sizeof(*st.sample), by_value);
    double messages = st.bytes ? (double)st.bytes / (double)opt.size
                               : (double)st.messages;
    printf("{\"messages\": %.3f, \"seconds\": %.6f, \"server_cpu\": %.6f,"
           " \"p50_us\": %.2f, \"p99_us\": %.2f, \"p999_us\": %.2f,"
           " \"load_cpu\": %.6f,"
           " \"resident_kib\": %ld, \"lost\": %llu}\n",
           messages, (double)(st.close - st.open) / 1e9,
           (double)(st.cpu_close - st.cpu_open) / 1e9,
           percentile_us(0.5), percentile_us(0.99), percentile_us(0.999),
           (double)(st.own_close - st.own_open) / 1e9, st.resident,
           (unsigned long long)st.lost);
    fflush(stdout);
}
