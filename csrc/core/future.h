/* Futures of the loop, asyncio's own type, for callers in C. */
#pragma once

#include "core/loop.h"

/* loop.create_future(). */
PyObject *tw_loop_new_future(TwLoop *loop);

/* future.set_result(value) unless it is done; reports errors. */
tw_status tw_loop_resolve(TwLoop *loop, PyObject *future, PyObject *value);

/* future.set_exception(exc) unless it is done. */
tw_status tw_loop_reject(TwLoop *loop, PyObject *future, PyObject *exc);
