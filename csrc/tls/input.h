/* Received ciphertext that was not consumed: first kept bytes, then lent ones.

   The lower transport lends its memory during a call.  The rest is copied at
   the end of the call, into a block that is freed as soon as it is empty. */
#pragma once

#include "tls/buf.h"

typedef struct {
    TwBuf kept;
    const char *lent; /* borrowed: valid until tw_input_keep() */
    size_t lent_size;
} TwInput;

static inline size_t
tw_input_size(const TwInput *in)
{
    return tw_buf_size(&in->kept) + in->lent_size;
}

/* Append n bytes; copies them only if others wait. -1 with MemoryError. */
TW_MUSTCHECK tw_status tw_input_lend(TwInput *in, TwLoop *loop,
                                     const char *p, size_t n);
/* End the loan: copy what is left. -1 with MemoryError. */
TW_MUSTCHECK tw_status tw_input_keep(TwInput *in, TwLoop *loop);

/* The oldest bytes in one piece: returns how many.  Needs no GIL. */
size_t tw_input_peek(const TwInput *in, const char **p);
/* Remove n consumed bytes, at most what tw_input_peek() returned. */
void tw_input_skip(TwInput *in, size_t n);

void tw_input_drop(TwInput *in, TwLoop *loop);
