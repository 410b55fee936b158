#include "net/process.h"

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* P_PIDFD of waitid(2), which glibc names since 2.36. */
#define CHILD_P_PIDFD ((idtype_t)3)

/* -- open ----------------------------------------------------------------- */

static int
child_open_pidfd(pid_t pid)
{
#ifdef SYS_pidfd_open
    return (int)syscall(SYS_pidfd_open, pid, 0);
#else
    (void)pid;
    errno = ENOSYS;
    return -1;
#endif
}

/* waitid(2) takes pidfds since Linux 5.4, pidfd_open(2) came in 5.3. */
static bool
child_can_wait(int pidfd)
{
    siginfo_t info;

    if (waitid(CHILD_P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG | WNOWAIT)
            == 0
        || errno != EINVAL) {
        return true;
    }
    close(pidfd);
    return false;
}

static tw_status child_on_ready(PyObject *op, unsigned events);

/* Takes over `pidfd`, also when it fails. */
static TwChild *
child_new_steal(TwLoop *loop, int pidfd, PyObject *callback)
{
    PyTypeObject *type = loop->state->process_type;
    TwChild *self = (TwChild *)type->tp_alloc(type, 0);

    if (self == NULL) {
        close(pidfd);
        return NULL;
    }
    self->pidfd = pidfd;
    self->loop = (TwLoop *)Py_NewRef(loop);
    self->callback = Py_NewRef(callback);
    self->context = PyContext_CopyCurrent();
    if (self->context == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    self->watcher = tw_watcher_open(loop, pidfd, (PyObject *)self,
                                    child_on_ready, false);
    if (self->watcher == NULL
        || tw_watcher_want(self->watcher, TW_EV_READ) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return self;
}

const char tw_process_doc_watch_child[] =
    "_watch_child($self, pid, callback, /)\n--\n\n"
    "Call callback(returncode) when the child has ended; the code is None if\n"
    "somebody else waited for it.  False: no pidfd, use a thread.";

PyObject *
tw_process_loop_watch_child(PyObject *loop, PyObject *const *args,
                            Py_ssize_t nargs)
{
    TwChild *self;
    long pid;
    int pidfd;

    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "_watch_child(pid, callback)");
        return NULL;
    }
    pid = PyLong_AsLong(args[0]);
    if ((pid == -1 && PyErr_Occurred())
        || tw_loop_check_open((TwLoop *)loop) < 0) {
        return NULL;
    }
    pidfd = child_open_pidfd((pid_t)pid);
    if (pidfd < 0 || !child_can_wait(pidfd)) {
        Py_RETURN_FALSE;
    }
    self = child_new_steal((TwLoop *)loop, pidfd, args[1]);
    if (self == NULL) {
        return NULL;
    }
    Py_DECREF(self); /* its watcher owns it */
    Py_RETURN_TRUE;
}

/* -- end ------------------------------------------------------------------ */

static void
child_release(TwChild *self)
{
    TwWatcher *w = TW_TAKE(self->watcher);

    if (w != NULL) {
        tw_watcher_close(w);
    }
    if (self->pidfd >= 0) {
        close(self->pidfd);
        self->pidfd = -1;
    }
}

/* Take the child's status: 1; 0 if it still runs; -1 if somebody else took
   it.  By the descriptor, since the number may belong to another child by
   now.  asyncio's return codes: negative for a signal. */
static int
child_wait(TwChild *self, int *code)
{
    siginfo_t info = {0};
    int got;

    do {
        got = waitid(CHILD_P_PIDFD, (id_t)self->pidfd, &info,
                     WEXITED | WNOHANG);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return errno == EAGAIN ? 0 : -1;
    }
    if (info.si_pid == 0) {
        return 0;
    }
    *code = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
    return 1;
}

static PyObject *
child_code(int waited, int code)
{
    return waited == 1 ? PyLong_FromLong(code) : Py_NewRef(Py_None);
}

static tw_status
child_on_ready(PyObject *op, unsigned Py_UNUSED(events))
{
    TwChild *self = (TwChild *)op;
    TwLoop *loop = self->loop;
    PyObject *argv[2] = {NULL, NULL}, *done = NULL;
    int code = 0, waited = child_wait(self, &code);

    if (waited == 0) {
        return 0;
    }
    child_release(self);
    argv[1] = child_code(waited, code);
    if (argv[1] != NULL) {
        done = tw_call(loop, self->context, self->callback, argv + 1, 1);
        Py_DECREF(argv[1]);
    }
    if (done == NULL) {
        return tw_call_report(loop, "Exception in a child process's callback",
                              NULL, NULL);
    }
    Py_DECREF(done);
    return 0;
}

/* -- type ----------------------------------------------------------------- */

static int
child_traverse(PyObject *op, visitproc visit, void *arg)
{
    TwChild *self = (TwChild *)op;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->loop);
    Py_VISIT(self->callback);
    Py_VISIT(self->context);
    return 0;
}

static int
child_clear(PyObject *op)
{
    TwChild *self = (TwChild *)op;

    Py_CLEAR(self->callback);
    Py_CLEAR(self->context);
    return 0;
}

static void
child_dealloc(PyObject *op)
{
    TwChild *self = (TwChild *)op;
    PyTypeObject *type = Py_TYPE(op);

    PyObject_GC_UnTrack(op);
    child_release(self);
    child_clear(op);
    Py_CLEAR(self->loop);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyType_Slot child_slots[] = {
    {Py_tp_dealloc, child_dealloc},
    {Py_tp_traverse, child_traverse},
    {Py_tp_clear, child_clear},
    {0, NULL},
};

static PyType_Spec child_spec = {
    .name = "tidewire._core.Child",
    .basicsize = sizeof(TwChild),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = child_slots,
};

tw_status
tw_process_setup(tw_state *state, PyObject *Py_UNUSED(module))
{
    return tw_state_add_type(state, &state->process_type, &child_spec, NULL,
                             false);
}
