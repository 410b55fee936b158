/* A watcher: one descriptor, what is wanted of it, one owner.

   All watchers of a loop live in one epoll set, in which libuv's own set is
   one more descriptor: the turn waits in ours, with one system call, and lets
   libuv see to its handles when it has news.  Why not a uv_poll_t for each:
   libuv aborts the process when epoll_ctl fails (a program closed or reused a
   descriptor), deletes and adds a descriptor again at every change, and reads
   the same ready events up to 48 times where more than 1,024 are ready.

   What is wanted is noted (tw_watcher_want) and applied right before the next
   poll: changes of one turn cost nothing if they cancel out.

   Ownership: while it wants something, the watcher owns its owner (strong,
   and the loop traverses it); otherwise it is borrowed, and the owner closes
   the watcher when it goes away.  Descriptors are never closed here. */
#pragma once

#include <sys/epoll.h>

#include "core/loop.h"

#define TW_EV_READ 1u
#define TW_EV_WRITE 2u
#define TW_EV_ERROR 4u /* POLLERR: do the I/O once for the true errno */
#define TW_EV_BAD 8u   /* the descriptor is no (pollable) descriptor */

/* Called in the turn, with a strong reference to `owner` held, outside any
   context.  -1 (exception set) only for what must leave the loop. */
typedef tw_status (*TwOnReady)(PyObject *owner, unsigned events);

struct TwWatcher {
    TwLoop *loop;       /* borrowed: valid while it is in the loop's table */
    PyObject *owner;    /* strong while want != 0, else borrowed */
    TwOnReady on_ready;
    bool (*is_stale)(PyObject *owner); /* or NULL: was the fd closed? */
    int fd;             /* -1: the loop was closed, or it was given up */
    int refused;        /* with TW_EV_BAD: the set's errno; 0: given up */
    uint8_t want;       /* TW_EV_READ | TW_EV_WRITE */
    uint8_t armed;      /* what the epoll set was told; 0: not in the set */
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

/* Tell the set anew at the next poll even if nothing seems to have changed:
   the descriptor may be another one under the same number. */
TW_MUSTCHECK tw_status tw_watcher_rearm(TwWatcher *w);

/* Would the set take the descriptor?  It does not know it afterwards, if it
   did not before. */
TW_MUSTCHECK tw_uverr tw_watcher_probe(TwLoop *loop, int fd);

/* Want nothing, and leave the set now: for descriptors that the program may
   close as soon as we return. */
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
   (the program closed it behind our back): the set forgets it at once, and
   on_ready is called with TW_EV_BAD in the next turn. */
void tw_watcher_give_up(TwWatcher *w);

/* -- for the loop -- */

/* Descriptors looked at in one turn: the rest is first in the next. */
#define TW_NEWS_MAX 256

/* What the set said. */
typedef struct {
    int count; /* or a negative errno: -EINTR is nothing */
    struct epoll_event events[TW_NEWS_MAX];
} TwNews;

/* The loop's epoll set, with libuv's in it. */
TW_MUSTCHECK tw_uverr tw_watcher_open_set(TwLoop *loop);
void tw_watcher_close_set(TwLoop *loop);
/* Another set with the same descriptors: in a forked child, and to be rid of
   what no call can name any more. */
void tw_watcher_renew_set(TwLoop *loop);

/* Let go of every watcher and its owner (the loop is being closed, or
   collected).  Owners may still hold their pointers. */
void tw_watcher_close_all(TwLoop *loop);

/* Apply the noted changes to the set. */
void tw_watcher_apply_changes(TwLoop *loop);

/* Ask the set; wait up to `ms` milliseconds (-1: for ever) until there is
   something.  Needs no GIL. */
void tw_watcher_ask(const TwLoop *loop, TwNews *news, int ms);
/* Fill loop->due, and let libuv run if it has news.  Runs no Python. */
void tw_watcher_take(TwLoop *loop, const TwNews *news);

/* Run what became due.  -1: an exception leaves the loop; the rest of the
   list stays for the next turn. */
TW_MUSTCHECK tw_status tw_watcher_run_due(TwLoop *loop);
