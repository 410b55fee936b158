#include "tls/feed.h"

#include <string.h>

static tw_status
feed_append(TwFeed *feed, TwLoop *loop, const char *p, size_t n)
{
    if (!tw_buf_reserve(loop, &feed->kept, n)) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(feed->kept.p + feed->kept.w, p, n);
    feed->kept.w += n;
    return 0;
}

tw_status
tw_feed_lend(TwFeed *feed, TwLoop *loop, const char *p, size_t n)
{
    if (TW_LIKELY(tw_feed_size(feed) == 0)) {
        feed->lent = p;
        feed->lent_size = n;
        return 0;
    }
    if (tw_feed_keep(feed, loop) < 0) {
        return -1;
    }
    return feed_append(feed, loop, p, n);
}

tw_status
tw_feed_keep(TwFeed *feed, TwLoop *loop)
{
    size_t n = feed->lent_size;

    feed->lent_size = 0;
    if (TW_UNLIKELY(n > 0)) {
        return feed_append(feed, loop, feed->lent, n);
    }
    tw_buf_rest(loop, &feed->kept, false);
    return 0;
}

size_t
tw_feed_peek(const TwFeed *feed, const char **p)
{
    size_t kept = tw_buf_size(&feed->kept);

    if (TW_UNLIKELY(kept > 0)) {
        *p = feed->kept.p + feed->kept.r;
        return kept;
    }
    *p = feed->lent;
    return feed->lent_size;
}

void
tw_feed_skip(TwFeed *feed, size_t n)
{
    if (TW_UNLIKELY(tw_buf_size(&feed->kept) > 0)) {
        feed->kept.r += n;
        return;
    }
    feed->lent += n;
    feed->lent_size -= n;
}

void
tw_feed_drop(TwFeed *feed, TwLoop *loop)
{
    feed->lent_size = 0;
    tw_buf_rest(loop, &feed->kept, true);
}
