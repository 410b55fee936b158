/* Calls of tidewire._seam: cold work that Python does better than C. */
#pragma once

#include "core/state.h"

/* seam.<name>(args...): a new reference or NULL. */
PyObject *tw_seam_call(tw_state *state, const char *name,
                       PyObject *const *args, Py_ssize_t nargs);
