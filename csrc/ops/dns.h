/* socket.getaddrinfo() for a literal address, without a call of it.

   Only where the result is certain: a plain IPv4 or IPv6 address without a
   scope, a port number, the address's own family (or none), the socket types
   and protocols of TCP and UDP, and flags that change nothing here.
   resolver.h asks the C library for everything else; it parses the arguments
   and makes the results with the functions of this file. */
#pragma once

#include <netdb.h>

#include "base/addr.h"
#include "core/loop.h"

extern PyMethodDef tw_dns_loop_methods[]; /* _literal_addresses() */

/* The characters of a str (ASCII) or bytes object, or NULL; no exception. */
const char *tw_dns_text(PyObject *obj, Py_ssize_t *n);

/* A number (or a member of an enum of them) from 0 up, or -1. */
int tw_dns_number(PyObject *obj);

/* A port from 0 to 65535 (None: 0), or -1: something else. */
long tw_dns_port(PyObject *obj);

/* Fill `addr`, but for the port, from the text of an address. */
TW_MUSTCHECK bool tw_dns_literal(PyObject *obj, TwAddr *addr);

/* Append the 5-tuple of a result to a list. */
TW_MUSTCHECK tw_status tw_dns_append(tw_state *state, PyObject *list,
                                     const struct addrinfo *info);

/* The objects that tw_dns_setup() imported from the socket module. */
static inline PyObject *
tw_dns_gaierror(tw_state *state)
{
    return PyTuple_GET_ITEM(state->dns, 5);
}

TW_MUSTCHECK tw_status tw_dns_setup(tw_state *state, PyObject *module);
