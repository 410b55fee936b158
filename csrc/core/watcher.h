/* A watcher: one descriptor, what is wanted of it, one owner.

   tw_watcher_want() notes what is wanted, and the poller (core/poller.h) hears
   of it right before the next poll: changes of one turn cost nothing if they
   cancel out.

   A poller may refuse a descriptor.  There is one way for that to reach the
   owner: on_ready() with TW_EV_BAD, and the errno in `refused`.  But where
   only room lacks (ENOSPC, ENOMEM), the descriptor is good: the loop's
   exception handler hears of it once, the watcher stays in `changed`, and
   each poll tries again.  Who must know at once calls tw_watcher_arm().

   Ownership: while it wants something, the watcher owns its owner (strong,
   and the loop traverses it); otherwise it is borrowed, and the owner closes
   the watcher when it goes away.  Descriptors are never closed here. */
#pragma once

#include "core/loop.h"
#include "core/poller.h"

/* Beside the poller's events: */
#define TW_EV_BAD 8u    /* the descriptor is no (pollable) descriptor */
#define TW_EV_LACKS 16u /* the poller has no room for it at present */

/* Called in the turn, with a strong reference to `owner` held, outside any
   context.  -1 (exception set) only for what must leave the loop. */
typedef tw_status (*TwOnReady)(PyObject *owner, unsigned events);

struct TwWatcher {
    TwLoop *loop;       /* borrowed: valid while it is in the loop's table */
    PyObject *owner;    /* strong while want != 0, else borrowed */
    TwOnReady on_ready;
    bool (*is_stale)(PyObject *owner); /* or NULL: was the fd closed? */
    int fd;             /* -1: the loop was closed, or it was given up */
    int refused;        /* the poller's errno; 0: not refused, or given up */
    uint8_t want;       /* TW_EV_READ | TW_EV_WRITE */
    uint8_t armed;      /* what the poller watches it for; 0: it does not */
    uint8_t got;        /* what the last poll brought */
    bool transport;     /* the owner is a TwTransport */
    uint32_t in_watchers, in_due, in_changed; /* places, see base/vec.h */
};

/* Make a watcher for `fd`.  NULL with MemoryError, or RuntimeError if a
   transport watches that descriptor already, or the loop is closed.
   `transport`: the owner is a TwTransport.  The descriptor's blocking mode is
   left alone. */
TwWatcher *tw_watcher_open(TwLoop *loop, int fd, PyObject *owner,
                           TwOnReady on_ready, bool transport);

/* Want these events from the next poll on (0: none).  Any thread with the
   GIL.  Fails (-1) only for lack of memory. */
TW_MUSTCHECK tw_status tw_watcher_want(TwWatcher *w, unsigned events);

/* Have the poller watch it now.  0 or a negative errno, for the caller to
   deal with; it will be tried again at the next poll. */
TW_MUSTCHECK tw_uverr tw_watcher_arm(TwWatcher *w);

/* Pass it to the poller at the next poll even if nothing seems to have
   changed: the descriptor may be another one under the same number. */
TW_MUSTCHECK tw_status tw_watcher_rearm(TwWatcher *w);

/* Would the poller accept the descriptor?  It does not watch it afterwards,
   if it did not before. */
TW_MUSTCHECK tw_uverr tw_watcher_probe(TwLoop *loop, int fd);

/* The reason of TW_EV_BAD, a negative errno. */
tw_uverr tw_watcher_error(const TwWatcher *w);

/* Want nothing, and have the poller forget it now: for descriptors that the
   program may close as soon as we return. */
void tw_watcher_stop_now(TwWatcher *w);

/* Stop for good and free it.  Never runs Python, except that the reference
   to the owner is released (do it last). */
void tw_watcher_close(TwWatcher *w);

/* The watcher of a descriptor, borrowed, or NULL. */
TwWatcher *tw_watcher_of_fd(TwLoop *loop, int fd);

/* The same if its owner does not say that the descriptor was closed.  Asks a
   method of the program's: other watchers may come and go meanwhile. */
TwWatcher *tw_watcher_live(TwLoop *loop, int fd);

/* The owner finds that the descriptor number means something else by now
   (the program closed it behind our back): it is watched no more, and
   on_ready is called with TW_EV_BAD in the next turn. */
void tw_watcher_invalidate(TwWatcher *w);

/* -- for the loop -- */

/* The watcher's descriptor has another number from now on, in a poller that
   was renewed.  0 or -ENOMEM. */
TW_MUSTCHECK tw_uverr tw_watcher_renumber(TwWatcher *w, int fd);

/* Watch all descriptors again: the poller was renewed. */
void tw_watcher_rewatch(TwLoop *loop);

/* Let go of every watcher and its owner (the loop is being closed, or
   collected).  Owners may still hold their pointers. */
void tw_watcher_close_all(TwLoop *loop);

/* Pass the noted changes to the poller. */
void tw_watcher_apply_changes(TwLoop *loop);

/* Fill loop->due from the first `n` of what the poller has found ready.  Runs
   no Python. */
void tw_watcher_collect(TwLoop *loop, int n);

/* Run what became due.  -1: an exception leaves the loop; the rest of the
   list stays for the next turn. */
TW_MUSTCHECK tw_status tw_watcher_run_due(TwLoop *loop);
