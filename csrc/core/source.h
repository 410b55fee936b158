/* The base of every object that the loop calls.

   A stepper can be in the ready queue like a handle: the loop calls its step.
   A source is a stepper with a watcher: the loop also calls it when a
   descriptor is ready.

   The head is that of asyncio's transports, so that ours can be steppers:
   their slots are four references with the loop in the middle.  Each type
   decides what the four are and names them in its struct; TW_CHECK_STEPPER or
   TW_CHECK_SOURCE compares that with the head.

   Ownership.  The references and the loop are strong, the loop until dealloc.
   A source owns its watcher; the watcher owns the source while it wants an
   event (core/watcher.h). */
#pragma once

#include "core/loop.h"

/* The loop calls `step` and holds a strong reference meanwhile.  The function
   returns -1 (exception set) only for KeyboardInterrupt and SystemExit, which
   leave the loop. */
typedef struct {
    tw_status (*step)(PyObject *self);
    /* For debug mode's reports: what asyncio's Handle for this step would
       call, as a new tuple (object, name of its method, argument...); NULL
       with an exception.  The pointer is NULL if the step runs no code of the
       program. */
    PyObject *(*call)(PyObject *self);
} TwStepOps;

typedef struct {
    PyObject_HEAD
    PyObject *first[2]; /* strong or NULL: the type's own */
    TwLoop *loop;       /* strong, until dealloc */
    PyObject *last[2];  /* strong or NULL: the type's own */
    const TwStepOps *ops;
} TwStepper;

typedef struct {
    TwStepper stepper;
    TwWatcher *watcher; /* ours, or NULL: closed */
} TwSource;

#define TW_CHECK_STEPPER(type)                                                \
    _Static_assert(offsetof(type, loop) == offsetof(TwStepper, loop)          \
                       && offsetof(type, ops) == offsetof(TwStepper, ops),    \
                   #type " does not begin as a TwStepper")
#define TW_CHECK_SOURCE(type)                                                 \
    TW_CHECK_STEPPER(type);                                                   \
    _Static_assert(offsetof(type, watcher) == offsetof(TwSource, watcher),    \
                   #type " does not begin as a TwSource")

/* tp_traverse and tp_clear of the head. */
int tw_stepper_traverse(PyObject *self, visitproc visit, void *arg);
int tw_stepper_clear(PyObject *self);

/* The end of tp_dealloc: release the loop and the memory.  The object is
   untracked, and everything else released. */
void tw_stepper_free(PyObject *self);

/* Close the watcher, once.  That may release the last reference to the source:
   see tw_watcher_close(). */
void tw_source_unwatch(TwWatcher **watcher);

/* tp_dealloc: close the watcher, call the type's tp_clear, free. */
void tw_source_dealloc(PyObject *self);
