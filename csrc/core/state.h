/* The module's state: types, names, and objects of asyncio.

   There is one per module object (multi-phase init); no file has mutable
   statics.  Every object of ours reaches it through its loop (`loop->state`,
   borrowed: the loop's type keeps the module alive). */
#pragma once

#include "base/common.h"

typedef struct TwLoop TwLoop;

/* Interned names, state->str.<name>: attributes and methods of Python objects
   that C uses.  X-macro, so that a name is added in one place. */
#define TW_NAMES(X)                                                           \
    X(_asyncio_future_blocking)                                               \
    X(_attach)                                                                \
    X(_buffer)                                                                \
    X(_closed)                                                                \
    X(_coroutine_origin_tracking_enabled)                                     \
    X(_coroutine_origin_tracking_saved_depth)                                 \
    X(_detach)                                                                \
    X(_eof)                                                                   \
    X(_force_close)                                                           \
    X(_handle_signals)                                                        \
    X(_io_refs)                                                               \
    X(_limit)                                                                 \
    X(_make_socket_transport)                                                 \
    X(_old_agen_hooks)                                                        \
    X(_on_timeout)                                                            \
    X(_paused)                                                                \
    X(_stream_reader)                                                         \
    X(_stream_reader_wr)                                                      \
    X(_transport)                                                             \
    X(_waiter)                                                                \
    X(_wakeup_waiter)                                                         \
    X(abort)                                                                  \
    X(accept)                                                                 \
    X(buffer_updated)                                                         \
    X(call_at)                                                                \
    X(call_exception_handler)                                                 \
    X(call_later)                                                             \
    X(call_soon)                                                              \
    X(cancel)                                                                 \
    X(cancelled)                                                              \
    X(cipher)                                                                 \
    X(close)                                                                  \
    X(compression)                                                            \
    X(connect)                                                                \
    X(connection_lost)                                                        \
    X(connection_made)                                                        \
    X(context)                                                                \
    X(create_future)                                                          \
    X(create_task)                                                            \
    X(data_received)                                                          \
    X(datagram_received)                                                      \
    X(do_handshake)                                                           \
    X(done)                                                                   \
    X(eof_received)                                                           \
    X(error_received)                                                         \
    X(family)                                                                 \
    X(feed_data)                                                              \
    X(fileno)                                                                 \
    X(get_buffer)                                                             \
    X(get_extra_info)                                                         \
    X(get_write_buffer_size)                                                  \
    X(getpeercert)                                                            \
    X(getpeername)                                                            \
    X(getsockname)                                                            \
    X(gettimeout)                                                             \
    X(is_closing)                                                             \
    X(log_debug)                                                              \
    X(log_handshake)                                                          \
    X(loop)                                                                   \
    X(monotonic)                                                              \
    X(pause_reading)                                                          \
    X(pause_writing)                                                          \
    X(pending)                                                                \
    X(probe)                                                                  \
    X(proto)                                                                  \
    X(read)                                                                   \
    X(recv)                                                                   \
    X(recv_into)                                                              \
    X(recvfrom)                                                               \
    X(recvfrom_into)                                                          \
    X(report_fatal)                                                           \
    X(result)                                                                 \
    X(resume_reading)                                                         \
    X(resume_writing)                                                         \
    X(send)                                                                   \
    X(sendto)                                                                 \
    X(session_reused)                                                         \
    X(set_exception)                                                          \
    X(set_protocol)                                                           \
    X(set_result)                                                             \
    X(setblocking)                                                            \
    X(throw)                                                                  \
    X(time)                                                                   \
    X(type)                                                                   \
    X(unwrap)                                                                 \
    X(warn_eof)                                                               \
    X(wrap_bio)                                                               \
    X(write)

typedef struct tw_state {
    PyObject *module; /* borrowed: owns us */

    /* Types of ours, strong. */
    PyTypeObject *loop_type;
    PyTypeObject *handle_type;
    PyTypeObject *timer_type;
    PyTypeObject *threadsafe_type; /* before 3.14: the handle_type */
    PyTypeObject *userfd_type;
    PyTypeObject *accept_type;
    PyTypeObject *stream_type;
    PyTypeObject *read_pipe_type;
    PyTypeObject *write_pipe_type;
    PyTypeObject *udp_type;
    PyTypeObject *process_type;
    PyTypeObject *sock_op_type;
    PyTypeObject *resolver_type;
    PyTypeObject *tls_type;
    PyTypeObject *tls_adapter_type;

    /* asyncio's, strong. */
    PyObject *future_type;          /* asyncio.Future (the C one) */
    PyObject *task_type;            /* asyncio.Task */
    PyObject *base_loop_type;       /* asyncio.BaseEventLoop */
    PyObject *buffered_protocol;    /* asyncio.BufferedProtocol */
    PyObject *socket_type;          /* socket.socket */
    unsigned socket_version;        /* its version when it was checked */
    bool socket_original;           /* its methods are Python's own */
    PyObject *seam;                 /* the module tidewire._seam */
    PyObject *tls;                  /* tuple or NULL: tls/engine_impl.h */
    PyObject *dns;                  /* tuple or NULL: ops/dns.c */
    int server_takes_transport;     /* Server._attach(transport): 3.13+ */
    int sendfile_always_moves;      /* the file, also if nothing was sent */
    int accepts_one_more;           /* than the backlog, in a turn */

    uint64_t loops;        /* so many were made */
    PyObject *time_bounds; /* of histograms, in seconds: tuple of float */
    PyObject *size_bounds; /* the same of numbers: tuple of int */
    PyObject *empty_tuple;
    PyObject *kw_loop; /* ("loop",) */
    PyObject *kw_context; /* ("context",) */
    PyObject *time_names; /* strong: vars(time) */
    uint64_t time_version; /* with this one of it nothing is replaced; or 0 */
    PyObject *monotonic;  /* strong or NULL: the original time.monotonic */

    struct {
#define X(name) PyObject *name;
        TW_NAMES(X)
#undef X
    } str;

    /* asyncio's streams, for net/feeder.h.  type NULL: not as we know them. */
    struct {
        PyObject *parts;              /* strong or NULL: owns the rest */
        PyTypeObject *protocol_type;  /* StreamReaderProtocol */
        PyTypeObject *type;           /* StreamReader */
        PyObject *data_received, *property; /* in the protocol */
        PyObject *feed_data, *wakeup;       /* in the reader */
        unsigned protocol_version, version; /* what `original` was read from */
        bool original;
    } reader;
} tw_state;

/* Import asyncio's objects; intern the names. */
TW_MUSTCHECK tw_status tw_state_init(tw_state *state, PyObject *module);

int tw_state_traverse(tw_state *state, visitproc visit, void *arg);
void tw_state_clear(tw_state *state);

/* The state of a type of ours (or of a user's subclass of Loop). */
tw_state *tw_state_of_type(PyTypeObject *type);

/* The PyType_Spec of a type of ours that programs cannot instantiate. */
#define TW_TYPE_SPEC(type_name, type, type_slots)                             \
    {                                                                         \
        .name = "tidewire._core." type_name, .basicsize = sizeof(type),       \
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC                      \
                 | Py_TPFLAGS_DISALLOW_INSTANTIATION,                         \
        .slots = type_slots                                                   \
    }

/* Register a type: add it to the module if `public`, keep it in `slot`. */
TW_MUSTCHECK tw_status tw_state_add_type(tw_state *state,
                                         PyTypeObject **slot,
                                         PyType_Spec *spec, PyObject *bases,
                                         int public);

/* Give a new type of ours more than its spec has: the methods of several
   tables (the last pointer is NULL; a later table replaces methods of those
   before), and attributes. */
TW_MUSTCHECK tw_status tw_state_add_methods(PyTypeObject *type,
                                            PyMethodDef *const *tables);
TW_MUSTCHECK tw_status tw_state_add_getset(PyTypeObject *type,
                                           PyGetSetDef *attributes);

/* For PyGetSetDef: the object in a field (NULL: None); the closure is TW_AT()
   of the field. */
#define TW_AT(type, field) ((void *)offsetof(type, field))
PyObject *tw_state_get_object(PyObject *self, void *offset);

/* module.attr: a new reference or NULL. */
PyObject *tw_state_import(const char *module, const char *attr);

/* tidewire._seam.<name>(args...): cold work that Python does better than C.  A
   new reference or NULL. */
PyObject *tw_seam_call(tw_state *state, const char *name,
                       PyObject *const *args, Py_ssize_t nargs);
