#include "tls/filter.h"

#include "base/pages.h"
#include "net/hold.h"

/* The stream's marks never exceed these, so that plaintext waits by
   reference and not as ciphertext. */
#define FILTER_HIGH (256 * 1024)
#define FILTER_LOW (64 * 1024)

/* -- a stream of ours: the sink ------------------------------------------- */

static inline TwStream *
filter_stream(const TwTls *tls)
{
    return (TwStream *)tls->lower;
}

static inline bool
filter_is_gone(const TwTls *tls)
{
    return tls->lower == NULL || tw_tls_is_lost(tls);
}

static tw_status
sink_on_data(TwStream *stream, PyObject *owner, char *p, size_t n)
{
    TwLoop *loop = stream->base.loop;
    PyObject *pinned = Py_NewRef(owner);
    char *taken = NULL;
    tw_status status;

    /* A callback may switch greenlets and so let the loop read again: it
       must not overwrite these bytes. */
    if (p == loop->read_buffer) {
        taken = TW_TAKE(loop->read_buffer);
    }
    status = tw_tls_data((TwTls *)pinned, p, n);
    if (taken != NULL && loop->read_buffer == NULL && loop->live) {
        loop->read_buffer = taken;
    }
    else {
        tw_pages_free(taken);
    }
    Py_DECREF(pinned);
    return status;
}

static tw_status
sink_on_eof(TwStream *stream, PyObject *owner)
{
    int keep_open = tw_tls_eof((TwTls *)owner);

    if (keep_open < 0) {
        return -1;
    }
    if (!keep_open) {
        return tw_transport_close(&stream->base);
    }
    return tw_transport_watch(&stream->base);
}

static tw_status
sink_on_made(TwStream *stream, PyObject *owner)
{
    return tw_tls_made((TwTls *)owner);
}

static tw_status
sink_on_lost(TwStream *stream, PyObject *owner, PyObject *exc)
{
    return tw_tls_lost((TwTls *)owner, exc);
}

static tw_status
sink_on_pause(TwStream *stream, PyObject *owner)
{
    ((TwTls *)owner)->lower_full = 1;
    return 0;
}

static tw_status
sink_on_resume(TwStream *stream, PyObject *owner)
{
    return tw_tls_drained((TwTls *)owner);
}

static size_t
sink_waiting(PyObject *owner)
{
    return tw_tls_buffer_size((TwTls *)owner);
}

static const TwSink filter_sink = {
    .waiting = sink_waiting,
    .data = sink_on_data,
    .eof = sink_on_eof,
    .made = sink_on_made,
    .lost = sink_on_lost,
    .pause_writing = sink_on_pause,
    .resume_writing = sink_on_resume,
};

/* -- inserting and removing it -------------------------------------------- */

void
tw_filter_set_marks(TwTls *tls)
{
    TwStream *stream = filter_stream(tls);
    size_t high = tls->base.high > 0 ? tls->base.high - 1 : 0;

    if (!tls->is_stream || stream == NULL) {
        return;
    }
    stream->base.high = high < FILTER_HIGH ? high : FILTER_HIGH;
    stream->base.low = tls->base.low < FILTER_LOW ? tls->base.low
                                                  : FILTER_LOW;
    if (stream->base.low > stream->base.high) {
        stream->base.low = stream->base.high;
    }
}

void
tw_filter_request_resume(TwTls *tls)
{
    TwStream *stream = filter_stream(tls);

    if (tls->is_stream && !tw_tls_is_lost(tls) && stream != NULL
        && stream->queue.bytes > stream->base.low) {
        stream->base.flags |= TW_F_WRITE_PAUSED;
        tls->lower_full = 1;
    }
}

tw_status
tw_filter_open(TwTls *tls, int fd, PyObject *sock, PyObject *extra,
               PyObject *server)
{
    TwStreamParts parts = {.sock = sock,
                           .sink = &filter_sink,
                           .sink_owner = (PyObject *)tls,
                           .extra = extra,
                           .server = server};
    TwStream *stream = tw_stream_new(tls->base.loop, fd, &parts);

    if (stream == NULL) {
        return -1;
    }
    tls->lower = (PyObject *)stream;
    tls->is_stream = 1;
    tw_filter_set_marks(tls);
    return 0;
}

/* lower.<name>(arg): 0, or -1 with an exception. */
static tw_status
filter_call(TwTls *tls, PyObject *name, PyObject *arg)
{
    PyObject *argv[] = {Py_NewRef(tls->lower), arg};
    PyObject *result = tw_call_plain_method(name, argv, arg ? 2 : 1);

    Py_DECREF(argv[0]);
    return tw_status_steal(result);
}

/* The same, but an exception ends the connection. */
static tw_status
filter_must_call(TwTls *tls, PyObject *name, PyObject *arg)
{
    if (filter_is_gone(tls)) {
        return 0;
    }
    if (filter_call(tls, name, arg) < 0) {
        return tw_tls_fatal(tls, TW_TLS_FATAL_SSL);
    }
    return 0;
}

/* False for a second lower transport, for one of another loop, and for a TLS
   transport that has none itself: no cycles can be built. */
static bool
filter_can_be_over(const TwTls *tls, PyObject *lower)
{
    tw_state *state = tls->base.loop->state;

    if (tls->lower != NULL || tls->state != TW_TLS_UNWRAPPED
        || tls->base.flags & TW_F_CLOSING) {
        return false;
    }
    if (Py_IS_TYPE(lower, state->tls_type)) {
        return ((TwTls *)lower)->lower != NULL
               && ((TwTls *)lower)->base.loop == tls->base.loop;
    }
    return !Py_IS_TYPE(lower, state->stream_type)
           || ((TwTransport *)lower)->loop == tls->base.loop;
}

tw_status
tw_filter_insert(TwTls *tls, PyObject *lower)
{
    tw_state *state = tls->base.loop->state;
    PyObject *adapter = tw_adapter_of(tls);
    bool is_stream;

    if (adapter == NULL) {
        return -1;
    }
    if (!filter_can_be_over(tls, lower)) {
        PyErr_Format(PyExc_ValueError, "no TLS transport over this %.200s",
                     Py_TYPE(lower)->tp_name);
        return -1;
    }
    tls->lower = Py_NewRef(lower);
    is_stream = Py_IS_TYPE(lower, state->stream_type);
    /* What was written before to a stream is sent unencrypted. */
    if ((is_stream ? tw_hold_flush((TwTransport *)lower)
                   : filter_call(tls, state->str.set_protocol, adapter))
        < 0) {
        Py_CLEAR(tls->lower);
        return -1;
    }
    if (!is_stream) {
        return 0;
    }
    tls->is_stream = 1;
    tw_transport_set_protocol(TW_BASE(lower), adapter);
    tw_stream_set_sink((TwStream *)lower, &filter_sink, (PyObject *)tls);
    tw_filter_set_marks(tls);
    if (((TwTransport *)lower)->flags & TW_F_WRITE_PAUSED) {
        tls->lower_full = 1;
    }
    return 0;
}

void
tw_filter_cut(TwTls *tls)
{
    if (tls->is_stream && tls->lower != NULL
        && filter_stream(tls)->sink_owner == (PyObject *)tls) {
        tw_stream_set_sink(filter_stream(tls), NULL, NULL);
    }
    Py_CLEAR(tls->adapter);
}

/* -- calls of the lower transport ----------------------------------------- */

static tw_status
filter_send_stream(TwTls *tls, size_t n, bool may_hold)
{
    TwOut *out = (TwOut *)Py_NewRef(tls->lower);
    const char *p = tw_engine_out_peek(tls->engine);
    PyObject *bytes;
    tw_status status = 0;

    if (out->base.conn_lost > 0 || out->base.fd < 0) {
        tw_engine_out_clear(tls->engine);
    }
    else if (p == NULL) {
        bytes = tw_engine_out_take(tls->engine);
        status = bytes ? tw_out_write(out, bytes) : -1;
        Py_XDECREF(bytes);
    }
    else {
        status = may_hold ? tw_out_write_copy(out, p, n)
                          : tw_out_write_own(out, p, n);
        tw_engine_out_clear(tls->engine);
    }
    Py_DECREF(out);
    return status < 0 ? tw_tls_fatal(tls, TW_TLS_FATAL_SSL) : 0;
}

tw_status
tw_filter_send(TwTls *tls, bool may_hold)
{
    size_t n = tw_engine_out_size(tls->engine);
    PyObject *bytes;
    tw_status status;

    if (n == 0 || tw_engine_is_busy(tls->engine)) {
        return 0;
    }
    if (filter_is_gone(tls)) {
        tw_engine_out_clear(tls->engine);
        return 0;
    }
    if (tls->is_stream) {
        return filter_send_stream(tls, n, may_hold);
    }
    if (tls->lower_full) {
        return 0;
    }
    bytes = tw_engine_out_take(tls->engine);
    if (bytes == NULL) {
        return tw_tls_fatal(tls, TW_TLS_FATAL_SSL);
    }
    status = filter_must_call(tls, tls->base.loop->state->str.write, bytes);
    Py_DECREF(bytes);
    return status;
}

tw_status
tw_filter_flush(TwTls *tls)
{
    if (filter_is_gone(tls)) {
        return 0;
    }
    if (tls->in_read && tw_filter_send(tls, false) < 0) {
        return -1;
    }
    return tls->is_stream ? tw_hold_flush((TwTransport *)tls->lower) : 0;
}

size_t
tw_filter_waiting(TwTls *tls)
{
    return tls->is_stream && !tw_tls_is_lost(tls)
               ? tw_out_size((TwTransport *)tls->lower)
               : 0;
}

tw_status
tw_filter_pause_reading(TwTls *tls)
{
    if (tls->is_stream) {
        return tw_transport_pause_reading((TwTransport *)tls->lower);
    }
    return filter_must_call(tls, tls->base.loop->state->str.pause_reading,
                            NULL);
}

tw_status
tw_filter_resume_reading(TwTls *tls)
{
    if (tls->is_stream) {
        return tw_transport_resume_reading((TwTransport *)tls->lower);
    }
    return filter_must_call(tls, tls->base.loop->state->str.resume_reading,
                            NULL);
}

tw_status
tw_filter_close_soon(TwTls *tls)
{
    TwLoop *loop = tls->base.loop;
    PyObject *method;
    tw_status status;

    if (filter_is_gone(tls)) {
        return 0;
    }
    /* allow: the transport's close(), bound */
    method = PyObject_GetAttr(tls->lower, loop->state->str.close);
    if (method == NULL) {
        return tw_tls_fatal(tls, TW_TLS_FATAL_SSL);
    }
    status = tw_loop_call_soon(loop, method, NULL, 0, tls->base.context);
    Py_DECREF(method);
    return status < 0 ? tw_tls_fatal(tls, TW_TLS_FATAL_SSL) : 0;
}

tw_status
tw_filter_force_close(TwTls *tls, PyObject *exc)
{
    tw_state *state = tls->base.loop->state;
    tw_status status;

    if (filter_is_gone(tls)) {
        return 0;
    }
    if (tls->is_stream) {
        return tw_transport_force_close((TwTransport *)tls->lower, exc);
    }
    status = filter_call(tls, state->str._force_close, exc ? exc : Py_None);
    /* Not every transport of a program has _force_close(). */
    if (status < 0 && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        status = filter_call(tls, state->str.abort, NULL);
    }
    return status == 0 ? 0
                       : tw_call_report(tls->base.loop, TW_TLS_FATAL_SSL,
                                        tls->lower, NULL);
}

int
tw_filter_is_closing(TwTls *tls)
{
    if (filter_is_gone(tls)) {
        return 0;
    }
    if (tls->is_stream) {
        return !tw_transport_is_open((TwTransport *)tls->lower);
    }
    return tw_truth_steal(tw_call_plain_noargs(
        tls->lower, tls->base.loop->state->str.is_closing));
}

PyObject *
tw_filter_extra_info(TwTls *tls, PyObject *name, PyObject *dflt)
{
    if (tls->lower == NULL) {
        return Py_NewRef(dflt);
    }
    if (tls->is_stream) {
        return tw_transport_extra_info((TwTransport *)tls->lower, name, dflt);
    }
    PyObject *argv[] = {tls->lower, name, dflt};
    return tw_call_plain_method(tls->base.loop->state->str.get_extra_info,
                                argv, 3);
}
