#include "tls/libssl.h"

#include <dlfcn.h>
#include <string.h>

TwLibssl tw_tls_lib;

/* Of the running wrap_bio() calls of this thread. */
static _Thread_local TwCapture *tls_capture;

/* -- new and freed objects ------------------------------------------------ */

static void
tls_on_new(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl,
           void *argp)
{
    TwCapture *capture = tls_capture;

    if (capture != NULL
        && capture->count < (int)Py_ARRAY_LENGTH(capture->found)) {
        capture->found[capture->count++] = parent;
    }
}

static void
tls_on_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl,
            void *argp)
{
    if (ptr != NULL) {
        tw_openssl_on_free(ptr);
    }
    for (TwCapture *c = tls_capture; c != NULL; c = c->outer) {
        for (int i = 0; i < c->count; i++) {
            if (c->found[i] == parent) {
                c->found[i] = c->found[--c->count];
                break;
            }
        }
    }
}

void
tw_capture_begin(TwCapture *capture)
{
    capture->outer = tls_capture;
    capture->count = 0;
    tls_capture = capture;
}

void
tw_capture_end(TwCapture *capture)
{
    tls_capture = capture->outer;
}

/* The address of a C function of the ssl module: it lies in the file that
   holds the ssl module, be it _ssl.so or the program itself. */
static void *
tls_address_in_ssl(PyObject *helpers)
{
    /* allow: a name of our own module, once per process */
    PyObject *f = PyObject_GetAttrString(helpers, "SSL_C_FUNCTION");
    void *address = NULL;

    if (f == NULL) {
        return NULL;
    }
    if (PyCFunction_Check(f)) {
        PyCFunction function = PyCFunction_GetFunction(f);
        memcpy(&address, &function, sizeof(address));
    }
    Py_DECREF(f);
    return address;
}

/* dlsym() on that handle searches the file and then what *it* is linked
   with: not another libssl that some other module brought. */
static const char *
tls_open(void *address)
{
    Dl_info where;
    void *handle;

    if (address == NULL || dladdr(address, &where) == 0) {
        return "the ssl module's file cannot be found";
    }
    /* NOLOAD: a second copy of a library would be worse than none. */
    handle = dlopen(where.dli_fname, RTLD_NOLOAD | RTLD_LAZY);
    if (handle == NULL) {
        handle = dlopen(NULL, RTLD_LAZY);
    }
    if (handle == NULL) {
        return "the ssl module's file cannot be opened";
    }
#define X(name)                                                               \
    tw_tls_lib.name = (__typeof__(tw_tls_lib.name))dlsym(handle, #name);      \
    if (tw_tls_lib.name == NULL) {                                            \
        return "the ssl module's OpenSSL is hidden: no symbol " #name;        \
    }
    TLS_FUNCTIONS(X)
#undef X
    if (dladdr((void *)tw_tls_lib.SSL_read_ex, &where) != 0) {
        strncpy(tw_tls_lib.path, where.dli_fname, sizeof(tw_tls_lib.path) - 1);
    }
    return NULL;
}

static const char *
tls_register(void)
{
    BIO_METHOD *method;
    int type;

    tw_tls_lib.index = tw_tls_lib.CRYPTO_get_ex_new_index(
        CRYPTO_EX_INDEX_SSL, 0, NULL, tls_on_new, NULL, tls_on_free);
    type = tw_tls_lib.BIO_get_new_index();
    if (tw_tls_lib.index < 1 || type == -1) {
        return "OpenSSL has no free index";
    }
    method = tw_tls_lib.BIO_meth_new(type | BIO_TYPE_SOURCE_SINK, "tidewire");
    if (method == NULL
        || !tw_tls_lib.BIO_meth_set_read_ex(method, tw_openssl_bio_read)
        || !tw_tls_lib.BIO_meth_set_write_ex(method, tw_openssl_bio_write)
        || !tw_tls_lib.BIO_meth_set_ctrl(method, tw_openssl_bio_ctrl)) {
        return "OpenSSL refuses a BIO method";
    }
    tw_tls_lib.method = method;
    return NULL;
}

int
tw_libssl_verdict(const char **reason)
{
    *reason = tw_tls_lib.reason;
    return tw_tls_lib.verdict == 2 ? 1 : tw_tls_lib.verdict == -1 ? 0 : -1;
}

int
tw_libssl_find(PyObject *helpers, const char **reason)
{
    void *address;

    if (tw_tls_lib.verdict == 1) {
        return 1; /* a probe was interrupted */
    }
    address = tls_address_in_ssl(helpers);
    if (address == NULL && PyErr_Occurred()) {
        return -1;
    }
    tw_tls_lib.reason = tls_open(address);
    if (tw_tls_lib.reason == NULL) {
        tw_tls_lib.reason = tls_register();
    }
    tw_tls_lib.verdict = tw_tls_lib.reason == NULL ? 1 : -1;
    *reason = tw_tls_lib.reason;
    return tw_tls_lib.verdict == 1;
}

int
tw_libssl_judge(bool good, const char **reason)
{
    if (tw_tls_lib.verdict == 1) {
        tw_tls_lib.verdict = good ? 2 : -1;
        tw_tls_lib.reason = good ? NULL
                              : "the ssl module uses another OpenSSL than "
                                "the one that its file is linked with";
    }
    return tw_libssl_verdict(reason);
}

const char *
tw_libssl_path(void)
{
    return tw_tls_lib.path;
}

/* The SSL* whose back pointer is `inner`. */
SSL *
tw_libssl_of(const TwCapture *capture, PyObject *inner)
{
    for (int i = 0; i < capture->count; i++) {
        if (tw_tls_lib.SSL_get_ex_data(capture->found[i], 0) == inner) {
            return capture->found[i];
        }
    }
    return NULL;
}

bool
tw_libssl_recognises(const TwCapture *capture, PyObject *inner)
{
    SSL *ssl = tw_libssl_of(capture, inner);

    return ssl != NULL && capture->count == 1
           && tw_tls_lib.SSL_get_ssl_method(ssl)
                  == tw_tls_lib.TLS_client_method();
}
