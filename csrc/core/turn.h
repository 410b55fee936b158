/* The turn of the loop, in three files: turn.c, turn_poll.c, turn_timers.c. */
#pragma once

#include "core/loop.h"

#define TW_CHAIN_NONE ((TwChain){0, UINT64_MAX})

/* Run turns until stop() or an exception that leaves the loop; or, if `future`
   is not None, until it is done. */
TW_MUSTCHECK tw_status tw_turn_run(TwLoop *loop, PyObject *future);

/* A poll and one generation. */
TW_MUSTCHECK tw_status tw_turn_once(TwLoop *loop);

/* Poll, or wait for work; fill loop->due.  Other threads may run meanwhile. */
TW_MUSTCHECK tw_status tw_turn_poll(TwLoop *loop);

/* Remove cancelled timers: all of them if they are many, else those that are
   next. */
TW_MUSTCHECK tw_status tw_turn_drop_cancelled(TwLoop *loop);

/* Move the due timers behind the ready handles.  How many, or -1. */
Py_ssize_t tw_turn_collect_timers(TwLoop *loop);
