/* The portable poller: libuv.

   There is one uv_poll_t for each descriptor, a uv_timer_t that limits the
   wait, and a uv_async_t that ends it.  uv_run() is called only in wait() and
   when the loop begins and ends.  Its callbacks only note what became ready.

   libuv's loop is not for several threads.  wait() holds `lock`; a thread that
   changes what is watched meanwhile ends the wait, and changes it then.  It
   keeps the GIL, which wait() does not need. */
#include <errno.h>
#include <fcntl.h>

#ifdef __linux__
#include <sys/epoll.h>
#endif

#include "base/vec.h"
#include "core/poller.h"
#include "core/uv_loop.h"

typedef struct {
    TwPoller base;
    TwUvLoop *uv;      /* ours; NULL: none could be made in a child */
    uv_mutex_t lock;   /* held by wait() */
    TwVec changed;     /* what the next uv_run() passes to the kernel */
    struct UvWatch **by_fd; /* ours, with its entries */
    int by_fd_cap;
    int count;              /* noted in `ready` by this wait */
    unsigned waits;
    bool ghosts;            /* the kernel may report what nobody can remove */
} PollerUv;

typedef struct UvWatch {
    uv_poll_t poll;
    PollerUv *poller;
    int fd;
    unsigned events;   /* TW_EV_* that it is watched for */
    bool stopped;      /* by libuv, for an error */
    unsigned wait;     /* the last one that noted it ... */
    int at;            /* ... and where, in `ready` */
    uint32_t in_changed;
} UvWatch;

/* -- open ----------------------------------------------------------------- */

static TwPoller *
uv_open(void)
{
    PollerUv *self = PyMem_RawCalloc(1, sizeof(*self));
    tw_uverr err = self == NULL ? -ENOMEM : uv_mutex_init(&self->lock);

    if (err == 0) {
        self->changed.place = offsetof(UvWatch, in_changed);
        err = tw_uv_start(&self->uv);
        if (err < 0) {
            uv_mutex_destroy(&self->lock);
        }
    }
    if (err < 0) {
        PyMem_RawFree(self);
        errno = (int)-err;
        return NULL;
    }
    return &self->base;
}

static bool
uv_is_ours(const TwPoller *base, int fd)
{
    const PollerUv *self = (const PollerUv *)base;

    if (self->uv == NULL) {
        return false;
    }
#ifdef __linux__
    struct epoll_event ev = {.events = EPOLLIN, .data = {.fd = fd}};
    int set = uv_backend_fd(&self->uv->loop);
    return epoll_ctl(set, EPOLL_CTL_MOD, fd, &ev) == 0
           || !tw_poller_is_denied(-errno, fd);
#else
    return fcntl(uv_backend_fd(&self->uv->loop), F_GETFD) >= 0;
#endif
}

/* -- watching ------------------------------------------------------------- */

static void
uv_lock(PollerUv *self)
{
    if (TW_UNLIKELY(uv_mutex_trylock(&self->lock) != 0)) {
        uv_async_send(&self->uv->wake);
        uv_mutex_lock(&self->lock);
    }
}

static void
uv_on_closed(uv_handle_t *poll)
{
    PyMem_RawFree(TW_CONTAINER(poll, UvWatch, poll));
}

static void
uv_forget(PollerUv *self, UvWatch *watch)
{
    self->by_fd[watch->fd] = NULL;
    tw_vec_discard(&self->changed, watch);
    uv_close((uv_handle_t *)&watch->poll, uv_on_closed);
}

static void
uv_note(UvWatch *watch, unsigned events)
{
    PollerUv *self = watch->poller;
    TwReady *ready = self->base.ready;

    if (watch->wait != self->waits) {
        if (self->count == self->base.room) {
            return; /* no memory: it is as ready next time */
        }
        watch->wait = self->waits;
        watch->at = self->count++;
        ready[watch->at].fd = watch->fd;
        ready[watch->at].events = 0;
    }
    ready[watch->at].events |= events;
}

static void
uv_note_changed(UvWatch *watch)
{
    TwVec *changed = &watch->poller->changed;

    if (watch->in_changed == TW_VEC_NONE) {
        tw_vec_add(changed, watch);
    }
}

/* libuv reports a pending error as EBADF, and stops the handle. */
static void
uv_on_poll(uv_poll_t *poll, int status, int events)
{
    UvWatch *watch = TW_CONTAINER(poll, UvWatch, poll);

    if (status < 0) {
        watch->stopped = true;
        uv_note(watch, TW_EV_READ | TW_EV_WRITE | TW_EV_ERROR);
        uv_note_changed(watch);
        return;
    }
    uv_note(watch, (events & UV_READABLE ? TW_EV_READ : 0u)
                       | (events & UV_WRITABLE ? TW_EV_WRITE : 0u));
}

static tw_uverr
uv_reserve(PollerUv *self, int fd)
{
    int cap = self->by_fd_cap ? self->by_fd_cap : 64;
    UvWatch **table;

    if (tw_vec_reserve(&self->changed, (uint32_t)self->base.room + 1) < 0) {
        return -ENOMEM;
    }
    if (fd < self->by_fd_cap) {
        return 0;
    }
    while (cap <= fd) {
        cap = cap > INT_MAX / 2 ? INT_MAX : cap * 2;
    }
    table = PyMem_RawRealloc(self->by_fd, (size_t)cap * sizeof(*table));
    if (table == NULL) {
        return -ENOMEM;
    }
    memset(table + self->by_fd_cap, 0,
           (size_t)(cap - self->by_fd_cap) * sizeof(*table));
    self->by_fd = table;
    self->by_fd_cap = cap;
    return 0;
}

/* uv_poll_init() makes the descriptor non-blocking.  The program decides that:
   it may share the descriptor with others (stdin). */
static tw_uverr
uv_make_watch(PollerUv *self, int fd)
{
    UvWatch *watch = PyMem_RawCalloc(1, sizeof(*watch));
    int flags = fcntl(fd, F_GETFL);
    tw_uverr err;

    if (watch == NULL) {
        return -ENOMEM;
    }
    watch->poller = self;
    watch->fd = fd;
    watch->wait = self->waits - 1;
    watch->in_changed = TW_VEC_NONE;
    err = flags < 0 ? -errno : uv_poll_init(&self->uv->loop, &watch->poll,
                                               fd);
    if (err < 0) {
        PyMem_RawFree(watch);
        return err;
    }
    if (!(flags & O_NONBLOCK)) {
        fcntl(fd, F_SETFL, flags);
    }
    self->by_fd[fd] = watch;
    return 0;
}

/* Start it again, and test that the kernel accepts it. */
static tw_uverr
uv_restart(PollerUv *self, UvWatch *watch)
{
    int events = (watch->events & TW_EV_READ ? UV_READABLE : 0)
                 | (watch->events & TW_EV_WRITE ? UV_WRITABLE : 0);
    tw_uverr err = uv_poll_start(&watch->poll, events, uv_on_poll);

    if (err == 0) {
        err = tw_uv_hand_over(self->uv, watch->fd, watch->events);
    }
    watch->stopped = err < 0;
    if (err < 0) {
        uv_poll_stop(&watch->poll);
    }
    return err;
}

static tw_uverr
uv_watch_locked(PollerUv *self, int fd, unsigned had, unsigned events)
{
    UvWatch *watch = fd < self->by_fd_cap ? self->by_fd[fd] : NULL;
    tw_uverr err = uv_reserve(self, fd);

    if (watch != NULL && (had == 0 || events == 0)) {
        /* The number may refer to another descriptor by now.  libuv does not
           say when the kernel reports the old one again and again. */
        self->ghosts |= !tw_uv_take_back(self->uv, fd) && !watch->stopped;
        uv_forget(self, watch);
        watch = NULL;
    }
    if (events == 0 || err < 0) {
        return err;
    }
    if (watch == NULL) {
        err = uv_make_watch(self, fd);
        if (err < 0) {
            return err;
        }
        watch = self->by_fd[fd];
    }
    watch->events = events;
    err = uv_restart(self, watch);
    if (err < 0) {
        uv_forget(self, watch);
        return err;
    }
    uv_note_changed(watch);
    return 0;
}

static tw_uverr
uv_watch(TwPoller *base, int fd, unsigned had, unsigned events)
{
    PollerUv *self = (PollerUv *)base;
    tw_uverr err;

    if (self->uv == NULL) {
        return -EBADF;
    }
    uv_lock(self);
    err = uv_watch_locked(self, fd, had, events);
    uv_mutex_unlock(&self->lock);
    return err;
}

static tw_uverr
uv_probe(TwPoller *base, int fd)
{
    PollerUv *self = (PollerUv *)base;
    tw_uverr err;

    if (fd < self->by_fd_cap && self->by_fd[fd] != NULL) {
        return 0;
    }
    if (self->uv == NULL || fd == uv_backend_fd(&self->uv->loop)) {
        return -EINVAL;
    }
    err = tw_uv_hand_over(self->uv, fd, 0);
    if (err == 0) {
        tw_uv_take_back(self->uv, fd);
    }
    return err;
}

/* -- waiting -------------------------------------------------------------- */

/* A descriptor that the next uv_run() passes to the kernel may have been
   closed since, or stopped for an error. */
static void
uv_test_changed(PollerUv *self)
{
    TwVec *changed = &self->changed;
    uint32_t n = changed->count;

    changed->count = 0;
    for (uint32_t i = 0; i < n; i++) {
        UvWatch *watch = changed->items[i];
        watch->in_changed = TW_VEC_NONE;
        if ((watch->stopped
             || tw_uv_hand_over(self->uv, watch->fd, watch->events) < 0)
            && uv_restart(self, watch) < 0) {
            uv_note(watch, TW_EV_READ | TW_EV_WRITE | TW_EV_ERROR);
            uv_note_changed(watch);
        }
    }
}

static void
uv_on_timer(uv_timer_t *Py_UNUSED(timer))
{
}

static int
uv_wait_locked(PollerUv *self, int ms)
{
    uv_timer_t *timer = &self->uv->timer;

    if (!tw_uv_is_whole(self->uv)) {
        return -EBADF;
    }
    self->count = 0;
    self->waits++;
    if (self->ghosts) {
        self->base.ready[self->count++] = (TwReady){.fd = -1};
    }
    if (self->changed.count > 0) {
        uv_test_changed(self);
    }
    if (self->count > 0) {
        ms = 0;
    }
    if (ms > 0) {
        uv_update_time(&self->uv->loop);
        /* uv_run() also runs timers before it waits.  It repeats: if this
           thread did not run for `ms`, the wait that follows is limited
           too. */
        uv_timer_start(timer, uv_on_timer, (uint64_t)ms, 1);
    }
    uv_run(&self->uv->loop, ms == 0 ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    if (ms > 0) {
        uv_timer_stop(timer);
    }
    return self->count;
}

static int
uv_wait(TwPoller *base, int watched, int ms)
{
    PollerUv *self = (PollerUv *)base;
    int n;

    if (self->uv == NULL) {
        return -EBADF;
    }
    uv_mutex_lock(&self->lock);
    tw_poller_make_room(base, watched);
    n = uv_wait_locked(self, ms);
    uv_mutex_unlock(&self->lock);
    return n;
}

static int
uv_fd(const TwPoller *base)
{
    const PollerUv *self = (const PollerUv *)base;

    return self->uv == NULL ? -1 : uv_backend_fd(&self->uv->loop);
}

/* -- the end, and a fork -------------------------------------------------- */

/* Forget every watch; `ours`: libuv's loop can still be used for that. */
static void
uv_forget_all(PollerUv *self, bool ours)
{
    for (int fd = 0; fd < self->by_fd_cap; fd++) {
        if (self->by_fd[fd] != NULL && ours) {
            uv_forget(self, self->by_fd[fd]);
        }
        self->by_fd[fd] = NULL;
    }
    self->changed.count = 0;
}

static void
uv_stop_loop(PollerUv *self, bool ours)
{
    uv_forget_all(self, ours);
    if (self->uv != NULL && ours) {
        tw_uv_end(self->uv);
    } /* else some memory is lost, not the process */
    self->uv = NULL;
}

static void
uv_free(TwPoller *base, bool ours)
{
    PollerUv *self = (PollerUv *)base;

    uv_stop_loop(self, ours);
    uv_mutex_destroy(&self->lock);
    tw_vec_fini(&self->changed);
    PyMem_RawFree(self->by_fd);
    PyMem_RawFree(base->ready);
    PyMem_RawFree(self);
}

/* Another thread of the parent may have been inside uv_run(): what libuv was
   doing then is lost, and so is its loop.  That loop has run; the child does
   not need it.  A loop that never ran gets a new one of libuv, also if the old
   one's descriptors do not answer: the parent may close them meanwhile. */
static tw_uverr
uv_renew_in_child(PollerUv *self, bool ours)
{
    bool idle = uv_mutex_trylock(&self->lock) == 0;
    tw_uverr err = -EBADF;

    if (idle) {
        uv_mutex_unlock(&self->lock);
    }
    else {
        uv_mutex_init(&self->lock);
    }
    if (self->uv != NULL && ours && idle) {
        err = tw_uv_fork(self->uv);
    }
    if (err < 0) {
        uv_stop_loop(self, false);
        return idle ? tw_uv_start(&self->uv) : err;
    }
    uv_forget_all(self, true);
    uv_run(&self->uv->loop, UV_RUN_NOWAIT);
    return 0;
}

static tw_uverr
uv_renew(TwPoller *base, bool forked, bool ours)
{
    PollerUv *self = (PollerUv *)base;
    TwUvLoop *old = self->uv;
    tw_uverr err;

    if (forked) {
        return uv_renew_in_child(self, ours);
    }
    err = tw_uv_start(&self->uv);
    if (err == 0) {
        self->ghosts = false;
        uv_forget_all(self, true);
        tw_uv_end(old);
    }
    return err;
}

const char *
tw_poller_uv_version(void)
{
    return uv_version_string();
}

const TwPollerOps tw_poller_uv = {
    .name = "libuv",
    .open = uv_open,
    .close = uv_free,
    .is_ours = uv_is_ours,
    .watch = uv_watch,
    .probe = uv_probe,
    .wait = uv_wait,
    .fd = uv_fd,
    .renew = uv_renew,
};
