/* Public methods of the loop that C code calls without a look-up by name.

   asyncio calls them by name, so a subclass, a patched class or an attribute
   of the instance can replace them.  Here C code first checks whether that is
   so.  The result is kept until the class changes (its version tag) or an
   attribute of the loop is set, so the check costs two loads.

   `time` also counts as replaced when the program has replaced time.monotonic,
   which asyncio's time() calls. */
#pragma once

#include "base/compat.h"
#include "core/loop.h"

#define TW_OWN_TIME 1u
#define TW_OWN_CALL_SOON 2u
#define TW_OWN_CALL_AT 4u
#define TW_OWN_CREATE_FUTURE 8u
#define TW_OWN_CREATE_TASK 16u
#define TW_OWN_MAKE_SOCKET_TRANSPORT 32u

/* Check each method; returns the bits of those that are replaced. */
unsigned tw_overrides_check(TwLoop *loop);

static inline unsigned
tw_overrides(TwLoop *loop)
{
    unsigned version = Py_TYPE(loop)->tp_version_tag;

    return TW_LIKELY(version == loop->overridden_version && version != 0)
               ? loop->overridden
               : tw_overrides_check(loop);
}

/* tw_overrides_clock() by a look-up. */
PyObject *tw_overrides_check_clock(tw_state *state);

/* The program's replacement of time.monotonic: borrowed; NULL if there is
   none.  A look-up costs as much as the reading of the clock, so the dict's
   version is compared where Python has one. */
static inline PyObject *
tw_overrides_clock(tw_state *state)
{
    uint64_t version = tw_dict_version(state->time_names);

    return TW_LIKELY(version != 0 && version == state->time_version)
               ? NULL
               : tw_overrides_check_clock(state);
}

/* Can reading the loop's clock run Python code? */
static inline bool
tw_overrides_time(TwLoop *loop)
{
    return tw_overrides(loop) & TW_OWN_TIME
           || tw_overrides_clock(loop->state) != NULL;
}

/* tp_setattro of the loop. */
int tw_overrides_setattr(PyObject *self, PyObject *name, PyObject *value);

/* Set-up: remember time.monotonic. */
TW_MUSTCHECK tw_status tw_overrides_setup(tw_state *state);
