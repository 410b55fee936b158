/* The conversion of errno values to Python's OSError.  libuv's errors are
   negated errno values. */
#pragma once

#include "base/common.h"

/* Set the OSError of `err` (negative errno).  Always returns NULL. */
PyObject *tw_errno_raise(tw_uverr err);

/* The same as an object, of OSError's subclass for `err`: a new reference,
   never NULL (MemoryError if there is no memory). */
PyObject *tw_errno_exception(tw_uverr err);
