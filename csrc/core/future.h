/* Futures of the loop, asyncio's own type, for callers in C. */
#pragma once

#include "core/loop.h"

/* loop.create_future(). */
PyObject *tw_loop_new_future(TwLoop *loop);

/* future.done(): 1, 0, or -1. */
int tw_loop_is_done(TwLoop *loop, PyObject *future);

/* future.set_result(value) unless it is done. */
tw_status tw_loop_resolve(TwLoop *loop, PyObject *future, PyObject *value);

/* future.set_exception(exc) unless it is done. */
tw_status tw_loop_reject(TwLoop *loop, PyObject *future, PyObject *exc);
