/* A watcher: one descriptor, the wanted events, one owner.

   tw_watcher_want() notes the wanted events.  The poller (core/poller.h) gets
   them right before the next poll, so that changes of one turn that cancel
   each other out cost nothing.

   A poller may refuse a descriptor.  The owner then gets on_ready() with
   TW_EV_BAD, and the errno is in `refused`.  If the kernel only lacks room
   (ENOSPC, ENOMEM), the descriptor is good: the loop's exception handler is
   called once, the watcher stays in `changed`, and each poll tries again.  A
   caller that needs the answer at once calls tw_watcher_want_now().

   Ownership: while it wants an event, the watcher owns its owner (strong, and
   the loop traverses it).  Otherwise the owner is borrowed, and closes the
   watcher before it is freed.  Descriptors are never closed here. */
#pragma once

#include "core/loop.h"
#include "core/poller.h"

/* Beside the poller's events: */
#define TW_EV_BAD 8u    /* the descriptor is closed or cannot be polled */
#define TW_EV_NO_ROOM 16u /* the poller has no room for it at present */

/* Called in the turn, with a strong reference to `owner` held, outside any
   context.  -1 (exception set) only for what must leave the loop. */
typedef tw_status (*TwOnReady)(PyObject *owner, unsigned events);

struct TwWatcher {
    TwLoop *loop;       /* borrowed: valid while it is in the loop's table */
    PyObject *owner;    /* strong while want != 0, else borrowed */
    TwOnReady on_ready;
    bool (*is_stale)(PyObject *owner); /* or NULL: was the descriptor
                                          closed? */
    int fd;             /* -1: the loop was closed, or the number refers to
                           another descriptor */
    int refused;        /* the poller's errno; 0: not refused */
    uint8_t want;       /* TW_EV_READ | TW_EV_WRITE */
    uint8_t armed;      /* what the poller watches it for; 0: nothing */
    uint8_t got;        /* what the last poll brought */
    bool transport;     /* the owner is a TwTransport */
    uint32_t in_watchers, in_writers, in_due, in_changed; /* base/vec.h */
};

/* Make a watcher for `fd`.  NULL with MemoryError, or with RuntimeError if a
   transport watches that descriptor already, or the loop is closed.
   `transport`: the owner is a TwTransport.  The descriptor's blocking mode is
   not changed. */
TwWatcher *tw_watcher_open(TwLoop *loop, int fd, PyObject *owner,
                           TwOnReady on_ready, bool transport);

/* Want these events from the next poll on (0: none).  Any thread with the
   GIL.  Fails (-1) only for lack of memory. */
TW_MUSTCHECK tw_status tw_watcher_want(TwWatcher *w, unsigned events);

/* The same from now on.  0, or a negative errno that the caller handles; the
   next poll tries again. */
TW_MUSTCHECK tw_uverr tw_watcher_want_now(TwWatcher *w, unsigned events);

/* Pass it to the poller at the next poll even if nothing seems to have
   changed: the number may refer to another descriptor by now. */
TW_MUSTCHECK tw_status tw_watcher_rearm(TwWatcher *w);

/* Would the poller accept the descriptor?  This does not change what it
   watches. */
TW_MUSTCHECK tw_uverr tw_watcher_probe(TwLoop *loop, int fd);

/* The reason of TW_EV_BAD, a negative errno. */
tw_uverr tw_watcher_error(const TwWatcher *w);

/* These events, of those that are wanted, have come: on_ready() is called in
   the next turn, whatever the poller says. */
void tw_watcher_rouse(TwWatcher *w, unsigned events);

/* Want nothing, and make the poller forget it now: the program may close the
   descriptor as soon as we return. */
void tw_watcher_stop_now(TwWatcher *w);

/* Stop for good and free it.  Runs no Python, except that the reference to the
   owner is released: call it last. */
void tw_watcher_close(TwWatcher *w);

/* The watcher of a descriptor, borrowed, or NULL. */
TwWatcher *tw_watcher_of_fd(TwLoop *loop, int fd);

/* The same, or NULL if its owner says that the descriptor was closed.  Calls a
   method of the program: other watchers may be opened and closed meanwhile. */
TwWatcher *tw_watcher_live(TwLoop *loop, int fd);

/* -- for the loop -- */

/* The watcher's descriptor has another number from now on, in a renewed
   poller.  0 or -ENOMEM. */
TW_MUSTCHECK tw_uverr tw_watcher_renumber(TwWatcher *w, int fd);

/* Watch all descriptors again: the poller was renewed. */
void tw_watcher_rewatch(TwLoop *loop);

/* Close every watcher and release its owner: the loop is being closed, or
   collected.  Owners may still have their pointers. */
void tw_watcher_close_all(TwLoop *loop);

/* Pass the changes to the poller. */
void tw_watcher_apply_changes(TwLoop *loop);

/* Fill loop->due from the first `n` results of the poller.  Runs no Python. */
void tw_watcher_collect(TwLoop *loop, int n);

/* Run what is due.  -1: an exception leaves the loop; the rest of the list
   stays for the next turn. */
TW_MUSTCHECK tw_status tw_watcher_run_due(TwLoop *loop);
