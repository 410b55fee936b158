/* socket.socket objects for descriptors, made without running Python code.

   The class's own __init__() is Python.  A KeyboardInterrupt in the middle of
   it would leave the descriptor to an object that nobody holds, which closes
   it, while the caller still uses it.  Here either the object owns the
   descriptor, or there is no object. */
#pragma once

#include "core/state.h"

/* socket.socket(family, type, proto, fileno=fd), for a descriptor that is
   non-blocking.  On failure `fd` is still the caller's. */
PyObject *tw_sock_object_new(tw_state *state, int family, int type, int proto,
                             int fd);

/* socket.socket(fileno=fd): family, type and protocol are read from the
   kernel. */
PyObject *tw_sock_object_of_fd(tw_state *state, int fd);
