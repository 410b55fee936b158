/* The system calls of the awaitable socket operations.

   For a plain, program-made socket.socket they are made here, on its
   descriptor, and never block (MSG_DONTWAIT).  Anything else that looks like
   a socket, and every argument that is not of the ordinary form, goes to the
   object's own method, whose exceptions are then exactly Python's. */
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

/* An int attribute of the socket's C base class (family, type, proto):
   without the enum that socket.socket puts around it.  -1 + exception. */
int tw_sock_io_attr(TwSockOp *op, PyObject *name);

/* Can tw_addr_to_python speak for this family? */
bool tw_sock_io_knows(int family);
