#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define CHUNK (256u * 1024)
#define EVENTS 128

struct conn {
    struct link link;
    size_t unsent;      /* bytes of requests that are still to go */
    size_t sent;        /* place in the message that is going */
    size_t got;         /* bytes of the answer that is coming */
    int want_write;     /* EPOLLOUT is on */
    int heard;          /* has answered at least once */
    uint64_t *began;    /* ring of `depth` times */
    unsigned head;      /* the oldest of them */
    unsigned flying;    /* with --rate: messages without an answer yet */
};

static int epfd;
static int silent;      /* open connections that have not answered yet */
static int opening;     /* until all are open, each sends its first only */
static struct conn *paced;      /* with --rate: all connections … */
static uint64_t next_due;       /* … and when the next message leaves */
static char *pattern;   /* the message, and a chunk of its repetition */
static char *buffer;

static void
conn_watch(struct conn *c, int op, int want_write)
{
    struct epoll_event ev = { .data.ptr = c, .events = EPOLLIN };
    if (want_write) {
        ev.events |= EPOLLOUT;
    }
    c->want_write = want_write;
    if (epoll_ctl(epfd, op, c->link.fd, &ev)) {
        die("epoll_ctl");
    }
}

/* The pattern repeats, so that several messages go in one write. */
static void
conn_flush(struct conn *c)
{
    if (opt.mode == LOAD_RECV) {    /* its EPOLLOUT is the handshake's */
        return;
    }
    while (c->unsent) {
        size_t n = c->unsent < CHUNK ? c->unsent : CHUNK;
        ssize_t put = link_write(&c->link, pattern + c->sent, n);
        if (put < 0) {
            break;
        }
        c->unsent -= (size_t)put;
        c->sent = (c->sent + (size_t)put) % opt.size;
        if (opt.mode == LOAD_SEND) {    /* once a turn, for ever */
            stats_bytes((size_t)put);
            c->unsent = CHUNK;
            break;
        }
    }
    int want = c->unsent > 0;
    if (want != c->want_write) {
        conn_watch(c, EPOLL_CTL_MOD, want);
    }
}

static void
conn_open(struct conn *c)
{
    uint64_t now = now_ns();
    link_connect(&c->link);
    c->got = c->sent = 0;
    c->head = 0;
    for (int i = 0; i < opt.depth; i++) {
        c->began[i] = now;
    }
    c->flying = 1;
    c->unsent = opt.mode == LOAD_RECV ? 0
                : opt.rate            ? opt.size
                                      : opt.size * (size_t)opt.depth;
    conn_watch(c, EPOLL_CTL_ADD, opt.mode == LOAD_RECV && opt.tls);
    conn_flush(c);
}

/* Before the window opens, the answers' bytes are compared too. */
static void
conn_check(struct conn *c, size_t n)
{
    if (!stats_open() && opt.mode != LOAD_RECV) {
        if (memcmp(buffer, pattern + c->got % opt.size, n)) {
            fprintf(stderr, "wrong bytes in an answer\n");
            exit(1);
        }
    }
}

static void
conn_answered(struct conn *c)
{
    while (c->got >= opt.size) {
        if (!c->heard) {
            c->heard = 1;
            silent--;
        }
        uint64_t *began = &c->began[c->head];
        stats_message(*began);
        *began = now_ns();
        c->head = (c->head + 1) % (unsigned)opt.depth;
        c->got -= opt.size;
        if (opt.rate) {     /* conns_pace() sends the next one */
            c->flying--;
            continue;
        }
        if (opt.mode == LOAD_CHURN) {
            link_close(&c->link);
            conn_open(c);
            return;
        }
        c->unsent += opt.size;
    }
    if (!opening || opt.mode != LOAD_ECHO) {
        conn_flush(c);
    }
}

/* TLS keeps bytes that epoll cannot see: it is read until it has none. Not
 * until it would block: a server as fast as we are may never let it, and the
 * other connections would wait. */
static void
conn_readable(struct conn *c)
{
    for (;;) {
        ssize_t n = link_read(&c->link, buffer, CHUNK);
        if (n == 0) {
            fprintf(stderr, "the server closed a connection\n");
            exit(1);
        }
        if (n < 0) {
            break;
        }
        if (opt.mode == LOAD_RECV) {
            stats_bytes((size_t)n);
        }
        else if (opt.mode == LOAD_ECHO || opt.mode == LOAD_CHURN) {
            conn_check(c, (size_t)n);
            c->got += (size_t)n;
            conn_answered(c);
        }
        if (!c->link.ssl || !SSL_has_pending(c->link.ssl)) {
            break;
        }
    }
}

static void
conns_turn(int timeout_ms)
{
    struct epoll_event ev[EVENTS];
    int n = epoll_wait(epfd, ev, EVENTS, timeout_ms);
    if (n < 0 && errno != EINTR) {
        die("epoll_wait");
    }
    for (int i = 0; i < n; i++) {
        struct conn *c = ev[i].data.ptr;
        if (ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
            conn_readable(c);
        }
        else if (opt.mode == LOAD_RECV) {       /* begins the handshake */
            conn_watch(c, EPOLL_CTL_MOD, 0);
            conn_readable(c);
        }
        /* a TLS write may have waited for what was just read */
        if (c->want_write && c->link.fd >= 0) {
            conn_flush(c);
        }
    }
}

/* Send what is due. A message counts from the time when it was due, also if
 * this program was late or the connection has no room for one more. */
static void
conns_pace(void)
{
    static int at;
    uint64_t now = now_ns();
    while (next_due <= now) {
        struct conn *c = &paced[at];
        if (c->flying == (unsigned)opt.depth) {
            return;
        }
        c->began[(c->head + c->flying) % (unsigned)opt.depth] = next_due;
        c->flying++;
        c->unsent += opt.size;
        conn_flush(c);
        at = (at + 1) % opt.conns;
        next_due += (uint64_t)(1e9 / opt.rate);
    }
}

/* All connections are quiet before the first message is due. */
static void
pace_begin(struct conn *all)
{
    for (int i = 0; i < opt.conns; i++) {
        all[i].head = 0;
    }
    paced = all;
    next_due = now_ns();
}

static struct conn *
conns_open(void)
{
    struct conn *all = calloc((size_t)opt.conns, sizeof(*all));
    opening = 1;
    for (int i = 0; i < opt.conns; i++) {
        all[i].began = calloc((size_t)opt.depth, sizeof(uint64_t));
        conn_open(&all[i]);
        silent++;
        do {    /* a server behind with accepting would drop SYNs */
            conns_turn(0);
        } while (silent > 64 && opt.mode == LOAD_ECHO);
    }
    while (silent > 0 && opt.mode == LOAD_ECHO) {
        conns_turn(100);
    }
    opening = 0;
    for (int i = 0; i < opt.conns && !opt.rate; i++) {
        conn_flush(&all[i]);
    }
    return all;
}

/* Send one message on each connection, say so, and keep them all open until
 * stdin ends. */
static void
upload(struct conn *all)
{
    for (int i = 0; i < opt.conns; i++) {
        while (all[i].unsent) {
            conns_turn(100);
        }
    }
    printf("{\"uploaded\": %d}\n", opt.conns);
    fflush(stdout);
    while (opt.hold && read(0, buffer, 1) > 0) {
    }
}

void
stream_run(void)
{
    size_t total = opt.size + CHUNK;
    pattern = malloc(total);
    buffer = malloc(CHUNK);
    for (size_t i = 0; i < opt.size; i++) {
        pattern[i] = (char)('A' + (i * 7 + i / 251) % 61);
    }
    for (size_t i = opt.size; i < total; i++) {
        pattern[i] = pattern[i - opt.size];
    }
    epfd = epoll_create1(EPOLL_CLOEXEC);
    link_setup();
    struct conn *all = conns_open();
    if (opt.mode == LOAD_UPLOAD) {
        upload(all);
        return;
    }
    if (opt.rate) {
        pace_begin(all);
    }
    stats_init();
    while (stats_tick()) {
        if (opt.rate) {
            conns_pace();
        }
        conns_turn(opt.rate ? 0 : 20);
    }
}
