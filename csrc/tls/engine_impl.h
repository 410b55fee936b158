/* What the two engines share: their common head and their operations.

   Included by the engine files only; everyone else sees engine.h. */
#pragma once

#include "tls/capture.h"
#include "tls/engine.h"
#include "tls/feed.h"
#include "tls/names.h"

typedef struct {
    tw_status (*lend)(TwEngine *e, const char *p, size_t n);
    tw_status (*keep)(TwEngine *e);
    size_t (*in_size)(TwEngine *e);
    size_t (*bound)(TwEngine *e);
    Py_ssize_t (*read)(TwEngine *e, char *p, size_t n);
    Py_ssize_t (*write)(TwEngine *e, const char *p, size_t n);
    /* Around a method of the SSLObject, which drops the GIL. */
    tw_status (*before_method)(TwEngine *e);
    void (*after_method)(TwEngine *e);
    /* The cipher wants more: give it the next piece.  1; 0: no more; -1. */
    int (*refill)(TwEngine *e);
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

/* Is the exception one of those that only mean "later"?  Then clear it. */
bool tw_engine_take_again(const tw_state *state);

/* -- engine_openssl.c ----------------------------------------------------- */

/* An engine on the SSL* of parts->inner; NULL without an exception if the
   capture has none. */
TwEngine *tw_openssl_new(const TwEngineParts *parts,
                         const TwCapture *capture);

/* -- engine_memorybio.c --------------------------------------------------- */

TwEngine *tw_memorybio_new(const TwEngineParts *parts);
