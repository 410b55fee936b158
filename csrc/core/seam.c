#include "core/seam.h"

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
