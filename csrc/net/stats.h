/* loop.stats(): the loop's counters (core/metrics.h), as a dict.  It is in
   this room because it asks the transports how much they have to send. */
#pragma once

#include "core/loop.h"

extern PyMethodDef tw_stats_loop_methods[]; /* stats(), _count() */

/* The bounds of histograms. */
TW_MUSTCHECK tw_status tw_stats_setup(tw_state *state, PyObject *module);
