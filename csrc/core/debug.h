/* Debug mode: measure how long a callback takes.

   asyncio measures each Handle, and warns of a slow one with its repr().  Here
   descriptors and steps have no Handle.  The warning shows the Handle that
   asyncio would have; tidewire._seam makes it only for its repr(). */
#pragma once

#include "core/loop.h"

/* loop.time() into *start.  -1: the program's clock failed. */
TW_MUSTCHECK tw_status tw_debug_begin(TwLoop *loop, double *start);

/* seam.<function>(loop, *args, seconds since `start`), which warns if that was
   slow.  Its exceptions leave run_forever(), as in asyncio. */
TW_MUSTCHECK tw_status tw_debug_end(TwLoop *loop, double start,
                                    const char *function,
                                    PyObject *const *args, Py_ssize_t nargs);

/* stepper->ops->step(stepper), measured. */
TW_MUSTCHECK tw_status tw_debug_step(TwLoop *loop, PyObject *stepper);

/* on_ready(owner, events), measured. */
TW_MUSTCHECK tw_status tw_debug_ready(TwLoop *loop, PyObject *owner,
                                      unsigned events,
                                      tw_status (*on_ready)(PyObject *owner,
                                                            unsigned events));
