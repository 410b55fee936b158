/* The bytes object of the last read, used again for the next one.

   If the program keeps no reference to the bytes of a read, it cannot see
   whether the next bytes are in a new object or in the same one.  A new object
   of 1 KiB or more costs more than filling it, because malloc() and free() are
   slow at that size.  Each loop keeps one object. */
#pragma once

#include "core/loop.h"

/* A bytes object that is being filled, or that was just passed to the
   program. */
typedef struct {
    PyObject *bytes; /* strong or NULL */
    Py_ssize_t room; /* bytes that it was made for: its size or more */
} TwReadBytes;

/* An object of n bytes to be filled, n > 0: the kept one or a new one.
   -1: MemoryError, and out->bytes is NULL. */
TW_MUSTCHECK tw_status tw_readbytes_new(TwLoop *loop, size_t n,
                                        TwReadBytes *out);

/* The same, with p[0:n] in it. */
TW_MUSTCHECK tw_status tw_readbytes_copy(TwLoop *loop, const char *p,
                                         size_t n, TwReadBytes *out);

/* The kept object as it is, if it has room for `least` to `most` bytes. */
bool tw_readbytes_reuse(TwLoop *loop, size_t least, size_t most,
                        TwReadBytes *out);

/* Change the size to n bytes and keep the first ones.  -1: MemoryError, and
   out->bytes is NULL. */
TW_MUSTCHECK tw_status tw_readbytes_resize(TwReadBytes *out, size_t n);

/* The program has seen the object, or it was not needed: keep it for the next
   read unless somebody refers to it. */
void tw_readbytes_release(TwLoop *loop, TwReadBytes *data);
