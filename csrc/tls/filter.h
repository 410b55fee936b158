/* The transport below a TLS transport: a stream of ours, or any other.

   A stream of ours (TwStream) has the TLS transport as its sink: C calls C
   with bytes and events.  Any other (another TLS transport; one of the
   program's, in start_tls) has the adapter as its protocol.  These functions
   hide the difference; they do nothing when the lower transport is lost. */
#pragma once

#include "net/stream.h"
#include "tls/tls_transport.h"

/* Make the stream for a connected socket; it starts in a later turn. */
TW_MUSTCHECK tw_status tw_filter_open(TwTls *tls, int fd, PyObject *sock,
                                      PyObject *extra, PyObject *server);

/* Insert the TLS transport between an open transport and its protocol.
   ValueError if the transport cannot be the lower one. */
TW_MUSTCHECK tw_status tw_filter_insert(TwTls *tls, PyObject *lower);

/* The connection is lost: cut the reference cycle. */
void tw_filter_cut(TwTls *tls);

/* Write the engine's ciphertext to the lower transport.  `may_hold`: a write
   of the program, which the stream may hold for the next one. */
TW_MUSTCHECK tw_status tw_filter_send(TwTls *tls, bool may_hold);

/* Send what is only held until a callback returns.  Called before anything
   that would show the program that it was not sent. */
TW_MUSTCHECK tw_status tw_filter_flush(TwTls *tls);

/* Bytes of ciphertext that wait in the stream below. */
size_t tw_filter_waiting(TwTls *tls);

/* Derive the stream's marks from ours. */
void tw_filter_set_marks(TwTls *tls);

/* Our protocol is paused until the stream below has drained.  Mark the
   stream as full, so that it calls resume_writing() even if it is below its
   high mark. */
void tw_filter_request_resume(TwTls *tls);

TW_MUSTCHECK tw_status tw_filter_pause_reading(TwTls *tls);
TW_MUSTCHECK tw_status tw_filter_resume_reading(TwTls *tls);

/* lower.close(), by call_soon as asyncio does after a shutdown. */
TW_MUSTCHECK tw_status tw_filter_close_soon(TwTls *tls);
TW_MUSTCHECK tw_status tw_filter_force_close(TwTls *tls, PyObject *exc);

/* lower.is_closing(): 1, 0, or -1 with an exception. */
int tw_filter_is_closing(TwTls *tls);

/* lower.get_extra_info(name, default): new reference or NULL. */
PyObject *tw_filter_extra_info(TwTls *tls, PyObject *name, PyObject *dflt);

/* -- adapter.c ------------------------------------------------------------ */

/* Our protocol on the lower transport, made when first asked for: borrowed,
   or NULL with an exception. */
PyObject *tw_adapter_of(TwTls *tls);

TW_MUSTCHECK tw_status tw_adapter_setup(tw_state *state, PyObject *module);
