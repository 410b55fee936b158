/* Linux's poller: one epoll set. */
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/sys.h"
#include "core/poller.h"

typedef struct {
    TwPoller base;
    int set;                    /* -1: none could be made in a child */
    struct epoll_event *events; /* ours: room for `room` */
    int room;
} PollerEpoll;

static tw_uverr
epoll_control(const PollerEpoll *self, int op, int fd, unsigned events)
{
    struct epoll_event ev = {.data = {.fd = fd}};

    ev.events = (events & TW_EV_READ ? EPOLLIN : 0u)
                | (events & TW_EV_WRITE ? EPOLLOUT : 0u);
    return epoll_ctl(self->set, op, fd, &ev) < 0 ? -errno : 0;
}

static TwPoller *
epoll_open(void)
{
    PollerEpoll *self = PyMem_RawCalloc(1, sizeof(*self));

    if (self == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    self->set = epoll_create1(EPOLL_CLOEXEC);
    if (self->set < 0) {
        PyMem_RawFree(self);
        return NULL;
    }
    return &self->base;
}

static void
epoll_free(TwPoller *base, bool ours)
{
    PollerEpoll *self = (PollerEpoll *)base;

    if (self->set >= 0 && ours) {
        close(self->set);
    }
    PyMem_RawFree(self->events);
    PyMem_RawFree(base->ready);
    PyMem_RawFree(self);
}

/* Only our set contains `fd`, and only while the number refers to the same
   file. */
static bool
epoll_is_ours(const TwPoller *base, int fd)
{
    tw_uverr err = epoll_control((const PollerEpoll *)base, EPOLL_CTL_MOD,
                                 fd, TW_EV_READ);

    return err == 0 || !tw_poller_is_denied(err, fd);
}

/* The caller may be wrong about `had`: the kernel forgets a descriptor that is
   closed, and still knows one whose watcher was invalidated. */
static tw_uverr
epoll_watch(TwPoller *base, int fd, unsigned had, unsigned events)
{
    PollerEpoll *self = (PollerEpoll *)base;
    int op = had ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    tw_uverr err;

    if (events == 0) {
        return epoll_control(self, EPOLL_CTL_DEL, fd, 0);
    }
    err = epoll_control(self, op, fd, events);
    if (err == -ENOENT || err == -EEXIST) {
        op = had ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
        err = epoll_control(self, op, fd, events);
    }
    return err;
}

static tw_uverr
epoll_probe(TwPoller *base, int fd)
{
    PollerEpoll *self = (PollerEpoll *)base;
    tw_uverr err = epoll_control(self, EPOLL_CTL_ADD, fd, 0);

    if (err == 0) {
        epoll_control(self, EPOLL_CTL_DEL, fd, 0);
    }
    return err == -EEXIST ? 0 : err;
}

/* Room for one result per descriptor. */
static void
epoll_make_room(PollerEpoll *self, int n)
{
    struct epoll_event *events;

    if (tw_poller_make_room(&self->base, n)) {
        events = PyMem_RawRealloc(self->events, (size_t)self->base.room
                                                    * sizeof(*events));
        if (events != NULL) {
            self->events = events;
            self->room = self->base.room;
        }
    }
}

/* Both directions get an error or a hang-up, as in the selectors. */
static unsigned
epoll_to_events(uint32_t events)
{
    unsigned got = (events & EPOLLIN ? TW_EV_READ : 0u)
                   | (events & EPOLLOUT ? TW_EV_WRITE : 0u);

    if (TW_UNLIKELY(events & (EPOLLERR | EPOLLHUP))) {
        got = TW_EV_READ | TW_EV_WRITE
              | (events & EPOLLERR ? TW_EV_ERROR : 0u);
    }
    return got;
}

static int
epoll_poll(TwPoller *base, int watched, int ms)
{
    PollerEpoll *self = (PollerEpoll *)base;
    int n;

    if (TW_UNLIKELY(self->room < watched)) {
        epoll_make_room(self, watched);
        if (self->room == 0) {
            return -ENOMEM;
        }
    }
    n = epoll_wait(self->set, self->events, self->room, ms);
    for (int i = 0; i < n; i++) {
        base->ready[i].fd = self->events[i].data.fd;
        base->ready[i].events = epoll_to_events(self->events[i].events);
    }
    return n < 0 ? -errno : n;
}

static int
epoll_fd(const TwPoller *base)
{
    return ((const PollerEpoll *)base)->set;
}

static tw_uverr
epoll_renew(TwPoller *base, bool forked, bool ours)
{
    PollerEpoll *self = (PollerEpoll *)base;
    tw_uverr err;
    int fresh;

    if (forked) {
        /* The child must not change the parent's set. */
        if (self->set >= 0 && ours) {
            close(self->set);
        }
        self->set = epoll_create1(EPOLL_CLOEXEC);
        return self->set < 0 ? -errno : 0;
    }
    fresh = epoll_create1(EPOLL_CLOEXEC);
    if (fresh < 0) {
        return -errno;
    }
    err = tw_sys_dup_onto(fresh, self->set);
    close(fresh);
    return err;
}

const TwPollerOps tw_poller_epoll = {
    .name = "epoll",
    .open = epoll_open,
    .close = epoll_free,
    .is_ours = epoll_is_ours,
    .watch = epoll_watch,
    .probe = epoll_probe,
    .wait = epoll_poll,
    .fd = epoll_fd,
    .renew = epoll_renew,
};
