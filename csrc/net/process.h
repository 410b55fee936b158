/* Waiting for a child process: the part of subprocess transports that is
   hot.  The rest is Python, pkg/tidewire/_process.py.

   A child is watched through a descriptor of the kernel (pidfd_open), in the
   loop's own poll: no thread, no SIGCHLD.  When the descriptor becomes
   readable the child is waited for, and the callback gets its return code.

   Ownership.  The TwChild owns the pidfd and the callback; its watcher owns
   it (and so the callback, and the transport behind that) until the child
   has ended or the loop is closed. */
#pragma once

#include "core/loop.h"

/* loop._watch_child(pid, callback): callback(code) will be called, from the
   loop, when the child has ended; code is None if somebody else waited for
   it.  False: the system has no pidfd for it, use a thread.  METH_FASTCALL. */
PyObject *tw_process_loop_watch_child(PyObject *loop, PyObject *const *args,
                                      Py_ssize_t nargs);

extern const char tw_process_doc_watch_child[];

TW_MUSTCHECK tw_status tw_process_setup(tw_state *state, PyObject *module);
