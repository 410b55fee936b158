/* The protocol that a TLS transport shows to the transport below it.

   A stream of ours does not call it; any other transport does.  It also has
   the attributes of asyncio's SSLProtocol that programs read. */
#include "tls/filter.h"

#define ADAPTER_BUFFER (64 * 1024)

typedef struct {
    PyObject_HEAD
    TwTls *tls;       /* strong */
    PyObject *buffer; /* strong or NULL: the bytearray of get_buffer() */
} TwAdapter;

static PyObject *
adapter_meth_connection_made(PyObject *op, PyObject *transport)
{
    return tw_none_or_error(tw_tls_made(((TwAdapter *)op)->tls));
}

static PyObject *
adapter_meth_connection_lost(PyObject *op, PyObject *exc)
{
    return tw_none_or_error(tw_tls_lost(((TwAdapter *)op)->tls, exc));
}

static PyObject *
adapter_meth_get_buffer(PyObject *op, PyObject *hint)
{
    TwAdapter *self = (TwAdapter *)op;

    if (self->buffer == NULL) {
        self->buffer = PyByteArray_FromStringAndSize(NULL, ADAPTER_BUFFER);
    }
    return Py_XNewRef(self->buffer);
}

static PyObject *
adapter_meth_buffer_updated(PyObject *op, PyObject *count)
{
    TwAdapter *self = (TwAdapter *)op;
    Py_ssize_t n = PyLong_AsSsize_t(count);
    PyObject *buffer;
    Py_buffer view;
    tw_status status;

    if (n == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (self->buffer == NULL || n < 0 || n > PyByteArray_Size(self->buffer)) {
        PyErr_SetString(PyExc_ValueError,
                        "buffer_updated() without room for that many bytes");
        return NULL;
    }
    buffer = TW_TAKE(self->buffer);
    /* Exported, so that nobody else can resize it. */
    status = PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE);
    if (status == 0) {
        status = tw_tls_data(self->tls, view.buf, (size_t)n);
        PyBuffer_Release(&view);
    }
    Py_DECREF(buffer);
    return tw_none_or_error(status);
}

static PyObject *
adapter_meth_eof_received(PyObject *op, PyObject *unused)
{
    int keep_open = tw_tls_eof(((TwAdapter *)op)->tls);

    return keep_open < 0 ? NULL : PyBool_FromLong(keep_open);
}

static PyObject *
adapter_meth_pause_writing(PyObject *op, PyObject *unused)
{
    ((TwAdapter *)op)->tls->lower_full = 1;
    Py_RETURN_NONE;
}

static PyObject *
adapter_meth_resume_writing(PyObject *op, PyObject *unused)
{
    return tw_none_or_error(tw_tls_drained(((TwAdapter *)op)->tls));
}

static PyObject *
adapter_get_transport(PyObject *op, void *unused)
{
    TwTls *tls = ((TwAdapter *)op)->tls;

    return Py_NewRef(tls->lower && !tw_tls_is_lost(tls) ? tls->lower
                                                         : Py_None);
}

static PyObject *
adapter_get_app_protocol(PyObject *op, void *unused)
{
    PyObject *protocol = ((TwAdapter *)op)->tls->base.protocol;

    return Py_NewRef(protocol ? protocol : Py_None);
}

static PyObject *
adapter_get_sslobj(PyObject *op, void *unused)
{
    return Py_NewRef(((TwAdapter *)op)->tls->engine->sslobj);
}

static int
adapter_traverse(PyObject *op, visitproc visit, void *arg)
{
    TwAdapter *self = (TwAdapter *)op;

    Py_VISIT(Py_TYPE(op));
    Py_VISIT((PyObject *)self->tls);
    Py_VISIT(self->buffer);
    return 0;
}

static int
adapter_clear(PyObject *op)
{
    Py_CLEAR(((TwAdapter *)op)->buffer);
    return 0;
}

static void
adapter_dealloc(PyObject *op)
{
    TwAdapter *self = (TwAdapter *)op;
    PyTypeObject *type = Py_TYPE(op);

    PyObject_GC_UnTrack(op);
    Py_CLEAR(self->buffer);
    Py_CLEAR(self->tls);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef adapter_methods[] = {
    {"connection_made", adapter_meth_connection_made, METH_O, NULL},
    {"connection_lost", adapter_meth_connection_lost, METH_O, NULL},
    {"get_buffer", adapter_meth_get_buffer, METH_O, NULL},
    {"buffer_updated", adapter_meth_buffer_updated, METH_O, NULL},
    {"eof_received", adapter_meth_eof_received, METH_NOARGS, NULL},
    {"pause_writing", adapter_meth_pause_writing, METH_NOARGS, NULL},
    {"resume_writing", adapter_meth_resume_writing, METH_NOARGS, NULL},
    {NULL},
};

static PyGetSetDef adapter_getset[] = {
    {"_transport", adapter_get_transport, NULL, NULL, NULL},
    {"_app_transport", tw_state_get_object, NULL, NULL, TW_AT(TwAdapter, tls)},
    {"_app_protocol", adapter_get_app_protocol, NULL, NULL, NULL},
    {"_sslobj", adapter_get_sslobj, NULL, NULL, NULL},
    {NULL},
};

PyDoc_STRVAR(adapter_doc,
"What a TLS transport shows to the transport under it: a BufferedProtocol.");

static PyType_Slot adapter_slots[] = {
    {Py_tp_doc, (void *)adapter_doc},
    {Py_tp_dealloc, adapter_dealloc},
    {Py_tp_traverse, adapter_traverse},
    {Py_tp_clear, adapter_clear},
    {Py_tp_methods, adapter_methods},
    {Py_tp_getset, adapter_getset},
    {0, NULL},
};

static PyType_Spec adapter_spec =
    TW_TYPE_SPEC("SSLProtocol", TwAdapter, adapter_slots);

PyObject *
tw_adapter_of(TwTls *tls)
{
    PyTypeObject *type = tls->base.loop->state->tls_adapter_type;
    TwAdapter *adapter;

    if (tls->adapter == NULL) {
        adapter = (TwAdapter *)type->tp_alloc(type, 0);
        if (adapter == NULL) {
            return NULL;
        }
        adapter->tls = (TwTls *)Py_NewRef((PyObject *)tls);
        tls->adapter = (PyObject *)adapter;
    }
    return tls->adapter;
}

tw_status
tw_adapter_setup(tw_state *state, PyObject *module)
{
    return tw_state_add_type(state, &state->tls_adapter_type, &adapter_spec,
                             state->buffered_protocol, 0);
}
