/* The Loop type: every room's methods in one table. */
#pragma once

#include "core/state.h"

TW_MUSTCHECK tw_status tw_loop_type_setup(tw_state *state, PyObject *module);
