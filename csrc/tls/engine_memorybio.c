/* The memorybio engine: the SSLObject's own read() and write() over MemoryBIO.

   It uses public methods of the ssl module only, so it works with any build
   of it.  It is faster than asyncio because it fills buffers in place and does
   not read when nothing is there: the exception of each "would block" is the
   most expensive part.  A MemoryBIO never frees memory, so it only gets pieces
   of a moderate size, and these end with a record if they can. */
#include <string.h>
#include <sys/param.h>

#include "base/compat.h"
#include "tls/engine_impl.h"

#define MEMORY_PIECE (32 * 1024)

/* A record: type, version (2 bytes), length (2 bytes), and so many bytes. */
#define RECORD_HEADER 5
#define RECORD_DATA 23
#define RECORD_MAX (16 * 1024 + 2048)

/* Where the last byte of `incoming` is in its record. */
typedef struct {
    unsigned char header[RECORD_HEADER];
    uint8_t have; /* bytes of the header */
    size_t left;  /* bytes of the record that are still to come */
    size_t tail;  /* bytes of it that came, with the header */
} TwRecords;

typedef struct {
    TwEngine base;
    TwRecords records;
    PyObject *incoming; /* strong: MemoryBIO; gets what `base.in` has */
    PyObject *outgoing; /* strong: MemoryBIO */
    PyObject *feed;     /* strong: incoming.write */
    PyObject *drain;    /* strong: outgoing.read */
    PyObject *read;     /* strong: the (inner) object's methods */
    PyObject *write;
    PyObject *pending;
    bool foreign;       /* methods of a user's subclass: pass copies to them */
    size_t pending_out; /* bytes in `outgoing`, if out_known */
    bool out_known;     /* no call into the cipher since it was asked */
    bool dry;           /* `incoming` and the object have nothing, or only a
                           part of a record */
} TwMemory;

/* -- records -------------------------------------------------------------- */

/* Step over p[0:n].  Where the last record in it ends; 0: none ends. */
static size_t
records_pass(TwRecords *r, const char *p, size_t n)
{
    size_t at = 0, end = 0, step;

    while (at < n) {
        if (r->have < RECORD_HEADER) {
            r->header[r->have++] = (unsigned char)p[at++];
            r->left = (size_t)r->header[3] << 8 | r->header[4];
        }
        else {
            step = MIN(r->left, n - at);
            r->left -= step;
            at += step;
        }
        if (r->have == RECORD_HEADER && r->left == 0) {
            r->have = 0;
            r->tail = 0;
            end = at;
        }
    }
    r->tail += n - end;
    return end;
}

/* Does the cipher need more bytes before it can say anything?  Not if the
   header is odd: then it may fail at once. */
static bool
records_wait(const TwRecords *r)
{
    return r->have > 0
           && (r->have < RECORD_HEADER
               || (r->header[0] == RECORD_DATA && r->header[1] == 3
                   && r->left <= RECORD_MAX));
}

/* How much of p[0:n] to pass on, as whole records if possible. */
static size_t
records_piece(const TwRecords *records, const char *p, size_t n)
{
    TwRecords r = *records;
    size_t end;

    if (n <= MEMORY_PIECE) {
        return n;
    }
    end = records_pass(&r, p, MEMORY_PIECE);
    return end > 0 ? end : MEMORY_PIECE;
}

/* -- ciphertext that came ------------------------------------------------- */

/* MemoryBIO.pending */
static size_t
memory_pending(TwMemory *m, PyObject *bio)
{
    PyObject *value;
    size_t n;

    /* allow: a getter of the ssl module */
    value = PyObject_GetAttr(bio, m->base.loop->state->str.pending);
    n = value == NULL ? 0 : PyLong_AsSize_t(value);
    Py_XDECREF(value);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    return n;
}

static int
memory_refill(TwEngine *e)
{
    TwMemory *m = (TwMemory *)e;
    PyObject *view;
    tw_status status;
    const char *p;
    size_t n = tw_input_peek(&e->in, &p);

    if (n == 0) {
        return 0;
    }
    n = records_piece(&m->records, p, n);
    view = PyMemoryView_FromMemory((char *)p, (Py_ssize_t)n, PyBUF_READ);
    if (view == NULL) {
        return -1;
    }
    status = tw_status_steal(tw_call_plain(m->feed, &view, 1));
    Py_DECREF(view);
    if (status < 0) {
        return -1;
    }
    if (records_pass(&m->records, p, n) > 0 || !records_wait(&m->records)
        || m->foreign) {
        m->dry = false;
    }
    tw_input_skip(&e->in, n);
    return 1;
}

static size_t
memory_in_size(TwEngine *e)
{
    TwMemory *m = (TwMemory *)e;

    return tw_input_size(&e->in) + memory_pending(m, m->incoming);
}

/* Bytes that `incoming` and the object still have; 0 for a part of a record
   only. */
static size_t
memory_inside(TwMemory *m)
{
    size_t waiting;
    PyObject *value = tw_call_plain(m->pending, NULL, 0);
    size_t n = value == NULL ? 0 : PyLong_AsSize_t(value);

    Py_XDECREF(value);
    if (PyErr_Occurred()) {
        tw_call_ignore_error();
        n = 0;
    }
    waiting = memory_pending(m, m->incoming);
    if (n == 0 && waiting <= m->records.tail && records_wait(&m->records)
        && !m->foreign) {
        return 0;
    }
    return n + waiting;
}

static size_t
memory_bound(TwEngine *e)
{
    TwMemory *m = (TwMemory *)e;
    size_t inside = 0;

    if (!m->dry) {
        inside = memory_inside(m);
        m->dry = inside == 0;
    }
    return inside + tw_input_size(&e->in);
}

/* Call into the cipher, in the connection's context: it can run code of the
   program (subclasses, message callbacks). */
static PyObject *
memory_call(TwMemory *m, PyObject *method, PyObject *a, PyObject *b)
{
    PyObject *argv[] = {NULL, a, b};
    /* A protocol that writes in its callbacks has entered it already. */
    PyObject *context = m->base.context == tw_context_current()
                            ? NULL
                            : m->base.context;
    PyObject *result;

    m->out_known = false;
    m->base.busy++;
    result = tw_call(m->base.loop, context, method, argv + 1,
                     b == NULL ? 1 : 2);
    m->base.busy--;
    return result;
}

/* The result of read() or write(): a number of bytes, at most n. */
static Py_ssize_t
memory_count(TwMemory *m, PyObject *result_steal, size_t n)
{
    Py_ssize_t count;

    if (result_steal == NULL) {
        return tw_engine_raised(&m->base);
    }
    count = PyLong_AsSsize_t(result_steal);
    Py_DECREF(result_steal);
    if (count == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (count < 0 || (size_t)count > n) {
        PyErr_SetString(PyExc_ValueError,
                        "a TLS object reported more bytes than it was given");
        return -1;
    }
    return count;
}

static Py_ssize_t
memory_read_copy(TwMemory *m, char *p, size_t n, PyObject *size)
{
    PyObject *result = memory_call(m, m->read, size, NULL);
    Py_ssize_t got = -1;
    Py_buffer view;

    if (result == NULL) {
        return tw_engine_raised(&m->base);
    }
    if (PyObject_GetBuffer(result, &view, PyBUF_SIMPLE) < 0) {
        Py_DECREF(result);
        return -1;
    }
    if ((size_t)view.len <= n) {
        memcpy(p, view.buf, (size_t)view.len);
        got = view.len;
    }
    else {
        PyErr_SetString(
            PyExc_ValueError,
            "read() of a TLS object returned more than was asked for");
    }
    PyBuffer_Release(&view);
    Py_DECREF(result);
    return got;
}

static Py_ssize_t
memory_read_once(TwMemory *m, char *p, size_t n)
{
    PyObject *size = PyLong_FromSize_t(n);
    PyObject *view;
    Py_ssize_t got = -1;

    if (size == NULL) {
        return -1;
    }
    if (m->foreign) {
        got = memory_read_copy(m, p, n, size);
        Py_DECREF(size);
        return got;
    }
    view = PyMemoryView_FromMemory(p, (Py_ssize_t)n, PyBUF_WRITE);
    if (view != NULL) {
        got = memory_count(m, memory_call(m, m->read, size, view), n);
        Py_DECREF(view);
    }
    Py_DECREF(size);
    return got;
}

static Py_ssize_t
memory_read(TwEngine *e, char *p, size_t n)
{
    TwMemory *m = (TwMemory *)e;
    bool wants = false;
    Py_ssize_t got;
    int more;

    for (;;) {
        while (m->dry && (more = memory_refill(e)) != 0) {
            if (more < 0) {
                return -1;
            }
            wants = true;
        }
        if (m->dry && wants) {
            return TW_ENGINE_WANT;
        }
        got = memory_read_once(m, p, n);
        if (got != TW_ENGINE_WANT) {
            return got;
        }
        m->dry = wants = true;
    }
}

static Py_ssize_t
memory_write_once(TwMemory *m, const char *p, size_t n)
{
    PyObject *data, *result;

    data = m->foreign
               ? PyBytes_FromStringAndSize(p, (Py_ssize_t)n)
               : PyMemoryView_FromMemory((char *)p, (Py_ssize_t)n, PyBUF_READ);
    if (data == NULL) {
        return -1;
    }
    result = memory_call(m, m->write, data, NULL);
    Py_DECREF(data);
    return memory_count(m, result, n);
}

static Py_ssize_t
memory_write(TwEngine *e, const char *p, size_t n)
{
    return memory_write_once((TwMemory *)e, p,
                             n < MEMORY_PIECE ? n : MEMORY_PIECE);
}

static tw_status
memory_before_method(TwEngine *e)
{
    return memory_refill(e) < 0 ? -1 : 0;
}

static void
memory_after_method(TwEngine *e)
{
    ((TwMemory *)e)->dry = false;
    ((TwMemory *)e)->out_known = false;
}

static size_t
memory_out_size(TwEngine *e)
{
    TwMemory *m = (TwMemory *)e;

    if (!m->out_known) {
        m->pending_out = memory_pending(m, m->outgoing);
        m->out_known = true;
    }
    return m->pending_out;
}

/* The ciphertext is in the MemoryBIO: its bytes object is sent as it is. */
static const char *
memory_out_peek(TwEngine *e)
{
    return NULL;
}

static PyObject *
memory_out_take(TwEngine *e)
{
    TwMemory *m = (TwMemory *)e;
    PyObject *data = tw_call_plain(m->drain, NULL, 0);

    m->pending_out = 0;
    m->out_known = data != NULL;
    return data;
}

static void
memory_out_clear(TwEngine *e)
{
    if (memory_out_size(e) > 0 && tw_status_steal(memory_out_take(e)) < 0) {
        PyErr_Clear();
    }
}

static int
memory_traverse(TwEngine *e, visitproc visit, void *arg)
{
    TwMemory *m = (TwMemory *)e;

    Py_VISIT(m->incoming);
    Py_VISIT(m->outgoing);
    Py_VISIT(m->feed);
    Py_VISIT(m->drain);
    Py_VISIT(m->read);
    Py_VISIT(m->write);
    Py_VISIT(m->pending);
    return 0;
}

static void
memory_detach(TwEngine *e)
{
    TwMemory *m = (TwMemory *)e;

    Py_CLEAR(m->incoming);
    Py_CLEAR(m->outgoing);
    Py_CLEAR(m->feed);
    Py_CLEAR(m->drain);
    Py_CLEAR(m->read);
    Py_CLEAR(m->write);
    Py_CLEAR(m->pending);
}

static const TwEngineOps memory_ops = {
    .in_size = memory_in_size,
    .bound = memory_bound,
    .read = memory_read,
    .write = memory_write,
    .before_method = memory_before_method,
    .after_method = memory_after_method,
    .refill = memory_refill,
    .out_size = memory_out_size,
    .out_peek = memory_out_peek,
    .out_clear = memory_out_clear,
    .out_take = memory_out_take,
    .detach = memory_detach,
    .traverse = memory_traverse,
};

/* Bound methods, looked up once. */
static tw_status
memory_bind(TwMemory *m, PyObject *object)
{
    const struct {
        PyObject **slot;
        PyObject *object;
        const char *name;
    } wanted[] = {
        {&m->feed, m->incoming, "write"},  {&m->drain, m->outgoing, "read"},
        {&m->read, object, "read"},        {&m->write, object, "write"},
        {&m->pending, object, "pending"},
    };

    for (size_t i = 0; i < Py_ARRAY_LENGTH(wanted); i++) {
        /* allow: methods of the ssl module, bound once */
        PyObject *f = PyObject_GetAttrString(wanted[i].object, wanted[i].name);
        if (f == NULL) {
            return -1;
        }
        *wanted[i].slot = f;
    }
    return 0;
}

TwEngine *
tw_memorybio_new(const TwEngineParts *parts)
{
    TwMemory *m = PyMem_Calloc(1, sizeof(TwMemory));
    bool plain = !parts->overridden && parts->inner != Py_None;

    if (m == NULL) {
        return (TwEngine *)PyErr_NoMemory();
    }
    m->base.ops = &memory_ops;
    m->base.loop = parts->loop;
    m->base.sslobj = Py_NewRef(parts->sslobj);
    m->foreign = !plain;
    m->dry = true;
    m->incoming = Py_NewRef(parts->incoming);
    m->outgoing = Py_NewRef(parts->outgoing);
    if (memory_bind(m, plain ? parts->inner : parts->sslobj) < 0) {
        tw_engine_free(&m->base);
        return NULL;
    }
    return &m->base;
}
