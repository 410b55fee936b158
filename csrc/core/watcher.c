#include "core/watcher.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#ifdef __linux__
#include <sys/epoll.h>
#else
#include <sys/stat.h>
#endif

#include "base/errno.h"

static void
watcher_unref(TwWatcher *w)
{
    if (--w->refs == 0) {
        PyMem_RawFree(w);
    }
}

static void
watcher_add_due(TwWatcher *w)
{
    if (w->in_due == TW_VEC_NONE) {
        tw_vec_add(&w->loop->due, w);
    }
}

/* -- libuv's side: may run without the GIL --------------------------------- */

static void
watcher_on_poll(uv_poll_t *poll, int status, int events)
{
    TwWatcher *w = TW_CONTAINER(poll, TwWatcher, poll);

    if (status < 0) {
        /* libuv stopped it: POLLERR.  It is armed again after the I/O. */
        w->armed = 0;
        w->got |= TW_EV_ERROR | w->want;
    }
    if (events & UV_READABLE) {
        w->got |= TW_EV_READ;
    }
    if (events & UV_WRITABLE) {
        w->got |= TW_EV_WRITE;
    }
    watcher_add_due(w);
}

static void
watcher_on_close(uv_handle_t *handle)
{
    watcher_unref(TW_CONTAINER(handle, TwWatcher, poll));
}

/* -- open ------------------------------------------------------------------ */

static tw_status
watcher_reserve(TwLoop *loop, int fd)
{
    int cap = loop->by_fd_cap ? loop->by_fd_cap : 64;

    if (fd < loop->by_fd_cap) {
        return 0;
    }
    while (cap <= fd) {
        cap *= 2;
    }
    TwWatcher **table =
        PyMem_RawRealloc(loop->by_fd, (size_t)cap * sizeof(*table));
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
tw_watcher_open(TwLoop *loop, int fd, PyObject *owner, TwOnReady on_ready,
                bool transport)
{
    TwWatcher *old = tw_watcher_of_fd(loop, fd);
    TwWatcher *w;

    if (old != NULL && old->is_stale != NULL && old->is_stale(old->owner)
        && !loop->in_poll) {
        tw_watcher_give_up(old);
        old = NULL;
    }
    if (old != NULL) {
        PyErr_Format(PyExc_RuntimeError,
                     "File descriptor %d is used by transport %R", fd,
                     old->owner);
        return NULL;
    }
    if (watcher_reserve(loop, fd) < 0) {
        return NULL;
    }
    w = PyMem_RawCalloc(1, sizeof(*w));
    if (w == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    w->loop = loop;
    w->owner = owner;
    w->on_ready = on_ready;
    w->fd = fd;
    w->refs = 1;
    w->transport = transport;
    w->user_fd = !transport;
    w->in_watchers = w->in_due = w->in_changed = TW_VEC_NONE;
    loop->by_fd[fd] = w;
    loop->watcher_count++;
    return w;
}

/* -- wanting --------------------------------------------------------------- */

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
    if (w->armed == 0) {
        return 0;
    }
    w->armed = UINT8_MAX;
    return watcher_note_change(w);
}

void
tw_watcher_stop_now(TwWatcher *w)
{
    if (w->known && w->armed && !w->loop->in_poll) {
        uv_poll_stop(&w->poll);
        w->armed = 0;
    }
    /* The lists have room for what is in them: this cannot fail when it
       only takes out, and a change not noted is noted by in_poll's end. */
    if (tw_watcher_want(w, 0) < 0) {
        PyErr_Clear();
    }
}

/* -- close ----------------------------------------------------------------- */

static void
watcher_leave_lists(TwWatcher *w)
{
    TwLoop *loop = w->loop;

    if (w->in_due != TW_VEC_NONE) {
        loop->due.items[w->in_due] = NULL;
        w->in_due = TW_VEC_NONE;
    }
    if (tw_watcher_of_fd(loop, w->fd) == w) {
        loop->by_fd[w->fd] = NULL;
    }
}

/* libuv lets go of it; on_close drops libuv's reference. */
static void
watcher_uv_close(TwWatcher *w)
{
    if (w->known) {
        w->known = false;
        w->armed = 0;
        uv_close((uv_handle_t *)&w->poll, watcher_on_close);
    }
}

void
tw_watcher_close(TwWatcher *w)
{
    TwLoop *loop = w->loop;
    PyObject *owner = w->want ? w->owner : NULL;

    w->closing = true;
    w->want = 0;
    watcher_leave_lists(w);
    tw_vec_discard(&loop->watchers, w);
    loop->watcher_count--;
    if (loop->in_poll && w->known) {
        /* From another thread: the loop's own thread does the rest. */
        if (w->in_changed == TW_VEC_NONE
            && tw_vec_reserve(&loop->changed, 1) == 0) {
            tw_vec_add(&loop->changed, w);
        }
        tw_loop_wake(loop);
    }
    else {
        tw_vec_discard(&loop->changed, w);
        watcher_uv_close(w);
        watcher_unref(w);
    }
    Py_XDECREF(owner);
}

void
tw_watcher_give_up(TwWatcher *w)
{
    watcher_leave_lists(w);
    watcher_uv_close(w);
    w->fd = -1;
    w->got = TW_EV_BAD;
    watcher_add_due(w);
}

/* The second half of tw_watcher_close() for those that another thread
   closed while the loop was polling. */
static void
watcher_finish_closing(TwLoop *loop)
{
    for (uint32_t i = loop->changed.count; i-- > 0;) {
        TwWatcher *w = loop->changed.items[i];
        if (w->closing) {
            watcher_leave_lists(w);
            tw_vec_discard(&loop->changed, w);
            watcher_uv_close(w);
            watcher_unref(w);
        }
    }
}

void
tw_watcher_close_all(TwLoop *loop)
{
    watcher_finish_closing(loop);
    while (loop->watchers.count > 0) {
        TwWatcher *w = loop->watchers.items[loop->watchers.count - 1];
        if (tw_watcher_want(w, 0) < 0) {
            PyErr_Clear();
            break;
        }
    }
    for (int fd = 0; fd < loop->by_fd_cap; fd++) {
        TwWatcher *w = loop->by_fd[fd];
        if (w != NULL) {
            watcher_leave_lists(w);
            tw_vec_discard(&loop->changed, w);
            watcher_uv_close(w);
            w->fd = -1;
        }
    }
}

/* -- the turn -------------------------------------------------------------- */

/* May libuv give it to epoll?  It aborts the process if epoll refuses.  A new
   descriptor is tested by uv_poll_init; one that libuv has known for a while
   may have been closed, or be a regular file by now. */
static bool
watcher_fd_is_good(const TwWatcher *w)
{
#ifdef __linux__
    struct epoll_event none = {.events = 0, .data = {.fd = w->fd}};

    return epoll_ctl(uv_backend_fd(&w->loop->uv), EPOLL_CTL_ADD, w->fd,
                     &none) == 0
           || errno == EEXIST;
#else
    struct stat st;

    return fstat(w->fd, &st) == 0 && !S_ISREG(st.st_mode)
           && !S_ISDIR(st.st_mode);
#endif
}

/* uv_poll_init makes the descriptor non-blocking: undo that for one of the
   program's own. */
static int
watcher_uv_open(TwWatcher *w)
{
    int mode = w->user_fd ? fcntl(w->fd, F_GETFL) : -1;
    int err = uv_poll_init(&w->loop->uv, &w->poll, w->fd);

    if (mode >= 0 && !(mode & O_NONBLOCK)) {
        fcntl(w->fd, F_SETFL, mode);
    }
    if (err == 0) {
        w->known = true;
        w->refs++;
    }
    return err;
}

static void
watcher_apply(TwWatcher *w)
{
    if (w->want == w->armed) {
        return;
    }
    if (w->want == 0) {
        if (w->known) {
            uv_poll_stop(&w->poll);
        }
        w->armed = 0;
        return;
    }
    bool fresh = !w->known;
    if ((fresh && watcher_uv_open(w) < 0)
        || uv_poll_start(&w->poll, w->want, watcher_on_poll) < 0
        || (!fresh && !watcher_fd_is_good(w))) {
        if (w->known) {
            uv_poll_stop(&w->poll);
        }
        w->armed = 0;
        w->got |= TW_EV_BAD;
        watcher_add_due(w);
        return;
    }
    w->armed = w->want;
}

void
tw_watcher_apply_changes(TwLoop *loop)
{
    TwVec *changed = &loop->changed;

    if (TW_LIKELY(changed->count == 0)) {
        return;
    }
    /* First what is closed: the numbers may belong to new descriptors. */
    watcher_finish_closing(loop);
    if (tw_vec_reserve(&loop->due, loop->watcher_count + 1) < 0) {
        return; /* no memory: again before the next poll */
    }
    while (changed->count > 0) {
        TwWatcher *w = changed->items[--changed->count];
        w->in_changed = TW_VEC_NONE;
        watcher_apply(w);
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
    TwLoop *loop = w->loop;
    int fd = w->fd;
    tw_status status = 0;

    w->got = 0;
    if (events & TW_EV_BAD || events & w->want) {
        status = w->on_ready(owner, events);
    }
    if (events & TW_EV_ERROR && tw_watcher_of_fd(loop, fd) == w && w->want
        && watcher_note_change(w) < 0) {
        PyErr_Clear();
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
        if (w != NULL && !w->closing) {
            w->in_due = TW_VEC_NONE;
            status = watcher_run(w);
        }
    }
    watcher_compact_due(loop);
    return status;
}
