/* The only file of csrc/ that tests Python's version.  pkg/tidewire/_seam.py
   does so in Python. */
#pragma once

#include "base/common.h"

/* From 3.15 on BaseEventLoop passes context= to the hooks that make
   transports: parts of a keyword list and of its format. */
#if PY_VERSION_HEX >= 0x030F0000
#define TW_CONTEXT_KEYWORD "context",
#define TW_CONTEXT_FORMAT "O"
#else
#define TW_CONTEXT_KEYWORD
#define TW_CONTEXT_FORMAT ""
#endif

/* create_task()'s parameters after the coroutine, for inspect.signature(). */
#if PY_VERSION_HEX >= 0x030E0000
#define TW_CREATE_TASK_KEYWORDS "**kwargs"
#elif PY_VERSION_HEX >= 0x030D0300
#define TW_CREATE_TASK_KEYWORDS "*, name=None, context=None, **kwargs"
#else
#define TW_CREATE_TASK_KEYWORDS "*, name=None, context=None"
#endif

/* From 3.13 on asyncio's datagram transports send empty datagrams, and count 8
   bytes for the header of each datagram in the buffer. */
#if PY_VERSION_HEX >= 0x030D0000
#define TW_DATAGRAM_EMPTY 1
#define TW_DATAGRAM_HEADER 8
#else
#define TW_DATAGRAM_EMPTY 0
#define TW_DATAGRAM_HEADER 0
#endif

/* From 3.15 on a timer is also due within the resolution of a float: after
   months of uptime that exceeds the clock's resolution. */
#define TW_TIMER_ULP (PY_VERSION_HEX >= 0x030F0000)

/* call_soon_threadsafe() returns a class of its own: cancel() in another
   thread waits until the callback has run. */
#if PY_VERSION_HEX >= 0x030E0000
#define TW_HANDLE_THREADSAFE 1
#else
#define TW_HANDLE_THREADSAFE 0
#endif

/* Slots by which a module declares its limits: one interpreter, the GIL. */
#if PY_VERSION_HEX >= 0x030C0000
#define TW_MODULE_ONE_INTERPRETER                                             \
    {Py_mod_multiple_interpreters,                                            \
     Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#else
#define TW_MODULE_ONE_INTERPRETER
#endif
#if PY_VERSION_HEX >= 0x030D0000
#define TW_MODULE_WITH_GIL {Py_mod_gil, Py_MOD_GIL_USED},
#else
#define TW_MODULE_WITH_GIL
#endif

/* The current context of the thread, borrowed: valid until the thread enters
   or leaves one.  NULL: Python has not made one yet; it would be empty. */
static inline PyObject *
tw_context_current(void)
{
    return PyThreadState_Get()->context;
}

/* How many variables are set in a context. */
static inline Py_ssize_t
tw_context_size(PyObject *context)
{
    return Py_TYPE(context)->tp_as_mapping->mp_length(context);
}

/* Debug builds count all references, free-threaded builds use two counters: in
   both only Python's own functions make and free objects. */
#if defined(Py_REF_DEBUG) || defined(Py_TRACE_REFS) || defined(Py_GIL_DISABLED)
#define TW_REFS_ARE_PLAIN 0
#else
#define TW_REFS_ARE_PLAIN 1
#endif

/* Revive an object of a heap type that was deallocated but not freed. */
static inline PyObject *
tw_object_revive(PyObject *op, PyTypeObject *type)
{
#if !TW_REFS_ARE_PLAIN
    return PyObject_Init(op, type);
#else
    Py_SET_REFCNT(op, 1);
    Py_SET_TYPE(op, type);
    Py_INCREF(type);
    return op;
#endif
}

/* Make a bytes object that nobody else refers to as good as new, with size n:
   at most the size with which it was made. */
static inline PyObject *
tw_bytes_renew(PyObject *op, Py_ssize_t n)
{
    Py_SET_SIZE((PyVarObject *)op, n);
    _Py_COMP_DIAG_PUSH
    _Py_COMP_DIAG_IGNORE_DEPR_DECLS
    ((PyBytesObject *)op)->ob_shash = -1;
    _Py_COMP_DIAG_POP
    PyBytes_AS_STRING(op)[n] = 0;
    return op;
}

/* Is there a weak reference to the object?  True if that is unknown. */
static inline bool
tw_has_weakrefs(PyObject *op)
{
    Py_ssize_t offset = Py_TYPE(op)->tp_weaklistoffset;

    return offset == 0 || *(PyObject **)((char *)op + offset) != NULL;
}

/* Clear the current exception and return it, normalised: a strong reference,
   or NULL if none is set. */
static inline PyObject *
tw_err_take(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *tb;

    PyErr_Fetch(&type, &value, &tb);
    if (type == NULL) {
        return NULL;
    }
    PyErr_NormalizeException(&type, &value, &tb);
    if (tb != NULL) {
        PyException_SetTraceback(value, tb);
        Py_DECREF(tb);
    }
    Py_DECREF(type);
    return value;
#endif
}

/* Set `exc` as the current exception; with NULL nothing changes. */
static inline void
tw_err_restore_steal(PyObject *exc)
{
    if (exc == NULL) {
        return;
    }
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(exc);
#else
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(exc)), exc,
                  PyException_GetTraceback(exc));
#endif
}

/* Clear the weak references of an object whose Python base class has a
   __weakref__ slot: from 3.12 the list is not in the object's own fields. */
static inline void
tw_clear_base_weakrefs(PyObject *op, PyObject *slot)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyObject_ClearWeakRefs(op);
#else
    if (slot != NULL) {
        PyObject_ClearWeakRefs(op);
    }
#endif
}

/* The object of a weak reference: a new reference, or NULL if it is gone.
   Sets no exception. */
static inline PyObject *
tw_weakref_get(PyObject *weak)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *obj = NULL;

    if (PyWeakref_GetRef(weak, &obj) < 0) {
        PyErr_Clear();
    }
    return obj;
#else
    PyObject *obj = PyWeakref_GET_OBJECT(weak);

    return obj == Py_None ? NULL : Py_NewRef(obj);
#endif
}

/* dict[key] in *value: a new reference (1), or NULL if there is none (0), or
   NULL with an exception (-1). */
static inline int
tw_dict_get(PyObject *dict, PyObject *key, PyObject **value)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyDict_GetItemRef(dict, key, value);
#else
    *value = Py_XNewRef(PyDict_GetItemWithError(dict, key));
    return *value != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
#endif
}

/* A number that changes when the dict does; 0: this Python has none. */
static inline uint64_t
tw_dict_version(PyObject *dict)
{
#if PY_VERSION_HEX >= 0x030E0000
    return 0;
#else
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    return ((PyDictObject *)dict)->ma_version_tag;
#pragma GCC diagnostic pop
#endif
}

/* Give a class that was changed a version (tp_version_tag) again, by a look-up
   of `name`.  False if it gets none: Python stops after many changes. */
static inline bool
tw_type_assign_version(PyTypeObject *type, PyObject *name)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyUnstable_Type_AssignVersionTag(type) == 1;
#else
    if (type->tp_version_tag == 0) {
        _PyType_Lookup(type, name);
    }
    return type->tp_version_tag != 0;
#endif
}

/* Is the bytearray's block too small for `size` bytes?  From 3.15 on it is a
   bytes object, opaque to us: false. */
static inline bool
tw_bytearray_must_grow(const PyByteArrayObject *self, Py_ssize_t size)
{
#if PY_VERSION_HEX >= 0x030F0000
    return false;
#else
    return size + (self->ob_start - self->ob_bytes) >= self->ob_alloc;
#endif
}

/* PyByteArray_Resize(), but never moves a block that is large enough. */
static inline tw_status
tw_bytearray_set_size(PyObject *op, Py_ssize_t size)
{
#if PY_VERSION_HEX < 0x030F0000
    PyByteArrayObject *self = (PyByteArrayObject *)op;

    if (self->ob_exports == 0 && !tw_bytearray_must_grow(self, size)) {
        Py_SET_SIZE(self, size);
        PyByteArray_AS_STRING(op)[size] = '\0';
        return 0;
    }
#endif
    return PyByteArray_Resize(op, size);
}

/* Free the block of an empty bytearray, as if it were new.  Another bytearray
   takes over the block and frees it, since the allocator depends on the
   version.  -1: MemoryError. */
static inline tw_status
tw_bytearray_drop_memory(PyByteArrayObject *self)
{
#if PY_VERSION_HEX < 0x030F0000
    PyObject *op = PyByteArray_FromStringAndSize(NULL, 0);
    PyByteArrayObject *fresh = (PyByteArrayObject *)op, old = *self;

    if (op == NULL) {
        return -1;
    }
    self->ob_alloc = fresh->ob_alloc;
    self->ob_bytes = fresh->ob_bytes;
    self->ob_start = fresh->ob_start;
    fresh->ob_alloc = old.ob_alloc;
    fresh->ob_bytes = old.ob_bytes;
    fresh->ob_start = old.ob_start;
    Py_DECREF(op);
#endif
    return 0;
}

/* Private, but in every version: obj.<name>, a new reference in *method, or
   NULL with an exception.  1: call it with obj as the first argument; 0: call
   it as it is. */
#if PY_VERSION_HEX >= 0x030D0000
PyAPI_FUNC(int) _PyObject_GetMethod(PyObject *obj, PyObject *name,
                                    PyObject **method);
#endif
