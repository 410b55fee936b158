#include "core/spare.h"

#include "base/compat.h"

/* A loop that has nothing to read keeps no more. */
#define SPARE_MOST TW_READ_BUFFER_SIZE

/* The most room for n bytes: the program may keep the object. */
static size_t
spare_loose(size_t n)
{
    return n + n / 4 + 64;
}

bool
tw_spare_take(TwLoop *loop, size_t least, size_t most, TwSpare *out)
{
    if (loop->spare == NULL || (size_t)loop->spare_room < least
        || (size_t)loop->spare_room > most) {
        return false;
    }
    out->bytes = TW_TAKE(loop->spare);
    out->room = loop->spare_room;
    tw_bytes_renew(out->bytes, out->room);
    return true;
}

tw_status
tw_spare_new(TwLoop *loop, size_t n, TwSpare *out)
{
    if (TW_LIKELY(tw_spare_take(loop, n, spare_loose(n), out))) {
        tw_bytes_renew(out->bytes, (Py_ssize_t)n);
        return 0;
    }
    /* Free the old one first, so that malloc can use its memory: with two
       large ones the heap would grow and shrink, at the price of page
       faults. */
    Py_CLEAR(loop->spare);
    out->bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)n);
    out->room = (Py_ssize_t)n;
    return out->bytes == NULL ? -1 : 0;
}

tw_status
tw_spare_copy(TwLoop *loop, const char *p, size_t n, TwSpare *out)
{
    if (n > 1) {
        if (tw_spare_new(loop, n, out) < 0) {
            return -1;
        }
        memcpy(PyBytes_AS_STRING(out->bytes), p, n);
        return 0;
    }
    /* Python keeps an object for each single byte. */
    out->bytes = PyBytes_FromStringAndSize(p, (Py_ssize_t)n);
    out->room = (Py_ssize_t)n;
    return out->bytes == NULL ? -1 : 0;
}

tw_status
tw_spare_resize(TwSpare *out, size_t n)
{
    if ((size_t)out->room >= n && (size_t)out->room <= spare_loose(n)) {
        tw_bytes_renew(out->bytes, (Py_ssize_t)n);
        return 0;
    }
    out->room = (Py_ssize_t)n;
    return _PyBytes_Resize(&out->bytes, out->room);
}

void
tw_spare_give(TwLoop *loop, TwSpare *spare)
{
    PyObject *bytes = TW_TAKE(spare->bytes);

    if (Py_REFCNT(bytes) != 1 || spare->room > SPARE_MOST || !loop->live) {
        Py_DECREF(bytes);
        return;
    }
    loop->spare_room = spare->room;
    Py_XSETREF(loop->spare, bytes);
}
