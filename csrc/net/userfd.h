/* Descriptors that the program itself watches: add_reader(), add_writer(), and
   the awaitable socket operations (ops/sock_op.h).

   Every such descriptor has one TwUserFd with two slots, for reading and for
   writing, as an asyncio selector key has.  A slot holds a Handle, or any
   object and a function that is called when the descriptor is ready.  Setting
   a slot evicts its target.

   Between two operations on one socket the watcher stays armed: an operation
   that ends with tw_userfd_done() leaves its slot empty, and what was queued
   before (the task that it woke) may fill it again before epoll is changed.
   Not for a descriptor that is likely to be closed next: if another one shares
   its open file, epoll would report it for ever.

   Descriptors belong to the program: it may close one and reuse the number at
   any moment.  `key` is the owner (the socket object; NULL: unknown): setting
   a slot with another key makes the poller watch the descriptor anew.

   Ownership.  The loop owns the TwUserFd of each descriptor number until a
   transport is made on that number or the loop is closed.  A TwUserFd owns
   what is in its slots.  All functions need the loop's thread (or a loop that
   does not run) and the GIL. */
#pragma once

#include "core/source.h"
#include "core/watcher.h"

/* asyncio's _ensure_fd_no_transport: RuntimeError if an open transport uses
   `fd`; `shown` is the object in the message (NULL: the number). */
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

/* The same, called from on_ready by a target that is done: the watcher stays
   armed for the next one, see above. */
void tw_userfd_done(TwLoop *loop, int fd, unsigned which, PyObject *only_if);

/* For add_reader() and the like.  asyncio's selector knows a descriptor by its
   number and by the object that first named it, closed or not.

   Returns the descriptor that is watched for `obj`, or -1. */
int tw_userfd_find_object(TwLoop *loop, PyObject *obj);

/* tw_userfd_set() of a Handle for `fd`, which the program named as `obj`. */
TW_MUSTCHECK tw_status tw_userfd_watch(TwLoop *loop, int fd, unsigned which,
                                       PyObject *obj, PyObject *handle);

/* The same where tw_userfd_find_object() returned `fd` for a closed object:
   only replaces a handle, else OSError, and nothing is watched. */
TW_MUSTCHECK tw_status tw_userfd_watch_closed(TwLoop *loop, int fd,
                                              unsigned which,
                                              PyObject *handle);

/* tw_userfd_unset(): 1 or 0.  Or -1 with OSError: reader and writer were set,
   the descriptor was closed, and both are gone. */
int tw_userfd_remove(TwLoop *loop, int fd, unsigned which, bool closed);

/* net/userfd_methods.c: add_reader() and the like. */
extern PyMethodDef tw_userfd_loop_methods[];

TW_MUSTCHECK tw_status tw_userfd_setup(tw_state *state, PyObject *module);
