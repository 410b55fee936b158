#include "core/watcher.h"

#include <errno.h>
#include <fcntl.h>

#include "base/errno.h"
#include "core/call.h"
#include "core/debug.h"
#include "core/probes.h"
#include "core/watchdog.h"

/* -- results of the poller ------------------------------------------------ */

tw_uverr
tw_watcher_probe(TwLoop *loop, int fd)
{
    TwPoller *poller = loop->poller;

    return poller == NULL ? -EBADF : poller->ops->probe(poller, fd);
}

/* The poller, or this file, may be wrong about the descriptor: see
   core/poller.h. */
static tw_uverr
watcher_update_poller(TwWatcher *w, unsigned events)
{
    TwPoller *poller = w->loop->poller;
    tw_uverr err = poller->ops->watch(poller, w->fd, w->armed, events);

    w->armed = err < 0 ? 0 : (uint8_t)events;
    return err;
}

/* An error says that it was closed: the kernel has forgotten it. */
static void
watcher_disarm(TwWatcher *w)
{
    if (w->armed && w->fd >= 0) {
        (void)watcher_update_poller(w, 0);
    }
}

static void
watcher_add_due(TwWatcher *w)
{
    if (w->in_due == TW_VEC_NONE) {
        tw_vec_add(&w->loop->due, w);
    }
}

/* If only room is lacking it is reported once, and tried again. */
static void
watcher_refused(TwWatcher *w, tw_uverr err)
{
    TwVec *changed = &w->loop->changed;
    bool again = tw_poller_is_shortage(err) && tw_vec_reserve(changed, 1) == 0;

    w->armed = 0;
    if (again && w->in_changed == TW_VEC_NONE) {
        tw_vec_add(changed, w);
    }
    if (!again || w->refused != (int)-err) {
        w->refused = (int)-err;
        w->got |= again ? TW_EV_NO_ROOM : TW_EV_BAD;
        watcher_add_due(w);
    }
}

tw_uverr
tw_watcher_error(const TwWatcher *w)
{
    return w == NULL || w->refused == 0 ? -EBADF : -w->refused;
}

/* -- open ----------------------------------------------------------------- */

#define WATCHER_TABLE_SMALL 65536

/* Room for the watchers of descriptors up to `fd`.  0 or a negative errno. */
static tw_uverr
watcher_reserve_table(TwLoop *loop, int fd)
{
    int cap = loop->by_fd_cap ? loop->by_fd_cap : 64;
    TwWatcher **table;

    if (fd < loop->by_fd_cap) {
        return 0;
    }
    /* Mock objects have small numbers; a huge one must be an open
       descriptor. */
    if (fd >= WATCHER_TABLE_SMALL && fcntl(fd, F_GETFD) < 0) {
        return -errno;
    }
    while (cap <= fd) {
        cap = cap > INT_MAX / 2 ? INT_MAX : cap * 2;
    }
    table = PyMem_RawRealloc(loop->by_fd, (size_t)cap * sizeof(*table));
    if (table == NULL) {
        return -ENOMEM;
    }
    memset(table + loop->by_fd_cap, 0,
           (size_t)(cap - loop->by_fd_cap) * sizeof(*table));
    loop->by_fd = table;
    loop->by_fd_cap = cap;
    return 0;
}

/* Room in every list for one more watcher. */
static tw_status
watcher_reserve(TwLoop *loop, int fd)
{
    uint32_t n = loop->watcher_count + 1;
    tw_uverr err = watcher_reserve_table(loop, fd);

    /* A watcher that ran in this turn returns to `due` if it is
       invalidated. */
    if (err == 0
        && (tw_vec_reserve(&loop->due, 2 * n) < 0
            || tw_vec_reserve(&loop->watchers, n) < 0
            || tw_vec_reserve(&loop->changed, n) < 0)) {
        err = -ENOMEM;
    }
    if (err == -ENOMEM) {
        PyErr_NoMemory();
    }
    else if (err < 0) {
        tw_errno_raise(err);
    }
    return err < 0 ? -1 : 0;
}

TwWatcher *
tw_watcher_of_fd(TwLoop *loop, int fd)
{
    return fd >= 0 && fd < loop->by_fd_cap ? loop->by_fd[fd] : NULL;
}

/* Remove it from every list of the loop.  It leaves a gap in `due`, which may
   be running. */
static void
watcher_unlink(TwWatcher *w)
{
    TwLoop *loop = w->loop;

    watcher_disarm(w);
    tw_vec_leave_gap(&loop->changed, w);
    if (w->in_due != TW_VEC_NONE) {
        loop->due.items[w->in_due] = NULL;
        w->in_due = TW_VEC_NONE;
    }
    if (tw_watcher_of_fd(loop, w->fd) == w) {
        loop->by_fd[w->fd] = NULL;
    }
}

/* The number refers to another descriptor by now: the program closed the old
   one, and the kernel removed that from the set.  It is no longer watched, and
   on_ready() is called with TW_EV_BAD in the next turn. */
static void
watcher_invalidate(TwWatcher *w)
{
    w->armed = 0;
    watcher_unlink(w);
    w->fd = -1;
    w->refused = 0;
    w->got = TW_EV_BAD;
    watcher_add_due(w);
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
    if (loop->poller == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "Loop.__init__() was not called");
        return NULL;
    }
    if (old != NULL) {
        PyObject *user = Py_NewRef(old->owner);
        PyErr_Format(PyExc_RuntimeError,
                     "File descriptor %d is used by transport %R", fd, user);
        Py_DECREF(user);
        return NULL;
    }
    old = tw_watcher_of_fd(loop, fd);
    if (old != NULL) {
        watcher_invalidate(old);
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
    w->in_watchers = w->in_writers = TW_VEC_NONE;
    w->in_due = w->in_changed = TW_VEC_NONE;
    loop->by_fd[fd] = w;
    loop->watcher_count++;
    return w;
}

/* -- a renewed poller ----------------------------------------------------- */

tw_uverr
tw_watcher_renumber(TwWatcher *w, int fd)
{
    TwLoop *loop = w->loop;
    tw_uverr err = watcher_reserve_table(loop, fd);
    TwWatcher *old = tw_watcher_of_fd(loop, fd);

    if (err < 0) {
        return err;
    }
    if (old != NULL && old != w) {
        watcher_invalidate(old);
    }
    if (tw_watcher_of_fd(loop, w->fd) == w) {
        loop->by_fd[w->fd] = NULL;
    }
    loop->by_fd[fd] = w;
    w->fd = fd;
    return 0;
}

void
tw_watcher_rewatch(TwLoop *loop)
{
    for (int fd = 0; fd < loop->by_fd_cap; fd++) {
        TwWatcher *w = loop->by_fd[fd];
        if (w != NULL && w->armed) {
            unsigned events = w->armed;
            w->armed = 0;
            tw_uverr err = watcher_update_poller(w, events);
            if (err < 0) {
                watcher_refused(w, err);
            }
        }
    }
}

/* Events of a descriptor that nobody watches.  Its number was closed while it
   was watched, but another descriptor (a duplicate, a child's) keeps its file
   open, and with it the poller's entry, which no call can name any more.  If a
   new set cannot be made, the old one stays in use and reports it at every
   poll, as asyncio's does. */
static void
watcher_drop_ghosts(TwLoop *loop)
{
    TwPoller *poller = loop->poller;

    if (poller->ops->renew(poller, false, true) == 0) {
        tw_watcher_rewatch(loop);
    }
}

/* -- wanted events -------------------------------------------------------- */

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
    if (tw_vec_reserve(&loop->watchers, 1) < 0
        || (events & TW_EV_WRITE && tw_vec_reserve(&loop->writers, 1) < 0)) {
        PyErr_NoMemory();
        return -1;
    }
    if (watcher_note_change(w) < 0) {
        return -1;
    }
    if (events & ~w->want & TW_EV_WRITE) {
        tw_vec_add(&loop->writers, w);
    }
    else if (w->want & ~events & TW_EV_WRITE) {
        tw_vec_discard(&loop->writers, w);
    }
    w->want = (uint8_t)events;
    w->got &= (uint8_t)(events | TW_EV_ERROR | TW_EV_BAD | TW_EV_NO_ROOM);
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

tw_uverr
tw_watcher_want_now(TwWatcher *w, unsigned events)
{
    if (tw_watcher_want(w, events) < 0) {
        PyErr_Clear();
        return -ENOMEM;
    }
    return w->want == w->armed ? 0 : watcher_update_poller(w, w->want);
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
tw_watcher_rouse(TwWatcher *w, unsigned events)
{
    if (w->fd >= 0) {
        w->got |= (uint8_t)events;
        watcher_add_due(w);
    }
}

void
tw_watcher_stop_now(TwWatcher *w)
{
    watcher_disarm(w);
    tw_vec_leave_gap(&w->loop->changed, w);
    if (w->want != 0) {
        PyObject *owner = w->owner;
        w->want = 0;
        w->got = 0;
        tw_vec_discard(&w->loop->writers, w);
        tw_vec_discard(&w->loop->watchers, w);
        Py_DECREF(owner);
    }
}

/* -- close ---------------------------------------------------------------- */

void
tw_watcher_close(TwWatcher *w)
{
    PyObject *owner = w->want ? w->owner : NULL;

    watcher_unlink(w);
    tw_vec_discard(&w->loop->writers, w);
    tw_vec_discard(&w->loop->watchers, w);
    w->loop->watcher_count--;
    PyMem_Free(w);
    Py_XDECREF(owner);
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
            watcher_unlink(w);
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
    tw_uverr err;

    if (w->want == w->armed) {
        return;
    }
    if (w->want == 0) {
        watcher_disarm(w);
        return;
    }
    err = watcher_update_poller(w, w->want);
    if (err < 0) {
        watcher_refused(w, err);
        return;
    }
    w->refused = 0;
}

/* In the order in which they were wanted: descriptors that are ready when the
   poller gets them are served in that order, as in asyncio.  Those that lack
   room are appended again, for the next poll. */
void
tw_watcher_apply_changes(TwLoop *loop)
{
    TwVec *changed = &loop->changed;
    uint32_t n = changed->count, kept = 0;

    for (uint32_t i = 0; i < n; i++) {
        TwWatcher *w = changed->items[i];
        if (w != NULL) {
            w->in_changed = TW_VEC_NONE;
            watcher_apply(w);
        }
    }
    for (uint32_t i = n; i < changed->count; i++) {
        TwWatcher *w = changed->items[i];
        w->in_changed = kept;
        changed->items[kept++] = w;
    }
    changed->count = kept;
}

/* Move the rest of an interrupted turn, or of a turn that a nested run is part
   of, to the front. */
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

void
tw_watcher_collect(TwLoop *loop, int n)
{
    const TwReady *ready = loop->poller->ready;
    bool ghosts = false;

    if (TW_UNLIKELY(loop->due_next > 0)) {
        watcher_compact_due(loop); /* there is room for every watcher, twice */
    }
    for (int i = 0; i < n; i++) {
        TwWatcher *w = tw_watcher_of_fd(loop, ready[i].fd);
        if (TW_LIKELY(w != NULL && w->armed != 0)) {
            w->got |= (uint8_t)(ready[i].events & (w->want | TW_EV_ERROR));
            watcher_add_due(w);
        }
        else {
            ghosts = true;
        }
    }
    if (TW_UNLIKELY(ghosts)) {
        watcher_drop_ghosts(loop);
    }
}

/* asyncio raised it where the descriptor was added. */
static tw_status
watcher_report_no_room(TwWatcher *w)
{
    tw_errno_raise(-w->refused);
    return tw_call_report(w->loop,
                          "A descriptor cannot be watched for lack of room; "
                          "it is tried again", NULL, NULL);
}

/* The owner decides what the events mean. */
tw_status
tw_watcher_run_due(TwLoop *loop)
{
    tw_status status = 0;

    while (status == 0 && loop->due_next < loop->due.count) {
        TwWatcher *w = loop->due.items[loop->due_next++];
        if (w == NULL) {
            continue;
        }
        PyObject *owner = Py_NewRef(w->owner);
        unsigned events = w->got;
        w->in_due = TW_VEC_NONE;
        w->got = 0;
        if (TW_UNLIKELY(events & TW_EV_NO_ROOM)) {
            status = watcher_report_no_room(w);
        }
        else if (events & (TW_EV_BAD | w->want)) {
            TW_PROBE2(callback__begin, loop, owner);
            status = TW_UNLIKELY(loop->debug)
                         ? tw_debug_ready(loop, owner, events, w->on_ready)
                         : w->on_ready(owner, events);
            TW_PROBE2(callback__end, loop, owner);
            tw_watchdog_callback(loop, owner);
        }
        Py_DECREF(owner);
    }
    watcher_compact_due(loop);
    return status;
}
