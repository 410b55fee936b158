/* Names and addresses that the C library has to look up, for one loop.

   The results and exceptions are those of socket.getaddrinfo() and
   socket.getnameinfo().  Usual arguments are parsed here, as the socket module
   parses them; the threads of lookup.h, which need no GIL, call the C library;
   and the turn sets the result in a future.  The executor gets everything
   else, as in asyncio.  It also gets everything if the program has replaced a
   function that asyncio would call, which pkg/tidewire/_dns.py finds out.

   Ownership.  The loop owns its resolver, made when first needed.  The
   resolver owns its lookups and their futures.  When the loop ends, it leaves
   the pool to its threads: nobody waits for a lookup that still runs. */
#pragma once

#include "core/loop.h"

/* _look_up_name(), _look_up_address(), _lookups_waiting(),
   _abandon_lookup(). */
extern PyMethodDef tw_resolver_loop_methods[];

TW_MUSTCHECK tw_status tw_resolver_setup(tw_state *state, PyObject *module);
