/* Listening sockets.  asyncio's Server owns the socket; this file accepts when
   it becomes readable.

   A plain connection becomes a stream transport at once, on a descriptor of
   our own (a socket object is made only when somebody asks for it).  With TLS
   a coroutine of the running Python's asyncio makes the transport, because the
   handshake must be awaited.  Each connection runs in a context of its own: a
   copy of the context in which the server was started. */
#pragma once

#include "core/watcher.h"

/* loop._start_serving(...), the hook of asyncio's Server. */
PyObject *tw_accept_loop_start_serving(PyObject *loop, PyObject *args,
                                       PyObject *kwargs);
/* loop._stop_serving(sock): stop accepting, and close the socket.  From 3.13
   on asyncio's method of that name, which then unlinks the path, calls it: see
   _loop.py. */
PyObject *tw_accept_loop_stop_serving(PyObject *loop, PyObject *sock);

extern const char tw_accept_doc_start_serving[];

TW_MUSTCHECK tw_status tw_accept_setup(tw_state *state, PyObject *module);
