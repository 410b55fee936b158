#include "core/watcher.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "core/debug.h"

/* -- the set -------------------------------------------------------------- */

/* A new set, with libuv's in it: that becomes readable when one of libuv's
   handles has news (another thread wakes the loop, a request is done).  Or -1
   and errno. */
static int
set_make(TwLoop *loop)
{
    struct epoll_event ev = {.events = EPOLLIN};
    int set = epoll_create1(EPOLL_CLOEXEC);

    ev.data.fd = uv_backend_fd(&loop->uv);
    if (set >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, ev.data.fd, &ev) < 0) {
        int err = errno;
        close(set);
        errno = err;
        return -1;
    }
    return set;
}

tw_uverr
tw_watcher_open_set(TwLoop *loop)
{
    loop->set_fd = set_make(loop);
    return loop->set_fd < 0 ? -errno : 0;
}

void
tw_watcher_close_set(TwLoop *loop)
{
    if (loop->set_fd >= 0) {
        close(loop->set_fd);
        loop->set_fd = -1;
    }
}

static int
set_control(TwLoop *loop, int op, int fd, unsigned events)
{
    struct epoll_event ev = {.data = {.fd = fd}};

    ev.events = (events & TW_EV_READ ? EPOLLIN : 0u)
                | (events & TW_EV_WRITE ? EPOLLOUT : 0u);
    return epoll_ctl(loop->set_fd, op, fd, &ev);
}

/* Have the set know what the watcher wants, whatever it knew before: the
   program may have closed and reused the descriptor. */
static int
set_update(TwWatcher *w)
{
    int op = w->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

    if (w->fd == uv_backend_fd(&w->loop->uv)) {
        errno = EINVAL; /* as for the set itself */
        return -1;
    }
    if (set_control(w->loop, op, w->fd, w->want) == 0) {
        return 0;
    }
    if (errno != ENOENT && errno != EEXIST) {
        return -1;
    }
    op = w->armed ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    return set_control(w->loop, op, w->fd, w->want);
}

tw_uverr
tw_watcher_probe(TwLoop *loop, int fd)
{
    if (fd == uv_backend_fd(&loop->uv)) {
        return -EINVAL; /* as for the set itself */
    }
    if (set_control(loop, EPOLL_CTL_ADD, fd, 0) < 0) {
        return errno == EEXIST ? 0 : -errno;
    }
    set_control(loop, EPOLL_CTL_DEL, fd, 0);
    return 0;
}

static void
set_remove(TwWatcher *w)
{
    if (w->armed && w->fd >= 0) {
        set_control(w->loop, EPOLL_CTL_DEL, w->fd, 0);
    }
    w->armed = 0;
}

/* -- open ----------------------------------------------------------------- */

static void
watcher_add_due(TwWatcher *w)
{
    if (w->in_due == TW_VEC_NONE) {
        tw_vec_add(&w->loop->due, w);
    }
}

/* The set does not take its descriptor, for the reason in errno. */
static void
watcher_refused(TwWatcher *w)
{
    w->refused = errno;
    w->armed = 0;
    w->got |= TW_EV_BAD;
    watcher_add_due(w);
}

/* Room in every list for one more watcher. */
static tw_status
watcher_reserve(TwLoop *loop, int fd)
{
    int cap = loop->by_fd_cap ? loop->by_fd_cap : 64;
    TwWatcher **table;

    /* One that ran in this turn comes back to `due` if it is given up. */
    if (tw_vec_reserve(&loop->due, 2 * (loop->watcher_count + 1)) < 0
        || tw_vec_reserve(&loop->watchers, loop->watcher_count + 1) < 0
        || tw_vec_reserve(&loop->changed, loop->watcher_count + 1) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    if (fd < loop->by_fd_cap) {
        return 0;
    }
    while (cap <= fd) {
        cap *= 2;
    }
    table = PyMem_RawRealloc(loop->by_fd, (size_t)cap * sizeof(*table));
    if (table == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memset(table + loop->by_fd_cap, 0,
           (size_t)(cap - loop->by_fd_cap) * sizeof(*table));
    loop->by_fd = table;
    loop->by_fd_cap = cap;
    return 0;
}

TwWatcher *
tw_watcher_of_fd(TwLoop *loop, int fd)
{
    return fd >= 0 && fd < loop->by_fd_cap ? loop->by_fd[fd] : NULL;
}

TwWatcher *
tw_watcher_live(TwLoop *loop, int fd)
{
    TwWatcher *w = tw_watcher_of_fd(loop, fd);
    PyObject *owner;
    bool stale;

    if (w == NULL || w->is_stale == NULL) {
        return w;
    }
    owner = Py_NewRef(w->owner);
    stale = w->is_stale(owner);
    Py_DECREF(owner);
    return stale ? NULL : tw_watcher_of_fd(loop, fd);
}

TwWatcher *
tw_watcher_open(TwLoop *loop, int fd, PyObject *owner, TwOnReady on_ready,
                bool transport)
{
    TwWatcher *old = tw_watcher_live(loop, fd), *w;

    if (tw_loop_check_open(loop) < 0) {
        return NULL;
    }
    if (old != NULL) {
        PyErr_Format(PyExc_RuntimeError,
                     "File descriptor %d is used by transport %R", fd,
                     old->owner);
        return NULL;
    }
    old = tw_watcher_of_fd(loop, fd);
    if (old != NULL) {
        tw_watcher_give_up(old);
    }
    if (watcher_reserve(loop, fd) < 0) {
        return NULL;
    }
    w = PyMem_Calloc(1, sizeof(*w));
    if (w == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    w->loop = loop;
    w->owner = owner;
    w->on_ready = on_ready;
    w->fd = fd;
    w->transport = transport;
    w->in_watchers = w->in_due = w->in_changed = TW_VEC_NONE;
    loop->by_fd[fd] = w;
    loop->watcher_count++;
    return w;
}

/* -- another set ---------------------------------------------------------- */

/* The kernel may refuse a descriptor that was in the old set: its owner is
   told, as of one that it refuses at first. */
static void
set_fill(TwLoop *loop)
{
    for (int fd = 0; fd < loop->by_fd_cap; fd++) {
        TwWatcher *w = loop->by_fd[fd];
        if (w != NULL && w->armed
            && set_control(loop, EPOLL_CTL_ADD, fd, w->armed) < 0) {
            watcher_refused(w);
        }
    }
}

/* Events of a descriptor that nobody watches: its number was closed while it
   was in the set, but another descriptor (a duplicate, a child's) keeps its
   file open, and with it the set's entry, which no call can name any more.
   A new set does not have it.  If there can be none, the old one stays, and
   is asked over and over, as asyncio's would be. */
void
tw_watcher_renew_set(TwLoop *loop)
{
    int fresh;

    if (loop->forked) {
        /* Whatever comes: no call of the child's reaches the parent's set. */
        close(loop->set_fd);
        loop->set_fd = set_make(loop);
        set_fill(loop);
        return;
    }
    fresh = set_make(loop);
    if (fresh >= 0) {
        int same = dup3(fresh, loop->set_fd, O_CLOEXEC);
        close(fresh);
        if (same >= 0) {
            set_fill(loop);
        }
    }
}

/* -- wanting -------------------------------------------------------------- */

static tw_status
watcher_note_change(TwWatcher *w)
{
    TwLoop *loop = w->loop;

    if (w->in_changed != TW_VEC_NONE) {
        return 0;
    }
    if (tw_vec_reserve(&loop->changed, 1) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    tw_vec_add(&loop->changed, w);
    tw_loop_wake(loop);
    return 0;
}

tw_status
tw_watcher_want(TwWatcher *w, unsigned events)
{
    TwLoop *loop = w->loop;
    bool was = w->want != 0;

    if (w->want == events) {
        return 0;
    }
    if (w->fd < 0) {
        if (events == 0) {
            tw_watcher_stop_now(w);
        }
        return 0;
    }
    if (tw_vec_reserve(&loop->watchers, 1) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    if (watcher_note_change(w) < 0) {
        return -1;
    }
    w->want = (uint8_t)events;
    w->got &= (uint8_t)(events | TW_EV_ERROR | TW_EV_BAD);
    if (events && !was) {
        Py_INCREF(w->owner);
        tw_vec_add(&loop->watchers, w);
    }
    else if (!events && was) {
        PyObject *owner = w->owner;
        tw_vec_discard(&loop->watchers, w);
        Py_DECREF(owner);
    }
    return 0;
}

tw_status
tw_watcher_rearm(TwWatcher *w)
{
    if (w->armed != 0) {
        w->armed = UINT8_MAX;
    }
    else if (w->want == 0) {
        return 0;
    }
    return watcher_note_change(w);
}

void
tw_watcher_stop_now(TwWatcher *w)
{
    set_remove(w);
    tw_vec_discard_in_order(&w->loop->changed, w);
    if (w->want != 0) {
        PyObject *owner = w->owner;
        w->want = 0;
        w->got = 0;
        tw_vec_discard(&w->loop->watchers, w);
        Py_DECREF(owner);
    }
}

/* -- close ---------------------------------------------------------------- */

/* Out of everything but the owners' hands.  A gap stays in `due`, which may
   be running. */
static void
watcher_leave(TwWatcher *w)
{
    TwLoop *loop = w->loop;

    set_remove(w);
    tw_vec_discard_in_order(&loop->changed, w);
    if (w->in_due != TW_VEC_NONE) {
        loop->due.items[w->in_due] = NULL;
        w->in_due = TW_VEC_NONE;
    }
    if (tw_watcher_of_fd(loop, w->fd) == w) {
        loop->by_fd[w->fd] = NULL;
    }
}

void
tw_watcher_close(TwWatcher *w)
{
    PyObject *owner = w->want ? w->owner : NULL;

    watcher_leave(w);
    tw_vec_discard(&w->loop->watchers, w);
    w->loop->watcher_count--;
    PyMem_Free(w);
    Py_XDECREF(owner);
}

void
tw_watcher_give_up(TwWatcher *w)
{
    /* The number may belong to another descriptor: the kernel took the old
       one out of the set when it was closed. */
    w->armed = 0;
    watcher_leave(w);
    w->fd = -1;
    w->refused = 0;
    w->got = TW_EV_BAD;
    watcher_add_due(w);
}

void
tw_watcher_close_all(TwLoop *loop)
{
    while (loop->watchers.count > 0) {
        tw_watcher_stop_now(loop->watchers.items[loop->watchers.count - 1]);
    }
    for (int fd = 0; fd < loop->by_fd_cap; fd++) {
        TwWatcher *w = loop->by_fd[fd];
        if (w != NULL) {
            watcher_leave(w);
            w->fd = -1;
            w->got = 0;
        }
    }
    for (uint32_t i = 0; i < loop->due.count; i++) {
        TwWatcher *w = loop->due.items[i];
        if (w != NULL) {
            w->in_due = TW_VEC_NONE;
            w->got = 0;
        }
    }
    loop->due.count = loop->due_next = 0;
}

/* -- the turn ------------------------------------------------------------- */

static void
watcher_apply(TwWatcher *w)
{
    if (w->want == w->armed) {
        return;
    }
    if (w->want == 0) {
        set_remove(w);
        return;
    }
    if (set_update(w) < 0) {
        watcher_refused(w);
        return;
    }
    w->armed = w->want;
}

/* In the order in which they were wanted: what is ready already when it comes
   into the set is served in that order, as asyncio's. */
void
tw_watcher_apply_changes(TwLoop *loop)
{
    TwVec *changed = &loop->changed;

    for (uint32_t i = 0; i < changed->count; i++) {
        TwWatcher *w = changed->items[i];
        w->in_changed = TW_VEC_NONE;
        watcher_apply(w);
    }
    changed->count = 0;
}

/* An error or a hang-up concerns whoever waits, as in the selectors. */
static unsigned
harvest_events(const TwWatcher *w, uint32_t events)
{
    unsigned got = 0;

    if (events & (EPOLLERR | EPOLLHUP)) {
        got |= w->want | (events & EPOLLERR ? TW_EV_ERROR : 0u);
    }
    if (events & EPOLLIN) {
        got |= TW_EV_READ;
    }
    if (events & EPOLLOUT) {
        got |= TW_EV_WRITE;
    }
    return got;
}

void
tw_watcher_ask(const TwLoop *loop, TwNews *news, int ms)
{
    news->count = epoll_wait(loop->set_fd, news->events, TW_NEWS_MAX, ms);
    if (news->count < 0) {
        news->count = -errno;
    }
}

void
tw_watcher_take(TwLoop *loop, const TwNews *news)
{
    int libuv = uv_backend_fd(&loop->uv);
    bool ghosts = false;

    for (int i = 0; i < news->count; i++) {
        int fd = news->events[i].data.fd;
        TwWatcher *w = tw_watcher_of_fd(loop, fd);
        if (TW_LIKELY(w != NULL && w->armed != 0)) {
            w->got |= (uint8_t)harvest_events(w, news->events[i].events);
            watcher_add_due(w);
        }
        else if (fd == libuv) {
            uv_run(&loop->uv, UV_RUN_NOWAIT);
        }
        else {
            ghosts = true;
        }
    }
    if (TW_UNLIKELY(ghosts)) {
        tw_watcher_renew_set(loop);
    }
}

/* What is left of an interrupted turn moves to the front. */
static void
watcher_compact_due(TwLoop *loop)
{
    TwVec *due = &loop->due;
    uint32_t kept = 0;

    for (uint32_t i = loop->due_next; i < due->count; i++) {
        TwWatcher *w = due->items[i];
        if (w != NULL) {
            w->in_due = kept;
            due->items[kept++] = w;
        }
    }
    due->count = kept;
    loop->due_next = 0;
}

/* Run one; the owner decides what its events mean. */
static tw_status
watcher_run(TwWatcher *w)
{
    PyObject *owner = Py_NewRef(w->owner);
    unsigned events = w->got;
    tw_status status = 0;

    w->got = 0;
    if (events & (TW_EV_BAD | w->want)) {
        status = TW_UNLIKELY(w->loop->debug)
                     ? tw_debug_ready(w->loop, owner, events, w->on_ready)
                     : w->on_ready(owner, events);
    }
    Py_DECREF(owner);
    return status;
}

tw_status
tw_watcher_run_due(TwLoop *loop)
{
    tw_status status = 0;

    while (status == 0 && loop->due_next < loop->due.count) {
        TwWatcher *w = loop->due.items[loop->due_next++];
        if (w != NULL) {
            w->in_due = TW_VEC_NONE;
            status = watcher_run(w);
        }
    }
    watcher_compact_due(loop);
    return status;
}
