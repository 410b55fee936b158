/* Threads that call the C library's getaddrinfo(3) and getnameinfo(3).

   They never touch Python, so a lookup does not cost a release of the GIL.  A
   loop has a pool of them, made with its first lookup.  A thread that has had
   no work for a while ends.

   States of a lookup.  new (the caller's) -> queued -> running -> done (the
   caller's again, by tw_lookups_collect()).  A queued one can be withdrawn, a
   running one cannot: getaddrinfo(3) cannot be stopped.

   Ownership.  The pool belongs to its loop and to its threads together.  The
   loop detaches when it is closed, without waiting, and the last thread frees
   the pool.  Lookups that are queued or done are freed when the loop detaches;
   one that runs is freed by its thread when the C library returns.

   Threads.  All functions here are for the loop's side, with the GIL.  The
   fields under "pool" are protected by the pool's lock, those under "asker" by
   the GIL. */
#pragma once

#include <netdb.h>

#include "base/addr.h"

typedef struct TwLookups TwLookups;
typedef struct TwLookup TwLookup;

struct TwLookup {
    /* pool */
    TwLookup *next; /* in the list that it is in */
    bool queued;
    /* asker */
    TwLookup *older, *newer; /* all lookups of one loop */
    uint64_t asked;          /* ns: when */
    PyObject *future;        /* strong or NULL: the pool does not use it */
    /* the arguments */
    TwAddr addr;             /* len > 0: getnameinfo(3) of it... */
    int flags;               /* ...with these; else getaddrinfo(3): */
    struct addrinfo hints;
    const char *host, *service; /* NULL, or in `text` */
    /* the result */
    struct addrinfo *found;  /* ours: freeaddrinfo() */
    int error;               /* EAI_*, or 0 */
    int errnum;              /* the errno of EAI_SYSTEM */
    char text[]; /* strings of the arguments; getnameinfo's: see below */
};

/* Where the result of getnameinfo(3) is in a lookup of that kind. */
#define TW_LOOKUP_NAME_ROOM (NI_MAXHOST + NI_MAXSERV)
#define TW_LOOKUP_NAME(lookup) ((lookup)->text)
#define TW_LOOKUP_SERVICE(lookup) ((lookup)->text + NI_MAXHOST)

/* A lookup with `room` bytes of text, all zeros, or NULL. */
TwLookup *tw_lookup_new(size_t room);
void tw_lookup_free(TwLookup *lookup);

/* A pool without threads, or NULL: no memory.  Its threads write to
   `wake_write` when a lookup is done. */
TwLookups *tw_lookups_open(int wake_write);

/* Queue a lookup.  False: no thread can be started; it stays the caller's. */
TW_MUSTCHECK bool tw_lookups_ask(TwLookups *pool, TwLookup *lookup);

/* True: it had not begun, and the caller owns it again. */
TW_MUSTCHECK bool tw_lookups_withdraw(TwLookups *pool, TwLookup *lookup);

/* How many are queued. */
int tw_lookups_waiting(TwLookups *pool);

/* All lookups that are done, the oldest first, linked by `next`. */
TwLookup *tw_lookups_collect(TwLookups *pool);

/* The loop is closed: nobody writes to `wake_write` when this has returned.
   Does not wait for a lookup.  In a forked child, which does not have the
   threads and where the lock may be held for ever, it does nothing. */
void tw_lookups_detach(TwLookups *pool);
