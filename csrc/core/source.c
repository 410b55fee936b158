#include "core/source.h"

#include "core/watcher.h"

int
tw_stepper_traverse(PyObject *op, visitproc visit, void *arg)
{
    TwStepper *self = (TwStepper *)op;

    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->first[0]);
    Py_VISIT(self->first[1]);
    Py_VISIT(self->loop);
    Py_VISIT(self->last[0]);
    Py_VISIT(self->last[1]);
    return 0;
}

int
tw_stepper_clear(PyObject *op)
{
    TwStepper *self = (TwStepper *)op;

    Py_CLEAR(self->first[0]);
    Py_CLEAR(self->first[1]);
    Py_CLEAR(self->last[0]);
    Py_CLEAR(self->last[1]);
    return 0;
}

void
tw_stepper_free(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);

    Py_CLEAR(((TwStepper *)op)->loop);
    type->tp_free(op);
    Py_DECREF(type);
}

void
tw_source_unwatch(TwWatcher **watcher)
{
    TwWatcher *w = TW_TAKE(*watcher);

    if (w != NULL) {
        tw_watcher_close(w);
    }
}

void
tw_source_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    tw_source_unwatch(&((TwSource *)op)->watcher);
    Py_TYPE(op)->tp_clear(op);
    tw_stepper_free(op);
}
