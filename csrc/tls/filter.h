/* What lies under a TLS transport: a stream of ours, or any other transport.

   A stream of ours (TwStream) has the TLS transport as its sink: bytes and
   events go from C to C.  Every other one (another TLS transport; one of a
   user, in start_tls) gets an adapter, a BufferedProtocol that passes on
   what it is told.  The functions below hide the difference; they do nothing
   when there is no lower transport any more. */
#pragma once

#include "net/stream.h"
#include "tls/tls_transport.h"

/* Make the stream for a connected socket; it begins in its turn. */
TW_MUSTCHECK tw_status tw_filter_open(TwTls *tls, int fd, PyObject *sock,
                                      PyObject *extra, PyObject *server);

/* Slip between an open transport and its protocol. */
TW_MUSTCHECK tw_status tw_filter_slip_in(TwTls *tls, PyObject *lower);

/* The connection is lost: cut the cycle. */
void tw_filter_cut(TwTls *tls);

/* Hand down the engine's ciphertext.  `late`: it may wait for the end of the
   running callback. */
TW_MUSTCHECK tw_status tw_filter_send(TwTls *tls, bool late);

/* The program must not be able to tell that anything was held back: what
   only waits for the end of a callback leaves now. */
TW_MUSTCHECK tw_status tw_filter_uncork(TwTls *tls);

/* Ciphertext that waits below. */
size_t tw_filter_waiting(TwTls *tls);

/* Adapt the lower transport's marks to ours. */
void tw_filter_set_marks(TwTls *tls);

/* Our protocol is paused and waits for what the lower transport holds: a
   stream that is not over its own high mark would drain without a word, and
   so counts as full. */
void tw_filter_tell_when_drained(TwTls *tls);

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
