/* For the stream's own files only: their tables of methods, and shared
   functions. */
#pragma once

#include "net/stream.h"

extern PyMethodDef tw_stream_write_methods[], tw_stream_wait_methods[];

/* Resolve the waiter for an empty queue, if there is one: with `exc`, or with
   None. */
void tw_stream_settle_waiter(TwStream *self, PyObject *exc);

/* TwTransportOps: the connection is lost.  Fail the waiter of sendfile, if
   there is one. */
void tw_stream_lost(TwTransport *self, PyObject *exc);
