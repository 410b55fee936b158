/* Ciphertext that came and was not consumed: what was kept, then what is lent.

   The lower transport lends memory for the length of a call; what is left at
   its end is copied into memory of ours, a chunk of the loop's that goes back
   as soon as it is empty. */
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

/* Behind what waits; copies only if something waits.  -1 MemoryError. */
TW_MUSTCHECK tw_status tw_feed_lend(TwFeed *feed, TwLoop *loop, const char *p,
                                    size_t n);
/* The loan ends.  -1 MemoryError. */
TW_MUSTCHECK tw_status tw_feed_keep(TwFeed *feed, TwLoop *loop);

/* The oldest bytes in one piece: how many; usable without the GIL. */
size_t tw_feed_peek(const TwFeed *feed, const char **p);
/* n of them were consumed (at most what peek gave). */
void tw_feed_skip(TwFeed *feed, size_t n);

void tw_feed_drop(TwFeed *feed, TwLoop *loop);
