/* Arguments of METH_FASTCALL | METH_KEYWORDS functions, by name. */
#pragma once

#include "base/common.h"

/* What a function takes.  The names are in the order of the positions. */
typedef struct {
    const char *function; /* for messages: "sock_recv" */
    const char *const *names;
    int required; /* how many of them must be given */
    int max;      /* how many names there are */
} TwArgs;

/* Bind the arguments: out[i] is borrowed (valid while the call lasts), or NULL
   if the caller did not pass it.  -1 with a TypeError in Python's words. */
TW_MUSTCHECK tw_status tw_args_bind(const TwArgs *spec, PyObject *const *args,
                                    Py_ssize_t nargs, PyObject *kwnames,
                                    PyObject **out);

/* The argument of a function that takes one, by place or by name: borrowed
   (valid while the call lasts), or NULL with TypeError. */
PyObject *tw_args_one_named(const char *function, const char *name,
                            PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames);

/* TypeError: a format with one %U, for type(obj).__name__. */
void tw_args_refuse(const char *format, PyObject *obj);

static inline PyObject *
tw_args_one(const char *function, const char *name, PyObject *const *args,
            Py_ssize_t nargs, PyObject *kwnames)
{
    if (TW_LIKELY(nargs == 1 && kwnames == NULL)) {
        return args[0];
    }
    return tw_args_one_named(function, name, args, nargs, kwnames);
}
