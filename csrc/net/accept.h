/* Listening sockets: asyncio's Server stays the owner of the socket; here is
   what happens when it becomes readable.

   A plain connection becomes a stream transport right away, on a descriptor
   of our own (no socket object until somebody asks for one).  With TLS the
   running Python's own coroutine does it, as the handshake has to be awaited.
   Each connection runs in a context of its own: a copy of the one in which
   the server was started. */
#pragma once

#include "core/watcher.h"

/* loop._start_serving(...), the hook of asyncio's Server. */
PyObject *tw_accept_loop_start_serving(PyObject *loop, PyObject *args,
                                       PyObject *kwargs);
/* loop._stop_serving(sock): accept no more, and close the socket.  From 3.13
   on asyncio's own, which then unlinks the path, calls it: see _loop.py. */
PyObject *tw_accept_loop_stop_serving(PyObject *loop, PyObject *sock);

extern const char tw_accept_doc_start_serving[];

TW_MUSTCHECK tw_status tw_accept_setup(tw_state *state, PyObject *module);
