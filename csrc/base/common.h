/* Every file of csrc/ includes this: Python's header, the types of results,
   and a few macros.

   The kind of a result is visible in its type:
     tw_status   0, or -1 with an exception set
     tw_uverr    0 or a count, or a negative errno (libuv's UV_E* are those);
                 never touches the exception state
     PyObject *  a new reference, or NULL with an exception set             */
#pragma once

#ifndef PY_SSIZE_T_CLEAN
#define PY_SSIZE_T_CLEAN
#endif
#include <Python.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>

/* For method tables: a function that is no PyCFunction, and the usual flags of
   one. */
#define TW_FAST(f) ((PyCFunction)(void (*)(void))(f))
#define TW_FASTKW (METH_FASTCALL | METH_KEYWORDS)

#define TW_MUSTCHECK __attribute__((warn_unused_result))
#define TW_COLD __attribute__((cold, noinline)) /* seldom called */
#define TW_LIKELY(x) __builtin_expect(!!(x), 1)
#define TW_UNLIKELY(x) __builtin_expect(!!(x), 0)

typedef int tw_status;
typedef Py_ssize_t tw_uverr;

/* Fields that two threads use at once, without a lock: what was written before
   a SET is seen after the GET that finds its value. */
#define TW_SHARED_GET(field) __atomic_load_n(&(field), __ATOMIC_ACQUIRE)
#define TW_SHARED_SET(field, value)                                           \
    __atomic_store_n(&(field), value, __ATOMIC_RELEASE)

/* A queue keeps at least this many slots. */
#define TW_KEEP_SLOTS 4096

/* The object that `ptr` is the field `member` of. */
#define TW_CONTAINER(ptr, type, member)                                       \
    ((type *)((char *)(ptr) - offsetof(type, member)))

/* What a method returns that has no value: None, or NULL with the exception
   that is set. */
static inline PyObject *
tw_none_or_error(tw_status status)
{
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

/* The status of a call whose value nobody needs: 0, or -1 for NULL.  Releases
   the value. */
static inline tw_status
tw_status_steal(PyObject *value)
{
    Py_XDECREF(value);
    return value == NULL ? -1 : 0;
}

/* Is the value of a call true?  1 or 0; or -1 with an exception, also for
   NULL. */
static inline int
tw_truth_steal(PyObject *value)
{
    int truth = value == NULL ? -1 : PyObject_IsTrue(value);

    Py_XDECREF(value);
    return truth;
}

/* Move a strong reference out of a field: the caller owns it afterwards. */
#define TW_TAKE(field) tw_take((void **)&(field))

static inline void *
tw_take(void **field)
{
    void *value = *field;
    *field = NULL;
    return value;
}
