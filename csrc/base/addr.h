/* Socket addresses: sockaddr to Python's tuples and back.

   The tuples are those of the socket module: (host, port), (host, port,
   flowinfo, scope_id), str for a Unix path, bytes for an abstract one. */
#pragma once

#include <sys/socket.h>

#include "base/common.h"

/* An address as the kernel gives it. */
typedef struct {
    socklen_t len; /* 0: none */
    union {
        struct sockaddr any;
        struct sockaddr_storage storage;
    } u;
} TwAddr;

/* The Python form.  None for an empty address; for a family that this file
   does not know NULL *without* an exception: ask the socket object. */
PyObject *tw_addr_to_python(const struct sockaddr *sa, socklen_t len);

/* Fill `out` from a tuple with a literal IPv4 or IPv6 host, or from a path
   (str or bytes) for AF_UNIX.  1: done; 0: not of that form (a host name,
   another family), no exception set: let the socket module do it. */
int tw_addr_from_python(int family, PyObject *obj, TwAddr *out);
