/* Handle and TimerHandle: asyncio's classes, implemented in C.

   Both derive from asyncio's own, so isinstance() and repr() are asyncio's.
   The struct therefore begins with asyncio's slots, which is checked at
   import.  Our own fields follow: up to three arguments, flags, the time.
   Each loop keeps some freed handles and uses them again. */
#pragma once

#include "core/loop.h"

#define TW_HANDLE_INLINE 3

#define TW_H_CANCELLED 1u /* cancel() was called */
#define TW_H_SCHEDULED 2u /* in the heap of timers */
#define TW_H_TIMER 4u     /* a TimerHandle */
#define TW_H_THREADSAFE 8u /* of call_soon_threadsafe(), from 3.14 on */
#define TW_H_RUNNING 16u  /* a THREADSAFE one: in its callback */
#define TW_H_COPIED 32u   /* its context is a copy made for it */

struct TwHandle {
    PyObject_HEAD
    /* asyncio.Handle's slots, in the order of memory (sorted by name). */
    PyObject *slot_args;    /* strong or NULL: made when asked for, or > 3 */
    PyObject *callback;     /* strong; None once cancelled */
    PyObject *slot_cancelled; /* unused: see flags */
    PyObject *context;      /* strong */
    TwLoop *loop;           /* strong */
    PyObject *repr;         /* strong or NULL: set when cancelled in debug */
    PyObject *traceback;    /* strong or NULL: where it was made (debug) */
    PyObject *weakrefs;
    PyObject *timer_slots[2]; /* of asyncio's subclasses: unused */
    /* Ours. */
    union {
        double when;
        PyObject *ran; /* THREADSAFE: strong or NULL: what others wait for */
    };
    unsigned flags;
    int nargs;              /* inline arguments; -1: they are in slot_args */
    PyObject *args[TW_HANDLE_INLINE]; /* strong: the first `nargs` */
};

/* New handles.  `args` are borrowed; `context` NULL means a copy of the
   current one.  NULL with an exception.  The handle is untracked if the loop
   runs: the loop's queues own it, and release it with
   tw_handle_release_steal().  Other owners call PyObject_GC_Track() if it is
   not tracked. */
TwHandle *tw_handle_new(TwLoop *loop, PyObject *callback,
                        PyObject *const *args, Py_ssize_t nargs,
                        PyObject *context);
TwHandle *tw_handle_new_timer(TwLoop *loop, double when, PyObject *callback,
                              PyObject *const *args, Py_ssize_t nargs,
                              PyObject *context);
/* What call_soon_threadsafe() returns. */
TwHandle *tw_handle_new_threadsafe(TwLoop *loop, PyObject *callback,
                                   PyObject *const *args, Py_ssize_t nargs,
                                   PyObject *context);

/* In another thread than the loop's: wait until the callback has run.  Runs
   Python; other threads may run meanwhile. */
TW_MUSTCHECK tw_status tw_handle_wait_run(TwHandle *handle);

/* cancel(): idempotent, releases callback and arguments. */
void tw_handle_cancel(TwHandle *handle);

/* Call it in its context; a cancelled handle does nothing.  0; or -1 with an
   exception that leaves the loop. */
TW_MUSTCHECK tw_status tw_handle_run(TwHandle *handle);

/* The arguments as a new tuple. */
PyObject *tw_handle_make_args(TwHandle *handle);

/* Release callback and arguments; `instead` (borrowed, or NULL) becomes the
   callback.  Finalizers may run, after the fields were cleared. */
void tw_handle_drop_call(TwHandle *handle, PyObject *instead);

/* Keep the context of a handle that has run, for another handle.  The caller
   owns a reference (or passes NULL).  True: the loop owns it now.  False: the
   context differs from a new one.  Do not call it for a handle that the
   collector has cleared: its context may be cleared too. */
bool tw_handle_reuse_context(TwLoop *loop, PyObject *context);

/* Release a handle that the turn has run; `status` is the result. */
void tw_handle_retire_steal(TwHandle *handle, tw_status status);

/* Show the handle to the collector from now on. */
static inline void
tw_handle_track(TwHandle *handle)
{
    if (!PyObject_GC_IsTracked((PyObject *)handle)) {
        PyObject_GC_Track(handle);
    }
}

/* Release a handle that was in a queue of the loop.  If somebody else refers
   to it, it can be part of a cycle from now on. */
static inline void
tw_handle_release_steal(TwHandle *handle)
{
    if (TW_UNLIKELY(Py_REFCNT(handle) > 1)) {
        tw_handle_track(handle);
    }
    Py_DECREF((PyObject *)handle);
}

/* Set up a loop's free handles and contexts.  -1: MemoryError. */
TW_MUSTCHECK tw_status tw_handle_init_free(TwLoop *loop);

/* The loop has ended: free them, and keep no more from now on. */
void tw_handle_clear_free(TwLoop *loop);

/* core/handle_type.c */
TW_MUSTCHECK tw_status tw_handle_setup(tw_state *state, PyObject *module);

static inline bool
tw_handle_is(const tw_state *state, PyObject *obj)
{
    return Py_IS_TYPE(obj, state->handle_type)
           || Py_IS_TYPE(obj, state->timer_type)
           || Py_IS_TYPE(obj, state->threadsafe_type);
}
