/* The methods and slots of the Python type, for csrc/loop_type.c.  Contracts
   of the methods are asyncio's; see their docstrings. */
#pragma once

#include "core/loop.h"

/* core/loop_life.c */
PyObject *tw_loop_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);
int tw_loop_traverse(PyObject *self, visitproc visit, void *arg);
int tw_loop_clear(PyObject *self);
void tw_loop_dealloc(PyObject *self);

/* core/loop_attrs.c: what BaseEventLoop assigns. */
extern PyGetSetDef tw_loop_getset[];

/* csrc/loop_type.c */
TW_MUSTCHECK tw_status tw_loop_type_setup(tw_state *state, PyObject *module);

/* Methods of the loop; csrc/loop_type.c has the list of all such tables. */
extern PyMethodDef tw_loop_life_methods[], tw_loop_run_methods[],
    tw_loop_sched_methods[], tw_nest_loop_methods[], tw_future_loop_methods[];
