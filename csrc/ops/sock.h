/* The loop's methods that return an awaitable socket operation.  They only
   bind the arguments; see ops/sock_op.h for the result. */
#pragma once

#include "core/loop.h"

extern PyMethodDef tw_sock_loop_methods[];
