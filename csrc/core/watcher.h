/* A watcher: one descriptor, one uv_poll_t, one owner.

   libuv's callback only links the watcher into loop->due; the turn then
   calls `on_ready` of its owner.  What is wanted is noted (tw_watcher_want)
   and applied by the loop's thread right before it polls: changes of one
   turn cost nothing if they cancel out, and other threads never touch libuv.
   libuv hears of a descriptor for the first time there, too.

   Ownership: while it wants something, the watcher owns its owner (strong,
   and the loop traverses it); otherwise it is borrowed, and the owner closes
   the watcher when it goes away.  The memory is the watcher's own: it
   outlives the owner until libuv has let go of it.  Descriptors are never
   closed here.

   Before libuv sees a changed watcher its descriptor is tested (libuv aborts
   the process when epoll_ctl fails): a bad one is stopped, and on_ready is
   called with TW_EV_BAD. */
#pragma once

#include <uv.h>

#include "core/loop.h"

#define TW_EV_READ 1u
#define TW_EV_WRITE 2u
#define TW_EV_ERROR 4u /* POLLERR: do the I/O once for the true errno */
#define TW_EV_BAD 8u   /* the descriptor is no (pollable) descriptor */

/* Called in the turn, with a strong reference to `owner` held, outside any
   context.  -1 (exception set) only for what must leave the loop. */
typedef tw_status (*TwOnReady)(PyObject *owner, unsigned events);

struct TwWatcher {
    uv_poll_t poll;
    TwLoop *loop;       /* borrowed: the loop closes its watchers first */
    PyObject *owner;    /* strong while want != 0, else borrowed */
    TwOnReady on_ready;
    bool (*is_stale)(PyObject *owner); /* or NULL: was the fd closed? */
    int fd;
    _Atomic uint8_t refs; /* the owner's pointer, and libuv: free at 0 */
    uint8_t want;       /* TW_EV_READ | TW_EV_WRITE */
    uint8_t armed;      /* what libuv was told */
    uint8_t got;        /* what the last poll brought */
    bool known;         /* libuv has it: uv_poll_init was done */
    bool closing;       /* tw_watcher_close() was called */
    bool user_fd;       /* the program's own: keep its blocking mode */
    bool transport;     /* add_reader & co. must keep off */
    uint32_t in_watchers, in_due, in_changed; /* places, see base/vec.h */
};

/* Make a watcher for `fd`.  NULL with MemoryError, or RuntimeError if a
   transport watches that descriptor already.  `transport`: the owner is a
   transport (and the descriptor is non-blocking); else the descriptor is the
   program's own, and keeps its blocking mode. */
TwWatcher *tw_watcher_open(TwLoop *loop, int fd, PyObject *owner,
                           TwOnReady on_ready, bool transport);

/* Want these events from the next poll on (0: none).  Any thread with the
   GIL.  Fails (-1) only for lack of memory. */
TW_MUSTCHECK tw_status tw_watcher_want(TwWatcher *w, unsigned events);

/* Tell libuv anew at the next poll even if nothing seems to have changed:
   the descriptor may be another one under the same number. */
TW_MUSTCHECK tw_status tw_watcher_rearm(TwWatcher *w);

/* Want nothing, and tell libuv now: for descriptors that the program may
   close as soon as we return. */
void tw_watcher_stop_now(TwWatcher *w);

/* Stop for good; `w` is gone for the caller.  Never runs Python, except
   that the reference to the owner is released (do it last). */
void tw_watcher_close(TwWatcher *w);

/* The watcher of a descriptor, borrowed, or NULL. */
TwWatcher *tw_watcher_of_fd(TwLoop *loop, int fd);

/* The owner finds that the descriptor number means something else by now
   (the program closed it behind our back): libuv lets go of it at once, and
   on_ready is called with TW_EV_BAD in the next turn. */
void tw_watcher_give_up(TwWatcher *w);

/* -- for the turn -- */

/* Let go of every watcher and its owner (the loop is being closed, or
   collected).  Owners may still hold their pointers. */
void tw_watcher_close_all(TwLoop *loop);

/* Apply the noted changes to libuv. */
void tw_watcher_apply_changes(TwLoop *loop);

/* Run what became due.  -1: an exception leaves the loop; the rest of the
   list stays for the next turn. */
TW_MUSTCHECK tw_status tw_watcher_run_due(TwLoop *loop);
