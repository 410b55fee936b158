#include "core/overrides.h"

#include "base/compat.h"
#include "core/call.h"

/* Is loop.<name> still the method of our C type? */
static bool
method_is_ours(TwLoop *loop, PyObject *name)
{
    PyObject *found = NULL;
    bool ours = _PyObject_GetMethod((PyObject *)loop, name, &found) == 1
                && Py_IS_TYPE(found, &PyMethodDescr_Type)
                && PyDescr_TYPE(found) == loop->state->loop_type
                && PyDescr_NAME(found) == name;

    if (found == NULL) {
        tw_call_ignore_error(); /* the program's: it is called by name */
    }
    Py_XDECREF(found);
    return ours;
}

unsigned
tw_overrides_check(TwLoop *loop)
{
    tw_state *state = loop->state;
    PyTypeObject *type = Py_TYPE(loop);
    const struct {
        PyObject *name;
        unsigned bit;
    } methods[] = {
        {state->str.time, TW_OWN_TIME},
        {state->str.call_soon, TW_OWN_CALL_SOON},
        {state->str.call_at, TW_OWN_CALL_AT},
        {state->str.create_future, TW_OWN_CREATE_FUTURE},
        {state->str.create_task, TW_OWN_CREATE_TASK},
        {state->str._make_socket_transport, TW_OWN_MAKE_SOCKET_TRANSPORT},
    };
    PyObject *exc = tw_err_take();
    unsigned own = 0;

    for (size_t i = 0; i < Py_ARRAY_LENGTH(methods); i++) {
        if (!method_is_ours(loop, methods[i].name)) {
            own |= methods[i].bit;
        }
    }
    loop->overridden = own;
    loop->overridden_version = tw_type_assign_version(type, state->str.time)
                            ? type->tp_version_tag
                            : 0;
    tw_err_restore_steal(exc);
    return own;
}

PyObject *
tw_overrides_check_clock(tw_state *state)
{
    uint64_t version = tw_dict_version(state->time_names);
    PyObject *now =
        PyDict_GetItemWithError(state->time_names, state->str.monotonic);

    if (TW_UNLIKELY(now != state->monotonic)) {
        return now;
    }
    state->time_version = version;
    return NULL;
}

int
tw_overrides_setattr(PyObject *self, PyObject *name, PyObject *value)
{
    int status = PyObject_GenericSetAttr(self, name, value);

    ((TwLoop *)self)->overridden_version = 0;
    return status;
}

/* If the program has replaced it already, the original is unknown, and time()
   always calls time.monotonic by name. */
tw_status
tw_overrides_setup(tw_state *state)
{
    PyObject *module = PyImport_ImportModule("time");

    if (module == NULL) {
        return -1;
    }
    state->time_names = Py_NewRef(PyModule_GetDict(module));
    Py_DECREF(module);
    state->monotonic = Py_XNewRef(
        PyDict_GetItemWithError(state->time_names, state->str.monotonic));
    if (state->monotonic != NULL && !PyCFunction_Check(state->monotonic)) {
        Py_CLEAR(state->monotonic);
    }
    return PyErr_Occurred() ? -1 : 0;
}
