/* Listening sockets.  asyncio's Server owns the socket; this file accepts when
   it becomes readable.

   A plain connection becomes a stream transport at once, on a descriptor of
   our own (a socket object is made only when somebody asks for it).  With TLS
   a coroutine of the running Python's asyncio makes the transport, because the
   handshake must be awaited.  Each connection runs in a context of its own: a
   copy of the context in which the server was started. */
#pragma once

#include "core/watcher.h"

/* The hooks of asyncio's Server: _start_serving(), _stop_serving(). */
extern PyMethodDef tw_accept_loop_methods[];

TW_MUSTCHECK tw_status tw_accept_setup(tw_state *state, PyObject *module);
