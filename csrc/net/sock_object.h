/* socket.socket objects for descriptors, made without running Python code.

   The class's own __init__() is Python: a KeyboardInterrupt in the middle of
   it would leave the descriptor to an object that nobody has, which closes
   it, while the caller takes it for his.  Here either the object owns the
   descriptor, or there is no object. */
#pragma once

#include "core/state.h"

/* socket.socket(family, type, proto, fileno=fd), for a descriptor that is
   non-blocking.  On failure `fd` is still the caller's. */
PyObject *tw_sock_object_new(tw_state *state, int family, int type, int proto,
                             int fd);

/* socket.socket(fileno=fd): the kernel is asked for the rest. */
PyObject *tw_sock_object_of_fd(tw_state *state, int fd);
