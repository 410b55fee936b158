/* Checks that a Python class is laid out as a struct of ours is. */
#pragma once

#include "base/common.h"

/* A slot of a Python class, and where a struct of ours has it. */
typedef struct {
    const char *name; /* NULL ends a list */
    size_t offset;
} TwSlotCheck;

/* ImportError unless instances of `type` have exactly these slots there and
   end at or before `room`. */
TW_MUSTCHECK tw_status tw_layout_check(PyTypeObject *type,
                                       const TwSlotCheck *slots, size_t room);
