/* Objects of the ssl module and of tidewire._tls that C uses, in one tuple.

   state->tls is made when TLS is used for the first time, so that programs
   without TLS do not import the ssl module. */
#pragma once

#include "core/state.h"

/* The indexes in state->tls, which is tidewire._tls.C_NAMES. */
enum {
    TW_TLS_HELPERS, /* the module tidewire._tls itself */
    TW_TLS_WANT_READ,
    TW_TLS_SYSCALL,
    TW_TLS_ERROR,
    TW_TLS_CERTIFICATE_ERROR,
    TW_TLS_NAMES
};

/* Make state->tls unless it exists. */
TW_MUSTCHECK tw_status tw_engine_need_ssl(tw_state *state);

static inline PyObject *
tw_engine_name(const tw_state *state, int which)
{
    return PyTuple_GET_ITEM(state->tls, which);
}
