/* Feeds asyncio's StreamReader without a call to Python.

   This is done while a transport's protocol is exactly
   asyncio.StreamReaderProtocol over exactly asyncio.StreamReader, and both are
   unchanged.  The bytes are appended to the reader's buffer, its waiter is
   woken, and the transport is paused if there are more than twice the reader's
   limit: what data_received() and feed_data() would do.

   In every unusual case (a subclass, a method replaced in the class or in the
   object, an exported buffer, the end of file, debug mode, a reader that was
   freed) data_received() is called, and raises what it raises.

   Ownership.  A TwFeeder is on the stack, for one read, and owns references to
   the reader's parts.  Between tw_feeder_find and tw_feeder_fed the caller
   runs no user code, or keeps the buffer exported (tls).  The caller keeps the
   transport alive. */
#pragma once

#include "net/transport.h"

typedef struct {
    TwBaseTransport *transport; /* borrowed: the caller's */
    PyObject *reader;       /* strong */
    PyObject *buffer;       /* strong: its bytearray */
    Py_ssize_t size;        /* of the buffer, before */
    Py_ssize_t limit;       /* as the reader has it */
} TwFeeder;

/* Does the transport have such a reader now, and can it be fed?  If so, fills
   `r`, and tw_feeder_release must follow.  Never fails, and keeps the
   exception state. */
bool tw_feeder_find(TwBaseTransport *self, TwFeeder *r);

void tw_feeder_release(TwFeeder *r);

/* Make room for n more bytes after the original bytes of the buffer, and after
   the first bytes that were written there since.  Returns where the room
   begins.  NULL with MemoryError. */
char *tw_feeder_reserve(TwFeeder *r, size_t n);

/* The first n bytes of the room are filled: keep those, wake the waiter, pause
   the transport.  With 0 the room is removed, and nobody is woken.  -1 with
   the exception that feed_data() would raise. */
TW_MUSTCHECK tw_status tw_feeder_fed(TwFeeder *r, size_t n);

/* The same for bytes that are in other memory. */
TW_MUSTCHECK tw_status tw_feeder_feed(TwFeeder *r, const char *p, size_t n);

/* Find asyncio's classes and methods. */
TW_MUSTCHECK tw_status tw_feeder_setup(tw_state *state, PyObject *module);
