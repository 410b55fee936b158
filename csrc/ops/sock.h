/* The loop's methods that return an awaitable socket operation.  They only
   bind the arguments; see ops/sock_op.h for the result. */
#pragma once

#include "base/args.h"
#include "core/loop.h"

#define TW_SOCK_FUNCTION(name)                                                \
    PyObject *tw_sock_loop_##name(PyObject *loop, PyObject *const *args,      \
                                  Py_ssize_t nargs, PyObject *kwnames)

TW_SOCK_FUNCTION(sock_recv);
TW_SOCK_FUNCTION(sock_recv_into);
TW_SOCK_FUNCTION(sock_recvfrom);
TW_SOCK_FUNCTION(sock_recvfrom_into);
TW_SOCK_FUNCTION(sock_sendall);
TW_SOCK_FUNCTION(sock_sendto);
TW_SOCK_FUNCTION(sock_connect);
TW_SOCK_FUNCTION(_sock_connect_at_once);
TW_SOCK_FUNCTION(sock_accept);

extern const char tw_sock_doc_sock_recv[];
extern const char tw_sock_doc_sock_recv_into[];
extern const char tw_sock_doc_sock_recvfrom[];
extern const char tw_sock_doc_sock_recvfrom_into[];
extern const char tw_sock_doc_sock_sendall[];
extern const char tw_sock_doc_sock_sendto[];
extern const char tw_sock_doc_sock_connect[];
extern const char tw_sock_doc_sock_accept[];

#define TW_SOCK_METHOD(name)                                                  \
    {#name, TW_FAST(tw_sock_loop_##name), TW_FASTKW, tw_sock_doc_##name}

#define TW_SOCK_PRIVATE(name)                                                 \
    {#name, TW_FAST(tw_sock_loop_##name), TW_FASTKW, NULL}

/* For the Loop type's table. */
#define TW_SOCK_METHODS                                                       \
    TW_SOCK_METHOD(sock_recv), TW_SOCK_METHOD(sock_recv_into),                \
        TW_SOCK_METHOD(sock_recvfrom), TW_SOCK_METHOD(sock_recvfrom_into),    \
        TW_SOCK_METHOD(sock_sendall), TW_SOCK_METHOD(sock_sendto),            \
        TW_SOCK_METHOD(sock_connect), TW_SOCK_METHOD(sock_accept),            \
        TW_SOCK_PRIVATE(_sock_connect_at_once)
