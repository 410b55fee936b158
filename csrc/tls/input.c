#include "tls/input.h"

#include <string.h>

static tw_status
input_append(TwInput *in, TwLoop *loop, const char *p, size_t n)
{
    if (!tw_buf_reserve(loop, &in->kept, n)) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(in->kept.p + in->kept.w, p, n);
    in->kept.w += n;
    return 0;
}

tw_status
tw_input_lend(TwInput *in, TwLoop *loop, const char *p, size_t n)
{
    if (TW_LIKELY(tw_input_size(in) == 0)) {
        in->lent = p;
        in->lent_size = n;
        return 0;
    }
    if (tw_input_keep(in, loop) < 0) {
        return -1;
    }
    return input_append(in, loop, p, n);
}

tw_status
tw_input_keep(TwInput *in, TwLoop *loop)
{
    size_t n = in->lent_size;

    in->lent_size = 0;
    if (TW_UNLIKELY(n > 0)) {
        return input_append(in, loop, in->lent, n);
    }
    tw_buf_release(loop, &in->kept, false);
    return 0;
}

size_t
tw_input_peek(const TwInput *in, const char **p)
{
    size_t kept = tw_buf_size(&in->kept);

    if (TW_UNLIKELY(kept > 0)) {
        *p = in->kept.p + in->kept.r;
        return kept;
    }
    *p = in->lent;
    return in->lent_size;
}

void
tw_input_skip(TwInput *in, size_t n)
{
    if (TW_UNLIKELY(tw_buf_size(&in->kept) > 0)) {
        in->kept.r += n;
        return;
    }
    in->lent += n;
    in->lent_size -= n;
}

void
tw_input_drop(TwInput *in, TwLoop *loop)
{
    in->lent_size = 0;
    tw_buf_release(loop, &in->kept, true);
}
