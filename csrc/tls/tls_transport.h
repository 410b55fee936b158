/* TLS transports: the state machine between a protocol and a lower transport.

   States (asyncio's):  UNWRAPPED -> HANDSHAKE -> WRAPPED -> FLUSHING ->
   SHUTDOWN, and UNWRAPPED again when aborted or lost.  FLUSHING: nothing new
   is accepted, what is there goes both ways; SHUTDOWN: our close_notify is
   out, the peer's is awaited.

   Who calls whom.  The lower side (filter.h) brings ciphertext and events;
   tls_read.c hands plaintext to the protocol; tls_write.c takes it from the
   program; tls_flow.c moves from state to state.  Any call to the protocol,
   and any call into the engine, may close or abort the transport: after it
   look at the state again.

   Ownership.  The transport owns its engine, the lower transport, the SSL
   context; the lower transport owns it as its sink or protocol: a cycle for
   the collector, cut when the connection is lost.  Plaintext that cannot be
   encrypted yet (handshake, renegotiation), or that need not yet (the kernel
   is full), waits in `backlog` as references; ciphertext waits in the lower
   transport.  Both count as write buffer.

   All on the loop's thread.  tw_status -1: an exception leaves the loop. */
#pragma once

#include "base/bufq.h"
#include "net/transport.h"
#include "tls/engine.h"

/* asyncio's marks for TLS. */
#define TW_TLS_WRITE_HIGH (512 * 1024)
#define TW_TLS_READ_HIGH (256 * 1024)

typedef enum {
    TW_TLS_UNWRAPPED,
    TW_TLS_HANDSHAKE,
    TW_TLS_WRAPPED,
    TW_TLS_FLUSHING,
    TW_TLS_SHUTDOWN
} TwTlsState;

/* Where the protocol stands. */
typedef enum {
    TW_APP_INIT, /* before connection_made */
    TW_APP_MADE,
    TW_APP_EOF,  /* eof_received was called */
    TW_APP_LOST  /* connection_lost is scheduled, or was called */
} TwAppState;

typedef struct TwTls {
    TwTransport base;      /* no descriptor, no watcher of its own */
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
    uint8_t app;           /* TwAppState */
    unsigned is_stream : 1;     /* lower is a TwStream, we are its sink */
    unsigned is_done : 1;       /* the handshake was completed */
    unsigned lower_paused : 1;  /* we paused the lower transport */
    unsigned lower_full : 1;    /* the lower transport paused our writing */
    unsigned resuming : 1;      /* resume_reading() stands in the queue */
    unsigned in_read : 1;       /* the read loop is on the stack */
    unsigned flush_late : 1;    /* ... and owes the shutdown's first part */
    unsigned in_write : 1;      /* the write loop is on the stack */
} TwTls;

/* -- tls_flow.c ----------------------------------------------------------- */

/* The lower connection is there: begin the handshake. */
TW_MUSTCHECK tw_status tw_tls_made(TwTls *self);
/* Ciphertext came; p is valid during the call. */
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
/* What resume_reading() does in its turn. */
TW_MUSTCHECK tw_status tw_tls_resumed(TwTls *self);
/* Deliver what can be read, answer, and shut down if that was put off. */
TW_MUSTCHECK tw_status tw_tls_pump(TwTls *self);

/* -- tls_error.c ---------------------------------------------------------- */

#define TW_TLS_FATAL_TRANSPORT "Fatal error on transport"
#define TW_TLS_FATAL_SSL "Fatal error on SSL protocol"
#define TW_TLS_FATAL_CALLBACK                                                 \
    "Fatal error: protocol.buffer_updated() call failed."

/* Send what was written, go to `state`, and close the lower transport with
   exc (borrowed, NULL or None for none). */
TW_MUSTCHECK tw_status tw_tls_cut_off(TwTls *self, TwTlsState state,
                                      PyObject *exc);
/* asyncio's _fatal_error() for the exception that is set: closes the lower
   transport with it, and reports it (OSErrors in debug mode only).
   KeyboardInterrupt and SystemExit only come back as -1. */
TW_MUSTCHECK tw_status tw_tls_fatal(TwTls *self, const char *message);
/* The same in the middle of a read, with asyncio's message for it. */
TW_MUSTCHECK tw_status tw_tls_read_failed(TwTls *self);
/* The same for an exception that was taken (borrowed here). */
TW_MUSTCHECK tw_status tw_tls_fail(TwTls *self, PyObject *exc,
                                   const char *message);
/* Is the exception that is set an ssl.SSLError? */
bool tw_tls_is_ssl_error(const TwTls *self);

/* The waiter of create_connection() and the like gets its answer, once. */
void tw_tls_wake_waiter(TwTls *self, PyObject *exc);

/* Debug mode: log text % adapter. */
TW_MUSTCHECK tw_status tw_tls_log(TwTls *self, const char *text);
/* tidewire._tls.<name>(loop, adapter, lower, a, b): its errors are written
   to stderr. */
TW_MUSTCHECK tw_status tw_tls_tell(TwTls *self, PyObject *name, PyObject *a,
                                   PyObject *b);

/* Have tw_tls_timeout() called after so many seconds; not any more. */
TW_MUSTCHECK tw_status tw_tls_start_timer(TwTls *self, PyObject *seconds);
void tw_tls_stop_timer(TwTls *self);
/* The timeout of the present state is over. */
TW_MUSTCHECK tw_status tw_tls_timeout(TwTls *self);

/* -- tls_read.c ----------------------------------------------------------- */

/* Decrypt and deliver all that is there, unless paused. */
TW_MUSTCHECK tw_status tw_tls_read(TwTls *self);
/* Pause or resume the lower transport by the read limits. */
TW_MUSTCHECK tw_status tw_tls_control_reading(TwTls *self);
/* protocol.eof_received(), once. */
TW_MUSTCHECK tw_status tw_tls_tell_eof(TwTls *self);

/* -- tls_write.c ---------------------------------------------------------- */

/* Plaintext of the program: `bytes` is the object that holds p, or NULL for
   memory that may change.  Counts and ignores it when closing. */
TW_MUSTCHECK tw_status tw_tls_put(TwTls *self, PyObject *bytes, const char *p,
                                  size_t n);
/* Encrypt the backlog, as much as the lower transport should get now; or
   `all` of it. */
TW_MUSTCHECK tw_status tw_tls_write_backlog(TwTls *self, bool all);
/* The lower transport has room again. */
TW_MUSTCHECK tw_status tw_tls_drained(TwTls *self);
/* Hand ciphertext down, then tell the protocol to pause or resume. */
TW_MUSTCHECK tw_status tw_tls_flush(TwTls *self);
/* pause_writing() and resume_writing() of the protocol; `own`: in our
   context, else in the caller's. */
TW_MUSTCHECK tw_status tw_tls_control_writing(TwTls *self, bool own);
/* Plaintext and ciphertext that wait. */
size_t tw_tls_buffer_size(TwTls *self);

PyObject *tw_tls_meth_write(PyObject *self, PyObject *const *args,
                            Py_ssize_t nargs, PyObject *kwnames);
PyObject *tw_tls_meth_writelines(PyObject *self, PyObject *const *args,
                                 Py_ssize_t nargs, PyObject *kwnames);

/* -- tls_info.c ----------------------------------------------------------- */

PyObject *tw_tls_meth_set_write_buffer_limits(PyObject *self,
                                              PyObject *const *args,
                                              Py_ssize_t nargs,
                                              PyObject *kwnames);
PyObject *tw_tls_meth_get_write_buffer_size(PyObject *self, PyObject *unused);
PyObject *tw_tls_meth_set_read_buffer_limits(PyObject *self,
                                             PyObject *const *args,
                                             Py_ssize_t nargs,
                                             PyObject *kwnames);
PyObject *tw_tls_meth_get_read_buffer_limits(PyObject *self,
                                             PyObject *unused);
PyObject *tw_tls_meth_get_read_buffer_size(PyObject *self, PyObject *unused);
PyObject *tw_tls_meth_get_extra_info(PyObject *self, PyObject *const *args,
                                     Py_ssize_t nargs, PyObject *kwnames);

/* -- tls_transport.c ------------------------------------------------------ */

/* Is the lower connection lost?  Its transport stays for extra info. */
static inline bool
tw_tls_is_lost(const TwTls *self)
{
    return self->base.flags & (TW_F_LOST_SCHEDULED | TW_F_LOST);
}

/* Is `state` one in which data still comes out of the cipher? */
static inline bool
tw_tls_is_readable(const TwTls *self)
{
    return self->state == TW_TLS_WRAPPED || self->state == TW_TLS_FLUSHING;
}

TW_MUSTCHECK tw_status tw_tls_transport_setup(tw_state *state,
                                              PyObject *module);
