/* TLS transports: the state machine between a protocol and a lower transport.

   States (asyncio's): UNWRAPPED -> HANDSHAKE -> WRAPPED -> FLUSHING ->
   SHUTDOWN, and UNWRAPPED again when aborted or lost. FLUSHING: write() is
   ignored, waiting data is still moved in both directions; SHUTDOWN: our
   close_notify is sent, the peer's is not here yet.

   Who calls whom.  The lower transport (filter.h) calls tls_flow.c with
   ciphertext and events; tls_flow.c changes the state; tls_read.c calls the
   protocol with plaintext; the program calls tls_write.c.  Any call to the
   protocol or into the engine may close or abort the transport: check the
   state again after it.

   Ownership.  The transport owns its engine, the lower transport and the SSL
   context.  The lower transport owns it as its sink or protocol; this cycle
   is cut when the connection is lost.  Plaintext waits in `backlog`, by
   reference, while it cannot be encrypted (handshake, renegotiation) or
   while the lower transport is full.  Ciphertext waits in the lower
   transport.  Both count as write buffer.

   Flags. TW_F_CLOSING: close() or abort() was called, or the connection is
   lost. TW_F_EOF_GOT: the lower transport's end of file. TW_F_READ_PAUSED
   and TW_F_WRITE_PAUSED: the program's pause_reading(), our
   pause_writing(). TW_F_LOST_SCHEDULED: the lower connection is lost;
   TW_F_LOST follows with connection_lost().

   Everything runs on the loop's thread. tw_status -1: an exception leaves
   the loop. */
#pragma once

#include "base/bufq.h"
#include "net/transport.h"
#include "tls/engine.h"

/* asyncio's default limits for TLS. */
#define TW_TLS_WRITE_HIGH (512 * 1024)
#define TW_TLS_READ_HIGH (256 * 1024)

typedef enum {
    TW_TLS_UNWRAPPED,
    TW_TLS_HANDSHAKE,
    TW_TLS_WRAPPED,
    TW_TLS_FLUSHING,
    TW_TLS_SHUTDOWN
} TwTlsState;

/* The last callback of the protocol. */
typedef enum {
    TW_APP_INIT, /* before connection_made */
    TW_APP_MADE,
    TW_APP_EOF,  /* eof_received was called */
    TW_APP_LOST  /* connection_lost is scheduled, or was called */
} TwAppState;

typedef struct TwTls {
    TwBaseTransport base;
    TwEngine *engine;      /* ours, until dealloc */
    PyObject *lower;       /* strong or NULL: TwStream, or any transport */
    PyObject *adapter;     /* strong or NULL: our protocol on `lower` */
    PyObject *sslcontext;  /* strong */
    PyObject *timer;       /* strong or NULL: handle of a timeout */
    PyObject *handshake_timeout; /* strong: seconds, as given */
    PyObject *shutdown_timeout;  /* strong */
    PyObject *read_error;  /* strong or NULL: what reading failed with, until
                              the data in front of it is delivered */
    TwBufq backlog;        /* plaintext, encrypted later */
    size_t read_high;      /* ciphertext kept for a paused reader: above */
    size_t read_low;       /* this the lower transport is paused */
    double started;        /* when the handshake began (debug mode) */
    uint8_t state;         /* TwTlsState */
    uint8_t app;           /* the last callback that was called: TwAppState */
    unsigned is_stream : 1;     /* lower is a TwStream, we are its sink */
    unsigned is_done : 1;       /* the handshake was completed */
    unsigned lower_paused : 1;  /* we paused the lower transport */
    unsigned lower_full : 1;    /* the lower transport paused our writing */
    unsigned resuming : 1;      /* resume_reading() is in the ready queue */
    unsigned in_read : 1;       /* the read loop is on the stack */
    unsigned flush_late : 1;    /* flow_flush() was deferred until that loop
                                   ends */
    unsigned in_write : 1;      /* the write loop is on the stack */
} TwTls;

/* -- tls_flow.c ----------------------------------------------------------- */

/* The lower connection is made: begin the handshake. */
TW_MUSTCHECK tw_status tw_tls_made(TwTls *self);
/* Ciphertext was received; p is valid during the call only. */
TW_MUSTCHECK tw_status tw_tls_data(TwTls *self, const char *p, size_t n);
/* The peer ended its side.  1: keep the lower transport open; 0: close it;
   -1 as a tw_status. */
TW_MUSTCHECK int tw_tls_eof(TwTls *self);
/* The lower connection is lost.  exc: borrowed, NULL or None for none. */
TW_MUSTCHECK tw_status tw_tls_lost(TwTls *self, PyObject *exc);

/* close(): asyncio's _start_shutdown(). */
TW_MUSTCHECK tw_status tw_tls_close(TwTls *self);
/* abort() and _force_close(). */
TW_MUSTCHECK tw_status tw_tls_abort(TwTls *self, PyObject *exc);
/* resume_reading() continues here in a later turn. */
TW_MUSTCHECK tw_status tw_tls_resumed(TwTls *self);
/* Deliver what can be read, send what that produced, and continue a shutdown
   that was deferred. */
TW_MUSTCHECK tw_status tw_tls_pump(TwTls *self);

/* -- tls_error.c ---------------------------------------------------------- */

#define TW_TLS_FATAL_TRANSPORT "Fatal error on transport"
#define TW_TLS_FATAL_SSL "Fatal error on SSL protocol"
#define TW_TLS_FATAL_CALLBACK                                                 \
    "Fatal error: protocol.buffer_updated() call failed."

/* Send what was written, set the state, and close the lower transport with exc
   (borrowed, NULL or None for none). */
TW_MUSTCHECK tw_status tw_tls_cut_off(TwTls *self, TwTlsState state,
                                      PyObject *exc);
/* asyncio's _fatal_error() for the exception that is set: closes the lower
   transport with it, and reports it (OSErrors in debug mode only).
   KeyboardInterrupt and SystemExit are not handled: -1. */
TW_MUSTCHECK tw_status tw_tls_fatal(TwTls *self, const char *message);
/* The same in the middle of a read, with asyncio's message for it. */
TW_MUSTCHECK tw_status tw_tls_read_failed(TwTls *self);
/* The same for an exception that was taken (borrowed here). */
TW_MUSTCHECK tw_status tw_tls_fail(TwTls *self, PyObject *exc,
                                   const char *message);
/* Is the exception that is set an ssl.SSLError? */
bool tw_tls_is_ssl_error(const TwTls *self);

/* Resolve or reject the future that create_connection() and the like wait
   for, once. */
void tw_tls_wake_waiter(TwTls *self, PyObject *exc);

/* Debug mode: log text % adapter. */
TW_MUSTCHECK tw_status tw_tls_log(TwTls *self, const char *text);
/* tidewire._tls.<name>(loop, adapter, lower, a, b): its errors are written
   to stderr. */
TW_MUSTCHECK tw_status tw_tls_seam(TwTls *self, PyObject *name, PyObject *a,
                                   PyObject *b);

/* Call tw_tls_timeout() after so many seconds; cancel that. */
TW_MUSTCHECK tw_status tw_tls_start_timer(TwTls *self, PyObject *seconds);
void tw_tls_stop_timer(TwTls *self);
/* The timeout of the current state has expired. */
TW_MUSTCHECK tw_status tw_tls_timeout(TwTls *self);

/* -- tls_read.c ----------------------------------------------------------- */

/* Decrypt and deliver all that is there, unless paused. */
TW_MUSTCHECK tw_status tw_tls_read(TwTls *self);
/* Pause or resume the lower transport as the read limits say. */
TW_MUSTCHECK tw_status tw_tls_control_reading(TwTls *self);
/* protocol.eof_received(), once. */
TW_MUSTCHECK tw_status tw_tls_eof_received(TwTls *self);

/* -- tls_write.c ---------------------------------------------------------- */

/* Encrypt the backlog until the lower transport is full, or `all` of it. */
TW_MUSTCHECK tw_status tw_tls_write_backlog(TwTls *self, bool all);
/* The lower transport has room again. */
TW_MUSTCHECK tw_status tw_tls_drained(TwTls *self);
/* Write ciphertext to the lower transport, then pause or resume the
   protocol. */
TW_MUSTCHECK tw_status tw_tls_flush(TwTls *self);
/* Call the protocol's pause_writing() or resume_writing() if a limit was
   crossed; `own`: in our context, else in the caller's. */
TW_MUSTCHECK tw_status tw_tls_control_writing(TwTls *self, bool own);
/* Bytes of plaintext and ciphertext that wait. */
size_t tw_tls_buffer_size(TwTls *self);

extern PyMethodDef tw_tls_write_methods[];

/* -- tls_info.c ----------------------------------------------------------- */

extern PyMethodDef tw_tls_info_methods[];

/* -- tls_make.c ----------------------------------------------------------- */

/* Methods for tidewire._tls, and functions of the module for it. */
extern PyMethodDef tw_tls_make_methods[], tw_tls_functions[];

/* -- tls_transport.c ------------------------------------------------------ */

/* Is the lower connection lost?  Its transport is kept for extra info. */
static inline bool
tw_tls_is_lost(const TwTls *self)
{
    return self->base.flags & (TW_F_LOST_SCHEDULED | TW_F_LOST);
}

/* May data be decrypted in this state? */
static inline bool
tw_tls_is_readable(const TwTls *self)
{
    return self->state == TW_TLS_WRAPPED || self->state == TW_TLS_FLUSHING;
}

TW_MUSTCHECK tw_status tw_tls_transport_setup(tw_state *state,
                                              PyObject *module);
