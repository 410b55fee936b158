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

/* Check the class again, after a change: has it Python's own methods? */
bool tw_sock_object_check_class(tw_state *state);

/* Is it exactly a socket.socket, and has that class Python's own methods?  A
   program may replace some, for instance connect() by one that refuses hosts.
   They are then called by name, as those of a subclass are. */
static inline bool
tw_sock_object_is_plain(tw_state *state, PyObject *sock)
{
    PyTypeObject *type = Py_TYPE(sock);

    if ((PyObject *)type != state->socket_type) {
        return false;
    }
    return TW_LIKELY(type->tp_version_tag == state->socket_version
                     && state->socket_version != 0)
               ? state->socket_original
               : tw_sock_object_check_class(state);
}
