/* A poller: asks the kernel which descriptors of a loop are ready.

   There are two.  poller_epoll.c is Linux's: one epoll set.  poller_uv.c
   uses libuv, where the build found it, and serves every other system.  A
   poller runs no Python and calls nobody back: wait() fills `ready`.

   The watchers (core/watcher.h) decide what a descriptor is watched for, and
   remember it; a poller keeps only what the kernel needs.  It never closes a
   descriptor that it did not open itself.

   Threads.  wait() needs no GIL; while it runs on the loop's thread no other
   function of that poller may be called.  All others need the GIL. */
#pragma once

#include "base/common.h"

#define TW_EV_READ 1u
#define TW_EV_WRITE 2u
#define TW_EV_ERROR 4u /* an error waits: do the I/O once for its errno */

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

    /* Do its numbers still mean its own descriptors?  The program may have
       closed them all.  `fd`: one that it watches to be read from. */
    bool (*is_ours)(const TwPoller *poller, int fd);

    /* Watch `fd` for `events`; 0 forgets it.  `had`: what it was watched for
       as far as the caller knows; the program may have closed the descriptor
       since, and opened another one under that number.  0 or a negative
       errno; then it is not watched. */
    tw_uverr (*watch)(TwPoller *poller, int fd, unsigned had,
                      unsigned events);

    /* Would watch() accept this descriptor?  0 or a negative errno. */
    tw_uverr (*probe)(TwPoller *poller, int fd);

    /* Wait up to `ms` milliseconds (0: do not wait, -1: for ever) until
       something is ready.  The number of entries in `ready`, or a negative
       errno. */
    int (*wait)(TwPoller *poller, int ms);

    /* A descriptor that is readable when something is ready. */
    int (*fd)(const TwPoller *poller);

    /* Start with an empty set: in a forked child, whose set is shared with
       the parent, or because the set reports a descriptor that nobody can
       remove any more (its number was closed, a duplicate is open).  The
       caller watches its descriptors again.  `ours`: see close.  0, or a
       negative errno: in a child nothing can be watched from then on,
       elsewhere the old set stays. */
    tw_uverr (*renew)(TwPoller *poller, bool forked, bool ours);
} TwPollerOps;

struct TwPoller {
    const TwPollerOps *ops;
    TwReady *ready; /* ours: room for every descriptor that is watched */
    int room;
};

/* The pollers of this build, the default first; NULL ends the list. */
extern const TwPollerOps *const tw_pollers[];

/* By name; NULL: the default.  NULL and ValueError for a name that this build
   does not have, OSError if the system refuses. */
TwPoller *tw_poller_open(const char *name);

/* Make room for the answers about `n` descriptors.  0 or -ENOMEM. */
TW_MUSTCHECK tw_uverr tw_poller_reserve(TwPoller *poller, int n);

/* Is the descriptor good, and only room for its watch lacks?  Then another
   try later is worth it. */
bool tw_poller_is_shortage(tw_uverr err);

/* libuv's version, or NULL: this build has none. */
const char *tw_poller_uv_version(void);

extern const TwPollerOps tw_poller_epoll, tw_poller_uv;
