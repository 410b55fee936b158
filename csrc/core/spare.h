/* The bytes object of the last read, to be used again.

   A program that was handed what was read, and keeps no reference to it, has
   seen the last of it: nobody can tell whether the next bytes come in a new
   object or in that one.  A new one costs more (malloc's and free's slow ways
   from 1 KiB on) than what it is filled with.  Each loop keeps one. */
#pragma once

#include "core/loop.h"

/* A bytes object that nobody else has seen yet, or that is being shown. */
typedef struct {
    PyObject *bytes; /* strong or NULL */
    Py_ssize_t room; /* bytes that it was made for: its size or more */
} TwSpare;

/* An object of n bytes to be filled, n > 0: the kept one or a new one.
   -1: MemoryError, and out->bytes is NULL. */
TW_MUSTCHECK tw_status tw_spare_new(TwLoop *loop, size_t n, TwSpare *out);

/* The same, with p[0:n] in it. */
TW_MUSTCHECK tw_status tw_spare_copy(TwLoop *loop, const char *p, size_t n,
                                     TwSpare *out);

/* The kept one, as large as it is, if that is `least` to `most` bytes. */
bool tw_spare_take(TwLoop *loop, size_t least, size_t most, TwSpare *out);

/* n bytes from now on; its first bytes stay.  -1: MemoryError, and
   out->bytes is NULL. */
TW_MUSTCHECK tw_status tw_spare_resize(TwSpare *out, size_t n);

/* It was shown to the program, or was not needed: kept if nobody has it. */
void tw_spare_give(TwLoop *loop, TwSpare *spare);
