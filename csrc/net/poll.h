/* add_reader, add_writer, and whatever else waits for a descriptor of the
   program's own: one watcher per descriptor with two places, one for reading
   and one for writing.

   A place holds either a Handle (add_reader) or an object with a function of
   its own (the sock_* operations).  What is put into a place replaces, and
   cancels, what was there, as asyncio does.  When both are empty the watcher
   is closed at once: the program may close the descriptor right after. */
#pragma once

#include "core/watcher.h"

/* Put `target` (kept strong) into the place `which` (TW_EV_READ or
   TW_EV_WRITE) of descriptor `fd`.  on_ready NULL: target is a Handle.
   RuntimeError if an open transport watches `fd`, PermissionError for a file
   that cannot be polled, OSError for a bad descriptor. */
TW_MUSTCHECK tw_status tw_poll_set(TwLoop *loop, int fd, unsigned which,
                                   PyObject *target, TwOnReady on_ready);

/* Empty the place if it holds `only` (NULL: whatever it holds).  A Handle is
   cancelled.  True if there was something. */
bool tw_poll_unset(TwLoop *loop, int fd, unsigned which, PyObject *only);

/* The descriptor of an int or of an object with fileno(): ValueError like
   selectors'; RuntimeError if an open transport uses it.  -1. */
int tw_poll_fd_of(TwLoop *loop, PyObject *obj);

PyObject *tw_poll_loop_add_reader(PyObject *loop, PyObject *const *args,
                                  Py_ssize_t nargs);
PyObject *tw_poll_loop_add_writer(PyObject *loop, PyObject *const *args,
                                  Py_ssize_t nargs);
PyObject *tw_poll_loop_remove_reader(PyObject *loop, PyObject *fd);
PyObject *tw_poll_loop_remove_writer(PyObject *loop, PyObject *fd);
/* asyncio's private twins: they return the Handle, and take a number only. */
PyObject *tw_poll_loop_private_add_reader(PyObject *loop,
                                          PyObject *const *args,
                                          Py_ssize_t nargs);
PyObject *tw_poll_loop_private_add_writer(PyObject *loop,
                                          PyObject *const *args,
                                          Py_ssize_t nargs);
PyObject *tw_poll_loop_ensure_no_transport(PyObject *loop, PyObject *fd);

extern const char tw_poll_doc_add_reader[], tw_poll_doc_add_writer[],
    tw_poll_doc_remove_reader[], tw_poll_doc_remove_writer[];

TW_MUSTCHECK tw_status tw_poll_setup(tw_state *state, PyObject *module);
