/* loop.stats(): the loop's counters (core/metrics.h), as a dict.  It is in
   this room because it asks the transports how much they have to send. */
#pragma once

#include "core/loop.h"

PyObject *tw_stats_loop_meth_stats(PyObject *self, PyObject *const *args,
                                   Py_ssize_t nargs, PyObject *kwnames);
extern const char tw_stats_doc[];

/* _count(name, n=1, ns=0): for work that is done in Python. */
PyObject *tw_stats_loop_meth_count(PyObject *self, PyObject *args);

/* The bounds of histograms. */
TW_MUSTCHECK tw_status tw_stats_setup(tw_state *state, PyObject *module);
