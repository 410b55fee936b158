/* Threads that ask the C library for names and addresses.

   They never touch Python, so a lookup costs no handing over of the GIL.  A
   loop has a pool of them, made with its first lookup; a thread that has had
   nothing to do for a while ends.

   States of a lookup.  new (the caller's) -> queued -> running -> done (the
   caller's again, by tw_lookups_collect()).  A queued one can be withdrawn, a
   running one cannot: getaddrinfo(3) has no way to stop it.

   Ownership.  The pool belongs to its loop and to its threads together: the
   loop leaves it when it is closed, without waiting, and the last thread
   frees it.  What was queued or done is freed when the loop leaves, what runs
   by its thread when the C library comes back.

   Threads.  All functions here are for the loop's side, with the GIL; the
   fields under "pool" belong to the pool's lock, "asker" to the GIL. */
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
    TwLookup *older, *newer; /* all that one loop asks */
    PyObject *future;        /* strong or NULL: the pool never looks at it */
    /* the question */
    TwAddr addr;             /* len > 0: getnameinfo(3) of it... */
    int flags;               /* ...with these; else getaddrinfo(3): */
    struct addrinfo hints;
    const char *host, *service; /* NULL, or in `text` */
    /* the answer */
    struct addrinfo *found;  /* ours: freeaddrinfo() */
    int error;               /* EAI_*, or 0 */
    int errnum;              /* the errno of EAI_SYSTEM */
    char text[]; /* the question's strings; getnameinfo's: see below */
};

/* Where the answer of getnameinfo(3) stands in a lookup of that kind. */
#define TW_LOOKUP_NAME_ROOM (NI_MAXHOST + NI_MAXSERV)
#define TW_LOOKUP_NAME(lookup) ((lookup)->text)
#define TW_LOOKUP_SERVICE(lookup) ((lookup)->text + NI_MAXHOST)

/* A lookup with `room` bytes of text, all zeros, or NULL. */
TwLookup *tw_lookup_new(size_t room);
void tw_lookup_free(TwLookup *lookup);

/* A pool without threads as yet.  The threads write to `wake_to` when there is
   something to take.  0 or a negative errno. */
TW_MUSTCHECK tw_uverr tw_lookups_open(TwLookups **pool, int wake_to);

/* Queue a lookup.  False: no thread can be started; it stays the caller's. */
TW_MUSTCHECK bool tw_lookups_ask(TwLookups *pool, TwLookup *lookup);

/* True: it had not begun, and the caller owns it again. */
TW_MUSTCHECK bool tw_lookups_withdraw(TwLookups *pool, TwLookup *lookup);

/* All that are done, the oldest first, linked by `next`. */
TwLookup *tw_lookups_collect(TwLookups *pool);

/* The loop is closed: nobody writes to `wake_to` when this has returned.  Does
   not wait for a lookup.  In a forked child, where the threads are not and the
   lock may be held for ever, it does nothing. */
void tw_lookups_detach(TwLookups *pool);
