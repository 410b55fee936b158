/* What the program itself watches: add_reader(), add_writer(), and the
   awaitable socket operations (ops/sock_op.h).

   Every such descriptor has one TwUserFd with two slots, for reading and for
   writing, as an asyncio selector key has.  A slot holds a Handle, or any
   object and a function that is called when the descriptor is ready.  Setting
   a slot evicts what was in it.

   Between two operations on one socket the watcher stays armed: an operation
   that ends with tw_userfd_done() leaves its slot empty, and what was queued
   before (the task that it woke) may fill it again before epoll hears of it.
   Not for a descriptor that is likely to be closed next: if another one
   shares its open file, epoll would go on reporting it, for ever.

   Descriptors are the program's: it may close one and reuse the number at
   any moment.  `key` says whose it is (the socket object; NULL: unknown): a
   slot taken with another key has epoll asked anew.

   Ownership.  The loop owns the TwUserFd of each descriptor number until a
   transport takes the number or the loop is closed; a TwUserFd owns what is in
   its slots.  All functions need the loop's thread (or a loop that stands
   still) and the GIL. */
#pragma once

#include "core/source.h"
#include "core/watcher.h"

/* asyncio's _ensure_fd_no_transport: RuntimeError if an open transport uses
   `fd`; `shown` is what the message names (NULL: the number). */
TW_MUSTCHECK tw_status tw_userfd_check_fd(TwLoop *loop, int fd,
                                          PyObject *shown);

/* Call on_ready(target, events) while `fd` is ready for `which` (TW_EV_READ
   or TW_EV_WRITE), until the slot is emptied.  Target and key are
   borrowed and kept strong.  -1: loop closed, or no such descriptor. */
TW_MUSTCHECK tw_status tw_userfd_set(TwLoop *loop, int fd, unsigned which,
                                     PyObject *key, PyObject *target,
                                     TwOnReady on_ready);

/* Empty the slot, if it holds `only_if` (NULL: anything), and update the
   poller at once: the descriptor may be closed next.  True: it was full. */
bool tw_userfd_unset(TwLoop *loop, int fd, unsigned which, PyObject *only_if);

/* The same, called from on_ready by a target that got what it waited for:
   the watcher stays armed for the next one, see above. */
void tw_userfd_done(TwLoop *loop, int fd, unsigned which, PyObject *only_if);

/* For add_reader() and its kin, where asyncio's selector knows a descriptor
   by its number and by the object that it was first named by, closed or not.

   The descriptor that is watched for `obj`, or -1. */
int tw_userfd_find_object(TwLoop *loop, PyObject *obj);

/* tw_userfd_set() of a Handle for `fd`, which the program named as `obj`. */
TW_MUSTCHECK tw_status tw_userfd_watch(TwLoop *loop, int fd, unsigned which,
                                       PyObject *obj, PyObject *handle);

/* The same where tw_userfd_find_object() gave `fd` for a closed object: only
   replaces, else OSError, and nothing is watched. */
TW_MUSTCHECK tw_status tw_userfd_watch_closed(TwLoop *loop, int fd,
                                              unsigned which,
                                              PyObject *handle);

/* tw_userfd_unset(): 1 or 0.  Or -1 with OSError: reader and writer were set,
   the descriptor was closed, and both are gone. */
int tw_userfd_remove(TwLoop *loop, int fd, unsigned which, bool closed);

/* net/userfd_methods.c */
PyObject *tw_userfd_loop_add_reader(PyObject *loop, PyObject *const *args,
                                    Py_ssize_t nargs, PyObject *kwnames);
PyObject *tw_userfd_loop_add_writer(PyObject *loop, PyObject *const *args,
                                    Py_ssize_t nargs, PyObject *kwnames);
PyObject *tw_userfd_loop_remove_reader(PyObject *loop, PyObject *const *args,
                                       Py_ssize_t nargs, PyObject *kwnames);
PyObject *tw_userfd_loop_remove_writer(PyObject *loop, PyObject *const *args,
                                       Py_ssize_t nargs, PyObject *kwnames);
/* asyncio's private twins, without keywords; these add return the Handle. */
PyObject *tw_userfd_loop_private_add_reader(PyObject *loop,
                                            PyObject *const *args,
                                            Py_ssize_t nargs);
PyObject *tw_userfd_loop_private_add_writer(PyObject *loop,
                                            PyObject *const *args,
                                            Py_ssize_t nargs);
PyObject *tw_userfd_loop_private_remove_reader(PyObject *loop, PyObject *fd);
PyObject *tw_userfd_loop_private_remove_writer(PyObject *loop, PyObject *fd);
PyObject *tw_userfd_loop_ensure_no_transport(PyObject *loop, PyObject *fd);

extern const char tw_userfd_doc_add_reader[], tw_userfd_doc_add_writer[],
    tw_userfd_doc_remove_reader[], tw_userfd_doc_remove_writer[];

TW_MUSTCHECK tw_status tw_userfd_setup(tw_state *state, PyObject *module);
