/* What socket.getaddrinfo() says of a literal address, without asking it.

   Only where the answer is known for sure: a plain IPv4 or IPv6 address
   without a scope, a port number, a family that is the address's own (or
   none), the socket types and protocols of TCP and UDP, no flags but those
   that change nothing here.  The C library has the rest. */
#pragma once

#include "core/loop.h"

/* loop._literal_addresses(host, port, family, type, proto, flags): a list as
   socket.getaddrinfo() makes it, or None: ask that one (also for the
   exceptions, in debug mode, and when the loop is closed). */
PyObject *tw_dns_loop_literal_addresses(PyObject *loop, PyObject *const *args,
                                        Py_ssize_t nargs);

TW_MUSTCHECK tw_status tw_dns_setup(tw_state *state, PyObject *module);
