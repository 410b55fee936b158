#include "net/poll.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/compat.h"
#include "base/errno.h"
#include "core/call.h"
#include "core/handle.h"
#include "net/transport.h"

typedef struct {
    PyObject *target;   /* strong or NULL: a Handle if on_ready is NULL */
    TwOnReady on_ready;
} TwPollSlot;

/* Begins as a TwStepper: it stands in the ready queue while `spare`. */
typedef struct {
    PyObject_HEAD
    PyObject *unused[5];
    const TwStepOps *ops;
    TwLoop *loop;       /* strong, until dealloc */
    TwWatcher *watcher; /* ours, or NULL: the number was given up */
    PyObject *key;      /* strong or NULL: who armed the watcher */
    PyObject *fileobj;  /* strong or NULL: what add_reader() was first given */
    TwPollSlot slots[2]; /* reader, writer */
    int fd;
    uint8_t spare;      /* events that are armed for an empty slot */
    bool queued;        /* stands in the ready queue */
} TwPoll;

TW_CHECK_STEPPER(TwPoll);

static const unsigned poll_bits[2] = {TW_EV_READ, TW_EV_WRITE};

static TwPollSlot *
poll_slot(TwPoll *self, unsigned which)
{
    return &self->slots[which == TW_EV_WRITE];
}

/* -- what is wanted ------------------------------------------------------- */

static unsigned
poll_wanted(const TwPoll *self)
{
    return (self->slots[0].target ? TW_EV_READ : 0u)
           | (self->slots[1].target ? TW_EV_WRITE : 0u) | self->spare;
}

/* Want nothing any more.  The objects go last: their end may run code of the
   program's that watches the number again. */
static tw_status
poll_let_go(TwPoll *self, bool now)
{
    PyObject *key = TW_TAKE(self->key);
    PyObject *fileobj = TW_TAKE(self->fileobj);
    tw_status status = 0;

    if (now) {
        tw_watcher_stop_now(self->watcher);
    }
    else {
        status = tw_watcher_want(self->watcher, 0);
    }
    Py_XDECREF(key);
    Py_XDECREF(fileobj);
    return status;
}

static tw_status
poll_want(TwPoll *self)
{
    unsigned events = poll_wanted(self);

    if (self->watcher == NULL) {
        return 0;
    }
    return events == 0 ? poll_let_go(self, false)
                       : tw_watcher_want(self->watcher, events);
}

/* Would asyncio's selector have a key of it? */
static bool
poll_is_registered(const TwPoll *self)
{
    return self->slots[0].target != NULL || self->slots[1].target != NULL;
}

/* Leave a slot empty; what was in it, strong. */
static PyObject *
poll_take(TwPollSlot *slot)
{
    slot->on_ready = NULL;
    return TW_TAKE(slot->target);
}

/* asyncio cancels the Handle that it throws out. */
static void
poll_drop(PyObject *target_steal, TwOnReady on_ready)
{
    if (target_steal != NULL && on_ready == NULL) {
        tw_handle_cancel((TwHandle *)target_steal);
    }
    Py_XDECREF(target_steal);
}

/* -- readiness ------------------------------------------------------------ */

/* asyncio raised it in add_reader(). */
static tw_status
poll_report_refused(TwLoop *loop, int err)
{
    tw_errno_raise(-err);
    return tw_call_report(
        loop, "The descriptor of add_reader() or add_writer() is refused",
        NULL, NULL);
}

/* The number belongs to a transport (refused == 0), to something that cannot
   be watched, or to nobody: then asyncio's selector, which was told at once,
   still has it, and the kernel has forgotten it without a word. */
static tw_status
poll_gone(TwPoll *self)
{
    int refused = self->watcher == NULL ? 0 : self->watcher->refused;
    PyObject *key = TW_TAKE(self->key);
    tw_status status = 0;

    self->spare = 0;
    for (int i = 0; i < 2; i++) {
        TwOnReady on_ready = self->slots[i].on_ready;
        PyObject *target;
        if (on_ready == NULL && refused == EBADF) {
            continue;
        }
        target = poll_take(&self->slots[i]);
        if (target != NULL && status == 0) {
            status = on_ready ? on_ready(target, TW_EV_BAD)
                     : refused ? poll_report_refused(self->loop, refused)
                               : 0;
        }
        poll_drop(target, on_ready);
    }
    if (poll_want(self) < 0) {
        PyErr_Clear();
    }
    Py_XDECREF(key);
    return status;
}

static tw_status
poll_run_handle(TwPoll *self, int i, TwHandle *handle)
{
    if (handle->flags & TW_H_CANCELLED) {
        tw_poll_unset(self->loop, self->fd, poll_bits[i],
                      (PyObject *)handle);
        return 0;
    }
    self->loop->stats.callbacks++;
    return tw_handle_run(handle);
}

static tw_status
poll_run_slot(TwPoll *self, int i, unsigned events)
{
    TwPollSlot *slot = &self->slots[i];
    PyObject *target = slot->target;
    tw_status status;

    if (target == NULL) {
        if (self->spare & poll_bits[i]) {
            self->spare &= (uint8_t)~poll_bits[i];
            return poll_want(self);
        }
        return 0;
    }
    Py_INCREF(target);
    status = slot->on_ready == NULL
                 ? poll_run_handle(self, i, (TwHandle *)target)
                 : slot->on_ready(target, events);
    Py_DECREF(target);
    return status;
}

static tw_status
poll_on_ready(PyObject *op, unsigned events)
{
    TwPoll *self = (TwPoll *)op;

    if (events & TW_EV_BAD) {
        return poll_gone(self);
    }
    for (int i = 0; i < 2; i++) {
        if (events & poll_bits[i] && poll_run_slot(self, i, events) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The tasks that the last operation woke have run. */
static tw_status
poll_step(PyObject *op)
{
    TwPoll *self = (TwPoll *)op;

    self->queued = false;
    self->spare = 0;
    if (poll_want(self) < 0) {
        PyErr_Clear();
    }
    return 0;
}

static const TwStepOps poll_step_ops = {poll_step};

/* -- life ----------------------------------------------------------------- */

/* A transport wants the number: whatever is here is of the past. */
static bool
poll_is_stale(PyObject *op)
{
    return true;
}

static TwPoll *
poll_new(TwLoop *loop, int fd)
{
    PyTypeObject *type = loop->state->poll_type;
    TwPoll *self = (TwPoll *)type->tp_alloc(type, 0);
    PyObject *number;

    if (self == NULL) {
        return NULL;
    }
    self->ops = &poll_step_ops;
    self->loop = (TwLoop *)Py_NewRef((PyObject *)loop);
    self->fd = fd;
    self->watcher =
        tw_watcher_open(loop, fd, (PyObject *)self, poll_on_ready, false);
    if (self->watcher == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    self->watcher->is_stale = poll_is_stale;
    number = PyLong_FromLong(fd);
    if (loop->polls == NULL) {
        loop->polls = PyDict_New();
    }
    if (number == NULL || loop->polls == NULL
        || PyDict_SetItem(loop->polls, number, (PyObject *)self) < 0) {
        Py_CLEAR(self);
    }
    Py_XDECREF(number);
    Py_XDECREF(self);
    return self; /* borrowed: the loop's dict has it */
}

/* The TwPoll of a descriptor, borrowed, or NULL. */
static TwPoll *
poll_find(TwLoop *loop, int fd)
{
    TwWatcher *w = tw_watcher_of_fd(loop, fd);

    if (w == NULL || !Py_IS_TYPE(w->owner, loop->state->poll_type)) {
        return NULL;
    }
    return (TwPoll *)w->owner;
}

static int
poll_traverse(PyObject *op, visitproc visit, void *arg)
{
    TwPoll *self = (TwPoll *)op;

    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->loop);
    Py_VISIT(self->key);
    Py_VISIT(self->fileobj);
    Py_VISIT(self->slots[0].target);
    Py_VISIT(self->slots[1].target);
    return 0;
}

static int
poll_clear(PyObject *op)
{
    TwPoll *self = (TwPoll *)op;

    Py_CLEAR(self->key);
    Py_CLEAR(self->fileobj);
    Py_XDECREF(poll_take(&self->slots[0]));
    Py_XDECREF(poll_take(&self->slots[1]));
    return 0;
}

static void
poll_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    TwPoll *self = (TwPoll *)op;

    PyObject_GC_UnTrack(op);
    if (self->watcher != NULL) {
        tw_watcher_close(TW_TAKE(self->watcher));
    }
    poll_clear(op);
    Py_CLEAR(self->loop);
    type->tp_free(op);
    Py_DECREF(type);
}

/* -- for other rooms ------------------------------------------------------ */

tw_status
tw_poll_check_fd(TwLoop *loop, int fd, PyObject *shown)
{
    TwWatcher *w = tw_watcher_of_fd(loop, fd);
    PyObject *number;

    if (w == NULL || !w->transport
        || !tw_transport_is_open((TwTransport *)w->owner)) {
        return 0;
    }
    w = tw_watcher_live(loop, fd);
    if (w == NULL || !w->transport) {
        return 0;
    }
    number = shown ? Py_NewRef(shown) : PyLong_FromLong(fd);
    if (number != NULL) {
        PyErr_Format(PyExc_RuntimeError,
                     "File descriptor %R is used by transport %R", number,
                     w->owner);
        Py_DECREF(number);
    }
    return -1;
}

/* As a selector refuses at once: closed ones, and files without a poll.
   Sockets and pipes have one; of others, regular files and devices, only the
   kernel knows. */
static tw_status
poll_check_new(TwLoop *loop, int fd)
{
    struct stat st;
    tw_uverr err;

    if (fd < 0) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %d", fd);
        return -1;
    }
    if (fstat(fd, &st) < 0) {
        tw_errno_raise(-errno);
        return -1;
    }
    if (S_ISSOCK(st.st_mode) || S_ISFIFO(st.st_mode)) {
        return 0;
    }
    err = tw_watcher_probe(loop, fd);
    if (err < 0) {
        tw_errno_raise(err);
    }
    return err < 0 ? -1 : 0;
}

/* The TwPoll to use, its watcher asking epoll anew if need be. */
static TwPoll *
poll_for(TwLoop *loop, int fd, PyObject *key)
{
    TwPoll *self = poll_find(loop, fd);

    if (self == NULL) {
        if (poll_check_new(loop, fd) < 0) {
            return NULL;
        }
        self = poll_new(loop, fd);
    }
    else if (key == NULL || key != self->key) {
        if ((key == NULL && poll_check_new(loop, fd) < 0)
            || tw_watcher_rearm(self->watcher) < 0) {
            return NULL;
        }
    }
    return self;
}

tw_status
tw_poll_set(TwLoop *loop, int fd, unsigned which, PyObject *key,
            PyObject *target, TwOnReady on_ready)
{
    TwPoll *self;
    TwPollSlot *slot;
    TwOnReady old_ready;
    PyObject *old, *old_key, *old_fileobj;
    tw_status status;

    if (tw_loop_check_open(loop) < 0) {
        return -1;
    }
    self = poll_for(loop, fd, key);
    if (self == NULL) {
        return -1;
    }
    Py_INCREF(self);
    old_key = self->key;
    old_fileobj = poll_is_registered(self) ? NULL : TW_TAKE(self->fileobj);
    slot = poll_slot(self, which);
    old_ready = slot->on_ready;
    old = poll_take(slot);
    slot->target = Py_NewRef(target);
    slot->on_ready = on_ready;
    self->spare &= (uint8_t)~which;
    self->key = Py_XNewRef(key);
    status = poll_want(self);
    if (status < 0) {
        Py_XDECREF(poll_take(slot));
    }
    poll_drop(old, old_ready);
    Py_XDECREF(old_key);
    Py_XDECREF(old_fileobj);
    Py_DECREF(self);
    return status;
}

bool
tw_poll_unset(TwLoop *loop, int fd, unsigned which, PyObject *only_if)
{
    TwPoll *self = poll_find(loop, fd);
    TwPollSlot *slot;
    TwOnReady on_ready;
    PyObject *target;

    if (self == NULL) {
        return false;
    }
    slot = poll_slot(self, which);
    target = slot->target;
    if (target == NULL || (only_if != NULL && target != only_if)) {
        return false;
    }
    Py_INCREF(self);
    on_ready = slot->on_ready;
    target = poll_take(slot);
    self->spare &= (uint8_t)~which;
    if (poll_wanted(self) == 0 && self->watcher != NULL) {
        (void)poll_let_go(self, true);
    }
    else if (poll_want(self) < 0) {
        PyErr_Clear();
    }
    poll_drop(target, on_ready);
    Py_DECREF(self);
    return true;
}

void
tw_poll_done(TwLoop *loop, int fd, unsigned which, PyObject *only_if)
{
    TwPoll *self = poll_find(loop, fd);
    TwPollSlot *slot = self == NULL ? NULL : poll_slot(self, which);

    if (slot == NULL || slot->target != only_if) {
        return;
    }
    if (!self->queued) {
        if (tw_loop_push_step(loop, (PyObject *)self) < 0) {
            PyErr_Clear();
            tw_poll_unset(loop, fd, which, only_if);
            return;
        }
        self->queued = true;
    }
    self->spare |= (uint8_t)which;
    Py_DECREF(poll_take(slot));
}

/* -- for add_reader() and its kin ----------------------------------------- */

int
tw_poll_find_object(TwLoop *loop, PyObject *obj)
{
    PyObject *number, *item;
    Py_ssize_t at = 0;

    while (loop->polls != NULL
           && PyDict_Next(loop->polls, &at, &number, &item)) {
        TwPoll *self = (TwPoll *)item;
        if (self->fileobj == obj && poll_is_registered(self)
            && poll_find(loop, self->fd) == self) {
            return self->fd;
        }
    }
    return -1;
}

/* What the kernel says when asyncio's selector changes what it watches of
   `fd`; `closed`: its object says that the descriptor is another one now. */
static int
poll_change_error(int fd, bool closed)
{
    struct stat st;

    return fstat(fd, &st) < 0 ? errno : closed ? ENOENT : 0;
}

/* asyncio's selector forgets what it fails to change.  Raises. */
static tw_status
poll_forget(TwPoll *self, int err)
{
    Py_INCREF(self);
    for (int i = 0; i < 2; i++) {
        if (self->slots[i].on_ready == NULL) {
            tw_poll_unset(self->loop, self->fd, poll_bits[i], NULL);
        }
    }
    Py_DECREF(self);
    tw_errno_raise(-err);
    return -1;
}

tw_status
tw_poll_watch(TwLoop *loop, int fd, unsigned which, PyObject *obj,
              PyObject *handle)
{
    TwPoll *self = poll_find(loop, fd);
    bool known = self != NULL && poll_is_registered(self);

    if (tw_poll_set(loop, fd, which, NULL, handle, NULL) < 0) {
        return -1;
    }
    self = poll_find(loop, fd);
    if (!known && !PyLong_Check(obj) && self != NULL
        && poll_slot(self, which)->target == handle) {
        Py_XSETREF(self->fileobj, Py_NewRef(obj));
    }
    return 0;
}

tw_status
tw_poll_watch_closed(TwLoop *loop, int fd, unsigned which, PyObject *handle)
{
    TwPoll *self = poll_find(loop, fd);
    TwPollSlot *slot = poll_slot(self, which);
    TwOnReady on_ready = slot->on_ready;
    PyObject *old;

    if (slot->target == NULL) {
        return poll_forget(self, poll_change_error(fd, true));
    }
    old = poll_take(slot);
    slot->target = Py_NewRef(handle);
    poll_drop(old, on_ready);
    return 0;
}

int
tw_poll_remove(TwLoop *loop, int fd, unsigned which, bool closed)
{
    TwPoll *self = poll_find(loop, fd);

    if (self != NULL && self->slots[0].target != NULL
        && self->slots[1].target != NULL) {
        int err = poll_change_error(fd, closed);
        if (err != 0) {
            return poll_forget(self, err);
        }
    }
    return tw_poll_unset(loop, fd, which, NULL);
}

/* -- the type ------------------------------------------------------------- */

static PyType_Slot poll_slots[] = {
    {Py_tp_dealloc, poll_dealloc},
    {Py_tp_traverse, poll_traverse},
    {Py_tp_clear, poll_clear},
    {0, NULL},
};

static PyType_Spec poll_spec = {
    .name = "tidewire._core._Poll",
    .basicsize = sizeof(TwPoll),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = poll_slots,
};

tw_status
tw_poll_setup(tw_state *state, PyObject *module)
{
    return tw_state_add_type(state, &state->poll_type, &poll_spec, NULL, 0);
}
