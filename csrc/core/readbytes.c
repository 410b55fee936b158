#include "core/readbytes.h"

#include "base/compat.h"

/* A larger object is not kept: the loop may read nothing for a long time. */
#define READBYTES_MOST TW_READ_BUFFER_SIZE

/* The most room for n bytes: the program may keep the object. */
static size_t
readbytes_most(size_t n)
{
    return n + n / 4 + 64;
}

bool
tw_readbytes_reuse(TwLoop *loop, size_t least, size_t most, TwReadBytes *out)
{
    if (loop->read_bytes == NULL || (size_t)loop->read_bytes_room < least
        || (size_t)loop->read_bytes_room > most) {
        return false;
    }
    out->bytes = TW_TAKE(loop->read_bytes);
    out->room = loop->read_bytes_room;
    tw_bytes_renew(out->bytes, out->room);
    return true;
}

tw_status
tw_readbytes_new(TwLoop *loop, size_t n, TwReadBytes *out)
{
    if (TW_LIKELY(tw_readbytes_reuse(loop, n, readbytes_most(n), out))) {
        tw_bytes_renew(out->bytes, (Py_ssize_t)n);
        return 0;
    }
    /* Free the old one first, so that malloc can use its memory.  With two
       large ones the heap would grow and shrink, which costs page faults. */
    Py_CLEAR(loop->read_bytes);
    out->bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)n);
    out->room = (Py_ssize_t)n;
    return out->bytes == NULL ? -1 : 0;
}

tw_status
tw_readbytes_copy(TwLoop *loop, const char *p, size_t n, TwReadBytes *out)
{
    if (n > 1) {
        if (tw_readbytes_new(loop, n, out) < 0) {
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
tw_readbytes_resize(TwReadBytes *out, size_t n)
{
    if ((size_t)out->room >= n && (size_t)out->room <= readbytes_most(n)) {
        tw_bytes_renew(out->bytes, (Py_ssize_t)n);
        return 0;
    }
    out->room = (Py_ssize_t)n;
    return _PyBytes_Resize(&out->bytes, out->room);
}

void
tw_readbytes_release(TwLoop *loop, TwReadBytes *data)
{
    PyObject *bytes = TW_TAKE(data->bytes);

    if (Py_REFCNT(bytes) != 1 || data->room > READBYTES_MOST || !loop->live) {
        Py_DECREF(bytes);
        return;
    }
    loop->read_bytes_room = data->room;
    Py_XSETREF(loop->read_bytes, bytes);
}
