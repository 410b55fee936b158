#include "base/errno.h"

#include <errno.h>

#include "base/compat.h"

PyObject *
tw_errno_raise(tw_uverr err)
{
    errno = (int)-err;
    return PyErr_SetFromErrno(PyExc_OSError);
}

PyObject *
tw_errno_exception(tw_uverr err)
{
    tw_errno_raise(err);
    return tw_err_take();
}
