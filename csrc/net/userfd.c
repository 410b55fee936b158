#include "net/userfd.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/compat.h"
#include "base/errno.h"
#include "core/call.h"
#include "core/handle.h"
#include "core/nest.h"
#include "net/transport.h"

/* A source: it is in the ready queue while `spare`. */
typedef struct {
    PyObject_HEAD
    PyObject *key;        /* strong or NULL: who armed the watcher */
    PyObject *fileobj;    /* strong or NULL: add_reader()'s argument */
    TwLoop *loop;
    PyObject *targets[2]; /* reader, writer: strong or NULL; a Handle if
                             there is no on_ready */
    const TwStepOps *ops;
    TwWatcher *watcher;   /* NULL: no longer watched */
    TwOnReady on_ready[2];
    int fd;
    uint8_t spare;        /* events that are armed for an empty slot */
    bool queued;          /* is in the ready queue */
} TwUserFd;

TW_CHECK_SOURCE(TwUserFd);

static const unsigned userfd_bits[2] = {TW_EV_READ, TW_EV_WRITE};

/* The slot of `which`. */
static inline int
userfd_slot(unsigned which)
{
    return which == TW_EV_WRITE;
}

/* -- wanted events -------------------------------------------------------- */

static unsigned
userfd_wanted(const TwUserFd *self)
{
    return (self->targets[0] ? TW_EV_READ : 0u)
           | (self->targets[1] ? TW_EV_WRITE : 0u) | self->spare;
}

/* Stop watching.  The objects are released last: their destructors may run
   code of the program that watches the number again. */
static tw_status
userfd_end(TwUserFd *self, bool now)
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
userfd_want(TwUserFd *self)
{
    unsigned events = userfd_wanted(self);

    if (self->watcher == NULL) {
        return 0;
    }
    return events == 0 ? userfd_end(self, false)
                       : tw_watcher_want(self->watcher, events);
}

/* The same where a lack of memory cannot be reported. */
static void
userfd_want_or_ignore(TwUserFd *self)
{
    if (userfd_want(self) < 0) {
        PyErr_Clear();
    }
}

/* Would asyncio's selector have a key for it? */
static bool
userfd_is_registered(const TwUserFd *self)
{
    return self->targets[0] != NULL || self->targets[1] != NULL;
}

/* Empty the slot.  Returns its target: the caller owns it. */
static PyObject *
userfd_empty_slot(TwUserFd *self, int slot)
{
    self->on_ready[slot] = NULL;
    return TW_TAKE(self->targets[slot]);
}

/* asyncio cancels a Handle that it evicts. */
static void
userfd_drop(PyObject *target_steal, TwOnReady on_ready)
{
    if (target_steal != NULL && on_ready == NULL) {
        tw_handle_cancel((TwHandle *)target_steal);
    }
    Py_XDECREF(target_steal);
}

/* -- readiness ------------------------------------------------------------ */

/* asyncio raises this error in add_reader() itself. */
static tw_status
userfd_fail(TwUserFd *self, PyObject *target, TwOnReady on_ready, int refused)
{
    if (on_ready != NULL || refused == 0) {
        return on_ready == NULL ? 0 : on_ready(target, TW_EV_BAD);
    }
    tw_errno_raise(-refused);
    return tw_call_report(self->loop,
                          "The descriptor of add_reader() or add_writer() is "
                          "refused", NULL, NULL);
}

/* A transport was made on the number (refused == 0), or the poller refused it.
   With EBADF the descriptor was closed: asyncio's selector keeps its key then,
   because the kernel forgets a closed descriptor silently. */
static tw_status
userfd_gone(TwUserFd *self)
{
    int refused = self->watcher == NULL ? 0 : self->watcher->refused;
    PyObject *key = TW_TAKE(self->key), *exc = NULL;

    self->spare = 0;
    for (int i = 0; i < 2; i++) {
        TwOnReady on_ready = self->on_ready[i];
        PyObject *target;
        if (on_ready == NULL && refused == EBADF) {
            continue;
        }
        target = userfd_empty_slot(self, i);
        if (target != NULL
            && userfd_fail(self, target, on_ready, refused) < 0) {
            Py_XSETREF(exc, tw_err_take());
        }
        userfd_drop(target, on_ready);
    }
    userfd_want_or_ignore(self);
    Py_XDECREF(key);
    if (exc != NULL) {
        tw_err_restore_steal(exc);
        return -1;
    }
    return 0;
}

static tw_status
userfd_run_handle(TwUserFd *self, int i, TwHandle *handle)
{
    if (handle->flags & TW_H_CANCELLED) {
        tw_userfd_unset(self->loop, self->fd, userfd_bits[i],
                        (PyObject *)handle);
    }
    else if (!tw_nest_is_entered(self->loop, handle)) {
        return tw_handle_run(handle);
    }
    return 0;
}

static tw_status
userfd_run_slot(TwUserFd *self, int i, unsigned events)
{
    PyObject *target = self->targets[i];
    tw_status status;

    if (target == NULL) {
        if (self->spare & userfd_bits[i]) {
            self->spare &= (uint8_t)~userfd_bits[i];
            return userfd_want(self);
        }
        return 0;
    }
    Py_INCREF(target);
    status = self->on_ready[i] == NULL
                 ? userfd_run_handle(self, i, (TwHandle *)target)
                 : self->on_ready[i](target, events);
    Py_DECREF(target);
    return status;
}

static tw_status
userfd_on_ready(PyObject *op, unsigned events)
{
    TwUserFd *self = (TwUserFd *)op;

    if (events & TW_EV_BAD) {
        return userfd_gone(self);
    }
    for (int i = 0; i < 2; i++) {
        if (events & userfd_bits[i] && userfd_run_slot(self, i, events) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The tasks that the last operation woke have run: stop if no other began. */
static tw_status
userfd_step(PyObject *op)
{
    TwUserFd *self = (TwUserFd *)op;

    self->queued = false;
    self->spare = 0;
    userfd_want_or_ignore(self);
    return 0;
}

static const TwStepOps userfd_step_ops = {userfd_step};

/* -- life ----------------------------------------------------------------- */

/* A transport is made on the number: what is watched here is stale. */
static bool
userfd_is_stale(PyObject *op)
{
    return true;
}

/* A new reference; the loop has another one. */
static TwUserFd *
userfd_new(TwLoop *loop, int fd)
{
    PyTypeObject *type = loop->state->userfd_type;
    TwUserFd *self = (TwUserFd *)type->tp_alloc(type, 0);
    PyObject *number;

    if (self == NULL) {
        return NULL;
    }
    self->ops = &userfd_step_ops;
    self->loop = (TwLoop *)Py_NewRef((PyObject *)loop);
    self->fd = fd;
    self->watcher =
        tw_watcher_open(loop, fd, (PyObject *)self, userfd_on_ready, false);
    if (self->watcher == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    self->watcher->is_stale = userfd_is_stale;
    number = PyLong_FromLong(fd);
    if (loop->userfds == NULL) {
        loop->userfds = PyDict_New();
    }
    if (number == NULL || loop->userfds == NULL
        || PyDict_SetItem(loop->userfds, number, (PyObject *)self) < 0) {
        Py_CLEAR(self);
    }
    Py_XDECREF(number);
    return self;
}

/* The TwUserFd of a descriptor, borrowed, or NULL. */
static TwUserFd *
userfd_find(TwLoop *loop, int fd)
{
    TwWatcher *w = tw_watcher_of_fd(loop, fd);

    if (w == NULL || !Py_IS_TYPE(w->owner, loop->state->userfd_type)) {
        return NULL;
    }
    return (TwUserFd *)w->owner;
}

/* -- for other rooms ------------------------------------------------------ */

tw_status
tw_userfd_check_fd(TwLoop *loop, int fd, PyObject *shown)
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
        /* The number's repr() may drop the transport. */
        PyObject *owner = Py_NewRef(w->owner);
        PyErr_Format(PyExc_RuntimeError,
                     "File descriptor %R is used by transport %R", number,
                     owner);
        Py_DECREF(owner);
        Py_DECREF(number);
    }
    return -1;
}

/* Refuse what a selector refuses at once: closed descriptors, and files that
   cannot be polled.  Sockets and pipes can; about others, regular files and
   devices, the kernel must be asked. */
static tw_status
userfd_check_new(TwLoop *loop, int fd)
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

/* The TwUserFd of a descriptor, made if there is none: a new reference.  With
   another key than before, the poller watches the descriptor anew. */
static TwUserFd *
userfd_for(TwLoop *loop, int fd, PyObject *key)
{
    TwUserFd *self = userfd_find(loop, fd);

    if (self == NULL) {
        if (userfd_check_new(loop, fd) < 0) {
            return NULL;
        }
        return userfd_new(loop, fd);
    }
    if (key == NULL || key != self->key) {
        if ((key == NULL && userfd_check_new(loop, fd) < 0)
            || tw_watcher_rearm(self->watcher) < 0) {
            return NULL;
        }
    }
    return (TwUserFd *)Py_NewRef((PyObject *)self);
}

tw_status
tw_userfd_set(TwLoop *loop, int fd, unsigned which, PyObject *key,
              PyObject *target, TwOnReady on_ready)
{
    int slot = userfd_slot(which);
    TwUserFd *self;
    TwOnReady old_ready;
    PyObject *old, *old_key, *old_fileobj;
    tw_status status;

    if (tw_loop_check_open(loop) < 0) {
        return -1;
    }
    self = userfd_for(loop, fd, key);
    if (self == NULL) {
        return -1;
    }
    old_key = self->key;
    old_fileobj = userfd_is_registered(self) ? NULL : TW_TAKE(self->fileobj);
    old_ready = self->on_ready[slot];
    old = self->targets[slot];
    self->targets[slot] = Py_NewRef(target);
    self->on_ready[slot] = on_ready;
    self->spare &= (uint8_t)~which;
    self->key = Py_XNewRef(key);
    status = userfd_want(self);
    if (status < 0) {
        Py_XDECREF(userfd_empty_slot(self, slot));
    }
    userfd_drop(old, old_ready);
    Py_XDECREF(old_key);
    Py_XDECREF(old_fileobj);
    Py_DECREF(self);
    return status;
}

bool
tw_userfd_unset(TwLoop *loop, int fd, unsigned which, PyObject *only_if)
{
    TwUserFd *self = userfd_find(loop, fd);
    int slot = userfd_slot(which);
    TwOnReady on_ready;
    PyObject *target = self == NULL ? NULL : self->targets[slot];

    if (target == NULL || (only_if != NULL && target != only_if)) {
        return false;
    }
    Py_INCREF(self);
    on_ready = self->on_ready[slot];
    target = userfd_empty_slot(self, slot);
    self->spare &= (uint8_t)~which;
    if (userfd_wanted(self) == 0 && self->watcher != NULL) {
        (void)userfd_end(self, true);
    }
    else {
        userfd_want_or_ignore(self);
    }
    userfd_drop(target, on_ready);
    Py_DECREF(self);
    return true;
}

void
tw_userfd_done(TwLoop *loop, int fd, unsigned which, PyObject *only_if)
{
    TwUserFd *self = userfd_find(loop, fd);
    int slot = userfd_slot(which);

    if (self == NULL || self->targets[slot] != only_if) {
        return;
    }
    if (!self->queued) {
        if (tw_loop_push_step(loop, (PyObject *)self) < 0) {
            tw_call_ignore_error(); /* of the program's call_soon() */
            tw_userfd_unset(loop, fd, which, only_if);
            return;
        }
        self->queued = true;
    }
    self->spare |= (uint8_t)which;
    Py_DECREF(userfd_empty_slot(self, slot));
}

/* -- for add_reader() and the like ---------------------------------------- */

int
tw_userfd_find_object(TwLoop *loop, PyObject *obj)
{
    PyObject *number, *item;
    Py_ssize_t at = 0;

    while (loop->userfds != NULL
           && PyDict_Next(loop->userfds, &at, &number, &item)) {
        TwUserFd *self = (TwUserFd *)item;
        if (self->fileobj == obj && userfd_is_registered(self)
            && userfd_find(loop, self->fd) == self) {
            return self->fd;
        }
    }
    return -1;
}

/* The kernel's error when asyncio's selector changes what it watches of `fd`;
   `closed`: the object says that its descriptor is another one now. */
static int
userfd_change_error(int fd, bool closed)
{
    struct stat st;

    return fstat(fd, &st) < 0 ? errno : closed ? ENOENT : 0;
}

/* asyncio's selector forgets a descriptor that it fails to change.  Raises. */
static tw_status
userfd_forget(TwUserFd *self, int err)
{
    Py_INCREF(self);
    for (int i = 0; i < 2; i++) {
        if (self->on_ready[i] == NULL) {
            tw_userfd_unset(self->loop, self->fd, userfd_bits[i], NULL);
        }
    }
    Py_DECREF(self);
    tw_errno_raise(-err);
    return -1;
}

tw_status
tw_userfd_watch(TwLoop *loop, int fd, unsigned which, PyObject *obj,
                PyObject *handle)
{
    TwUserFd *self = userfd_find(loop, fd);
    bool known = self != NULL && userfd_is_registered(self);

    if (tw_userfd_set(loop, fd, which, NULL, handle, NULL) < 0) {
        return -1;
    }
    self = userfd_find(loop, fd);
    if (!known && !PyLong_Check(obj) && self != NULL
        && self->targets[userfd_slot(which)] == handle) {
        Py_XSETREF(self->fileobj, Py_NewRef(obj));
    }
    return 0;
}

tw_status
tw_userfd_watch_closed(TwLoop *loop, int fd, unsigned which, PyObject *handle)
{
    TwUserFd *self = userfd_find(loop, fd);
    int slot = userfd_slot(which);
    TwOnReady on_ready = self->on_ready[slot];
    PyObject *old;

    if (self->targets[slot] == NULL) {
        return userfd_forget(self, userfd_change_error(fd, true));
    }
    old = userfd_empty_slot(self, slot);
    self->targets[slot] = Py_NewRef(handle);
    userfd_drop(old, on_ready);
    return 0;
}

int
tw_userfd_remove(TwLoop *loop, int fd, unsigned which, bool closed)
{
    TwUserFd *self = userfd_find(loop, fd);

    if (self != NULL && self->targets[0] != NULL
        && self->targets[1] != NULL) {
        int err = userfd_change_error(fd, closed);
        if (err != 0) {
            return userfd_forget(self, err);
        }
    }
    return tw_userfd_unset(loop, fd, which, NULL);
}

/* -- the type ------------------------------------------------------------- */

static PyType_Slot userfd_slots[] = {
    {Py_tp_dealloc, tw_source_dealloc},
    {Py_tp_traverse, tw_stepper_traverse},
    {Py_tp_clear, tw_stepper_clear},
    {0, NULL},
};

static PyType_Spec userfd_spec =
    TW_TYPE_SPEC("_UserFd", TwUserFd, userfd_slots);

tw_status
tw_userfd_setup(tw_state *state, PyObject *module)
{
    return tw_state_add_type(state, &state->userfd_type, &userfd_spec, NULL,
                             0);
}
