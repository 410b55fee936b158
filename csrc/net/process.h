/* Waiting for a child process: the part of subprocess transports that runs
   often.  The rest is Python, pkg/tidewire/_process.py.

   A child is watched through a descriptor of the kernel (pidfd_open), by the
   loop's poller: no thread, no SIGCHLD.  When the descriptor becomes readable
   the child is waited for, and the callback is called with its return code.

   Ownership.  The TwChild owns the pidfd and the callback.  Its watcher owns
   the TwChild (and so the callback, and the transport that the callback refers
   to) until the child has ended or the loop is closed. */
#pragma once

#include "core/loop.h"

extern PyMethodDef tw_process_loop_methods[]; /* _watch_child() */

TW_MUSTCHECK tw_status tw_process_setup(tw_state *state, PyObject *module);
