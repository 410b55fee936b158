/* The ssl module's own libssl, found at run time and called by pointers.

   libssl is not linked.  The dynamic linker knows which copy _ssl.so needs.
   Before anything else is called, its version text is compared with the one
   that the ssl module shows, and forks of OpenSSL are refused: they have
   functions of the same names with other arguments.  Then a probe proves that
   it is the same library: for an object that the ssl module makes, the hook
   that we registered there must be called, and the object must have the ssl
   module's back pointer and the method table of that very library.  So nothing
   here depends on the layout of CPython's structs, and another libssl in the
   process is not mistaken for it.

   tw_tls_lib has what exists once per process: the functions, our index of
   ex_data, our BIO method.  They are never unregistered.  Only libssl.c and
   engine_openssl.c use OpenSSL. */
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/common.h"
#include "tls/capture.h"

#define TLS_FUNCTIONS(X)                                                      \
    X(OpenSSL_version)                                                        \
    X(CRYPTO_get_ex_new_index)                                                \
    X(SSL_get_ex_data)                                                        \
    X(SSL_set_ex_data)                                                        \
    X(SSL_get_ssl_method)                                                     \
    X(TLS_client_method)                                                      \
    X(SSL_set0_rbio)                                                          \
    X(SSL_set0_wbio)                                                          \
    X(SSL_read_ex)                                                            \
    X(SSL_write_ex)                                                           \
    X(SSL_get_error)                                                          \
    X(SSL_want)                                                               \
    X(SSL_pending)                                                            \
    X(ERR_peek_error)                                                         \
    X(ERR_clear_error)                                                        \
    X(BIO_get_new_index)                                                      \
    X(BIO_meth_new)                                                           \
    X(BIO_meth_set_read_ex)                                                   \
    X(BIO_meth_set_write_ex)                                                  \
    X(BIO_meth_set_ctrl)                                                      \
    X(BIO_new)                                                                \
    X(BIO_up_ref)                                                             \
    X(BIO_free)                                                               \
    X(BIO_set_data)                                                           \
    X(BIO_get_data)                                                           \
    X(BIO_set_init)                                                           \
    X(BIO_set_flags)                                                          \
    X(BIO_clear_flags)

typedef struct {
    int verdict; /* 0 not examined, 1 found, 2 usable, -1 not usable */
    const char *reason;
    char path[4096]; /* of libssl */
    char refusal[200];
    int index;       /* of our ex_data in each SSL */
    BIO_METHOD *method;
#define X(name) __typeof__(name) *name;
    TLS_FUNCTIONS(X)
#undef X
} TwLibssl;

extern TwLibssl tw_tls_lib;

/* The SSL* whose back pointer is `inner`, or NULL. */
SSL *tw_libssl_of(const TwCapture *capture, PyObject *inner);

/* engine_openssl.c: the functions of the BIO method, and the one that is
   called when an SSL with our ex_data is freed. */
int tw_openssl_bio_read(BIO *bio, char *p, size_t n, size_t *got);
int tw_openssl_bio_write(BIO *bio, const char *p, size_t n, size_t *written);
long tw_openssl_bio_ctrl(BIO *bio, int cmd, long larg, void *parg);
void tw_openssl_on_free(void *data);
