/* The methods and slots of the Python type, for the table in csrc/loop_type.c.
   Contracts of the methods are asyncio's; see their docstrings. */
#pragma once

#include "core/loop.h"

/* core/loop_life.c */
PyObject *tw_loop_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);
int tw_loop_traverse(PyObject *self, visitproc visit, void *arg);
int tw_loop_clear(PyObject *self);
void tw_loop_dealloc(PyObject *self);
PyObject *tw_loop_meth_open(PyObject *self, PyObject *args);
PyObject *tw_loop_meth_signal_fd(PyObject *self, PyObject *unused);
PyObject *tw_loop_meth_note_signal(PyObject *self, PyObject *number);

/* core/loop_attrs.c: what BaseEventLoop assigns. */
extern PyGetSetDef tw_loop_getset[];

/* core/loop_run.c */
PyObject *tw_loop_meth_run_turns(PyObject *self, PyObject *future);
PyObject *tw_loop_meth_shut(PyObject *self, PyObject *unused);
PyObject *tw_loop_meth_flush_held(PyObject *self, PyObject *unused);
PyObject *tw_loop_meth_after_fork(PyObject *self, PyObject *unused);
PyObject *tw_loop_meth_stop(PyObject *self, PyObject *unused);
PyObject *tw_loop_meth_is_running(PyObject *self, PyObject *unused);
PyObject *tw_loop_meth_is_closed(PyObject *self, PyObject *unused);
PyObject *tw_loop_meth_get_debug(PyObject *self, PyObject *unused);

/* core/nest.c */
PyObject *tw_loop_meth_run_nested(PyObject *self, PyObject *future);

/* core/loop_sched.c */
PyObject *tw_loop_meth_time(PyObject *self, PyObject *unused);
PyObject *tw_loop_meth_call_soon(PyObject *self, PyObject *const *args,
                                 Py_ssize_t nargs, PyObject *kwnames);
PyObject *tw_loop_meth_call_soon_threadsafe(PyObject *self,
                                            PyObject *const *args,
                                            Py_ssize_t nargs,
                                            PyObject *kwnames);
PyObject *tw_loop_meth_call_later(PyObject *self, PyObject *const *args,
                                  Py_ssize_t nargs, PyObject *kwnames);
PyObject *tw_loop_meth_call_at(PyObject *self, PyObject *const *args,
                               Py_ssize_t nargs, PyObject *kwnames);
extern const char tw_loop_doc_time[], tw_loop_doc_call_soon[],
    tw_loop_doc_call_soon_threadsafe[], tw_loop_doc_call_later[],
    tw_loop_doc_call_at[];

/* core/future.c */
PyObject *tw_loop_meth_create_future(PyObject *self, PyObject *unused);
PyObject *tw_loop_meth_create_task(PyObject *self, PyObject *const *args,
                                   Py_ssize_t nargs, PyObject *kwnames);
extern const char tw_loop_doc_create_future[], tw_loop_doc_create_task[];
