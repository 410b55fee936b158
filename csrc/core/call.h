/* The only door to user code.

   Every call into a protocol, a callback or a Python method of a user goes
   through here, so that four things hold everywhere:
   - the context is entered and left here (a context that is already entered,
     by a greenlet that waits inside a callback, is replaced by a copy);
   - writes that a transport holds leave when the callback returns;
   - KeyboardInterrupt and SystemExit come back as -1 and leave the loop;
     everything else goes to call_exception_handler;
   - the caller keeps `self` alive across the call, and trusts no pointer
     into it afterwards. */
#pragma once

#include "core/loop.h"

/* obj.<name>(args...) in `context` (NULL: the current one).  `argv` is
   {obj, args...}, `n` counts obj.  New reference, or NULL with the user's
   exception set (not reported).  Sends what is held at the end. */
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

/* Plain calls of asyncio's or the stdlib's objects: no context, and nothing
   is held for them. */
PyObject *tw_call_plain(PyObject *callable, PyObject *const *argv, size_t n);
PyObject *tw_call_plain_method(PyObject *name, PyObject *const *argv,
                               size_t n);

/* Does the current exception leave the loop (KeyboardInterrupt,
   SystemExit)? */
bool tw_call_must_leave(void);

/* Clear the current exception, if any: the caller does not need the result of
   what raised it.  A KeyboardInterrupt is raised again soon, by the loop; a
   SystemExit is reported. */
void tw_call_ignore_error(void);

/* Pass the current exception to loop.call_exception_handler() with
   `message` and, if not NULL, `transport` and `protocol`.  0; or -1 with an
   exception set if that one, or the handler's, must leave the loop. */
TW_MUSTCHECK tw_status tw_call_report(TwLoop *loop, const char *message,
                                      PyObject *transport,
                                      PyObject *protocol);

/* Send what transports hold back: at the end of a callback, and before
   anything that could reveal it.  The current exception stays; errors go to
   the transports. */
static inline void
tw_call_flush(TwLoop *loop)
{
    if (TW_UNLIKELY(loop->held != NULL)) {
        loop->flush_held(loop);
    }
}

/* Report the exception of such a flush, which has no caller that could raise
   it.  A KeyboardInterrupt is raised again soon, by the loop. */
void tw_call_flush_failed(PyObject *owner);

/* Begin and end of a callback, or of a stretch of callbacks that count as
   one. */
static inline void
tw_call_begin(TwLoop *loop)
{
    loop->depth++;
}

static inline void
tw_call_end(TwLoop *loop)
{
    if (--loop->depth == 0) {
        loop->callback_number++;
        tw_call_flush(loop);
    }
}

/* May a transport hold writes back now: inside a callback of this loop, on
   its thread? */
static inline bool
tw_call_may_hold(const TwLoop *loop)
{
    return loop->depth > 0 && !loop->cork_off && tw_loop_is_here(loop);
}

/* Enter and leave a context around several calls of the loop itself.
   Returns the context that was really entered (strong), or NULL+exception. */
PyObject *tw_call_enter(PyObject *context);
void tw_call_leave(PyObject *entered_steal);
