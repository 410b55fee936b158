#include "core/layout.h"

tw_status
tw_layout_check(PyTypeObject *type, const TwSlotCheck *slots, size_t room)
{
    for (; slots->name != NULL; slots++) {
        PyObject *descr = PyObject_GetAttrString((PyObject *)type,
                                                 slots->name); /* allow */
        bool same = descr != NULL && Py_IS_TYPE(descr, &PyMemberDescr_Type)
                    && ((PyMemberDescrObject *)descr)->d_member->offset
                           == (Py_ssize_t)slots->offset;
        Py_XDECREF(descr);
        if (!same) {
            PyErr_Format(PyExc_ImportError,
                         "tidewire does not know this Python's %s.%s",
                         type->tp_name, slots->name);
            return -1;
        }
    }
    if ((size_t)type->tp_basicsize > room) {
        PyErr_Format(PyExc_ImportError,
                     "tidewire does not know this Python's %s (%zd bytes)",
                     type->tp_name, type->tp_basicsize);
        return -1;
    }
    return 0;
}
