/* TLS without sockets: ciphertext in, plaintext out, and the other way.

   An engine drives one ssl.SSLObject, the ordinary one that
   context.wrap_bio() makes.  Handshake and unwrap are that object's own
   methods, so errors, callbacks and overrides in subclasses are the ssl
   module's.  For the data there are two ways behind this API:
     direct      SSL_read_ex and SSL_write_ex on the object's own SSL*, over
                 a BIO that reads and writes our memory (engine_openssl.c);
     memorybio   the object's read() and write() over ssl.MemoryBIO
                 (engine_memorybio.c): where the libssl of the ssl module
                 cannot be reached or is not known, for contexts with a
                 message callback, for subclasses that override read().

   Ownership.  The engine is its transport's, made and freed with the GIL; it
   owns the SSLObject.  That one may outlive it: it then behaves as with
   memory that nobody fills or empties.

   Results of the functions that drive the cipher: a count or TW_ENGINE_DONE;
   TW_ENGINE_WANT: ciphertext of the peer is needed first; -1 with the
   exception that the ssl module made.  They can run Python (SNI, message and
   PSK callbacks; subclasses), so the transport must expect to be closed. */
#pragma once

#include "core/call.h"

typedef struct TwEngine TwEngine;

#define TW_ENGINE_DONE 1
#define TW_ENGINE_WANT (-2)

/* An engine for a new connection.  `context` (contextvars) is the one to run
   callbacks in: borrowed, the owner of the engine keeps it.  NULL with an
   exception, wrap_bio()'s too. */
TwEngine *tw_engine_new(TwLoop *loop, PyObject *sslcontext, bool server_side,
                        PyObject *server_hostname, PyObject *context);
void tw_engine_free(TwEngine *engine);
int tw_engine_traverse(TwEngine *engine, visitproc visit, void *arg);

/* The ssl.SSLObject, borrowed: valid while the engine lives. */
PyObject *tw_engine_object(const TwEngine *engine);

/* A call into the cipher is under way (a callback of it asks). */
bool tw_engine_is_busy(const TwEngine *engine);

/* -- ciphertext that came ------------------------------------------------- */

/* Lend n bytes at p, behind those that wait; no copy is made if it can be
   avoided.  The loan ends with tw_engine_keep().  -1 with MemoryError. */
TW_MUSTCHECK tw_status tw_engine_lend(TwEngine *engine, const char *p,
                                      size_t n);
/* Copy what was not consumed: the lender wants its memory back. */
TW_MUSTCHECK tw_status tw_engine_keep(TwEngine *engine);

/* Bytes that came and were not consumed. */
size_t tw_engine_in_size(TwEngine *engine);

/* How much read() may give without more ciphertext: 0 if nothing.  A guess
   from above in most cases (a record may be incomplete or hold no data), and
   seldom from below (one that came in pieces). */
size_t tw_engine_bound(TwEngine *engine);

/* -- the cipher ----------------------------------------------------------- */

int tw_engine_handshake(TwEngine *engine);
int tw_engine_unwrap(TwEngine *engine);

/* Plaintext into memory of n > 0 bytes: how many; 0 for close_notify. */
Py_ssize_t tw_engine_read(TwEngine *engine, char *p, size_t n);

/* Encrypt n > 0 bytes: how many were taken.  After TW_ENGINE_WANT the same
   bytes must come again (more may follow them). */
Py_ssize_t tw_engine_write(TwEngine *engine, const char *p, size_t n);

/* -- ciphertext to be sent ------------------------------------------------ */

size_t tw_engine_out_size(TwEngine *engine);

/* The memory of it, valid until the engine's next operation; or NULL if the
   engine has it elsewhere: then ask for bytes. */
const char *tw_engine_out_peek(TwEngine *engine);

/* It was sent. */
void tw_engine_out_clear(TwEngine *engine);

/* Take all of it as a bytes object: a new reference or NULL + exception. */
PyObject *tw_engine_out_take(TwEngine *engine);

/* -- which engine --------------------------------------------------------- */

/* tls_backend(): ("direct", path of libssl) or ("memorybio", reason). */
PyObject *tw_engine_backend(PyObject *module, PyObject *unused);

TW_MUSTCHECK tw_status tw_engine_setup(tw_state *state, PyObject *module);
