/* The direct engine: SSL_read_ex and SSL_write_ex on the ssl module's SSL*,
   over a BIO that reads and writes our memory. */
#include <string.h>

#include "tls/engine_impl.h"
#include "tls/libssl.h"

typedef struct {
    TwEngine base;
    SSL *ssl;         /* borrowed: valid while sslobj lives */
    BIO *bio;         /* strong: keeps the back pointer clearable */
    PyObject *inner;  /* strong: the _ssl._SSLSocket */
    TwBuf out;        /* ciphertext to be sent */
    size_t held;      /* bytes of an unfinished record that OpenSSL has */
    bool starved;     /* OpenSSL asked for more than there was */
    bool has_gil;     /* during a call from us, not from a method */
} TwDirect;

/* -- the BIO: OpenSSL reads and writes our memory ------------------------- */
/* These run with or without the GIL: no Python here, raw allocators only.  If
   the data is NULL the SSLObject has outlived its engine: it reads nothing,
   and what it writes is dropped. */

static size_t
direct_in_size(TwEngine *e)
{
    return tw_input_size(&e->in);
}

static size_t
direct_copy_in(TwDirect *d, char *p, size_t n)
{
    const char *from;
    size_t there = tw_input_peek(&d->base.in, &from);

    n = there < n ? there : n;
    memcpy(p, from, n);
    tw_input_skip(&d->base.in, n);
    return n;
}

int
tw_openssl_bio_read(BIO *bio, char *p, size_t n, size_t *got)
{
    TwDirect *d = tw_tls_lib.BIO_get_data(bio);

    tw_tls_lib.BIO_clear_flags(bio, BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY);
    if (d == NULL || direct_in_size(&d->base) == 0) {
        if (d != NULL) {
            d->starved = true;
        }
        tw_tls_lib.BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY);
        *got = 0;
        return 0;
    }
    *got = direct_copy_in(d, p, n);
    return 1;
}

int
tw_openssl_bio_write(BIO *bio, const char *p, size_t n, size_t *written)
{
    TwDirect *d = tw_tls_lib.BIO_get_data(bio);

    tw_tls_lib.BIO_clear_flags(bio, BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY);
    if (d != NULL) {
        TwLoop *loop = d->has_gil ? d->base.loop : NULL;
        if (!tw_buf_reserve(loop, &d->out, n)) {
            *written = 0;
            return 0;
        }
        memcpy(d->out.p + d->out.w, p, n);
        d->out.w += n;
    }
    *written = n;
    return 1;
}

long
tw_openssl_bio_ctrl(BIO *bio, int cmd, long larg, void *parg)
{
    TwDirect *d = tw_tls_lib.BIO_get_data(bio);

    switch (cmd) {
    case BIO_CTRL_FLUSH:
    case BIO_CTRL_DUP:
        return 1;
    case BIO_CTRL_PENDING:
        return d == NULL ? 0 : (long)direct_in_size(&d->base);
    case BIO_CTRL_WPENDING:
        return d == NULL ? 0 : (long)tw_buf_size(&d->out);
    default:
        return 0; /* "no" to end of file and to kernel TLS */
    }
}

void
tw_openssl_on_free(void *data)
{
    ((TwDirect *)data)->ssl = NULL;
}

/* -- ciphertext in and out ------------------------------------------------ */

/* Old errors of other code would be taken for errors of this connection. */
static void
direct_lent(void)
{
    if (TW_UNLIKELY(tw_tls_lib.ERR_peek_error() != 0)) {
        tw_tls_lib.ERR_clear_error();
    }
}

static size_t
direct_bound(TwEngine *e)
{
    TwDirect *d = (TwDirect *)e;
    size_t n = direct_in_size(e);

    if (d->ssl != NULL) {
        n += (size_t)tw_tls_lib.SSL_pending(d->ssl);
    }
    return n == 0 ? 0 : n + d->held;
}

static size_t
direct_out_size(TwEngine *e)
{
    return tw_buf_size(&((TwDirect *)e)->out);
}

static const char *
direct_out_peek(TwEngine *e)
{
    TwDirect *d = (TwDirect *)e;

    return d->out.p + d->out.r;
}

static void
direct_out_clear(TwEngine *e)
{
    tw_buf_release(e->loop, &((TwDirect *)e)->out, true);
}

static PyObject *
direct_out_take(TwEngine *e)
{
    TwDirect *d = (TwDirect *)e;
    PyObject *bytes = PyBytes_FromStringAndSize(
        d->out.p == NULL ? NULL : d->out.p + d->out.r,
        (Py_ssize_t)tw_buf_size(&d->out));

    if (bytes != NULL) {
        direct_out_clear(e);
    }
    return bytes;
}

static tw_status
direct_before_method(TwEngine *e)
{
    TwDirect *d = (TwDirect *)e;

    /* Allocate the block here, with the GIL: otherwise the handshake would
       allocate one of that size each time. */
    if (!tw_buf_reserve(e->loop, &d->out, 0)) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static void
direct_after_method(TwEngine *e)
{
    tw_buf_release(e->loop, &((TwDirect *)e)->out, false);
}

static int
direct_refill(TwEngine *e)
{
    return 0; /* the BIO has read all there is */
}

/* -- the cipher ----------------------------------------------------------- */

/* SSL_read_ex failed.  The error is still in OpenSSL's state and queue: when
   the ssl module reads, it fails in the same way and makes the exception. */
static Py_ssize_t
direct_read_failed(TwDirect *d, char *p)
{
    PyObject *argv[] = {d->inner, PyLong_FromLong(1)}, *result;
    Py_ssize_t got = 0;

    if (argv[1] == NULL) {
        return -1;
    }
    result = tw_call_plain_method(d->base.loop->state->str.read, argv, 2);
    Py_DECREF(argv[1]);
    if (result == NULL) {
        return tw_engine_raised(&d->base);
    }
    if (PyBytes_Check(result) && PyBytes_GET_SIZE(result) == 1) {
        *p = PyBytes_AS_STRING(result)[0];
        got = 1;
    }
    Py_DECREF(result);
    return got;
}

/* Around each call into OpenSSL. */
static inline void
direct_begin(TwDirect *d)
{
    d->starved = false;
    d->has_gil = true;
    d->base.busy++;
}

static inline void
direct_end(TwDirect *d)
{
    d->base.busy--;
    d->has_gil = false;
}

/* Does the operation only wait for the peer?  This does not look at the
   error queue, which may have old errors of others. */
static inline bool
direct_wants(TwDirect *d)
{
    return d->starved && tw_tls_lib.SSL_want(d->ssl) == SSL_READING;
}

static Py_ssize_t
direct_read(TwEngine *e, char *p, size_t n)
{
    TwDirect *d = (TwDirect *)e;
    size_t got = 0, before = direct_in_size(e);
    int ok, error;

    if (d->ssl == NULL) {
        return TW_ENGINE_WANT;
    }
    direct_begin(d);
    ok = tw_tls_lib.SSL_read_ex(d->ssl, p, n, &got);
    direct_end(d);
    if (TW_LIKELY(ok > 0)) {
        d->held = 0;
        return (Py_ssize_t)got;
    }
    if (direct_wants(d)) {
        d->held += before - direct_in_size(e);
        return TW_ENGINE_WANT;
    }
    error = tw_tls_lib.SSL_get_error(d->ssl, ok);
    if (error == SSL_ERROR_ZERO_RETURN) {
        return 0;
    }
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        return TW_ENGINE_WANT;
    }
    e->busy++;
    Py_ssize_t result = direct_read_failed(d, p);
    e->busy--;
    return result;
}

/* The same for writing, which may also succeed this time. */
static Py_ssize_t
direct_write_failed(TwDirect *d, const char *p, size_t n)
{
    PyObject *argv[] = {d->inner,
                        PyBytes_FromStringAndSize(p, (Py_ssize_t)n)};
    PyObject *result;
    Py_ssize_t taken;

    if (argv[1] == NULL) {
        return -1;
    }
    result = tw_call_plain_method(d->base.loop->state->str.write, argv, 2);
    Py_DECREF(argv[1]);
    if (result == NULL) {
        return tw_engine_raised(&d->base);
    }
    taken = PyLong_AsSsize_t(result);
    Py_DECREF(result);
    return taken;
}

static Py_ssize_t
direct_write(TwEngine *e, const char *p, size_t n)
{
    TwDirect *d = (TwDirect *)e;
    size_t taken = 0;
    int ok, error;

    if (d->ssl == NULL) {
        return (Py_ssize_t)n;
    }
    direct_begin(d);
    ok = tw_tls_lib.SSL_write_ex(d->ssl, p, n, &taken);
    direct_end(d);
    if (TW_LIKELY(ok > 0)) {
        return (Py_ssize_t)taken;
    }
    if (direct_wants(d)) {
        return TW_ENGINE_WANT;
    }
    error = tw_tls_lib.SSL_get_error(d->ssl, ok);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        return TW_ENGINE_WANT;
    }
    e->busy++;
    Py_ssize_t result = direct_write_failed(d, p, n);
    e->busy--;
    return result;
}

/* -- life ----------------------------------------------------------------- */

static void
direct_detach(TwEngine *e)
{
    TwDirect *d = (TwDirect *)e;

    if (d->ssl != NULL) {
        tw_tls_lib.SSL_set_ex_data(d->ssl, tw_tls_lib.index, NULL);
    }
    tw_tls_lib.BIO_set_data(d->bio, NULL);
    tw_tls_lib.BIO_free(d->bio);
    tw_buf_release(e->loop, &d->out, true);
    Py_CLEAR(d->inner);
}

static int
direct_traverse(TwEngine *e, visitproc visit, void *arg)
{
    Py_VISIT(((TwDirect *)e)->inner);
    return 0;
}

static const TwEngineOps direct_ops = {
    .lent = direct_lent,
    .in_size = direct_in_size,
    .bound = direct_bound,
    .read = direct_read,
    .write = direct_write,
    .before_method = direct_before_method,
    .after_method = direct_after_method,
    .refill = direct_refill,
    .out_size = direct_out_size,
    .out_peek = direct_out_peek,
    .out_clear = direct_out_clear,
    .out_take = direct_out_take,
    .detach = direct_detach,
    .traverse = direct_traverse,
};

/* Replace both memory BIOs of the object by one of ours. */
static bool
direct_attach(TwDirect *d)
{
    BIO *bio = tw_tls_lib.BIO_new(tw_tls_lib.method);

    if (bio == NULL) {
        return false;
    }
    tw_tls_lib.BIO_set_data(bio, d);
    tw_tls_lib.BIO_set_init(bio, 1);
    if (!tw_tls_lib.SSL_set_ex_data(d->ssl, tw_tls_lib.index, d)) {
        tw_tls_lib.BIO_free(bio);
        return false;
    }
    /* One reference for us, one for each direction. */
    tw_tls_lib.BIO_up_ref(bio);
    tw_tls_lib.BIO_up_ref(bio);
    tw_tls_lib.SSL_set0_rbio(d->ssl, bio);
    tw_tls_lib.SSL_set0_wbio(d->ssl, bio);
    d->bio = bio;
    return true;
}

TwEngine *
tw_openssl_new(const TwEngineParts *parts, const TwCapture *capture)
{
    SSL *ssl = tw_libssl_of(capture, parts->inner);
    TwDirect *d;

    if (ssl == NULL) {
        return NULL;
    }
    d = PyMem_Calloc(1, sizeof(TwDirect));
    if (d == NULL) {
        return (TwEngine *)PyErr_NoMemory();
    }
    d->base.ops = &direct_ops;
    d->base.loop = parts->loop;
    d->ssl = ssl;
    if (!direct_attach(d)) {
        PyMem_Free(d);
        return NULL;
    }
    d->base.sslobj = Py_NewRef(parts->sslobj);
    d->inner = Py_NewRef(parts->inner);
    return &d->base;
}
