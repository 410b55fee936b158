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

static tw_status
state_ask_seam(tw_state *state, const char *name, int *answer)
{
    PyObject *truth =
        PyObject_GetAttrString(state->seam, name); /* allow: seam */

    *answer = truth == Py_True;
    Py_XDECREF(truth);
    return truth == NULL ? -1 : 0;
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
    state->seam = PyImport_ImportModule("tidewire._seam");
    if (state->seam == NULL) {
        return -1;
    }
    if (state_ask_seam(state, "server_takes_transport",
                       &state->server_takes_transport)
        < 0) {
        return -1;
    }
    if (state_ask_seam(state, "sendfile_always_moves",
                       &state->sendfile_always_moves)
        < 0) {
        return -1;
    }
    return state_ask_seam(state, "accepts_one_more", &state->accepts_one_more);
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
tw_seam_call_keywords(tw_state *state, const char *name,
                      PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames)
{
    PyObject *function, *result;

    function = PyObject_GetAttrString(state->seam, name); /* allow: seam */
    if (function == NULL) {
        return NULL;
    }
    result = PyObject_Vectorcall(function, args, /* allow: seam */
                                 (size_t)nargs, kwnames);
    Py_DECREF(function);
    return result;
}

PyObject *
tw_seam_call(tw_state *state, const char *name, PyObject *const *args,
             Py_ssize_t nargs)
{
    return tw_seam_call_keywords(state, name, args, nargs, NULL);
}

tw_status
tw_state_check_layout(PyTypeObject *type, const TwSlotCheck *slots,
                      size_t room)
{
    for (; slots->name != NULL; slots++) {
        PyObject *descr = PyObject_GetAttrString((PyObject *)type,
                                                 slots->name); /* allow */
        bool same = descr != NULL && Py_IS_TYPE(descr, &PyMemberDescr_Type)
                    && ((PyMemberDescrObject *)descr)->d_member->offset
                           == (Py_ssize_t)slots->offset;
        Py_XDECREF(descr);
        if (!same) {
            PyErr_Format(PyExc_ImportError,
                         "tidewire does not know this Python's %s.%s",
                         type->tp_name, slots->name);
            return -1;
        }
    }
    if ((size_t)type->tp_basicsize > room) {
        PyErr_Format(PyExc_ImportError,
                     "tidewire does not know this Python's %s (%zd bytes)",
                     type->tp_name, type->tp_basicsize);
        return -1;
    }
    return 0;
}
