/* Attributes that asyncio's BaseEventLoop assigns and reads, stored in the C
   struct only. */
#include "core/loop_type.h"

static PyObject *
attr_get_bool(PyObject *self, void *offset)
{
    return PyBool_FromLong(*(bool *)((char *)self + (size_t)offset));
}

static int
attr_set_bool(PyObject *self, PyObject *value, void *offset)
{
    int truth = value == NULL ? 0 : PyObject_IsTrue(value);

    if (truth < 0) {
        return -1;
    }
    *(bool *)((char *)self + (size_t)offset) = truth;
    return 0;
}

static int
attr_set_object(PyObject *self, PyObject *value, void *offset)
{
    PyObject **slot = (PyObject **)((char *)self + (size_t)offset);

    Py_XSETREF(*slot, value == Py_None ? NULL : Py_XNewRef(value));
    return 0;
}

/* `_ready`, `_scheduled`, `_selector`: code that needs asyncio's own queues
   must fail loudly.  BaseEventLoop.__init__ may assign them. */
static PyObject *
attr_get_absent(PyObject *self, void *name)
{
    PyErr_Format(PyExc_AttributeError,
                 "'%s' object has no attribute '%s' (tidewire keeps its "
                 "queues in C)",
                 Py_TYPE(self)->tp_name, (const char *)name);
    return NULL;
}

static int
attr_set_absent(PyObject *self, PyObject *value, void *name)
{
    return 0;
}

#define AT(field) TW_AT(TwLoop, field)

PyGetSetDef tw_loop_getset[] = {
    {"_closed", attr_get_bool, attr_set_bool, NULL, AT(closed)},
    {"_stopping", attr_get_bool, attr_set_bool, NULL, AT(stopping)},
    {"_debug", attr_get_bool, attr_set_bool, NULL, AT(debug)},
    {"_never_hold", attr_get_bool, attr_set_bool, NULL, AT(never_hold)},
    {"_never_merge", attr_get_bool, attr_set_bool, NULL, AT(never_merge)},
    {"_select_patched", attr_get_bool, attr_set_bool, NULL,
     AT(select_patched)},
    {"_signal_fd_is_kept", attr_get_bool, attr_set_bool, NULL, AT(wake_known)},
    {"_nests", attr_get_bool, attr_set_bool, NULL, AT(nests)},
    {"name", tw_state_get_object, attr_set_object,
     PyDoc_STR("The loop's name in stats(), or None."), AT(name)},
    {"_thread_id", tw_state_get_object, attr_set_object, NULL, AT(thread_id)},
    {"_task_factory", tw_state_get_object, attr_set_object, NULL,
     AT(task_factory)},
    {"_exception_handler", tw_state_get_object, attr_set_object, NULL,
     AT(exception_handler)},
    {"_current_handle", tw_state_get_object, attr_set_object, NULL,
     AT(current_handle)},
    {"_signal_handlers", tw_state_get_object, attr_set_object, NULL,
     AT(signal_handlers)},
    {"_ready", attr_get_absent, attr_set_absent, NULL, (void *)"_ready"},
    {"_scheduled", attr_get_absent, attr_set_absent, NULL,
     (void *)"_scheduled"},
    {"_selector", attr_get_absent, attr_set_absent, NULL,
     (void *)"_selector"},
    {NULL},
};
