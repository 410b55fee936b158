/* The type of the awaitable socket operations: send(), throw(), close(),
   await, and the attributes of coroutines (there is no frame). */
#pragma once

#include "ops/sock_op.h"

TW_MUSTCHECK tw_status tw_sock_coro_setup(tw_state *state, PyObject *module);

/* The StopIteration that is set would look like a result: it becomes the cause
   of a RuntimeError, as in Python's coroutines. */
void tw_sock_coro_rename_stop(void);
