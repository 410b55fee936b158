/* What only the engine files share. */
#pragma once

#include "tls/capture.h"
#include "tls/engine.h"

/* The results of wrap_bio(), for the engines' constructors.  Borrowed. */
typedef struct {
    TwLoop *loop;
    PyObject *sslobj;
    PyObject *inner;    /* sslobj._sslobj */
    PyObject *incoming; /* the MemoryBIOs it was made with */
    PyObject *outgoing;
    bool overridden;    /* a subclass has its own read() or write() */
} TwEngineParts;

/* The result of a call into the cipher that raised: TW_ENGINE_WANT if the
   exception only says that the peer has to send first, and then it is cleared;
   else -1. */
int tw_engine_raised(const TwEngine *e);

/* -- engine_openssl.c ----------------------------------------------------- */

/* An engine on the SSL* of parts->inner; NULL without an exception if the
   capture has none. */
TwEngine *tw_openssl_new(const TwEngineParts *parts,
                         const TwCapture *capture);

/* -- engine_memorybio.c --------------------------------------------------- */

TwEngine *tw_memorybio_new(const TwEngineParts *parts);
