/* One awaitable socket operation: the result of loop.sock_recv() and its like.

   asyncio's are coroutines, so this is one too (collections.abc.Coroutine).
   Nothing happens before the first send(), which makes asyncio's checks and
   tries the system call.  If that would block, the operation enters the slot
   of the descriptor (net/userfd.h), makes a future and yields it, as `await
   future` would.  When the descriptor is ready the turn tries again and
   resolves the future.  So cancel, close and completion have the order that
   asyncio's reader callback gives them.

   States.  new -> (inner: another coroutine runs first, to resolve a name) ->
   waiting -> done.  throw() and close() lead from every state to done.  A done
   operation holds nothing, except until the end of a try in which it was
   closed.

   Ownership.  The operation owns loop, socket, arguments and future.  While it
   waits the slot owns the operation, and the future's callbacks own the task,
   as the Handle in asyncio's selector does. */
#pragma once

#include "core/loop.h"

typedef struct TwSockOp TwSockOp;

/* The outcome of one try.  Only TW_TRY_DONE leaves a result (strong) in
   *result, and only TW_TRY_ERROR an exception. */
typedef enum {
    TW_TRY_ERROR = -1,
    TW_TRY_AGAIN = 0, /* would block: wait for kind->event */
    TW_TRY_DONE = 1,
    TW_TRY_AWAIT = 2, /* op->inner has to run first */
} TwTry;

/* A try may run code of the program, which may close the coroutine.  What the
   operation holds stays valid; but after such a call check
   tw_sock_op_was_closed(), and return TW_TRY_AGAIN if it is true. */
typedef TwTry (*TwSockTry)(TwSockOp *op, PyObject **result);

typedef struct {
    const char *name;  /* "sock_recv" */
    unsigned event;    /* TW_EV_READ or TW_EV_WRITE */
    bool again_soon;   /* another will probably follow: tw_userfd_done() */
    TwSockTry begin;   /* the first try, inside the first send() */
    TwSockTry again;   /* when the descriptor is ready, in the turn */
    /* op->inner returned `value` (borrowed); or NULL. */
    TwTry (*inner_done)(TwSockOp *op, PyObject *value, PyObject **result);
    void (*waits)(TwSockOp *op); /* op->future was made; or NULL */
    void (*fini)(TwSockOp *op); /* called at the end of every state but done;
                                   or NULL */
} TwSockKind;

typedef enum {
    TW_OP_NEW,
    TW_OP_INNER,
    TW_OP_WAITING,
    TW_OP_DONE,
} TwSockOpState;

/* The part that only sendfile has: see ops/sendfile.c. */
typedef struct {
    PyObject *stream;   /* strong or NULL: the transport being served */
    long long offset;   /* in the file: of the next byte */
    long long count;    /* 0: to the end of the file */
    long long block;    /* the most that one call may send */
    long long total;    /* bytes sent so far */
    int file;           /* descriptor, of the program */
} TwSockFile;

struct TwSockOp {
    PyObject_HEAD
    TwLoop *loop;           /* strong */
    const TwSockKind *kind; /* static */
    PyObject *sock;         /* strong; NULL once done */
    PyObject *args[2];      /* strong or NULL: the method's arguments */
    PyObject *future;       /* strong or NULL: made when we wait */
    PyObject *value;        /* strong or NULL: the future's result */
    PyObject *inner;        /* strong or NULL: a coroutine that runs first */
    PyObject *weakrefs;
    Py_ssize_t pos;         /* bytes sent so far, or received (0: the end) */
    Py_buffer view;         /* sock_sendall: held while it waits */
    TwSockFile file;        /* sendfile only */
    int fd;                 /* while waiting: the one of the slot */
    uint8_t state;          /* TW_OP_* */
    bool running;           /* send() is on a stack */
    bool in_turn;           /* a later try runs: what we hold stays */
    bool plain;             /* sock is a socket.socket with its own methods */
    bool in_slot;            /* the slot holds us, as far as we know */
};

/* A new operation.  The arguments are borrowed (a1, a2 may be NULL). */
TwSockOp *tw_sock_op_new(TwLoop *loop, const TwSockKind *kind, PyObject *sock,
                         PyObject *a1, PyObject *a2);

/* An interned name. */
#define TW_SOCK_NAME(op, name) ((op)->loop->state->str.name)

/* Was it closed meanwhile? */
static inline bool
tw_sock_op_was_closed(const TwSockOp *op)
{
    return op->state == TW_OP_DONE;
}

/* sock.fileno(), or -1: closed, or no socket (never an exception). */
int tw_sock_op_fileno(TwSockOp *op);

/* am_send: begin, or continue with the result of the future or of the inner
   coroutine.  The result is strong. */
PySendResult tw_sock_op_send(PyObject *self, PyObject *arg,
                             PyObject **result);

/* throw(type[, value[, traceback]]): stop waiting. */
PySendResult tw_sock_op_throw(PyObject *self, PyObject *const *args,
                              Py_ssize_t n, PyObject **result);

/* close(): the same without an exception. */
TW_MUSTCHECK tw_status tw_sock_op_close(PyObject *self);

/* Enter the last state: empty the slot and release everything but the loop
   (within a later try: after it).  Idempotent.  The caller holds its own
   reference. */
void tw_sock_op_finish(TwSockOp *op);
