#include "base/args.h"

static tw_status
args_bind_keyword(const TwArgs *spec, PyObject *name, PyObject *value,
                  PyObject **out)
{
    for (int i = 0; i < spec->max; i++) {
        if (PyUnicode_CompareWithASCIIString(name, spec->names[i]) != 0) {
            continue;
        }
        if (out[i] != NULL) {
            PyErr_Format(PyExc_TypeError,
                         "%s() got multiple values for argument '%U'",
                         spec->function, name);
            return -1;
        }
        out[i] = value;
        return 0;
    }
    PyErr_Format(PyExc_TypeError,
                 "%s() got an unexpected keyword argument '%U'",
                 spec->function, name);
    return -1;
}

static tw_status
args_check_required(const TwArgs *spec, PyObject *const *out)
{
    for (int i = 0; i < spec->required; i++) {
        if (out[i] == NULL) {
            PyErr_Format(PyExc_TypeError,
                         "%s() missing required argument: '%s' (pos %d)",
                         spec->function, spec->names[i], i + 1);
            return -1;
        }
    }
    return 0;
}

tw_status
tw_args_bind(const TwArgs *spec, PyObject *const *args, Py_ssize_t nargs,
             PyObject *kwnames, PyObject **out)
{
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);

    if (nargs > spec->max) {
        PyErr_Format(PyExc_TypeError,
                     "%s() takes at most %d arguments (%zd given)",
                     spec->function, spec->max, nargs);
        return -1;
    }
    for (int i = 0; i < spec->max; i++) {
        out[i] = i < nargs ? args[i] : NULL;
    }
    for (Py_ssize_t i = 0; i < nkw; i++) {
        if (args_bind_keyword(spec, PyTuple_GET_ITEM(kwnames, i),
                              args[nargs + i], out) < 0) {
            return -1;
        }
    }
    return args_check_required(spec, out);
}

PyObject *
tw_args_one_named(const char *function, const char *name,
                  PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    const TwArgs spec = {function, &name, 1, 1};
    PyObject *value;

    return tw_args_bind(&spec, args, nargs, kwnames, &value) < 0 ? NULL
                                                                 : value;
}

void
tw_args_refuse(const char *format, PyObject *obj)
{
    PyObject *name = PyType_GetName(Py_TYPE(obj));

    if (name != NULL) {
        PyErr_Format(PyExc_TypeError, format, name);
        Py_DECREF(name);
    }
}
