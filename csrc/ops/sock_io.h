/* The system calls of the awaitable socket operations.

   For a plain socket.socket they are made here, on its descriptor, and never
   block (MSG_DONTWAIT).  Any other object, and every argument that does not
   have the ordinary form, is passed to the object's own method, so that
   exceptions are exactly Python's. */
#pragma once

#include "ops/sock_op.h"

extern const TwSockKind tw_sock_io_recv;
extern const TwSockKind tw_sock_io_recv_into;
extern const TwSockKind tw_sock_io_recvfrom;
extern const TwSockKind tw_sock_io_recvfrom_into;
extern const TwSockKind tw_sock_io_sendall;
extern const TwSockKind tw_sock_io_sendto;
extern const TwSockKind tw_sock_conn_connect;
extern const TwSockKind tw_sock_conn_connect_at_once; /* create_connection() */
extern const TwSockKind tw_sock_conn_accept;

/* sock.<name>(argv[1], ...), argv[0] being the socket: TW_TRY_AGAIN for
   BlockingIOError and InterruptedError. */
TwTry tw_sock_io_method(PyObject *name, PyObject *const *argv, size_t n,
                        PyObject **result);

/* The errno of a failed call as a TwTry: again, or OSError. */
TwTry tw_sock_io_errno(int err);

/* An int attribute of the socket's C base class (family, type, proto), without
   the enum that socket.socket wraps it in.  -1 with an exception. */
int tw_sock_io_attr(TwSockOp *op, PyObject *name);

/* The socket's family.  1: tw_addr_to_python() can convert its addresses; 0:
   it cannot; -1 with an exception. */
int tw_sock_io_family(TwSockOp *op, int *family);
