/* Runs inside of runs, as nest_asyncio allows them.

   A callback may then run the loop that called it.  The nested run takes
   turns like any other, so everything of the loop that a turn uses is
   consistent whenever user code runs: the queues are read again after each
   callback, and no callback relies on a buffer of the loop.

   A callback whose context is entered already, by a callback that waits for
   the end of a nested run, cannot run before that.  It is put aside, and
   comes back in front of the others when the nested run ends.

   `loop->aside` is the innermost nested run's, on its stack; its handles are
   owned. */
#pragma once

#include "core/loop.h"

/* Run turns until `future` is done (and those of its callbacks have run that
   are ready then), or stop() is called.  None: until stop(). */
TW_MUSTCHECK tw_status tw_nest_run(TwLoop *loop, PyObject *future);

/* Inside a nested run: is the handle's context entered already? */
bool tw_nest_is_entered_slow(TwHandle *handle);
static inline bool
tw_nest_is_entered(const TwLoop *loop, TwHandle *handle)
{
    return TW_UNLIKELY(loop->aside != NULL)
           && tw_nest_is_entered_slow(handle);
}

/* Put aside the ready handles that cannot run now.  -1: MemoryError. */
TW_MUSTCHECK tw_status tw_nest_put_aside_slow(TwLoop *loop);
TW_MUSTCHECK static inline tw_status
tw_nest_put_aside(TwLoop *loop)
{
    return TW_LIKELY(loop->aside == NULL) ? 0 : tw_nest_put_aside_slow(loop);
}
