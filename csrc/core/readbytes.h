/* The bytes object of the last read, to be used again.

   If the program keeps no reference to the bytes that were read, it cannot see
   whether the next bytes are in a new object or in that one.  A new object of
   1 KiB or more costs more than filling it, as malloc() and free() are slow
   then.  Each loop keeps one. */
#pragma once

#include "core/loop.h"

/* A bytes object that is not passed to the program yet, or just now. */
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

/* The kept one, as large as it is, if that is `least` to `most` bytes. */
bool tw_readbytes_reuse(TwLoop *loop, size_t least, size_t most,
                        TwReadBytes *out);

/* n bytes from now on; its first bytes stay.  -1: MemoryError, and
   out->bytes is NULL. */
TW_MUSTCHECK tw_status tw_readbytes_resize(TwReadBytes *out, size_t n);

/* The program has seen it, or it was not needed: keep it unless somebody
   refers to it. */
void tw_readbytes_release(TwLoop *loop, TwReadBytes *data);
