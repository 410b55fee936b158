/* The one converter from errno values (and libuv's, which are the negated
   ones) to Python's OSError. */
#pragma once

#include "base/common.h"

/* Set the OSError of `err` (negative errno).  Always returns NULL. */
PyObject *tw_errno_raise(tw_uverr err);

/* The same as an object: a new OSError, or NULL with an exception set. */
PyObject *tw_errno_exception(tw_uverr err);
