/* What the two engines share: their common head and their operations.

   Included by the engine files only; everyone else sees engine.h.  `in` is
   used by the direct engine, and holds what was kept; `lent` is a view of
   memory that somebody else owns, and comes after it. */
#pragma once

#include "tls/capture.h"
#include "tls/chunk.h"
#include "tls/engine.h"

typedef struct {
    tw_status (*lend)(TwEngine *e, const char *p, size_t n);
    tw_status (*keep)(TwEngine *e);
    size_t (*in_size)(TwEngine *e);
    bool (*is_readable)(TwEngine *e);
    Py_ssize_t (*read)(TwEngine *e, char *p, size_t n);
    Py_ssize_t (*write)(TwEngine *e, const char *p, size_t n);
    /* Around a method of the SSLObject, which drops the GIL. */
    tw_status (*before_method)(TwEngine *e);
    void (*after_method)(TwEngine *e);
    size_t (*out_size)(TwEngine *e);
    const char *(*out_peek)(TwEngine *e);
    void (*out_clear)(TwEngine *e);
    PyObject *(*out_take)(TwEngine *e);
    /* Let go of the SSLObject; the engine's memory is freed by the caller. */
    void (*detach)(TwEngine *e);
    int (*traverse)(TwEngine *e, visitproc visit, void *arg);
} TwEngineOps;

struct TwEngine {
    const TwEngineOps *ops;
    TwLoop *loop;      /* borrowed: the transport's */
    PyObject *context; /* borrowed: the transport's */
    PyObject *sslobj;  /* strong: ssl.SSLObject */
    unsigned busy;     /* calls into the cipher under way */
};

/* What came out of wrap_bio(), for the engines' constructors.  Borrowed. */
typedef struct {
    TwLoop *loop;
    PyObject *context;
    PyObject *sslobj;
    PyObject *inner;    /* sslobj._sslobj */
    PyObject *incoming; /* the MemoryBIOs it was made with */
    PyObject *outgoing;
    bool overridden;    /* a subclass has its own read() or write() */
} TwEngineParts;

/* The names of the ssl module that C asks for: state->tls is a tuple with
   these at its places (tidewire._tls.C_NAMES). */
enum {
    TW_TLS_HELPERS, /* the module tidewire._tls itself */
    TW_TLS_WANT_READ,
    TW_TLS_SYSCALL,
    TW_TLS_ERROR,
    TW_TLS_CERTIFICATE_ERROR,
    TW_TLS_MEMORY_BIO,
    TW_TLS_NAMES
};

/* Make state->tls if it is not there yet. */
TW_MUSTCHECK tw_status tw_engine_need_ssl(tw_state *state);

static inline PyObject *
tw_engine_name(const tw_state *state, int which)
{
    return PyTuple_GET_ITEM(state->tls, which);
}

/* Is the exception one of those that only mean "later"?  Then clear it. */
bool tw_engine_take_again(const tw_state *state);

/* -- engine_openssl.c ---------------------------------------------------- */

/* An engine on the SSL* of parts->inner; NULL without an exception if the
   capture has none. */
TwEngine *tw_openssl_new(const TwEngineParts *parts,
                         const TwCapture *capture);

/* -- engine_memorybio.c -------------------------------------------------- */

TwEngine *tw_memorybio_new(const TwEngineParts *parts);
