/* TLS without sockets: ciphertext in, plaintext out, and the reverse.

   An engine drives one ssl.SSLObject, the ordinary one that
   context.wrap_bio() makes.  Handshake and unwrap are that object's own
   methods, so errors, callbacks and overrides in subclasses are the ssl
   module's.  For the data there are two engines:
     direct      SSL_read_ex and SSL_write_ex on the object's own SSL*, over
                 a BIO that reads and writes our memory (engine_openssl.c);
     memorybio   the object's read() and write() over ssl.MemoryBIO
                 (engine_memorybio.c).  Used where the ssl module's libssl
                 cannot be reached or is not known, for contexts with a
                 message callback, for subclasses that override read().
   engine_choice.c decides between them for each connection.

   Ownership.  The transport owns its engine, which is made and freed with the
   GIL.  The engine owns the SSLObject, which may live longer: it then has
   nothing to read, and what it writes is dropped.

   Results of functions that drive the cipher: a count or TW_ENGINE_DONE;
   TW_ENGINE_WANT if the peer has to send first; -1 with the ssl module's
   exception.  All of these can run Python (SNI, message and PSK callbacks;
   subclasses): the transport may be closed afterwards. */
#pragma once

#include "core/call.h"
#include "tls/input.h"

#define TW_ENGINE_DONE 1
#define TW_ENGINE_WANT (-2)

typedef struct TwEngine TwEngine;

/* Call these through the functions below. */
typedef struct {
    /* Or NULL.  Received ciphertext is lent. */
    void (*lent)(void);
    size_t (*in_size)(TwEngine *e);
    size_t (*bound)(TwEngine *e);
    Py_ssize_t (*read)(TwEngine *e, char *p, size_t n);
    Py_ssize_t (*write)(TwEngine *e, const char *p, size_t n);
    /* Around a method of the SSLObject, which releases the GIL. */
    tw_status (*before_method)(TwEngine *e);
    void (*after_method)(TwEngine *e);
    /* Pass the next piece to a cipher that wants more.  1; 0: there is no
       more; -1. */
    int (*refill)(TwEngine *e);
    size_t (*out_size)(TwEngine *e);
    const char *(*out_peek)(TwEngine *e);
    void (*out_clear)(TwEngine *e);
    PyObject *(*out_take)(TwEngine *e);
    /* Release the SSLObject; the caller frees the engine's memory. */
    void (*detach)(TwEngine *e);
    int (*traverse)(TwEngine *e, visitproc visit, void *arg);
} TwEngineOps;

/* The head of both engines. */
struct TwEngine {
    const TwEngineOps *ops;
    TwLoop *loop;      /* borrowed: the transport's */
    PyObject *context; /* strong: see tw_engine_new() */
    PyObject *sslobj;  /* strong: ssl.SSLObject */
    TwInput in;        /* received ciphertext that the cipher has not got */
    unsigned busy;     /* calls into the cipher that have not returned */
};

/* Objects of the ssl module and of tidewire._tls that C uses: the indexes in
   state->tls, which is tidewire._tls.C_NAMES. */
enum {
    TW_TLS_HELPERS, /* the module tidewire._tls itself */
    TW_TLS_WANT_READ,
    TW_TLS_SYSCALL,
    TW_TLS_ERROR,
    TW_TLS_CERTIFICATE_ERROR,
    TW_TLS_NAMES
};

static inline PyObject *
tw_engine_name(const tw_state *state, int which)
{
    return PyTuple_GET_ITEM(state->tls, which);
}

/* -- engine_choice.c ------------------------------------------------------ */

/* An engine for a new connection.  `context` (contextvars) is the one in which
   callbacks run; the engine keeps it.  NULL with an exception, which may be
   wrap_bio()'s. */
TwEngine *tw_engine_new(TwLoop *loop, PyObject *sslcontext, bool server_side,
                        PyObject *server_hostname, PyObject *context);

TW_MUSTCHECK tw_status tw_engine_setup(tw_state *state, PyObject *module);

/* -- engine.c ------------------------------------------------------------- */

void tw_engine_free(TwEngine *engine);
int tw_engine_traverse(TwEngine *engine, visitproc visit, void *arg);

int tw_engine_handshake(TwEngine *engine);

/* Did the handshake that is done continue an older session? */
int tw_engine_is_resumed(TwEngine *engine);
int tw_engine_unwrap(TwEngine *engine);

/* Has a call into the cipher not returned yet?  (A callback of it asks.) */
static inline bool
tw_engine_is_busy(const TwEngine *e)
{
    return e->busy > 0;
}

/* -- received ciphertext -------------------------------------------------- */

/* Lend n bytes at p, after those that wait; they are copied only if others
   wait.  The loan ends with tw_engine_keep().  -1 with MemoryError. */
TW_MUSTCHECK tw_status tw_engine_lend(TwEngine *e, const char *p, size_t n);

/* End the loan: copy what was not consumed.  -1 with MemoryError. */
TW_MUSTCHECK static inline tw_status
tw_engine_keep(TwEngine *e)
{
    return tw_input_keep(&e->in, e->loop);
}

/* Bytes that were received and not consumed. */
static inline size_t
tw_engine_in_size(TwEngine *e)
{
    return e->ops->in_size(e);
}

/* How much read() may return without more ciphertext: 0 if nothing.  Usually
   too much (a record may be incomplete or hold no data), seldom too little (a
   record that was received in pieces). */
static inline size_t
tw_engine_bound(TwEngine *e)
{
    return e->ops->bound(e);
}

/* -- the cipher ----------------------------------------------------------- */

/* Decrypt into memory of n > 0 bytes: how many; 0 for close_notify. */
static inline Py_ssize_t
tw_engine_read(TwEngine *e, char *p, size_t n)
{
    return e->ops->read(e, p, n);
}

/* Encrypt n > 0 bytes: how many were encrypted.  After TW_ENGINE_WANT the same
   bytes must be passed again (more may follow them). */
static inline Py_ssize_t
tw_engine_write(TwEngine *e, const char *p, size_t n)
{
    return e->ops->write(e, p, n);
}

/* -- ciphertext to be sent ------------------------------------------------ */

static inline size_t
tw_engine_out_size(TwEngine *e)
{
    return e->ops->out_size(e);
}

/* Its memory, valid until the engine's next operation; or NULL: use
   tw_engine_out_take(). */
static inline const char *
tw_engine_out_peek(TwEngine *e)
{
    return e->ops->out_peek(e);
}

/* All of it was sent. */
static inline void
tw_engine_out_clear(TwEngine *e)
{
    e->ops->out_clear(e);
}

/* Take all of it as a bytes object: a new reference or NULL + exception. */
static inline PyObject *
tw_engine_out_take(TwEngine *e)
{
    return e->ops->out_take(e);
}
