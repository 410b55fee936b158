/* base/args: arguments by place and by name.

   unwind: 5 */
#include "base/args.c"

#define MAX 3
static const char *const names[MAX] = {"a", "b", "c"};

/* A name: one of the three or another. */
static PyObject *
any_name(void)
{
    PyObject *name = stub_new(STUB_STR);

    __CPROVER_assume(name != NULL);
    name->size = 1;
    name->text = malloc(2);
    __CPROVER_assume(name->text != NULL);
    __CPROVER_assume(name->text[0] >= 'a' && name->text[0] <= 'd');
    name->text[1] = '\0';
    return name;
}

static PyObject *
any_names(Py_ssize_t nkw)
{
    PyObject *kwnames = nkw == 0 ? NULL : stub_new(STUB_TUPLE);

    if (nkw == 0) {
        return NULL;
    }
    __CPROVER_assume(kwnames != NULL);
    kwnames->size = nkw;
    kwnames->items = malloc((size_t)nkw * sizeof(PyObject *));
    __CPROVER_assume(kwnames->items != NULL);
    for (Py_ssize_t i = 0; i < nkw; i++) {
        kwnames->items[i] = any_name();
    }
    return kwnames;
}

static void
release_names(PyObject *kwnames, Py_ssize_t nkw)
{
    for (Py_ssize_t i = 0; i < nkw; i++) {
        Py_DECREF(kwnames->items[i]);
    }
    if (kwnames != NULL) {
        Py_DECREF(kwnames);
    }
}

/* What the i-th parameter should get: NULL, or where it comes from; how many
   say so. */
static int
expected(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
         Py_ssize_t nkw, int i, PyObject **value)
{
    int count = i < nargs;

    *value = i < nargs ? args[i] : NULL;
    for (Py_ssize_t k = 0; k < nkw; k++) {
        if (kwnames->items[k]->text[0] == names[i][0]) {
            *value = args[nargs + k];
            count++;
        }
    }
    return count;
}

/* proof: bind: each parameter gets what was passed by its place or its name;
   too many, twice the same, an unknown name or a missing one is a TypeError,
   and nothing else is.
   broken: csrc/base/args.c: i < nargs ? args[i] : NULL ==> i <= nargs ? args[i] : NULL
   broken: csrc/base/args.c: if (out[i] != NULL) { ==> if (false) {
   broken: csrc/base/args.c: i < spec->required ==> i + 1 < spec->required */
static void
bind_of(Py_ssize_t nargs, Py_ssize_t nkw)
{
    PyObject *args[4], objects[4], *out[MAX], *kwnames = any_names(nkw);
    TwArgs spec = {"f", names, nondet_int(), MAX};
    bool good = nargs <= MAX;
    int used = 0;

    __CPROVER_assume(spec.required >= 0 && spec.required <= MAX);
    for (int i = 0; i < 4; i++) {
        args[i] = &objects[i];
    }
    tw_status status = tw_args_bind(&spec, args, nargs, kwnames, out);
    for (int i = 0; i < MAX; i++) {
        PyObject *value;
        int count = expected(args, nargs, kwnames, nkw, i, &value);
        used += count;
        good = good && count <= 1 && (count == 1 || i >= spec.required);
        assert(status < 0 || out[i] == value);
    }
    good = good && used == nargs + nkw;
    assert((status == 0) == good);
    assert(stub_error == (good ? STUB_FINE : STUB_TYPE_ERROR));
    release_names(kwnames, nkw);
}

void
bind(void)
{
    STUB_CASE(bind_of(0, 0));
    STUB_CASE(bind_of(1, 1));
    STUB_CASE(bind_of(0, 2));
    STUB_CASE(bind_of(2, 2));
    STUB_CASE(bind_of(3, 1));
    STUB_CASE(bind_of(3, 0));
    STUB_CASE(bind_of(4, 0));
}

/* proof: one: its value, by place or by name, or a TypeError.
   broken: csrc/base/args.h: nargs == 1 && kwnames == NULL ==> nargs == 1 */
static void
one_of(Py_ssize_t nargs, Py_ssize_t nkw)
{
    PyObject objects[2], *args[2] = {&objects[0], &objects[1]};
    PyObject *kwnames = any_names(nkw);
    bool good = nargs + nkw == 1
                && (nkw == 0 || kwnames->items[0]->text[0] == 'a');
    PyObject *value = tw_args_one("f", "a", args, nargs, kwnames);

    assert(value == (good ? args[0] : NULL));
    assert(stub_error == (good ? STUB_FINE : STUB_TYPE_ERROR));
    release_names(kwnames, nkw);
}

void
one(void)
{
    STUB_CASE(one_of(0, 0));
    STUB_CASE(one_of(1, 0));
    STUB_CASE(one_of(0, 1));
    STUB_CASE(one_of(1, 1));
    STUB_CASE(one_of(2, 0));
}

/* proof: refuse: an exception in any case, and nothing leaks.
   broken: csrc/base/args.c: Py_DECREF(name); ==> */
void
refuse(void)
{
    PyObject object;

    tw_args_refuse("%U", &object);
    assert(stub_error == STUB_TYPE_ERROR || stub_error == STUB_MEMORY_ERROR);
}
