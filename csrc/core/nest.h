/* Runs inside runs, as nest_asyncio allows them.

   A callback may then run the loop that called it.  The nested run takes turns
   like any other, so everything that a turn uses is consistent whenever user
   code runs: the queues are read again after each callback, and no callback
   relies on a buffer of the loop.

   If the context of a callback is already entered, by a callback that waits
   for the end of a nested run, the callback cannot run before that end.  When
   its turn comes it is put aside.  When a nested run ends it returns to the
   front of the ready queue; if that is too early, it is put aside again.

   Nested runs may end in any order, because each may be in a greenlet of its
   own.  So the loop keeps no pointer to their stacks. */
#pragma once

#include "core/loop.h"

/* Run turns until `future` is done and those of its callbacks that were ready
   then have run, or until stop() is called.  None: until stop(). */
TW_MUSTCHECK tw_status tw_nest_run(TwLoop *loop, PyObject *future);

/* Inside a nested run: is the handle's context entered already? */
bool tw_nest_is_entered_slow(TwHandle *handle);
static inline bool
tw_nest_is_entered(const TwLoop *loop, TwHandle *handle)
{
    return TW_UNLIKELY(loop->nested > 0) && tw_nest_is_entered_slow(handle);
}

/* Put it aside.  -1: MemoryError, and the handle is lost. */
TW_MUSTCHECK tw_status tw_nest_put_aside_steal(TwLoop *loop, TwHandle *handle);
