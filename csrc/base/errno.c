#include "base/errno.h"

#include <errno.h>
#include <string.h>

PyObject *
tw_errno_raise(tw_uverr err)
{
    errno = (int)-err;
    return PyErr_SetFromErrno(PyExc_OSError);
}

PyObject *
tw_errno_exception(tw_uverr err)
{
    PyObject *args, *exc;

    args = Py_BuildValue("(is)", (int)-err, strerror((int)-err));
    if (args == NULL) {
        return NULL;
    }
    /* OSError's own constructor picks the subclass. */
    exc = PyObject_Call(PyExc_OSError, args, NULL); /* allow: a builtin */
    Py_DECREF(args);
    return exc;
}
