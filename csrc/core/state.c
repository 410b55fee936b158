#include "core/state.h"

#include "core/overrides.h"

PyObject *
tw_state_import(const char *module, const char *attr)
{
    PyObject *mod = PyImport_ImportModule(module);
    PyObject *value;

    if (mod == NULL) {
        return NULL;
    }
    value = PyObject_GetAttrString(mod, attr); /* allow: set-up */
    Py_DECREF(mod);
    return value;
}

PyObject *
tw_seam_call(tw_state *state, const char *name, PyObject *const *args,
             Py_ssize_t nargs)
{
    PyObject *function, *result;

    function = PyObject_GetAttrString(state->seam, name); /* allow: seam */
    if (function == NULL) {
        return NULL;
    }
    result = PyObject_Vectorcall(function, args, /* allow: seam */
                                 (size_t)nargs, NULL);
    Py_DECREF(function);
    return result;
}

static tw_status
state_intern_names(tw_state *state)
{
#define X(name)                                                               \
    state->str.name = PyUnicode_InternFromString(#name);                      \
    if (state->str.name == NULL) {                                            \
        return -1;                                                            \
    }
    TW_NAMES(X)
#undef X
    return 0;
}

static tw_status
state_import_asyncio(tw_state *state)
{
    const struct {
        PyObject **slot;
        const char *module, *attr;
    } wanted[] = {
        {&state->future_type, "asyncio.futures", "Future"},
        {&state->task_type, "asyncio.tasks", "Task"},
        {&state->base_loop_type, "asyncio.base_events", "BaseEventLoop"},
        {&state->buffered_protocol, "asyncio.protocols", "BufferedProtocol"},
        {&state->socket_type, "socket", "socket"},
    };

    for (size_t i = 0; i < Py_ARRAY_LENGTH(wanted); i++) {
        *wanted[i].slot = tw_state_import(wanted[i].module, wanted[i].attr);
        if (*wanted[i].slot == NULL) {
            return -1;
        }
    }
    return 0;
}

/* Import the seam, and read what it says about this Python. */
static tw_status
state_import_seam(tw_state *state)
{
    const struct {
        int *slot;
        const char *name;
    } answers[] = {
        {&state->server_takes_transport, "server_takes_transport"},
        {&state->sendfile_always_moves, "sendfile_always_moves"},
        {&state->accepts_one_more, "accepts_one_more"},
    };

    state->seam = PyImport_ImportModule("tidewire._seam");
    if (state->seam == NULL) {
        return -1;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(answers); i++) {
        PyObject *value = PyObject_GetAttrString(/* allow: seam */
            state->seam, answers[i].name);
        if (value == NULL) {
            return -1;
        }
        *answers[i].slot = value == Py_True;
        Py_DECREF(value);
    }
    return 0;
}

tw_status
tw_state_init(tw_state *state, PyObject *module)
{
    state->module = module;
    if (state_intern_names(state) < 0 || state_import_asyncio(state) < 0) {
        return -1;
    }
    state->empty_tuple = PyTuple_New(0);
    state->kw_loop = PyTuple_Pack(1, state->str.loop);
    state->kw_context = PyTuple_Pack(1, state->str.context);
    if (state->empty_tuple == NULL || state->kw_loop == NULL
        || state->kw_context == NULL || tw_overrides_setup(state) < 0) {
        return -1;
    }
    return state_import_seam(state);
}

/* Every strong reference of the state but the names, once each. */
#define TW_STATE_OBJECTS(X)                                                   \
    X(loop_type)                                                              \
    X(handle_type)                                                            \
    X(timer_type)                                                             \
    X(threadsafe_type)                                                        \
    X(userfd_type)                                                            \
    X(accept_type)                                                            \
    X(stream_type)                                                            \
    X(read_pipe_type)                                                         \
    X(write_pipe_type)                                                        \
    X(udp_type)                                                               \
    X(process_type)                                                           \
    X(sock_op_type)                                                           \
    X(resolver_type)                                                          \
    X(tls_type)                                                               \
    X(tls_adapter_type)                                                       \
    X(future_type)                                                            \
    X(task_type)                                                              \
    X(base_loop_type)                                                         \
    X(buffered_protocol)                                                      \
    X(socket_type)                                                            \
    X(seam)                                                                   \
    X(reader.parts)                                                           \
    X(tls)                                                                    \
    X(dns)                                                                    \
    X(time_bounds)                                                            \
    X(size_bounds)                                                            \
    X(empty_tuple)                                                            \
    X(kw_loop)                                                                \
    X(kw_context)                                                             \
    X(time_names)                                                             \
    X(monotonic)

int
tw_state_traverse(tw_state *state, visitproc visit, void *arg)
{
#define X(field) Py_VISIT(state->field);
    TW_STATE_OBJECTS(X)
#undef X
    return 0;
}

void
tw_state_clear(tw_state *state)
{
#define X(field) Py_CLEAR(state->field);
    TW_STATE_OBJECTS(X)
#undef X
#define X(name) Py_CLEAR(state->str.name);
    TW_NAMES(X)
#undef X
}

tw_state *
tw_state_of_type(PyTypeObject *type)
{
    extern PyModuleDef tw_module_def;
    PyObject *module;

    if (PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE)) {
        module = PyType_GetModuleByDef(type, &tw_module_def);
        if (module != NULL) {
            return PyModule_GetState(module);
        }
    }
    return NULL;
}

tw_status
tw_state_add_type(tw_state *state, PyTypeObject **slot, PyType_Spec *spec,
                  PyObject *bases, int public)
{
    *slot = (PyTypeObject *)PyType_FromModuleAndSpec(state->module, spec,
                                                     bases);
    if (*slot == NULL) {
        return -1;
    }
    return public ? PyModule_AddType(state->module, *slot) : 0;
}

PyObject *
tw_state_get_object(PyObject *self, void *offset)
{
    PyObject *value = *(PyObject **)((char *)self + (size_t)offset);

    return Py_NewRef(value ? value : Py_None);
}

/* The type's own dict, because setattr() cannot replace `__dict__`. */
static tw_status
state_keep_steal(PyTypeObject *type, const char *name, PyObject *descr)
{
    tw_status status =
        descr ? PyDict_SetItemString(type->tp_dict, name, descr) : -1;

    Py_XDECREF(descr);
    PyType_Modified(type);
    return status;
}

tw_status
tw_state_add_methods(PyTypeObject *type, PyMethodDef *const *tables)
{
    for (; *tables != NULL; tables++) {
        for (PyMethodDef *def = *tables; def->ml_name != NULL; def++) {
            if (state_keep_steal(type, def->ml_name,
                                 PyDescr_NewMethod(type, def))
                < 0) {
                return -1;
            }
        }
    }
    return 0;
}

tw_status
tw_state_add_getset(PyTypeObject *type, PyGetSetDef *def)
{
    for (; def->name != NULL; def++) {
        if (state_keep_steal(type, def->name, PyDescr_NewGetSet(type, def))
            < 0) {
            return -1;
        }
    }
    return 0;
}
