#define _GNU_SOURCE
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SAMPLES (1u << 21)

static struct {
    uint64_t start, open, close;        /* wall clock, ns */
    uint64_t cpu_open, cpu_close;       /* the server's CPU clock, ns */
    uint64_t messages, bytes, seen;
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
server_cpu(void)
{
    struct timespec ts;
    if (!opt.pid || clock_gettime(st.server, &ts)) {
        return 0;
    }
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
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
    st.close = now;
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
    return st.sample[(uint64_t)(p * (double)(n - 1))] * 16 / 1e3;
}

void
stats_print(void)
{
    uint64_t n = st.seen < SAMPLES ? st.seen : SAMPLES;
    qsort(st.sample, n, sizeof(*st.sample), by_value);
    double messages = st.bytes ? (double)st.bytes / (double)opt.size
                               : (double)st.messages;
    printf("{\"messages\": %.3f, \"seconds\": %.6f, \"server_cpu\": %.6f,"
           " \"p50_us\": %.2f, \"p99_us\": %.2f}\n",
           messages, (double)(st.close - st.open) / 1e9,
           (double)(st.cpu_close - st.cpu_open) / 1e9,
           percentile_us(0.5), percentile_us(0.99));
    fflush(stdout);
}
