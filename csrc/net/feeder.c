#include "net/feeder.h"

#include "base/compat.h"
#include "core/overrides.h"

/* For reads of this size or more, it matters where the memory comes from. */
#define READER_LARGE (32 * 1024)
/* A buffer that uses less than this part of its block does not keep it. */
#define READER_USED 8

/* -- are asyncio's classes unchanged? ------------------------------------- */

/* Does the class itself define `name` as exactly this method or property?
   With `what` NULL: does it not define the name? */
static bool
class_has(PyTypeObject *type, PyObject *name, PyObject *what)
{
    PyObject *attr;
    bool same;

    if (tw_dict_get(type->tp_dict, name, &attr) < 0) {
        PyErr_Clear();
        return false;
    }
    same = attr == what;
    Py_XDECREF(attr);
    return same;
}

/* Plain objects whose attributes are in their dict? */
static bool
class_is_plain(PyTypeObject *type, PyObject *const *names)
{
    if (type->tp_getattro != PyObject_GenericGetAttr
        || type->tp_setattro != PyObject_GenericSetAttr) {
        return false;
    }
    for (; *names != NULL; names++) {
        if (!class_has(type, *names, NULL)) {
            return false;
        }
    }
    return true;
}

static bool
classes_are_original(tw_state *state)
{
    PyTypeObject *reader = state->reader.type;
    PyTypeObject *protocol = state->reader.protocol_type;
    PyObject *in_reader[] = {
        state->str._buffer, state->str._eof,    state->str._limit,
        state->str._paused, state->str._transport, state->str._waiter,
        NULL,
    };
    PyObject *in_protocol[] = {state->str._stream_reader_wr, NULL};

    return class_is_plain(reader, in_reader)
           && class_is_plain(protocol, in_protocol)
           && class_has(reader, state->str.feed_data, state->reader.feed_data)
           && class_has(reader, state->str._wakeup_waiter,
                        state->reader.wakeup)
           && class_has(protocol, state->str.data_received,
                        state->reader.data_received)
           && class_has(protocol, state->str._stream_reader,
                        state->reader.property);
}

/* A class's version changes with every change to it or to its bases; 0: it
   has none at the moment. */
static bool
classes_check(tw_state *state)
{
    PyTypeObject *reader = state->reader.type;
    PyTypeObject *protocol = state->reader.protocol_type;

    if (!tw_type_assign_version(reader, state->str.feed_data)
        || !tw_type_assign_version(protocol, state->str.data_received)) {
        return false;
    }
    state->reader.original = classes_are_original(state);
    state->reader.version = reader->tp_version_tag;
    state->reader.protocol_version = protocol->tp_version_tag;
    return state->reader.original;
}

static inline bool
classes_are_good(tw_state *state)
{
    if (TW_LIKELY(state->reader.version == state->reader.type->tp_version_tag
                  && state->reader.protocol_version
                         == state->reader.protocol_type->tp_version_tag
                  && state->reader.version != 0
                  && state->reader.protocol_version != 0)) {
        return state->reader.original;
    }
    return classes_check(state);
}

/* -- finding -------------------------------------------------------------- */

/* An attribute of one of asyncio's objects, which are plain: a new reference
   or NULL, without an exception.  Their dicts are left alone, as Python's
   own access to their attributes is faster while nobody asked for one. */
static inline PyObject *
attr_get(PyObject *obj, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(obj, name); /* allow: plain */

    if (TW_UNLIKELY(value == NULL)) {
        PyErr_Clear();
    }
    return value;
}

/* Is obj.<name>() this function: neither replaced, nor hidden by an attribute
   of the object? */
static inline bool
method_is(PyObject *obj, PyObject *name, PyObject *function)
{
    PyObject *method = NULL;
    int unbound = _PyObject_GetMethod(obj, name, &method);

    if (TW_UNLIKELY(method == NULL)) {
        PyErr_Clear();
        return false;
    }
    Py_DECREF(method);
    return unbound && method == function;
}

/* The protocol's reader: a new reference, or NULL if it is gone or not of
   asyncio's own class. */
static PyObject *
find_reader(tw_state *state, PyObject *protocol)
{
    PyObject *weak = attr_get(protocol, state->str._stream_reader_wr);
    PyObject *reader = NULL;

    if (weak != NULL && PyWeakref_CheckRefExact(weak)) {
        reader = tw_weakref_get(weak);
    }
    Py_XDECREF(weak);
    if (reader != NULL && !Py_IS_TYPE(reader, state->reader.type)) {
        Py_CLEAR(reader);
    }
    return reader;
}

static bool
feeder_is_at_eof(PyObject *reader, PyObject *name)
{
    PyObject *eof = attr_get(reader, name);

    Py_XDECREF(eof);
    return eof != Py_False;
}

/* The limit, or -1 if it is none. */
static Py_ssize_t
feeder_limit(PyObject *reader, PyObject *name)
{
    PyObject *number = attr_get(reader, name);
    Py_ssize_t limit = -1;

    if (number != NULL && PyLong_CheckExact(number)) {
        limit = PyLong_AsSsize_t(number);
        if (limit < 0) {
            PyErr_Clear();
        }
    }
    Py_XDECREF(number);
    return limit;
}

/* Is the reader in a state in which feed_data() does nothing unusual?  Then
   it keeps the buffer. */
static bool
feeder_is_usual(tw_state *state, TwFeeder *r)
{
    PyObject *buffer;

    if (!method_is(r->reader, state->str.feed_data, state->reader.feed_data)
        || !method_is(r->reader, state->str._wakeup_waiter,
                      state->reader.wakeup)
        || feeder_is_at_eof(r->reader, state->str._eof)) {
        return false;
    }
    r->limit = feeder_limit(r->reader, state->str._limit);
    buffer = attr_get(r->reader, state->str._buffer);
    if (buffer != NULL && r->limit >= 0 && PyByteArray_CheckExact(buffer)
        && ((PyByteArrayObject *)buffer)->ob_exports == 0) {
        r->size = PyByteArray_GET_SIZE(buffer);
        r->buffer = buffer;
        return true;
    }
    Py_XDECREF(buffer);
    return false;
}

bool
tw_feeder_find(TwBaseTransport *self, TwFeeder *r)
{
    tw_state *state = self->loop->state;
    PyObject *protocol = self->protocol;

    if (!(self->flags & TW_F_READER)
        || !Py_IS_TYPE(protocol, state->reader.protocol_type)
        || self->loop->debug
        || tw_overrides(self->loop) & (TW_OWN_CALL_SOON | TW_OWN_CALL_AT)
        || !classes_are_good(state)
        || !method_is(protocol, state->str.data_received,
                      state->reader.data_received)) {
        return false;
    }
    r->transport = self;
    r->reader = find_reader(state, protocol);
    if (r->reader == NULL) {
        return false;
    }
    if (feeder_is_usual(state, r)) {
        return true;
    }
    Py_DECREF(r->reader);
    return false;
}

void
tw_feeder_release(TwFeeder *r)
{
    Py_DECREF(r->buffer);
    Py_DECREF(r->reader);
}

/* -- feeding -------------------------------------------------------------- */

/* Make room for `size` bytes; many bytes grow the block in few steps.  An
   empty buffer gets a new block, as large as the last one: a block that was
   shrunk may stay a memory mapping of its own, which costs page faults each
   time.  Beyond that size the block doubles. */
static tw_status
feeder_prepare(TwFeeder *r, Py_ssize_t size)
{
    PyByteArrayObject *buffer = (PyByteArrayObject *)r->buffer;
    Py_ssize_t peak = (Py_ssize_t)r->transport->reader_peak;

    if (size < READER_LARGE || !tw_bytearray_must_grow(buffer, size)) {
        return 0;
    }
    if (Py_SIZE(buffer) > 0) {
        return PyByteArray_Resize(r->buffer,
                                  size < PY_SSIZE_T_MAX / 2 ? 2 * size : size);
    }
    if (tw_bytearray_drop_memory(buffer) < 0) {
        return -1;
    }
    if (peak > size && PyByteArray_Resize(r->buffer, peak) < 0) {
        PyErr_Clear(); /* best effort */
    }
    return 0;
}

char *
tw_feeder_reserve(TwFeeder *r, size_t n)
{
    if (n > (size_t)(PY_SSIZE_T_MAX - r->size)) {
        PyErr_NoMemory();
        return NULL;
    }
    if (feeder_prepare(r, r->size + (Py_ssize_t)n) < 0
        || tw_bytearray_set_size(r->buffer, r->size + (Py_ssize_t)n) < 0) {
        return NULL;
    }
    return PyByteArray_AS_STRING(r->buffer) + r->size;
}

static tw_status
attr_set(PyObject *obj, PyObject *name, PyObject *value)
{
    return PyObject_SetAttr(obj, name, value); /* allow: plain */
}

/* The future was already done.  If it was cancelled, asyncio does not set its
   result.  Otherwise feed_data() raises what set_result() raised. */
static tw_status
feeder_not_woken(PyObject *name, PyObject *waiter)
{
    PyObject *exc = tw_err_take();
    int truth = tw_truth_steal(tw_call_plain_noargs(waiter, name));

    if (truth == 0) {
        tw_err_restore_steal(exc);
        return -1;
    }
    Py_DECREF(exc);
    return truth < 0 ? -1 : 0;
}

/* The waiter is not asyncio's own Future: call reader._wakeup_waiter(). */
static tw_status
feeder_wake_other(TwFeeder *r)
{
    TwLoop *loop = r->transport->loop;
    PyObject *context = Py_XNewRef(r->transport->context);
    tw_status status = tw_status_steal(tw_call_method(
        loop, context, loop->state->str._wakeup_waiter, &r->reader, 1));

    Py_XDECREF(context);
    return status;
}

/* _wakeup_waiter() */
static tw_status
feeder_wake(TwFeeder *r)
{
    tw_state *state = r->transport->loop->state;
    PyObject *waiter = attr_get(r->reader, state->str._waiter), *result;
    tw_status status;

    if (waiter == Py_None) {
        Py_DECREF(waiter);
        return 0;
    }
    if (waiter == NULL
        || !Py_IS_TYPE(waiter, (PyTypeObject *)state->future_type)) {
        Py_XDECREF(waiter);
        return feeder_wake_other(r);
    }
    status = attr_set(r->reader, state->str._waiter, Py_None);
    if (status == 0) {
        PyObject *argv[] = {waiter, Py_None};
        result = tw_call_plain_method(state->str.set_result, argv, 2);
        if (TW_UNLIKELY(result == NULL)) {
            status = feeder_not_woken(state->str.cancelled, waiter);
        }
        Py_XDECREF(result);
    }
    Py_DECREF(waiter);
    return status;
}

/* `not self._paused`; or -1. */
static int
feeder_may_pause(TwFeeder *r)
{
    tw_state *state = r->transport->loop->state;
    PyObject *paused = attr_get(r->reader, state->str._paused);
    int truth = paused ? PyObject_Not(paused) : 0;

    Py_XDECREF(paused);
    return truth;
}

static tw_status
feeder_pause_transport(TwFeeder *r, PyObject *transport)
{
    TwLoop *loop = r->transport->loop;
    tw_state *state = loop->state;
    PyObject *context = Py_XNewRef(r->transport->context);
    PyObject *result = tw_call_method(loop, context, state->str.pause_reading,
                                      &transport, 1);

    Py_XDECREF(context);
    if (result != NULL) {
        Py_DECREF(result);
        return attr_set(r->reader, state->str._paused, Py_True);
    }
    if (!PyErr_ExceptionMatches(PyExc_NotImplementedError)) {
        return -1;
    }
    PyErr_Clear();
    return attr_set(r->reader, state->str._transport, Py_None);
}

/* The buffer is over twice the limit: call transport.pause_reading(), if the
   transport has it. */
static tw_status
feeder_pause(TwFeeder *r)
{
    tw_state *state = r->transport->loop->state;
    PyObject *transport = attr_get(r->reader, state->str._transport);
    int may = 0;

    if (transport != NULL && transport != Py_None) {
        may = feeder_may_pause(r);
        if (may > 0) {
            may = feeder_pause_transport(r, transport);
        }
    }
    Py_XDECREF(transport);
    return may;
}

/* Shrink the buffer to `size` bytes.  It frees memory, but keeps a block that
   it will need soon. */
static tw_status
feeder_trim(TwFeeder *r, Py_ssize_t size)
{
    if (PyByteArray_GET_SIZE(r->buffer) == size) {
        return 0;
    }
    return (size_t)size < r->transport->reader_peak / READER_USED
               ? PyByteArray_Resize(r->buffer, size)
               : tw_bytearray_set_size(r->buffer, size);
}

static void
feeder_note_peak(TwFeeder *r, size_t size)
{
    if (r->size == 0 || size > r->transport->reader_peak) {
        r->transport->reader_peak = size;
    }
}

tw_status
tw_feeder_fed(TwFeeder *r, size_t n)
{
    Py_ssize_t size = r->size + (Py_ssize_t)n;

    if (feeder_trim(r, size) < 0) {
        return -1;
    }
    if (n == 0) {
        return 0;
    }
    feeder_note_peak(r, (size_t)size);
    if (feeder_wake(r) < 0) {
        return -1;
    }
    return TW_UNLIKELY(size - r->limit > r->limit) ? feeder_pause(r) : 0;
}

tw_status
tw_feeder_feed(TwFeeder *r, const char *p, size_t n)
{
    char *room = tw_feeder_reserve(r, n);

    if (room == NULL) {
        return -1;
    }
    memcpy(room, p, n);
    return tw_feeder_fed(r, n);
}

/* -- set-up --------------------------------------------------------------- */

tw_status
tw_feeder_setup(tw_state *state, PyObject *module)
{
    PyObject *parts =
        PyObject_GetAttrString(state->seam, "stream_parts"); /* allow: seam */
    int ok;

    if (parts == NULL) {
        return -1;
    }
    if (parts == Py_None) {
        Py_DECREF(parts);
        return 0;
    }
    ok = PyArg_ParseTuple(
        parts, "O!O!OOOO", &PyType_Type, &state->reader.protocol_type,
        &PyType_Type, &state->reader.type, &state->reader.data_received,
        &state->reader.property, &state->reader.feed_data,
        &state->reader.wakeup);
    if (!ok) {
        memset(&state->reader, 0, sizeof(state->reader));
        Py_DECREF(parts);
        return -1;
    }
    state->reader.parts = parts;
    return 0;
}
