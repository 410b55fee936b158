#include "net/process.h"

#include <unistd.h>

#include "base/sys.h"
#include "core/call.h"
#include "core/source.h"
#include "core/watcher.h"

typedef struct {
    PyObject_HEAD
    PyObject *callback; /* strong */
    PyObject *context;  /* strong: the one of the call that spawned */
    TwLoop *loop;
    PyObject *hidden;   /* strong: called instead if a tracer has the child */
    PyObject *none;     /* the head has room for four */
    const TwStepOps *ops; /* NULL: it has no step */
    TwWatcher *watcher; /* NULL once the child has ended */
    pid_t pid;
    int pidfd;          /* ours; -1 once closed */
} TwChild;

TW_CHECK_SOURCE(TwChild);

/* -- open ----------------------------------------------------------------- */

static tw_status child_on_ready(PyObject *op, unsigned events);

/* Owns `pidfd` afterwards, also after a failure. */
static TwChild *
child_new_steal(TwLoop *loop, pid_t pid, int pidfd, PyObject *const *calls)
{
    PyTypeObject *type = loop->state->process_type;
    TwChild *self = (TwChild *)type->tp_alloc(type, 0);

    if (self == NULL) {
        close(pidfd);
        return NULL;
    }
    self->pid = pid;
    self->pidfd = pidfd;
    self->loop = (TwLoop *)Py_NewRef(loop);
    self->callback = Py_NewRef(calls[0]);
    self->hidden = Py_NewRef(calls[1]);
    self->context = PyContext_CopyCurrent();
    if (self->context == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    self->watcher = tw_watcher_open(loop, pidfd, (PyObject *)self,
                                    child_on_ready, false);
    if (self->watcher == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    return self;
}

static void
child_release(TwChild *self)
{
    tw_source_unwatch(&self->watcher);
    if (self->pidfd >= 0) {
        close(self->pidfd);
        self->pidfd = -1;
    }
}

static PyObject *
process_loop_watch_child(PyObject *loop, PyObject *const *args,
                         Py_ssize_t nargs)
{
    TwChild *self;
    long pid;
    int pidfd;
    bool watched;

    if (nargs != 3) {
        PyErr_SetString(PyExc_TypeError,
                        "_watch_child(pid, callback, hidden)");
        return NULL;
    }
    pid = PyLong_AsLong(args[0]);
    if ((pid == -1 && PyErr_Occurred())
        || tw_loop_check_open((TwLoop *)loop) < 0) {
        return NULL;
    }
    pidfd = tw_sys_pidfd_open((pid_t)pid);
    if (pidfd < 0) {
        Py_RETURN_FALSE;
    }
    self = child_new_steal((TwLoop *)loop, (pid_t)pid, pidfd, args + 1);
    if (self == NULL) {
        return NULL;
    }
    watched = tw_watcher_want_now(self->watcher, TW_EV_READ) == 0;
    if (!watched) {
        child_release(self);
    }
    Py_DECREF(self); /* its watcher owns it */
    return PyBool_FromLong(watched);
}

/* -- end ------------------------------------------------------------------ */

static tw_status
child_on_ready(PyObject *op, unsigned Py_UNUSED(events))
{
    TwChild *self = (TwChild *)op;
    TwLoop *loop = self->loop;
    PyObject *argv[2] = {NULL, NULL}, *done = NULL;
    int code = 0, waited = tw_sys_wait_child(self->pidfd, self->pid, &code);

    child_release(self);
    argv[1] = waited == 1 ? PyLong_FromLong(code) : Py_NewRef(Py_None);
    if (argv[1] != NULL) {
        done = waited == 0
                   ? tw_call(loop, self->context, self->hidden, argv + 1, 0)
                   : tw_call(loop, self->context, self->callback, argv + 1, 1);
        Py_DECREF(argv[1]);
    }
    return tw_status_steal(done) < 0
               ? tw_call_report(loop,
                                "Exception in a child process's callback",
                                NULL, NULL)
               : 0;
}

/* -- type ----------------------------------------------------------------- */

static void
child_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    child_release((TwChild *)op);
    tw_source_dealloc(op);
}

static PyType_Slot child_slots[] = {
    {Py_tp_dealloc, child_dealloc},
    {Py_tp_traverse, tw_stepper_traverse},
    {Py_tp_clear, tw_stepper_clear},
    {0, NULL},
};

static PyType_Spec child_spec = TW_TYPE_SPEC("Child", TwChild, child_slots);

tw_status
tw_process_setup(tw_state *state, PyObject *Py_UNUSED(module))
{
    return tw_state_add_type(state, &state->process_type, &child_spec, NULL,
                             false);
}

PyMethodDef tw_process_loop_methods[] = {
    {"_watch_child", TW_FAST(process_loop_watch_child), METH_FASTCALL,
     PyDoc_STR(
"_watch_child($self, pid, callback, hidden, /)\n--\n\n"
"Call callback(returncode) when the child has ended; the code is None if\n"
"somebody else waited for it.  hidden() instead, if it has ended but a\n"
"tracer must wait for it first.  False: there is no pidfd, or it cannot\n"
"be watched.  In both cases: use a thread.")},
    {NULL},
};
