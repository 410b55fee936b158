/* asyncio's StreamReader, fed without a call to Python.

   While a transport's protocol is exactly asyncio.StreamReaderProtocol over
   exactly asyncio.StreamReader, and both do what they do in asyncio, the
   bytes go right into the reader's buffer; then its waiter is woken, and the
   transport paused if there are more than twice the reader's limit: what
   data_received() and feed_data() would have done.

   Whatever is unusual (a subclass, a method replaced in the class or in the
   object, an exported buffer, the end of file, debug mode) takes the ordinary
   way: data_received() is called, and raises what it raises.  So does a
   reader that is gone.

   Ownership.  A TwFeeder lives on the stack, for one read, and holds the
   reader's parts.  Between tw_feeder_find and tw_feeder_fed the caller runs
   no user code, or keeps the buffer exported meanwhile (tls); the transport's
   owner is the caller's to keep alive. */
#pragma once

#include "net/transport.h"

typedef struct {
    TwBaseTransport *transport; /* borrowed: the caller's */
    PyObject *reader;       /* strong */
    PyObject *buffer;       /* strong: its bytearray */
    Py_ssize_t size;        /* of the buffer, before */
    Py_ssize_t limit;       /* as the reader has it */
} TwFeeder;

/* Does the transport have such a reader now, and may it be fed?  If so,
   fills `r`, and tw_feeder_release must follow.  Never fails, and leaves the
   exception state alone. */
bool tw_feeder_find(TwBaseTransport *self, TwFeeder *r);

void tw_feeder_release(TwFeeder *r);

/* Make room for n more bytes behind what the buffer had when it was found,
   and behind the first bytes that were put there since: the room begins at
   the result.  NULL with MemoryError. */
char *tw_feeder_reserve(TwFeeder *r, size_t n);

/* The first n bytes of the room are filled: keep those, wake who waits for
   them, pause the transport.  With 0 the room is given back, and nobody is
   told.  -1 with what feed_data() would have raised. */
TW_MUSTCHECK tw_status tw_feeder_fed(TwFeeder *r, size_t n);

/* The same for bytes that are elsewhere. */
TW_MUSTCHECK tw_status tw_feeder_feed(TwFeeder *r, const char *p, size_t n);

/* Find asyncio's classes and methods. */
TW_MUSTCHECK tw_status tw_feeder_setup(tw_state *state, PyObject *module);
