/* Pipe transports: connect_read_pipe() and connect_write_pipe().

   They accept pipes, FIFOs, sockets and character devices, in a file object.
   The two types share this struct.  Their methods are in pipe_read.c and
   pipe_write.c, the common part is in pipe.c.

   Ownership.  The file object (`base.sock`, which Python sees as `_pipe`) owns
   the descriptor, and its close() is called once, after connection_lost.  The
   watcher usually watches that descriptor.  If the loop watches it already
   (one terminal, read and written through one file), the watcher watches a
   duplicate, which is ours.  A device that cannot be polled (/dev/null) has no
   watcher: it can be written, not read.

   Writing goes through net/out.h, and nothing is held: the program has the
   file object, and other files may refer to the same pipe.

   The writing side also waits for "readable", on pipes and sockets: a readable
   writing end means that the peer has closed. */
#pragma once

#include "net/out.h"

typedef struct {
    TwTransport base;
    TwBufq queue;       /* writing: as in TwOut, see net/out.h */
    bool messages;      /* writing: the same */
    int fileno;         /* the descriptor's number, kept after the end */
    int watch_fd;       /* ours: the watched duplicate, or 0 */
    int refused;        /* asyncio's _conn_lost: the write that failed, and
                           those after the end */
    uint32_t read_size; /* reading: the pipe's size; 0: not asked yet */
    uint32_t last_read; /* reading: size of the last read */
    bool eof_due;       /* reading: eof_received must be called */
    bool ends_on_read;  /* writing: readable means that the peer closed */
} TwPipe;

_Static_assert(offsetof(TwPipe, queue) == offsetof(TwOut, queue)
                   && offsetof(TwPipe, messages) == offsetof(TwOut, messages),
               "a pipe begins as TwOut");

/* The functions that differ between the two types. */
typedef struct {
    const TwTransportOps *ops;
    TwOnReady on_ready;
    bool writing;
} TwPipeKind;

/* -- pipe.c --------------------------------------------------------------- */

/* _make_read_pipe_transport(), _make_write_pipe_transport(). */
extern PyMethodDef tw_pipe_loop_methods[];

/* TwTransportOps of both: connection_lost was called. */
void tw_pipe_lost(TwTransport *self, PyObject *exc);

/* If loop.get_debug(): logger.<level>(format, self).  -1 leaves the loop. */
TW_MUSTCHECK tw_status tw_pipe_log(TwPipe *self, const char *level,
                                   const char *format);

/* For repr(): "closed ", "closing " or "". */
const char *tw_pipe_state(const TwPipe *self);

/* Slots, methods and attributes of both types. */
int tw_pipe_clear(PyObject *self);
void tw_pipe_dealloc(PyObject *self);
extern PyGetSetDef tw_pipe_read_getset[], tw_pipe_write_getset[];

/* -- pipe_read.c, pipe_write.c -------------------------------------------- */

extern const TwPipeKind tw_pipe_read_kind, tw_pipe_write_kind;
TW_MUSTCHECK tw_status tw_pipe_read_setup(tw_state *state, PyObject *module);
TW_MUSTCHECK tw_status tw_pipe_write_setup(tw_state *state, PyObject *module);
