/* For the stream's own files only: methods that the table in net/stream.c
   names, and shared functions. */
#pragma once

#include "net/stream.h"

PyObject *tw_stream_meth_write(PyObject *self, PyObject *const *args,
                               Py_ssize_t nargs, PyObject *kwnames);
PyObject *tw_stream_meth_writelines(PyObject *self, PyObject *const *args,
                                    Py_ssize_t nargs, PyObject *kwnames);
PyObject *tw_stream_meth_write_eof(PyObject *self, PyObject *unused);
PyObject *tw_stream_meth_make_empty_waiter(PyObject *self, PyObject *unused);
PyObject *tw_stream_meth_reset_empty_waiter(PyObject *self,
                                            PyObject *unused);

/* Resolve the waiter for an empty queue, if there is one: with `exc`, or with
   None. */
void tw_stream_settle_waiter(TwStream *self, PyObject *exc);

/* The connection is lost: fail the waiter of sendfile, if there is one. */
void tw_stream_write_lost(TwStream *self);
