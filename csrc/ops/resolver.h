/* Names and addresses that the C library has to look up, for one loop.

   socket.getaddrinfo() and socket.getnameinfo() word for word, but for where
   they wait: the questions that are usual are read here (as the socket module
   reads them), asked by the threads of lookup.h, which need no GIL, and
   answered in the turn, by a future.  What is not usual is for the executor,
   as in asyncio; so is everything if the program has changed a part of that
   way, which pkg/tidewire/_dns.py finds out.

   Ownership.  The loop owns its resolver, made when first needed, from then
   on together with a watcher; the resolver owns what it asks, and the
   lookups' futures.  With the loop's end it leaves the pool to its threads:
   a lookup that goes on is waited for by nobody. */
#pragma once

#include "core/loop.h"

/* loop._look_up_name(host, port, family, type, proto, flags): a future of the
   list that socket.getaddrinfo() gives, or None: ask the executor. */
PyObject *tw_resolver_loop_look_up_name(PyObject *loop, PyObject *const *args,
                                        Py_ssize_t nargs);

/* loop._look_up_address(sockaddr, flags): the same for getnameinfo(). */
PyObject *tw_resolver_loop_look_up_address(PyObject *loop,
                                           PyObject *const *args,
                                           Py_ssize_t nargs);

/* loop._abandon_lookup(future): nobody waits for it any longer.  METH_O. */
PyObject *tw_resolver_loop_abandon(PyObject *loop, PyObject *future);

TW_MUSTCHECK tw_status tw_resolver_setup(tw_state *state, PyObject *module);
