#include "core/seam.h"

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
