/* Ciphertext that came and was not consumed: first kept bytes, then lent ones.

   The lower transport lends its memory for the length of a call.  What is left
   at the end of the call is copied into a chunk, which returns to the loop as
   soon as it is empty. */
#pragma once

#include "tls/chunk.h"

typedef struct {
    TwBuf kept;
    const char *lent; /* borrowed: valid until tw_feed_keep() */
    size_t lent_size;
} TwFeed;

static inline size_t
tw_feed_size(const TwFeed *feed)
{
    return tw_buf_size(&feed->kept) + feed->lent_size;
}

/* Append n bytes; copies them only if others wait. -1 with MemoryError. */
TW_MUSTCHECK tw_status tw_feed_lend(TwFeed *feed, TwLoop *loop, const char *p,
                                    size_t n);
/* End the loan: copy what is left. -1 with MemoryError. */
TW_MUSTCHECK tw_status tw_feed_keep(TwFeed *feed, TwLoop *loop);

/* The oldest bytes in one piece: how many. Needs no GIL. */
size_t tw_feed_peek(const TwFeed *feed, const char **p);
/* Remove n consumed bytes, at most what tw_feed_peek() returned. */
void tw_feed_skip(TwFeed *feed, size_t n);

void tw_feed_drop(TwFeed *feed, TwLoop *loop);
