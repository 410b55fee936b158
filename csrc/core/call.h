/* The only way to call user code.

   Every call of a protocol, a callback or a Python method of a user goes
   through here, for four reasons:
   - the context is entered and left here (if it is already entered, by a
     greenlet that waits inside a callback, a copy of it is entered instead);
   - writes that a transport holds are sent when the callback returns;
   - KeyboardInterrupt and SystemExit return -1 and leave the loop; everything
     else is passed to call_exception_handler();
   - the caller keeps `self` alive across the call, and uses no pointer into it
     afterwards without reading it again. */
#pragma once

#include "core/loop.h"

/* obj.<name>(args...) in `context` (NULL: the current one).  `argv` is {obj,
   args...}; `n` counts obj.  Returns a new reference, or NULL with the user's
   exception set (not reported).  Sends held writes at the end. */
PyObject *tw_call_method(TwLoop *loop, PyObject *context, PyObject *name,
                         PyObject *const *argv, size_t n);

/* callable(args...), the same way.  `argv[-1]` may be overwritten for the
   call (PY_VECTORCALL_ARGUMENTS_OFFSET), so it must be there. */
PyObject *tw_call(TwLoop *loop, PyObject *context, PyObject *callable,
                  PyObject *const *argv, size_t nargs);

/* The same for a handle: a context that is already entered is an error of the
   callback, as in asyncio. */
PyObject *tw_call_handle(TwLoop *loop, PyObject *context, PyObject *callable,
                         PyObject *const *argv, size_t nargs);

/* Calls of asyncio's or the stdlib's objects: they enter no context, and
   writes are not held for them. */
PyObject *tw_call_plain(PyObject *callable, PyObject *const *argv, size_t n);
PyObject *tw_call_plain_method(PyObject *name, PyObject *const *argv,
                               size_t n);

/* The same of obj.<name>(). */
static inline PyObject *
tw_call_plain_noargs(PyObject *obj, PyObject *name)
{
    return tw_call_plain_method(name, &obj, 1);
}

/* The same of callable(first, ...), with the arguments and keywords that a
   method got. */
PyObject *tw_call_with_first(PyObject *callable, PyObject *first,
                             PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames);

/* Does the current exception leave the loop (KeyboardInterrupt,
   SystemExit)? */
bool tw_call_must_leave(void);

/* Clear the current exception, if there is one: the caller does not need the
   result.  A KeyboardInterrupt is raised again soon, by the loop; a SystemExit
   is reported. */
void tw_call_ignore_error(void);

/* Pass the current exception to loop.call_exception_handler() with `message`
   and, if not NULL, `transport` and `protocol`.  Returns 0, or -1 with an
   exception set if that exception, or one that the handler raises, must leave
   the loop. */
TW_MUSTCHECK tw_status tw_call_report(TwLoop *loop, const char *message,
                                      PyObject *transport,
                                      PyObject *protocol);

/* The end of a report, with the result of what was called for it: an exception
   leaves the loop (-1), or is written to stderr as `owner`'s (0). */
TW_MUSTCHECK tw_status tw_call_reported_steal(PyObject *result,
                                              PyObject *owner);

/* Send the writes that transports hold: at the end of a callback, and before
   anything that could show that they were not sent.  The current exception is
   kept; errors are passed to the transports. */
static inline void
tw_call_flush(TwLoop *loop)
{
    if (TW_UNLIKELY(loop->held != NULL)) {
        loop->flush_held(loop);
    }
}

/* Report an exception of such a flush, which has no caller that could raise
   it.  A KeyboardInterrupt is raised again soon, by the loop. */
void tw_call_flush_failed(PyObject *owner);

/* The begin and the end of a callback, or of several that count as one. */
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
    return loop->depth > 0 && !loop->never_hold && tw_loop_is_here(loop);
}

/* Enter and leave a context around several calls.  Returns the context that
   was entered (strong; it may be a copy), or NULL with an exception. */
PyObject *tw_call_enter(PyObject *context);
void tw_call_leave(PyObject *entered_steal);
