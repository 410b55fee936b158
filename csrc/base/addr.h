/* Socket addresses: sockaddr to Python's tuples and back.

   The tuples are those of the socket module: (host, port), (host, port,
   flowinfo, scope_id), str for a Unix path, bytes for an abstract one. */
#pragma once

#include <sys/socket.h>

#include "base/common.h"

/* An address as the kernel gives it. */
typedef struct {
    socklen_t len;
    union {
        struct sockaddr any;
        struct sockaddr_storage storage;
    } u;
} TwAddr;

/* The Python form of an address.  None for an empty one.  NULL *without* an
   exception for a family that this file does not know: the socket object can
   convert it. */
PyObject *tw_addr_to_python(const struct sockaddr *sa, socklen_t len);

/* Fill `out` from a tuple with a literal IPv4 or IPv6 host, or from a path
   (str or bytes) for AF_UNIX.  1: done.  0, without an exception: the object
   has another form (a host name, another family), which the socket module
   converts. */
int tw_addr_from_python(int family, PyObject *obj, TwAddr *out);
