/* What every transport has: the state machine, flow control, extra info.

   Life.   new -> (step) connection_made -> open -> closing -> (step)
   connection_lost -> closed.  connection_made and connection_lost are steps:
   the transport is in the loop's ready queue where asyncio would have put a
   handle.  connection_lost is called once, after connection_made; then the
   descriptor is closed, the server is notified, and the protocol is released.

   Ownership.  The protocol, the context, the server and `sock` are strong.
   The descriptor belongs to `sock` if there is one, else to the transport;
   tw_transport_release() closes it, once.  The transport lives while its
   watcher wants an event, while it is in the ready queue, and while somebody
   else owns it.  If it is freed while open it warns (ResourceWarning).

   Two structs.  TwBaseTransport is the part of every transport, also of those
   of TLS: a protocol, marks, extra info.  TwTransport begins in the same way,
   and has a descriptor.  A function takes the one that it needs: TW_BASE().

   Both begin as a TwStepper, whose head has the place of the slots of
   asyncio's BaseTransport and _FlowControlMixin (checked at import).  Each
   type shadows the slots' names with getters: `_high_water`,
   `_protocol_paused`... */
#pragma once

#include "base/addr.h"
#include "base/args.h"
#include "core/call.h"
#include "core/source.h"
#include "core/watcher.h"

/* A transport's calls of its protocol about itself. */
typedef enum {
    TW_CALL_MADE,  /* connection_made(transport) */
    TW_CALL_LOST,  /* connection_lost(exc) */
    TW_CALL_PAUSE, /* pause_writing() */
    TW_CALL_RESUME /* resume_writing() */
} TwProtocolCall;

typedef struct TwOutOps TwOutOps;

typedef struct {
    TwStepOps step; /* TW_TRANSPORT_STEP, or a function that ends in it */
    /* Bytes that wait to be written, including held ones. */
    size_t (*buffer_size)(TwTransport *self);
    /* Drop all of them. */
    void (*buffer_clear)(TwTransport *self);
    /* Or NULL: never holds.  Send what is held and call tw_hold_end(); -1 with
       an exception that leaves the loop.  Called by net/hold.c. */
    tw_status (*flush)(TwTransport *self);
    /* Or NULL: the program gets the descriptor. */
    void (*shared)(TwTransport *self);
    /* Or NULL: functions for net/out.c. */
    const TwOutOps *out;
    /* The events that the state needs: see tw_transport_watch(). */
    unsigned (*wants)(const TwTransport *self);
    /* Or NULL.  Reading was resumed. */
    void (*resumed)(TwTransport *self);
    /* Right after connection_lost(exc), before the descriptor is closed. */
    void (*lost)(TwTransport *self, PyObject *exc);
    /* Or NULL.  Called first: 0: another object was called instead of the
       protocol; 1: call the protocol; -1: an exception leaves the loop. */
    int (*intercept)(TwTransport *self, TwProtocolCall what, PyObject *exc);
} TwTransportOps;

/* flags */
#define TW_F_MADE 0x1u          /* connection_made was called */
#define TW_F_CLOSING 0x2u       /* close() or abort() or an error */
#define TW_F_LOST_SCHEDULED 0x4u /* connection_lost is scheduled */
#define TW_F_LOST 0x8u          /* connection_lost was called: closed */
#define TW_F_READ_PAUSED 0x10u  /* pause_reading() */
#define TW_F_WRITE_PAUSED 0x20u /* pause_writing() was called */
#define TW_F_BUFFERED 0x40u     /* the protocol is a BufferedProtocol */
#define TW_F_EOF_SENT 0x80u     /* write_eof() was called */
#define TW_F_EOF_GOT 0x100u     /* the peer's end of file was read */
#define TW_F_READER 0x200u      /* the protocol is a StreamReaderProtocol */
#define TW_F_INET 0x400u        /* a stream over IP */
#define TW_F_APART 0x800u       /* each part of the start is a step */
#define TW_F_STARTED 0x1000u    /* reading may begin */
#define TW_F_HELD 0x2000u       /* writes are held: see net/hold.h */
#define TW_F_SHARED 0x4000u     /* the program also has the descriptor */
#define TW_F_SHOWN 0x8000u      /* a TransportSocket was made of `sock` */

/* How the program writes, from callback to callback: see net/hold.h. */
typedef struct {
    TwTransport *next;  /* in the loop's list of those that hold */
    TwTransport *prev;
    uint64_t since;     /* ns: the callback's first write, or before it */
    uint32_t callback_number; /* the loop's, when it last wrote */
    uint8_t writes;     /* in that callback */
    uint8_t streak;     /* consecutive callbacks that wrote twice or more */
    uint8_t lowest;     /* fewest writes of these */
    uint8_t least;      /* learned: fewest writes of a callback; or 0 */
    uint8_t sure;       /* the first so many of that callback may be held */
    bool slow;          /* that callback takes long over its writes */
    bool exact;         /* `since` is the first write, not before it */
} TwHabit;

/* How both structs begin.  In front of `ops`: asyncio's slots, by name. */
#define TW_TRANSPORT_HEAD(ops_type)                                           \
    PyObject_HEAD                                                             \
    PyObject *extra;     /* _extra: strong dict or NULL (not made) */         \
    PyObject *waiter;    /* _high_water: strong or NULL: future of the        \
                            connecting call */                                \
    TwLoop *loop;        /* _loop: strong, until dealloc */                   \
    PyObject *context;   /* _low_water: strong: our own copy */               \
    PyObject *protocol;  /* _protocol_paused: strong; NULL once closed */     \
    const ops_type *ops; /* begins as TwStepOps */                            \
    PyObject *dict;      /* strong or NULL: instances can be patched */       \
    PyObject *weakrefs;                                                       \
    size_t high;         /* bytes: pause_writing above this */                \
    size_t low;          /* bytes: resume_writing at or below this */         \
    size_t reader_peak;  /* bytes: most that its StreamReader's buffer had    \
                            since it was empty */                             \
    int conn_lost;       /* asyncio's _conn_lost: counts lost writes */       \
    unsigned flags;

typedef struct {
    TW_TRANSPORT_HEAD(TwStepOps)
} TwBaseTransport;

struct TwTransport {
    TW_TRANSPORT_HEAD(TwTransportOps)
    TwWatcher *watcher;   /* ours until closed */
    PyObject *server;     /* strong or NULL */
    PyObject *sock;       /* strong or NULL: socket or file object */
    PyObject *lost_exc;   /* strong or NULL: connection_lost()'s argument */
    unsigned char *addrs; /* ours: sockname and peername, see .c; or NULL */
    TwHabit habit;
    int fd;               /* -1 once closed */
    int fd_shown;         /* asyncio's _sock_fd: stays after close */
    unsigned kind;        /* TwKind */
};

TW_CHECK_STEPPER(TwBaseTransport);
_Static_assert(offsetof(TwTransport, flags) == offsetof(TwBaseTransport, flags)
                   && offsetof(TwTransportOps, step) == 0,
               "a TwTransport begins as a TwBaseTransport");

#define TW_BASE(transport) ((TwBaseTransport *)(transport))

/* -- life ----------------------------------------------------------------- */

/* Initialise the head of a fresh object (zeroed, from tp_alloc): references,
   context copy, limits, flags of the protocol.  `extra` (a dict, merged) and
   `waiter` may be NULL or None.  -1 with an exception. */
TW_MUSTCHECK tw_status tw_transport_init(TwBaseTransport *self, TwLoop *loop,
                                         const TwStepOps *ops,
                                         PyObject *protocol, PyObject *extra,
                                         PyObject *waiter);

/* Allocate a transport with a descriptor, and initialise it; a new reference
   or NULL.  `server` may be NULL or None, too. */
TwTransport *tw_transport_new(PyTypeObject *type, TwLoop *loop,
                              const TwTransportOps *ops, PyObject *protocol,
                              PyObject *server, PyObject *extra,
                              PyObject *waiter);

/* Open the watcher on `fd`.  After a success the transport owns the
   descriptor: through `sock` (borrowed here and kept strong), or itself if
   that is NULL. */
TW_MUSTCHECK tw_status tw_transport_adopt(TwTransport *self, int fd,
                                          PyObject *sock, TwOnReady on_ready);

/* Count it as open, of that kind, until it is released. */
void tw_transport_count(TwTransport *self, TwKind kind, bool accepted);

/* Schedule connection_made (then the start of reading, then the waiter): one
   step; or three, as asyncio calls call_soon() three times, if the program has
   replaced that.  Also notifies the server (_attach). */
TW_MUSTCHECK tw_status tw_transport_start(TwTransport *self);

/* The step function of all transports (TwStepOps): connection_made or
   connection_lost, whichever is next. */
tw_status tw_transport_step(PyObject *self);

/* TwStepOps.call of the same. */
PyObject *tw_transport_step_call(PyObject *self);

#define TW_TRANSPORT_STEP {tw_transport_step, tw_transport_step_call}

/* close(): stop reading; when nothing waits to be written, schedule
   connection_lost(None). */
tw_status tw_transport_close(TwTransport *self);

/* asyncio's _force_close(exc): drop what waits, schedule connection_lost(exc).
   exc is borrowed, NULL or None for none. */
tw_status tw_transport_force_close(TwTransport *self, PyObject *exc);

/* asyncio's _fatal_error() for the current exception: OSErrors are only logged
   in debug mode, others reported; then force_close.  0; or -1 with an
   exception that leaves the loop (also KeyboardInterrupt and SystemExit
   themselves, which are not treated as errors of the transport). */
TW_MUSTCHECK tw_status tw_transport_fatal(TwTransport *self,
                                          const char *message);
/* The same with an errno. */
TW_MUSTCHECK tw_status tw_transport_fatal_errno(TwTransport *self,
                                                tw_uverr err,
                                                const char *message);

/* Report the current exception of a protocol's method that asyncio calls
   inside its own method `name`, which a handle calls.  0, or -1: it leaves the
   loop. */
TW_MUSTCHECK tw_status tw_transport_report_call(TwTransport *self,
                                                const char *name);

/* Debug mode: log `format` with our %r to asyncio's logger; nothing otherwise.
   Runs Python; -1 with the exception that the logging raised. */
TW_MUSTCHECK tw_status tw_transport_log(TwTransport *self, const char *level,
                                        const char *format);

/* Call connection_lost now (from a step, or from the turn when a closing
   transport has written everything), release the descriptor, notify the
   server. */
TW_MUSTCHECK tw_status tw_transport_call_lost(TwTransport *self);

/* Close watcher and descriptor, once; runs no Python but sock.close().  Keeps
   an exception that is set. */
void tw_transport_release(TwTransport *self);

static inline bool
tw_transport_is_open(const TwTransport *self)
{
    return !(self->flags & (TW_F_CLOSING | TW_F_LOST));
}

/* -- pausing and resuming ------------------------------------------------- */

/* Is reading wanted and possible?  (is_reading()) */
static inline bool
tw_transport_is_reading(const TwTransport *self)
{
    return !(self->flags & (TW_F_CLOSING | TW_F_READ_PAUSED));
}

/* TW_EV_READ if the transport reads now, else 0: for ops->wants. */
static inline unsigned
tw_transport_wants_read(const TwTransport *self)
{
    return tw_transport_is_reading(self) && self->flags & TW_F_STARTED
                   && !(self->flags & TW_F_EOF_GOT)
               ? TW_EV_READ
               : 0;
}

/* Make the watcher match the state, unless the connection is lost: after each
   change of what ops->wants looks at.  Fails only without memory. */
TW_MUSTCHECK tw_status tw_transport_watch(TwTransport *self);

/* pause_reading() and resume_reading().  In debug mode they log, and so run
   Python. */
TW_MUSTCHECK tw_status tw_transport_pause_reading(TwTransport *self);
TW_MUSTCHECK tw_status tw_transport_resume_reading(TwTransport *self);

/* -- protocol callbacks --------------------------------------------------- */

/* protocol.<name>(arg) in the transport's context; arg NULL: no argument.
   New reference, or NULL with the user's exception set. */
PyObject *tw_transport_call_protocol(TwBaseTransport *self, PyObject *name,
                                     PyObject *arg);

/* The same where asyncio calls it by a handle of its own, whose exception is
   reported.  0; -1 leaves the loop. */
TW_MUSTCHECK tw_status tw_transport_call_step(TwBaseTransport *self,
                                              PyObject *name, PyObject *arg);

void tw_transport_set_protocol(TwBaseTransport *self, PyObject *protocol);

/* -- flow control --------------------------------------------------------- */

/* After bytes were added / written: pause_writing when strictly over high (in
   the caller's context), resume_writing at or below low (in the transport's).
   0; -1 leaves the loop. */
TW_MUSTCHECK tw_status tw_transport_maybe_pause(TwTransport *self);
TW_MUSTCHECK tw_status tw_transport_maybe_resume(TwTransport *self);

/* A write to a lost connection, after `count` others: from the sixth time on
   log the warning `text`.  -1: the logging raised. */
#define TW_TRANSPORT_LOST "socket.send() raised exception."
TW_MUSTCHECK tw_status tw_transport_warn_lost(TwLoop *loop, int count,
                                              const char *text);

/* asyncio's add_flowcontrol_defaults() for the arguments high and low (NULL or
   None: not given); `dflt` is the high mark without either. */
TW_MUSTCHECK tw_status tw_transport_limits(PyObject *const given[2],
                                           Py_ssize_t dflt, size_t *high,
                                           size_t *low);

/* -- extra info ----------------------------------------------------------- */

/* Store the addresses: our own, and `peer` (NULL: call getpeername(2)). */
TW_MUSTCHECK tw_status tw_transport_keep_addrs(TwTransport *self,
                                               const TwAddr *peer);

/* The family of our own one, or AF_UNSPEC. */
int tw_transport_family(const TwTransport *self);

/* The Python form of one of them; None if the system does not know it. */
PyObject *tw_transport_addr(TwTransport *self, bool peer);

/* The value in the extra dict: a new reference; NULL without an exception if
   there is none. */
PyObject *tw_transport_extra_known(TwBaseTransport *self, PyObject *name);
PyObject *tw_transport_extra_keep_steal(TwBaseTransport *self, PyObject *name,
                                        PyObject *value);

/* "socket", "sockname", "peername", else the extra dict; borrowed default. */
PyObject *tw_transport_extra_info(TwTransport *self, PyObject *name,
                                  PyObject *dflt);

/* The socket object, made from our descriptor if there is none (the object
   then owns the descriptor).  New reference or NULL. */
PyObject *tw_transport_socket(TwTransport *self);

/* -- types (transport_type.c) --------------------------------------------- */

/* For tp_traverse and tp_clear of the types: of a TwBaseTransport, and of a
   TwTransport. */
int tw_transport_base_traverse(PyObject *self, visitproc visit, void *arg);
int tw_transport_base_clear(PyObject *self);
int tw_transport_traverse(PyObject *self, visitproc visit, void *arg);
int tw_transport_clear(PyObject *self);
/* For tp_finalize: warn that it is still open. */
void tw_transport_warn_unclosed(PyObject *self);
/* tp_finalize of a TwTransport: warns, then closes the descriptor. */
void tw_transport_finalize(PyObject *self);
/* tp_dealloc of a TwTransport, but for what tp_clear of its type does not
   release; the same of a TwBaseTransport.  False: it was revived, and
   stays. */
TW_MUSTCHECK bool tw_transport_dealloc_begin(PyObject *self);
TW_MUSTCHECK bool tw_transport_base_dealloc_begin(PyObject *self);
void tw_transport_dealloc_end(PyObject *self);
/* For tp_repr: the type's name without its module. */
#define TW_TYPE_NAME(op)                                                      \
    (Py_TYPE(op)->tp_name + sizeof("tidewire._core.") - 1)
/* tp_repr, as asyncio's. */
PyObject *tw_transport_repr(PyObject *self);

/* Make the type in `*slot`, derived from asyncio.transports.<base> and, if it
   is to have `flow_control`, from _FlowControlMixin, with the methods of
   `tables` (the last pointer is NULL). */
TW_MUSTCHECK tw_status tw_transport_add_type(tw_state *state,
                                             PyTypeObject **slot,
                                             PyType_Spec *spec,
                                             const char *base,
                                             bool flow_control,
                                             PyMethodDef *const *tables);
/* Attributes that BaseEventLoop reads: start_tls is possible, and sendfile in
   this mode (a name of asyncio.constants._SendfileMode). */
TW_MUSTCHECK tw_status tw_transport_add_marks(PyTypeObject *type,
                                              const char *sendfile_mode);

/* -- methods and attributes that all types share -------------------------- */

/* Methods of every transport; of those that read, that write, that hold
   writes.  Each type has some of these tables, then its own.  Methods that
   could show that bytes were held send them first. */
extern PyMethodDef tw_transport_methods[], tw_transport_read_methods[],
    tw_transport_write_methods[], tw_transport_hold_methods[];

/* Called after a method that the program called with these flags: asyncio
   calls connection_lost() by call_soon(), in the context of the caller of
   close().  An accepted connection keeps its own, as asyncio's does from
   Python 3.15 on. */
PyObject *tw_transport_closed(TwTransport *self, unsigned before);
PyObject *tw_transport_meth_close(PyObject *self, PyObject *unused);
PyObject *tw_transport_meth_get_write_buffer_size(PyObject *self,
                                                  PyObject *unused);
PyObject *tw_transport_meth_true(PyObject *self, PyObject *unused);

extern const char tw_transport_doc_close[], tw_transport_doc_abort[],
    tw_transport_doc_is_closing[], tw_transport_doc_set_protocol[],
    tw_transport_doc_can_write_eof[],
    tw_transport_doc_get_extra_info[],
    tw_transport_doc_get_write_buffer_size[],
    tw_transport_doc_set_write_buffer_limits[];

/* asyncio's slots: every type of transport shadows those of its bases in its
   table, with TW_FLOW_SLOTS if it has flow control, else TW_PLAIN_SLOTS.
   asyncio's own descriptors would read and write our fields as objects. */
typedef enum {
    TW_SLOT_EXTRA,     /* a dict; complete */
    TW_SLOT_EXTRA_KEPT, /* a dict; what was put there */
    TW_SLOT_LOOP,      /* None once closed, as a socket's; fixed */
    TW_SLOT_LOOP_KEPT, /* the loop, closed or not; fixed */
    TW_SLOT_HIGH,
    TW_SLOT_LOW,
    TW_SLOT_PAUSED
} TwTransportSlot;
PyObject *tw_transport_get_slot(PyObject *self, void *slot);
int tw_transport_set_slot(PyObject *self, PyObject *value, void *slot);

#define TW_SLOT(name, slot)                                                   \
    {name, tw_transport_get_slot, tw_transport_set_slot, NULL,                \
     (void *)(uintptr_t)(slot)}
#define TW_PLAIN_SLOTS(extra_slot, loop_slot)                                 \
    TW_SLOT("_extra", extra_slot), TW_SLOT("_loop", loop_slot)
#define TW_FLOW_SLOTS(extra_slot, loop_slot)                                  \
    TW_PLAIN_SLOTS(extra_slot, loop_slot),                                    \
        TW_SLOT("_high_water", TW_SLOT_HIGH),                                 \
        TW_SLOT("_low_water", TW_SLOT_LOW),                                   \
        TW_SLOT("_protocol_paused", TW_SLOT_PAUSED)

PyObject *tw_transport_get_int(PyObject *self, void *offset);
int tw_transport_assign_protocol(PyObject *self, PyObject *value,
                                 void *unused);
PyObject *tw_transport_get_flag(PyObject *self, void *flag);
int tw_transport_assign_closing(PyObject *self, PyObject *value,
                                void *unused);
#define TW_TRANSPORT_PROTOCOL_ATTR                                            \
    {"_protocol", tw_state_get_object, tw_transport_assign_protocol, NULL,    \
     TW_AT(TwBaseTransport, protocol)}
#define TW_TRANSPORT_FLAG_ATTR(name, flag)                                    \
    {name, tw_transport_get_flag, NULL, NULL, (void *)(uintptr_t)(flag)}
#define TW_TRANSPORT_CLOSING_ATTR                                             \
    {"_closing", tw_transport_get_flag, tw_transport_assign_closing, NULL,    \
     (void *)(uintptr_t)TW_F_CLOSING}

/* The extra dict as it is; and complete, as asyncio's _extra.  A new reference
   or NULL. */
PyObject *tw_transport_extra(TwBaseTransport *self);
PyObject *tw_transport_whole_extra(TwTransport *self);

/* _loop, _protocol, _sock, _closing, _extra, __dict__... of sockets. */
extern PyGetSetDef tw_transport_getset[];
/* __dictoffset__ and __weaklistoffset__. */
extern PyMemberDef tw_transport_members[];
