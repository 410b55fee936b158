/* Which engine a connection gets, and how it is made. */
#include <stdlib.h>
#include <string.h>

#include "tls/engine_impl.h"

/* Make state->tls, when TLS is used for the first time: programs without TLS
   do not import the ssl module. */
static tw_status
engine_need_ssl(tw_state *state)
{
    if (TW_LIKELY(state->tls != NULL)) {
        return 0;
    }
    state->tls = tw_state_import("tidewire._tls", "C_NAMES");
    if (state->tls == NULL) {
        return -1;
    }
    if (!PyTuple_CheckExact(state->tls)
        || PyTuple_GET_SIZE(state->tls) != TW_TLS_NAMES) {
        Py_CLEAR(state->tls);
        PyErr_SetString(PyExc_ImportError, "tidewire._tls is of another "
                                           "version than tidewire._core");
        return -1;
    }
    return 0;
}

/* -- which engine --------------------------------------------------------- */

/* TIDEWIRE_TLS=memorybio; read for each connection, so that a program or a
   test can change it. */
static bool
engine_is_forced(void)
{
    const char *value = getenv("TIDEWIRE_TLS");

    return value != NULL && strcmp(value, "memorybio") == 0;
}

/* Test the libssl: our hook must see a client that the ssl module makes,
   and it must be of that library. 1, 0, or -1 with an exception. */
static int
engine_probe(tw_state *state)
{
    TwCapture *capture = tw_capture_begin();
    PyObject *argv[] = {tw_engine_name(state, TW_TLS_HELPERS)};
    PyObject *inner;
    int good = -1;

    if (capture == NULL) {
        return -1;
    }
    inner = tw_call_plain_method(state->str.probe, argv, 1);
    tw_capture_end(capture);
    if (inner != NULL) {
        good = tw_libssl_recognises(capture, inner);
        Py_DECREF(inner);
    }
    PyMem_Free(capture);
    return good;
}

/* Can the direct engine be used? 1; 0 with the reason; -1 with an
   exception. */
static int
engine_is_direct_possible(tw_state *state, const char **reason)
{
    int found;

    if (engine_is_forced()) {
        *reason = "TIDEWIRE_TLS=memorybio";
        return 0;
    }
    found = tw_libssl_verdict(reason);
    if (TW_LIKELY(found >= 0)) {
        return found;
    }
    found = tw_libssl_find(tw_engine_name(state, TW_TLS_HELPERS), reason);
    if (found <= 0) {
        return found;
    }
    found = engine_probe(state);
    if (found < 0) {
        return -1;
    }
    return tw_libssl_judge(found, reason);
}

static PyObject *
engine_backend(PyObject *module, PyObject *unused)
{
    tw_state *state = PyModule_GetState(module);
    const char *reason = NULL;
    int direct;

    if (engine_need_ssl(state) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_ImportError)
            && !PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return NULL;
        }
        PyErr_Clear();
        return Py_BuildValue("(ss)", "memorybio", "there is no ssl module");
    }
    direct = engine_is_direct_possible(state, &reason);
    if (direct < 0) {
        return NULL;
    }
    if (direct) {
        return Py_BuildValue("(sN)", "direct",
                             PyUnicode_DecodeFSDefault(tw_libssl_path()));
    }
    return Py_BuildValue("(ss)", "memorybio", reason);
}

/* -- a new connection ----------------------------------------------------- */

/* context.wrap_bio(): a new tuple that owns the objects in `parts`. */
static PyObject *
engine_wrap(TwEngineParts *parts, PyObject *sslcontext, bool server_side,
            PyObject *server_hostname, int *direct)
{
    tw_state *state = parts->loop->state;
    PyObject *argv[] = {tw_engine_name(state, TW_TLS_HELPERS), sslcontext,
                        server_side ? Py_True : Py_False, server_hostname};
    PyObject *made = tw_call_method(parts->loop, NULL, state->str.wrap_bio,
                                    argv, 4);
    int overridden, usable;

    if (made == NULL) {
        return NULL;
    }
    if (!PyArg_ParseTuple(made, "OOOOpp", &parts->sslobj, &parts->inner,
                          &parts->incoming, &parts->outgoing, &overridden,
                          &usable)) {
        Py_DECREF(made);
        return NULL;
    }
    parts->overridden = overridden != 0;
    *direct = *direct && usable;
    return made;
}

TwEngine *
tw_engine_new(TwLoop *loop, PyObject *sslcontext, bool server_side,
              PyObject *server_hostname, PyObject *context)
{
    TwEngineParts parts = {.loop = loop};
    TwEngine *engine = NULL;
    TwCapture *capture;
    const char *reason;
    PyObject *made;
    int direct;

    if (engine_need_ssl(loop->state) < 0) {
        return NULL;
    }
    direct = engine_is_direct_possible(loop->state, &reason);
    if (direct < 0) {
        return NULL;
    }
    capture = tw_capture_begin();
    if (capture == NULL) {
        return NULL;
    }
    made = engine_wrap(&parts, sslcontext, server_side, server_hostname,
                       &direct);
    tw_capture_end(capture);
    if (made != NULL && direct) {
        engine = tw_openssl_new(&parts, capture);
    }
    if (made != NULL && engine == NULL && !PyErr_Occurred()) {
        engine = tw_memorybio_new(&parts);
    }
    if (engine != NULL) {
        engine->context = Py_NewRef(context);
    }
    PyMem_Free(capture);
    Py_XDECREF(made);
    return engine;
}

static PyMethodDef engine_methods[] = {
    {"tls_backend", engine_backend, METH_NOARGS,
     "tls_backend($module, /)\n--\n\n"
     "('direct', path of libssl) or ('memorybio', reason): how TLS data "
     "goes through the ssl module's objects."},
    {NULL, NULL, 0, NULL},
};

tw_status
tw_engine_setup(tw_state *state, PyObject *module)
{
    return PyModule_AddFunctions(module, engine_methods);
}
