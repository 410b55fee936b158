#include "tls/libssl.h"

#include <dlfcn.h>
#include <string.h>

#define LIBSSL_OTHER                                                          \
    "the ssl module uses another OpenSSL than the one that its file is "      \
    "linked with"

TwLibssl tw_tls_lib;

/* The captures that are open in this thread. */
static _Thread_local TwCapture *libssl_captures;

/* -- new and freed objects ------------------------------------------------ */

static void
libssl_on_new(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl,
           void *argp)
{
    for (TwCapture *c = libssl_captures; c != NULL; c = c->next) {
        if (c->count < (int)Py_ARRAY_LENGTH(c->found)) {
            c->found[c->count++] = parent;
        }
    }
}

static void
libssl_on_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl,
            void *argp)
{
    if (ptr != NULL) {
        tw_openssl_on_free(ptr);
    }
    for (TwCapture *c = libssl_captures; c != NULL; c = c->next) {
        for (int i = 0; i < c->count; i++) {
            if (c->found[i] == parent) {
                c->found[i] = c->found[--c->count];
                break;
            }
        }
    }
}

TwCapture *
tw_capture_begin(void)
{
    TwCapture *capture = PyMem_Calloc(1, sizeof(*capture));

    if (capture == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    capture->next = libssl_captures;
    libssl_captures = capture;
    return capture;
}

void
tw_capture_end(TwCapture *capture)
{
    TwCapture **link = &libssl_captures;

    while (*link != NULL && *link != capture) {
        link = &(*link)->next;
    }
    if (*link != NULL) {
        *link = capture->next;
    }
}

/* The address of a C function of the ssl module.  It lies in the file that
   contains the module: _ssl.so or the interpreter. */
static void *
libssl_address(PyObject *f)
{
    void *address = NULL;

    if (PyCFunction_Check(f)) {
        PyCFunction function = PyCFunction_GetFunction(f);
        memcpy(&address, &function, sizeof(address));
    }
    return address;
}

/* Is it OpenSSL, and the one whose version the ssl module shows?  Nothing
   but OpenSSL_version() is called: it is the same everywhere. */
static const char *
libssl_identify(void *handle, const char *version)
{
    static const char *const forks[] = {"awslc_version_string",
                                        "BORINGSSL_self_test",
                                        "BORINGSSL_bcm_text_hash"};

    for (size_t i = 0; i < Py_ARRAY_LENGTH(forks); i++) {
        if (dlsym(handle, forks[i]) != NULL) {
            return "the ssl module uses a fork of OpenSSL";
        }
    }
    if (strcmp(tw_tls_lib.OpenSSL_version(OPENSSL_VERSION), version) != 0) {
        return LIBSSL_OTHER;
    }
    return NULL;
}

/* dlsym() on this handle searches the file and the libraries that it is
   linked with, but no libssl that another module has loaded. */
static const char *
libssl_open(void *address, const char *version)
{
    Dl_info where;
    void *handle;

    if (address == NULL || dladdr(address, &where) == 0) {
        return "the ssl module's file cannot be found";
    }
    /* NOLOAD: never load a second copy of the library. */
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
    return libssl_identify(handle, version);
}

static const char *
libssl_register(void)
{
    BIO_METHOD *method;
    int type;

    tw_tls_lib.index = tw_tls_lib.CRYPTO_get_ex_new_index(
        CRYPTO_EX_INDEX_SSL, 0, NULL, libssl_on_new, NULL, libssl_on_free);
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

/* NULL, or why the library cannot be used. */
static const char *
libssl_prepare(PyObject *function, const char *version, const char *refusal)
{
    const char *reason;

    if (refusal != NULL) {
        strncpy(tw_tls_lib.refusal, refusal, sizeof(tw_tls_lib.refusal) - 1);
        return tw_tls_lib.refusal;
    }
    reason = libssl_open(libssl_address(function), version);
    return reason == NULL ? libssl_register() : reason;
}

int
tw_libssl_find(PyObject *helpers, const char **reason)
{
    PyObject *library, *function;
    const char *version, *refusal;

    if (tw_tls_lib.verdict == 1) {
        return 1; /* a probe was interrupted */
    }
    /* allow: a name of our own module, once per process */
    library = PyObject_GetAttrString(helpers, "SSL_LIBRARY");
    if (library == NULL
        || !PyArg_ParseTuple(library, "Osz", &function, &version, &refusal)) {
        Py_XDECREF(library);
        return -1;
    }
    tw_tls_lib.reason = libssl_prepare(function, version, refusal);
    Py_DECREF(library);
    tw_tls_lib.verdict = tw_tls_lib.reason == NULL ? 1 : -1;
    *reason = tw_tls_lib.reason;
    return tw_tls_lib.verdict == 1;
}

int
tw_libssl_judge(bool good, const char **reason)
{
    if (tw_tls_lib.verdict == 1) {
        tw_tls_lib.verdict = good ? 2 : -1;
        tw_tls_lib.reason = good ? NULL : LIBSSL_OTHER;
    }
    return tw_libssl_verdict(reason);
}

const char *
tw_libssl_path(void)
{
    return tw_tls_lib.path;
}

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
