/* The turn of the loop, in three files: turn.c, turn_poll.c, turn_timers.c. */
#pragma once

#include "core/loop.h"

#define TW_CHAIN_NONE ((TwChain){0, UINT64_MAX})

/* Run turns until stop() is called or an exception leaves the loop; if
   `future` is not None, also until it is done. */
TW_MUSTCHECK tw_status tw_turn_run(TwLoop *loop, PyObject *future);

/* A poll and one generation. */
TW_MUSTCHECK tw_status tw_turn_once(TwLoop *loop);

/* Poll, or wait for work; fill loop->due.  Other threads may run meanwhile. */
TW_MUSTCHECK tw_status tw_turn_poll(TwLoop *loop);

/* Remove cancelled timers: all of them if there are many, else those at the
   head. */
TW_MUSTCHECK tw_status tw_turn_drop_cancelled(TwLoop *loop);

/* Append the due timers to the ready queue.  How many, or -1. */
Py_ssize_t tw_turn_collect_timers(TwLoop *loop);
