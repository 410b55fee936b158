/* As much of Python as csrc/base needs, for the proofs: objects with a count
   of references, exceptions of which only the kind is kept, and allocations
   that fail at any time. */
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

typedef ssize_t Py_ssize_t;

typedef enum { STUB_OTHER, STUB_NONE, STUB_BYTES, STUB_STR, STUB_INT,
               STUB_TUPLE } StubKind;

/* One struct for every type: a proof has few objects. */
typedef struct StubObject PyObject;
typedef PyObject PyTypeObject;
struct StubObject {
    Py_ssize_t ob_refcnt;
    StubKind kind;
    Py_ssize_t size;   /* bytes, str, tuple */
    char *text;        /* bytes, str: the last is a NUL */
    PyObject **items;  /* tuple */
    long long value;   /* int */
    int too_large;     /* int: not a long long */
    int ascii;         /* str */
};

typedef PyObject *(*PyCFunction)(PyObject *, PyObject *);
#define METH_FASTCALL 1
#define METH_KEYWORDS 2

int nondet_int(void);
size_t nondet_size(void);

/* One of the cases of a proof, and perhaps this one.  They differ in sizes:
   with constant sizes the solver has arrays, and needs no theory of them. */
#define STUB_CASE(call)                                                       \
    do {                                                                      \
        if (nondet_int()) {                                                   \
            call;                                                             \
            return;                                                           \
        }                                                                     \
    } while (0)

/* -- references ----------------------------------------------------------- */

static PyObject *
Py_NewRef(PyObject *op)
{
    op->ob_refcnt++;
    return op;
}

static void
Py_DECREF(PyObject *op)
{
    assert(op->ob_refcnt > 0);
    if (--op->ob_refcnt == 0) {
        free(op->text);
        free(op->items);
        free(op);
    }
}

/* -- errors --------------------------------------------------------------- */

typedef enum { STUB_FINE, STUB_MEMORY_ERROR, STUB_TYPE_ERROR,
               STUB_OVERFLOW_ERROR } StubError;

static StubError stub_error;
#define PyExc_TypeError STUB_TYPE_ERROR

static void
PyErr_Clear(void)
{
    stub_error = STUB_FINE;
}

static int
PyErr_Occurred(void)
{
    return stub_error != STUB_FINE;
}

static PyObject *
PyErr_NoMemory(void)
{
    assert(stub_error == STUB_FINE);
    stub_error = STUB_MEMORY_ERROR;
    return NULL;
}

/* Its arguments are not looked at. */
#define PyErr_Format(type, ...)                                               \
    (assert(stub_error == STUB_FINE), stub_error = (type), (PyObject *)NULL)

/* -- memory --------------------------------------------------------------- */

static void
PyMem_RawFree(void *p)
{
    free(p);
}

/* In items of the type that all blocks of a harness consist of: to the solver
   they are arrays of it then, and not of bytes. */
static void *PyMem_RawMalloc(size_t n);
static void *PyMem_RawRealloc(void *p, size_t n);

#define STUB_BLOCKS_OF(Item)                                                  \
    static void *PyMem_RawMalloc(size_t n)                                    \
    {                                                                         \
        assert(n % sizeof(Item) == 0);                                        \
        return malloc(n / sizeof(Item) * sizeof(Item));                       \
    }                                                                         \
                                                                              \
    static void *PyMem_RawRealloc(void *p, size_t n)                          \
    {                                                                         \
        Item *old = p;                                                        \
        Item *new = PyMem_RawMalloc(n);                                       \
        if (new == NULL || old == NULL) {                                     \
            return new;                                                       \
        }                                                                     \
        for (size_t i = 0; i < n / sizeof(Item); i++) {                       \
            if (i < __CPROVER_OBJECT_SIZE(old) / sizeof(Item)) {              \
                new[i] = old[i];                                              \
            }                                                                 \
        }                                                                     \
        free(old);                                                            \
        return new;                                                           \
    }

/* -- objects -------------------------------------------------------------- */

/* An object, or NULL. */
static PyObject *
stub_new(StubKind kind)
{
    PyObject *op = malloc(sizeof(*op));

    if (op == NULL) {
        stub_error = STUB_MEMORY_ERROR;
        return NULL;
    }
    op->ob_refcnt = 1;
    op->kind = kind;
    op->size = 0;
    op->text = NULL;
    op->items = NULL;
    op->too_large = 0;
    return op;
}

/* bytes or str of any content, up to `most` long; never NULL. */
static PyObject *
stub_text(StubKind kind, Py_ssize_t most)
{
    PyObject *op = stub_new(kind);
    size_t n = nondet_size();

    __CPROVER_assume(op != NULL && n <= (size_t)most);
    op->size = (Py_ssize_t)n;
    op->text = malloc((size_t)most + 1);
    __CPROVER_assume(op->text != NULL);
    op->text[n] = '\0';
    op->ascii = nondet_int() != 0;
    return op;
}

#define Py_None ((PyObject *)&stub_none)
static PyObject stub_none = {1, STUB_NONE};
#define Py_RETURN_NONE return Py_NewRef(Py_None)

#define Py_TYPE(op) (op)
#define PyBytes_CheckExact(op) ((op)->kind == STUB_BYTES)
#define PyUnicode_CheckExact(op) ((op)->kind == STUB_STR)
#define PyLong_CheckExact(op) ((op)->kind == STUB_INT)
#define PyTuple_CheckExact(op) ((op)->kind == STUB_TUPLE)
#define PyUnicode_IS_ASCII(op) (assert((op)->kind == STUB_STR), (op)->ascii)
#define PyUnicode_1BYTE_DATA(op) (assert((op)->ascii), (op)->text)
#define PyUnicode_GET_LENGTH(op) ((op)->size)
#define PyBytes_AS_STRING(op) ((op)->text)

static Py_ssize_t
PyBytes_GET_SIZE(PyObject *op)
{
    assert(op->kind == STUB_BYTES);
    return op->size;
}

static Py_ssize_t
PyTuple_GET_SIZE(PyObject *op)
{
    assert(op->kind == STUB_TUPLE);
    return op->size;
}

static PyObject *
PyTuple_GET_ITEM(PyObject *op, Py_ssize_t i)
{
    assert(op->kind == STUB_TUPLE && i >= 0 && i < op->size);
    return op->items[i];
}

static long long
PyLong_AsLongLong(PyObject *op)
{
    assert(op->kind == STUB_INT);
    if (op->too_large) {
        stub_error = STUB_OVERFLOW_ERROR;
        return -1;
    }
    return op->value;
}

/* NULL, or the end of what may be read of that object. */
static const char *stub_end;

static void
stub_reads(const char *p, size_t n)
{
    assert(n <= PTRDIFF_MAX && __CPROVER_r_ok(p, n));
    assert(stub_end == NULL || !__CPROVER_same_object(p, stub_end)
           || n <= (size_t)(stub_end - p));
}

static PyObject *
stub_copy(StubKind kind, const char *p, Py_ssize_t n)
{
    PyObject *op;

    stub_reads(p, (size_t)n);
    op = stub_new(kind);
    if (op != NULL) {
        op->size = n;
        op->text = malloc((size_t)n + 1);
        __CPROVER_assume(op->text != NULL);
        for (Py_ssize_t i = 0; i < n; i++) {
            op->text[i] = p[i];
        }
        op->text[n] = '\0';
        op->ascii = 1;
    }
    return op;
}

#define PyBytes_FromStringAndSize(p, n) stub_copy(STUB_BYTES, p, n)
#define PyUnicode_DecodeFSDefaultAndSize(p, n) stub_copy(STUB_STR, p, n)
#define PyUnicode_FromString(p) stub_copy(STUB_STR, p, (Py_ssize_t)strlen(p))

/* Its arguments are evaluated, but not looked at. */
static PyObject *
stub_build(int unused, ...)
{
    return stub_new(STUB_TUPLE);
}
#define Py_BuildValue(format, ...) stub_build(0, __VA_ARGS__)

/* Names in the proofs have one letter. */
static int
PyUnicode_CompareWithASCIIString(PyObject *op, const char *text)
{
    assert(op->kind == STUB_STR);
    return op->text[0] - text[0];
}

#define PyType_GetName(type) ((void)(type), stub_new(STUB_STR))
