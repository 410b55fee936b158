/* loop._sock_sendfile_native(): BaseEventLoop's hook for sock_sendfile() and,
   through tidewire._sendfile, for sendfile().

   With a `transport` (a stream; `sock` is a duplicate of its descriptor) the
   operation ends with an error when that stream is closed. */
#pragma once

#include "core/loop.h"

extern PyMethodDef tw_sendfile_loop_methods[]; /* _sock_sendfile_native() */
