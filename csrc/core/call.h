/* The only door to user code.

   Every call into a protocol, a callback or a Python method of a user goes
   through here, so that four things hold everywhere:
   - the context is entered and left here (a context that is already entered,
     by a greenlet that waits inside a callback, is replaced by a copy);
   - writes made during the callback leave when it returns (the cork);
   - KeyboardInterrupt and SystemExit come back as -1 and leave the loop;
     everything else goes to call_exception_handler;
   - the caller keeps `self` alive across the call, and trusts no pointer
     into it afterwards. */
#pragma once

#include "core/loop.h"

/* obj.<name>(args...) in `context` (NULL: the current one).  `argv` is
   {obj, args...}, `n` counts obj.  New reference, or NULL with the user's
   exception set (not reported).  Flushes the corks at the end. */
PyObject *tw_call_method(TwLoop *loop, PyObject *context, PyObject *name,
                         PyObject *const *argv, size_t n);

/* callable(args...), the same way.  `argv[-1]` may be overwritten for the
   call (PY_VECTORCALL_ARGUMENTS_OFFSET), so it must be there. */
PyObject *tw_call(TwLoop *loop, PyObject *context, PyObject *callable,
                  PyObject *const *argv, size_t nargs);

/* The same for a handle: as in asyncio, a context that is entered already is
   an error of the callback. */
PyObject *tw_call_handle(TwLoop *loop, PyObject *context, PyObject *callable,
                         PyObject *const *argv, size_t nargs);

/* Plain calls of asyncio's or the stdlib's objects: no context, no cork. */
PyObject *tw_call_plain(PyObject *callable, PyObject *const *argv, size_t n);
PyObject *tw_call_plain_method(PyObject *name, PyObject *const *argv,
                               size_t n);

/* Is the exception that is set one that leaves the loop (KeyboardInterrupt,
   SystemExit)? */
bool tw_call_must_leave(void);

/* Drop the exception that is set, if any: what raised it was asked for an
   answer that the caller can do without.  A KeyboardInterrupt comes again a
   little later, from the loop; a SystemExit is shown. */
void tw_call_ignore_error(void);

/* Hand the exception that is set to loop.call_exception_handler with
   `message` and, if not NULL, `transport` and `protocol`.  0; or -1 with an
   exception set if that one, or the handler's, must leave the loop. */
TW_MUSTCHECK tw_status tw_call_report(TwLoop *loop, const char *message,
                                      PyObject *transport,
                                      PyObject *protocol);

/* Begin and end of a stretch in which writes are held back.  The end flushes
   when it is the outermost.  Errors of the flush are the streams' own. */
static inline void
tw_call_begin(TwLoop *loop)
{
    loop->depth++;
}
/* For a cork's flush that ends with an exception set: it has no caller to
   give it to.  A KeyboardInterrupt leaves the loop a little later. */
void tw_call_flush_failed(PyObject *owner);
void tw_call_flush(TwLoop *loop);
static inline void
tw_call_end(TwLoop *loop)
{
    if (--loop->depth == 0 && TW_UNLIKELY(loop->corks != NULL)) {
        tw_call_flush(loop);
    }
}

/* -- corks ---------------------------------------------------------------

   A transport that holds writes back stands in the loop's list with a cork.
   When the stretch ends the loop takes it out and calls cork->flush, which
   sends, gives the cork back, and may leave no exception. */

/* A cork for `owner` at the end of the list.  NULL with MemoryError. */
TwCork *tw_call_cork_new(TwLoop *loop, PyObject *owner, TwCorkFlush flush);

/* Take it out of the list (the owner flushes early). */
void tw_call_cork_take(TwLoop *loop, TwCork *cork);

/* Give back a cork that is in no list; drops its references: the owner may
   go with them. */
void tw_call_cork_free(TwLoop *loop, TwCork *cork);

/* May the owner hold writes back now: inside a callback of this loop, on
   its thread? */
static inline bool
tw_call_may_cork(const TwLoop *loop)
{
    return loop->depth > 0 && !loop->cork_off && tw_loop_is_here(loop);
}

/* Enter and leave a context around several calls of the loop itself.
   Returns the context that was really entered (strong), or NULL+exception. */
PyObject *tw_call_enter(PyObject *context);
void tw_call_leave(PyObject *entered_steal);
