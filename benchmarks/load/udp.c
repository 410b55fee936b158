#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BATCH 64
#define MAX_DATAGRAM 65536
#define LOST_NS 200000000u      /* without an answer so long: send again */

struct flow {
    int fd;
    int in_flight;
    unsigned head;
    uint64_t *began;            /* ring of `depth` times */
    uint64_t heard;             /* the last answer's time */
};

static int epfd;
static char payload[MAX_DATAGRAM];
static char answers[BATCH][MAX_DATAGRAM];

static void
flow_send(struct flow *f)
{
    struct iovec iov = { payload, opt.size };
    struct mmsghdr msg[BATCH] = { 0 };
    int n = opt.depth - f->in_flight;
    uint64_t now = now_ns();
    for (int i = 0; i < n; i++) {
        msg[i].msg_hdr.msg_iov = &iov;
        msg[i].msg_hdr.msg_iovlen = 1;
    }
    int sent = n ? sendmmsg(f->fd, msg, (unsigned)n, 0) : 0;
    if (sent < 0 && errno != EAGAIN && errno != ENOBUFS) {
        die("sendmmsg");
    }
    for (int i = 0; i < sent; i++) {
        f->began[(f->head + (unsigned)f->in_flight++)
                 % (unsigned)opt.depth] = now;
    }
}

static void
flow_receive(struct flow *f)
{
    struct mmsghdr msg[BATCH] = { 0 };
    struct iovec iov[BATCH];
    for (int i = 0; i < opt.depth; i++) {
        iov[i] = (struct iovec){ answers[i], MAX_DATAGRAM };
        msg[i].msg_hdr.msg_iov = &iov[i];
        msg[i].msg_hdr.msg_iovlen = 1;
    }
    int n = recvmmsg(f->fd, msg, (unsigned)opt.depth, MSG_DONTWAIT, NULL);
    if (n < 0) {
        if (errno != EAGAIN) {
            die("recvmmsg");
        }
        return;
    }
    f->heard = now_ns();
    for (int i = 0; i < n && f->in_flight; i++) {
        if (msg[i].msg_len != opt.size
            || memcmp(answers[i], payload, opt.size)) {
            errno = EPROTO;
            die("an answer");
        }
        stats_message(f->began[f->head]);
        f->head = (f->head + 1) % (unsigned)opt.depth;
        f->in_flight--;
    }
    flow_send(f);
}

static void
flow_open(struct flow *f)
{
    f->fd = socket(opt.addr.ss_family, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (f->fd < 0
        || connect(f->fd, (struct sockaddr *)&opt.addr, opt.addr_len)) {
        die("connect");
    }
    f->began = calloc((size_t)opt.depth, sizeof(uint64_t));
    struct epoll_event ev = { .events = EPOLLIN, .data.ptr = f };
    if (epoll_ctl(epfd, EPOLL_CTL_ADD, f->fd, &ev)) {
        die("epoll_ctl");
    }
    f->heard = now_ns();
    flow_send(f);
}

static void
flows_resend(struct flow *all)
{
    uint64_t now = now_ns();
    for (int i = 0; i < opt.conns; i++) {
        if (now - all[i].heard > LOST_NS) {
            stats_lost(all[i].in_flight);
            all[i].in_flight = 0;
            all[i].heard = now;
            flow_send(&all[i]);
        }
    }
}

void
udp_run(void)
{
    struct epoll_event ev[BATCH];
    struct flow *all = calloc((size_t)opt.conns, sizeof(*all));
    memset(payload, 'u', sizeof(payload));
    epfd = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < opt.conns; i++) {
        flow_open(&all[i]);
    }
    stats_init();
    uint64_t looked = now_ns();
    while (stats_tick()) {
        int n = epoll_wait(epfd, ev, BATCH, 20);
        for (int i = 0; i < n; i++) {
            flow_receive(ev[i].data.ptr);
        }
        if (now_ns() - looked > LOST_NS / 2) {
            looked = now_ns();
            flows_resend(all);
        }
    }
}
