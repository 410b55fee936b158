/* The portable poller: libuv.

   There is one uv_poll_t for each descriptor, and a uv_timer_t that limits the
   wait.  uv_run() is called only in wait() and when the loop ends.  Its
   callbacks only note what became ready.

   libuv ends the process when it meets an error that it does not expect.  So:
   - before it opens descriptors of its own, we make sure that there are
     enough, and that none of them becomes number 0, 1 or 2;
   - what the next uv_run() will pass to the kernel is tested right before,
     and on Linux already passed there: libuv never sees what the kernel
     refuses. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#ifdef __linux__
#include <sys/epoll.h>
#endif

#include "base/vec.h"
#include "core/poller.h"

/* At least what libuv opens for a loop and, once, for the process. */
#define UV_DESCRIPTORS 6

typedef struct {
    TwPoller base;
    uv_loop_t *uv;     /* ours; NULL: none could be made in a child */
    uv_timer_t *timer; /* the loop's: limits the wait */
    TwVec changed;     /* what the next uv_run() passes to the kernel */
    struct UvWatch **by_fd; /* ours, as is what is in it */
    int by_fd_cap;
    int count;              /* noted in `ready` by this wait */
    unsigned waits;
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

/* -- errors that libuv must not meet -------------------------------------- */

#ifdef __linux__
static tw_uverr
uv_hand_over(const uv_loop_t *uv, int fd, unsigned events)
{
    struct epoll_event ev = {.data = {.fd = fd}};

    ev.events = (events & TW_EV_READ ? EPOLLIN : 0u)
                | (events & TW_EV_WRITE ? EPOLLOUT : 0u);
    /* libuv adds it again, and accepts that it is there. */
    return epoll_ctl(uv_backend_fd(uv), EPOLL_CTL_ADD, fd, &ev) == 0
                   || errno == EEXIST
               ? 0
               : -errno;
}

static void
uv_take_back(const uv_loop_t *uv, int fd)
{
    epoll_ctl(uv_backend_fd(uv), EPOLL_CTL_DEL, fd, &(struct epoll_event){0});
}

/* Is the set still there?  The program may have closed all descriptors.  It is
   asked with a change that changes nothing: reading an event would move the
   first one to the end of the kernel's list. */
static bool
uv_is_whole(const uv_loop_t *uv)
{
    int fd = uv->async_io_watcher.fd; /* libuv's own; absent after a fork */
    struct epoll_event ev = {.events = EPOLLIN, .data = {.fd = fd}};

    return epoll_ctl(uv_backend_fd(uv), EPOLL_CTL_MOD, fd, &ev) == 0
           || errno == ENOENT || tw_poller_is_shortage(-errno);
}
#else
static tw_uverr
uv_hand_over(const uv_loop_t *Py_UNUSED(uv), int fd,
             unsigned Py_UNUSED(events))
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    return S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) ? -EPERM : 0;
}

static void
uv_take_back(const uv_loop_t *Py_UNUSED(uv), int Py_UNUSED(fd))
{
}

static bool
uv_is_whole(const uv_loop_t *uv)
{
    return fcntl(uv_backend_fd(uv), F_GETFD) >= 0;
}
#endif

/* Occupy descriptors: all below 3, and UV_DESCRIPTORS others.  Returns how
   many, or a negative errno. */
static int
uv_occupy(int *fds)
{
    int n = 0, high = 0;

    while (high < UV_DESCRIPTORS) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            int err = errno;
            while (n > 0) {
                close(fds[--n]);
            }
            return -err;
        }
        high += fd > STDERR_FILENO;
        fds[n++] = fd;
    }
    return n;
}

/* Free the others again for libuv; returns how many stay occupied. */
static int
uv_make_way(const int *fds, int n)
{
    while (n > 0 && fds[n - 1] > STDERR_FILENO) {
        close(fds[--n]);
    }
    return n;
}

static void
uv_free_low(const int *fds, int n)
{
    while (n > 0) {
        close(fds[--n]);
    }
}

/* Would the kernel watch what libuv adds by itself in its first uv_run()? */
static tw_uverr
uv_probe_watches(const uv_loop_t *uv)
{
    int fds[2];
    tw_uverr err;

    if (pipe(fds) < 0) {
        return -errno;
    }
    err = uv_hand_over(uv, fds[0], TW_EV_READ);
    if (err == 0) {
        err = uv_hand_over(uv, fds[1], TW_EV_READ);
    }
    for (int i = 0; i < 2; i++) {
        uv_take_back(uv, fds[i]);
        close(fds[i]);
    }
    return err;
}

/* -- libuv's loop --------------------------------------------------------- */

/* An error after uv_loop_init(): libuv closes what it has opened. */
static void
uv_discard(uv_loop_t *uv)
{
    uv_loop_close(uv);
    PyMem_RawFree(uv);
}

static tw_uverr
uv_start_loop(PollerUv *self)
{
    int low[UV_DESCRIPTORS + 3], n = uv_occupy(low);
    uv_loop_t *uv;
    tw_uverr err;

    if (n < 0) {
        return n;
    }
    n = uv_make_way(low, n);
    uv = PyMem_RawCalloc(1, sizeof(*uv));
    err = uv == NULL ? -ENOMEM : uv_loop_init(uv);
    uv_free_low(low, n);
    if (err < 0) {
        PyMem_RawFree(uv);
        return err;
    }
    err = uv_probe_watches(uv);
    if (err < 0) {
        uv_discard(uv);
        return err;
    }
    uv_timer_init(uv, self->timer);
    uv_run(uv, UV_RUN_NOWAIT); /* what libuv watches by itself is watched */
    self->uv = uv;
    return 0;
}

static TwPoller *
uv_open(void)
{
    PollerUv *self = PyMem_RawCalloc(1, sizeof(*self));
    tw_uverr err = -ENOMEM;

    if (self != NULL) {
        self->changed.place = offsetof(UvWatch, in_changed);
        self->timer = PyMem_RawCalloc(1, sizeof(*self->timer));
        err = self->timer == NULL ? -ENOMEM : uv_start_loop(self);
    }
    if (err < 0) {
        if (self != NULL) {
            PyMem_RawFree(self->timer);
        }
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
    return epoll_ctl(uv_backend_fd(self->uv), EPOLL_CTL_MOD, fd, &ev) == 0
           || tw_poller_is_shortage(-errno);
#else
    return fcntl(uv_backend_fd(self->uv), F_GETFD) >= 0;
#endif
}

/* -- watching ------------------------------------------------------------- */

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
    err = flags < 0 ? -errno : uv_poll_init(self->uv, &watch->poll, fd);
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
        err = uv_hand_over(self->uv, watch->fd, watch->events);
    }
    watch->stopped = err < 0;
    if (err < 0) {
        uv_poll_stop(&watch->poll);
    }
    return err;
}

static tw_uverr
uv_watch(TwPoller *base, int fd, unsigned had, unsigned events)
{
    PollerUv *self = (PollerUv *)base;
    UvWatch *watch = fd < self->by_fd_cap ? self->by_fd[fd] : NULL;
    tw_uverr err = self->uv == NULL ? -EBADF : uv_reserve(self, fd);

    if (watch != NULL && (had == 0 || events == 0)) {
        /* The number may refer to another descriptor by now. */
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
uv_probe(TwPoller *base, int fd)
{
    PollerUv *self = (PollerUv *)base;
    tw_uverr err;

    if (fd < self->by_fd_cap && self->by_fd[fd] != NULL) {
        return 0;
    }
    if (self->uv == NULL || fd == uv_backend_fd(self->uv)) {
        return -EINVAL;
    }
    err = uv_hand_over(self->uv, fd, 0);
    if (err == 0) {
        uv_take_back(self->uv, fd);
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
             || uv_hand_over(self->uv, watch->fd, watch->events) < 0)
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
uv_wait(TwPoller *base, int ms)
{
    PollerUv *self = (PollerUv *)base;

    if (self->uv == NULL || !uv_is_whole(self->uv)) {
        return -EBADF;
    }
    self->count = 0;
    self->waits++;
    if (self->changed.count > 0) {
        uv_test_changed(self);
    }
    if (self->count > 0) {
        ms = 0;
    }
    if (ms > 0) {
        uv_update_time(self->uv);
        /* uv_run() also runs timers before it waits.  It repeats: if this
           thread did not run for `ms`, the wait that follows is limited
           too. */
        uv_timer_start(self->timer, uv_on_timer, (uint64_t)ms, 1);
    }
    uv_run(self->uv, ms == 0 ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    if (ms > 0) {
        uv_timer_stop(self->timer);
    }
    return self->count;
}

static int
uv_fd(const TwPoller *base)
{
    const PollerUv *self = (const PollerUv *)base;

    return self->uv == NULL ? -1 : uv_backend_fd(self->uv);
}

/* -- the end, and a fork -------------------------------------------------- */

static void
uv_free_timer(uv_handle_t *timer)
{
    PyMem_RawFree(timer);
}

static void
uv_stop_loop(PollerUv *self, bool ours)
{
    for (int fd = 0; fd < self->by_fd_cap; fd++) {
        if (self->by_fd[fd] != NULL) {
            if (ours) {
                uv_forget(self, self->by_fd[fd]);
            }
            self->by_fd[fd] = NULL;
        }
    }
    self->changed.count = 0;
    if (self->uv != NULL && ours) {
        uv_close((uv_handle_t *)self->timer, uv_free_timer);
        while (uv_loop_close(self->uv) == UV_EBUSY) {
            uv_run(self->uv, UV_RUN_NOWAIT);
        }
        PyMem_RawFree(self->uv);
    } /* else some memory is lost, not the process */
    self->uv = NULL;
    self->timer = NULL;
}

static void
uv_free(TwPoller *base, bool ours)
{
    PollerUv *self = (PollerUv *)base;

    uv_stop_loop(self, ours);
    tw_vec_fini(&self->changed);
    PyMem_RawFree(self->by_fd);
    PyMem_RawFree(base->ready);
    PyMem_RawFree(self);
}

/* In the child libuv renews its own descriptors, by their numbers. */
static tw_uverr
uv_renew_loop(PollerUv *self)
{
    int low[UV_DESCRIPTORS + 3], n = uv_occupy(low);
    tw_uverr err;

    if (n < 0) {
        return n;
    }
    n = uv_make_way(low, n);
    err = uv_loop_fork(self->uv);
    uv_free_low(low, n);
    return err < 0 ? err : uv_probe_watches(self->uv);
}

static tw_uverr
uv_renew(TwPoller *base, bool forked, bool ours)
{
    PollerUv *self = (PollerUv *)base;
    tw_uverr err = -EBADF;

    if (!forked) {
        return -ENOSYS; /* libuv has no way to */
    }
    if (self->uv != NULL && ours) {
        err = uv_renew_loop(self);
    }
    if (err < 0) {
        uv_stop_loop(self, false);
        return err;
    }
    for (int fd = 0; fd < self->by_fd_cap; fd++) {
        if (self->by_fd[fd] != NULL) {
            uv_forget(self, self->by_fd[fd]);
        }
    }
    uv_run(self->uv, UV_RUN_NOWAIT);
    return 0;
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
