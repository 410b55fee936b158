/* What only the engine files share. */
#pragma once

#include "tls/capture.h"
#include "tls/engine.h"
#include "tls/input.h"
#include "tls/names.h"

/* The results of wrap_bio(), for the engines' constructors.  Borrowed. */
typedef struct {
    TwLoop *loop;
    PyObject *sslobj;
    PyObject *inner;    /* sslobj._sslobj */
    PyObject *incoming; /* the MemoryBIOs it was made with */
    PyObject *outgoing;
    bool overridden;    /* a subclass has its own read() or write() */
} TwEngineParts;

/* Does the current exception only say that the peer has to send first?  Then
   clear it. */
bool tw_engine_is_want_read(const tw_state *state);

/* -- engine_openssl.c ----------------------------------------------------- */

/* An engine on the SSL* of parts->inner; NULL without an exception if the
   capture has none. */
TwEngine *tw_openssl_new(const TwEngineParts *parts,
                         const TwCapture *capture);

/* -- engine_memorybio.c --------------------------------------------------- */

TwEngine *tw_memorybio_new(const TwEngineParts *parts);
