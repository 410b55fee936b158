/* The loop: the struct that every room sees, and the functions of core that
   other rooms call.

   Threads.  A loop belongs to the thread that runs it; the GIL protects
   everything.  While the loop waits without the GIL, it uses only the poller
   and the wakeup descriptor.

   Ownership.  ready, aside, timers: strong references.  watchers (the active
   ones): each owns its owner.  due: borrowed; a watcher that is closed removes
   itself.  held: each transport is owned. */
#pragma once

#include "base/bufq.h"
#include "base/heap.h"
#include "base/ring.h"
#include "base/sys.h"
#include "base/vec.h"
#include "core/gil.h"
#include "core/metrics.h"
#include "core/poller.h"
#include "core/state.h"

#define TW_READ_BUFFER_SIZE (256 * 1024)

typedef struct TwWatchdog TwWatchdog;
typedef struct TwWatcher TwWatcher;
typedef struct TwHandle TwHandle;
typedef struct TwTransport TwTransport;

/* Consecutive generations whose polls found nothing: core/turn.c. */
typedef struct {
    uint64_t length;
    uint64_t quickest; /* ns: the shortest of them */
} TwChain;

/* Freed handles of one type, to be used again. */
typedef struct {
    PyTypeObject *type; /* strong */
    PyObject *first;    /* no live object: linked through its first slot */
    int count;
} TwFreeHandles;

struct TwLoop {
    PyObject_HEAD
    tw_state *state; /* borrowed: valid while the type lives */

    /* Attributes that asyncio's BaseEventLoop assigns, stored only here. */
    PyObject *thread_id;         /* strong: int or None */
    PyObject *task_factory;      /* strong or NULL (None) */
    PyObject *exception_handler; /* strong or NULL (None) */
    PyObject *current_handle;    /* strong or NULL (None) */
    PyObject *signal_handlers;   /* strong or NULL: asyncio's dict */
    PyObject *future_kwargs;     /* strong or NULL: {"loop": self} */
    PyObject *other_context;     /* strong or NULL: an equal of "context" */
    bool closed;
    bool stopping;
    bool debug;

    bool live;              /* not shut yet: it may keep free memory */
    bool running;           /* inside _run_turns() */
    bool sleeping;          /* waits without the GIL: tw_loop_wake() wakes
                               it */
    bool never_hold;        /* a switch for users: writes are sent at once */
    bool never_merge;       /* another one: datagrams are read one by one */
    bool forked;            /* it ran in the parent process: close() only */
    bool select_patched;    /* wait by poll_wait_patched() */
    bool nests;             /* runs inside a run are allowed: core/nest.h */
    unsigned overridden;    /* methods that the program has replaced, as of */
    unsigned overridden_version; /* this class version: core/overrides.h */
    int depth;              /* > 0: inside a callback of this loop */
    unsigned long owner;    /* thread that runs it (valid while running) */

    TwRing ready;           /* Handle, TimerHandle or a transport's step */
    TwRing aside;           /* handles that wait for the end of a nested run */
    int nested;             /* nested runs that have not ended: core/nest.h */
    TwHeap timers;
    /* See handle.c.  free_max is 0 from the end of the loop on. */
    TwFreeHandles free_handles, free_timers, free_threadsafe;
    PyObject **free_contexts; /* strong: empty contexts */
    int free_context_count;
    int free_max;             /* each of these lists keeps at most so many */
    size_t timers_cancelled;

    TwPoller *poller;       /* ours; NULL: not open, see _open() */
    TwWatcher *wakeup;      /* ours: of wake_fd, see core/wakeup.h */
    int wake_fd;            /* readable: somebody woke the loop */
    int wake_write;         /* a write to this one wakes the loop */
    bool wake_known;        /* the program knows the number and may use it */
    bool wake_full;         /* the pipe may have been full */
    uint64_t signals_handled; /* by their Python handlers: a bit for each */
    tw_status (*deliver_lookups)(TwLoop *loop); /* or NULL: ops/resolver.c */
    bool wait_was_short;    /* the last wait found something at once */
    TwVec watchers;         /* active ones: wanted events, own an owner */
    TwVec writers;          /* those of them that want to write */
    TwVec due;              /* became ready in the last poll */
    TwVec changed;          /* for the poller at the next poll; has gaps */
    uint32_t watcher_count; /* open ones: `due` has room for all, twice */
    uint32_t due_next;      /* first of `due` that has not run yet */
    PyObject *userfds;      /* strong or NULL: dict of fd: net/userfd.c's */
    PyObject *resolver;     /* strong or NULL: ops/resolver.c's */
    TwWatcher **by_fd;      /* borrowed: the watcher of each descriptor */
    int by_fd_cap;

    TwTransport *held;      /* hold writes back, oldest first: net/hold.h */
    TwTransport *held_last;
    void (*flush_held)(TwLoop *loop); /* sends them all; a child drops them */
    uint32_t callback_number; /* of the outermost callback that began last */
    TwPiece *free_pieces;   /* ours or NULL: for the next queue that holds */
    uint32_t fed;           /* reads that fed a few bytes to a StreamReader */
    size_t sock_hint;       /* size of the last sock_recv() */
    char *read_buffer;      /* base/pages.h; NULL: not yet needed */
    PyObject *read_bytes;   /* strong or NULL: core/readbytes.h */
    Py_ssize_t read_bytes_room;
    char *free_blocks;      /* memory for TLS connections: tls/buf.h */
    int free_block_count;
    TwSys sys;              /* the calls that a sandbox refused */
    TwGil gil;
    TwChain chain;
    PyObject *name;         /* strong or NULL: the program's, for stats() */
    TwWatchdog *watchdog;   /* ours or NULL: core/watchdog.h */
    TwTiming timing;
    TwGauges gauges;
    TwStats stats;
    TwStats *stats_base;    /* ours or NULL: as of stats(reset=True) */
};

/* -- life ----------------------------------------------------------------- */

/* Close every watcher and the poller; runs no Python code of users. */
void tw_loop_shut(TwLoop *loop);

/* In the child after a fork: open new descriptors for the loop.  A loop that
   had run can only be closed from now on. */
void tw_loop_after_fork(TwLoop *loop);

/* -- the turn (core/turn.h) ----------------------------------------------- */

/* Would a new turn run nothing before its poll, and poll the same descriptors?
   Then a callback that serves one of them may continue instead. */
bool tw_loop_is_quiet(TwLoop *loop);

/* Free memory that only a burst of handles, timers or descriptors needed.
   Called when the loop waits, and every POLL_TRIM_TURNS.
   (core/loop_trim.c) */
void tw_loop_trim(TwLoop *loop);

/* -- scheduling (core/loop_sched.c) --------------------------------------- */

/* RuntimeError('Event loop is closed'), or 0. */
TW_MUSTCHECK tw_status tw_loop_check_open(TwLoop *loop);

/* A call of the loop's `method` with keywords (callback=, fd=...), or a wrong
   call.  The seam's function of that name calls the method again with
   positional arguments, or raises.  A new reference. */
PyObject *tw_loop_call_by_name(PyObject *loop, const char *method,
                               PyObject *const *args, Py_ssize_t nargs,
                               PyObject *kwnames);

/* loop.call_soon(callback, *args, context=context), for C callers (NULL: a
   copy of the current context).  0 or -1. */
TW_MUSTCHECK tw_status tw_loop_call_soon(TwLoop *loop, PyObject *callback,
                                         PyObject *const *args,
                                         Py_ssize_t nargs, PyObject *context);

/* Queue `stepper` itself, like a handle that calls its step function (or queue
   a handle, if the program has replaced call_soon()).  See core/source.h.
   0 or -1. */
TW_MUSTCHECK tw_status tw_loop_push_step(TwLoop *loop, PyObject *stepper);

/* Wake the loop if it waits (any thread, with the GIL). */
void tw_loop_wake(TwLoop *loop);

/* loop.time(): time.monotonic(), or the program's replacement of either, which
   may fail: -1.0 with an exception set. */
double tw_loop_time(TwLoop *loop);

/* The loop's read buffer, allocated by the first call.  NULL with
   MemoryError. */
char *tw_loop_read_buffer(TwLoop *loop);

/* True on the thread that is running this loop. */
static inline bool
tw_loop_is_here(const TwLoop *loop)
{
    return loop->running && loop->owner == PyThread_get_thread_ident();
}
