/* A poller: asks the kernel which descriptors of a loop are ready.

   There are two.  poller_epoll.c is for Linux: one epoll set.  poller_uv.c
   uses libuv, where the build found it, and serves every other system.  A
   poller runs no Python and calls no callback: wait() fills `ready`.

   The watchers (core/watcher.h) decide what a descriptor is watched for, and
   remember it; a poller keeps only what the kernel needs.  It closes only
   descriptors that it opened itself.

   Threads.  wait() is called on the loop's thread, and needs no GIL.  All
   others need the GIL; another thread may call watch() and probe() while the
   loop waits (it removes a reader, say).  So wait() alone touches `ready`. */
#pragma once

#include "base/common.h"

#define TW_EV_READ 1u
#define TW_EV_WRITE 2u
#define TW_EV_ERROR 4u /* an error is pending: I/O returns its errno */

typedef struct {
    int fd;
    unsigned events; /* a hang-up is TW_EV_READ | TW_EV_WRITE */
} TwReady;

typedef struct TwPoller TwPoller;

typedef struct {
    const char *name;

    /* A new poller, or NULL and errno. */
    TwPoller *(*open)(void);

    /* Free it, and close its descriptors.  `ours`: they are still its own. */
    void (*close)(TwPoller *poller, bool ours);

    /* Do its numbers still refer to its own descriptors?  The program may have
       closed them all.  `fd`: a descriptor that it watches for reading. */
    bool (*is_ours)(const TwPoller *poller, int fd);

    /* Watch `fd` for `events`; 0 stops watching it.  `had`: what it was
       watched for as far as the caller knows; the program may have closed the
       descriptor since, and opened another one under that number.  0, or a
       negative errno: it is not watched then. */
    tw_uverr (*watch)(TwPoller *poller, int fd, unsigned had,
                      unsigned events);

    /* Would watch() accept this descriptor?  0 or a negative errno. */
    tw_uverr (*probe)(TwPoller *poller, int fd);

    /* Wait up to `ms` milliseconds (0: do not wait, -1: for ever) until
       something is ready.  `n`: so many descriptors are watched; for lack of
       memory wait() may report fewer, and the others next time.  The number
       of entries in `ready`, or a negative errno. */
    int (*wait)(TwPoller *poller, int n, int ms);

    /* A descriptor that is readable when something is ready. */
    int (*fd)(const TwPoller *poller);

    /* Start again with an empty set.  That is needed in a forked child, whose
       set is shared with the parent, and when the set reports a descriptor
       that cannot be removed any more (its number was closed, a duplicate is
       open).  The caller then watches its descriptors again.  `ours`: see
       close.  0, or a negative errno: in a child nothing can be watched from
       then on; elsewhere the old set stays in use. */
    tw_uverr (*renew)(TwPoller *poller, bool forked, bool ours);
} TwPollerOps;

struct TwPoller {
    const TwPollerOps *ops;
    TwReady *ready; /* ours */
    int room;
};

/* The pollers of this build, the default first; NULL ends the list. */
extern const TwPollerOps *const tw_pollers[];

/* By name; NULL: the default.  NULL and ValueError for a name that this build
   does not have, OSError if the system refuses. */
TwPoller *tw_poller_open(const char *name);

/* For wait(): make `ready` longer if `n` entries need it.  False if there is
   no memory: it stays as it is. */
bool tw_poller_make_room(TwPoller *poller, int n);

/* Was the descriptor accepted in principle, and only memory or watches were
   lacking?  Then a later attempt may succeed. */
bool tw_poller_is_shortage(tw_uverr err);

/* Does this errno of a change to the watch of `fd` say that the set or `fd` is
   another file by now?  A shortage or a sandbox does not say so. */
bool tw_poller_is_denied(tw_uverr err, int fd);

/* libuv's version, or NULL: this build has none. */
const char *tw_poller_uv_version(void);

extern const TwPollerOps tw_poller_epoll, tw_poller_uv;
