#include "tls/engine.h"

#include <stdlib.h>
#include <string.h>

#include "tls/engine_impl.h"

tw_status
tw_engine_need_ssl(tw_state *state)
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

bool
tw_engine_take_again(const tw_state *state)
{
    if (PyErr_ExceptionMatches(tw_engine_name(state, TW_TLS_WANT_READ))
        || PyErr_ExceptionMatches(tw_engine_name(state, TW_TLS_SYSCALL))) {
        PyErr_Clear();
        return true;
    }
    return false;
}

/* -- which engine --------------------------------------------------------- */

/* TIDEWIRE_TLS=memorybio, looked at for each connection so that a program
   (or a test) can change its mind. */
static bool
engine_is_forced(void)
{
    const char *value = getenv("TIDEWIRE_TLS");

    return value != NULL && strcmp(value, "memorybio") == 0;
}

/* The behavioural test of a libssl: a client made by the ssl module must be
   seen by our hook, and be what that library makes.  1, 0 or -1. */
static int
engine_probe(tw_state *state)
{
    TwCapture capture;
    PyObject *argv[] = {tw_engine_name(state, TW_TLS_HELPERS)};
    PyObject *inner;
    int good;

    tw_capture_begin(&capture);
    inner = tw_call_plain_method(state->str.probe, argv, 1);
    tw_capture_end(&capture);
    if (inner == NULL) {
        return -1;
    }
    good = tw_libssl_recognises(&capture, inner);
    Py_DECREF(inner);
    return good;
}

/* Is the direct engine to be had?  1; 0 with the reason; -1 exception. */
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

PyObject *
tw_engine_backend(PyObject *module, PyObject *unused)
{
    tw_state *state = PyModule_GetState(module);
    const char *reason = NULL;
    int direct;

    if (tw_engine_need_ssl(state) < 0) {
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

/* -- life ----------------------------------------------------------------- */

/* context.wrap_bio(): a tuple that owns what `parts` borrows. */
static PyObject *
engine_wrap(TwEngineParts *parts, PyObject *sslcontext, bool server_side,
            PyObject *server_hostname, int *direct)
{
    tw_state *state = parts->loop->state;
    PyObject *argv[] = {tw_engine_name(state, TW_TLS_HELPERS), sslcontext,
                        server_side ? Py_True : Py_False, server_hostname};
    PyObject *made = tw_call_method(parts->loop, NULL, state->str.wrap_bio,
                                    argv, 4);
    int overridden, suited;

    if (made == NULL) {
        return NULL;
    }
    if (!PyArg_ParseTuple(made, "OOOOpp", &parts->sslobj, &parts->inner,
                          &parts->incoming, &parts->outgoing, &overridden,
                          &suited)) {
        Py_DECREF(made);
        return NULL;
    }
    parts->overridden = overridden != 0;
    *direct = *direct && suited;
    return made;
}

TwEngine *
tw_engine_new(TwLoop *loop, PyObject *sslcontext, bool server_side,
              PyObject *server_hostname, PyObject *context)
{
    TwEngineParts parts = {.loop = loop, .context = context};
    TwEngine *engine = NULL;
    TwCapture capture;
    const char *reason;
    PyObject *made;
    int direct;

    if (tw_engine_need_ssl(loop->state) < 0) {
        return NULL;
    }
    direct = engine_is_direct_possible(loop->state, &reason);
    if (direct < 0) {
        return NULL;
    }
    tw_capture_begin(&capture);
    made = engine_wrap(&parts, sslcontext, server_side, server_hostname,
                       &direct);
    tw_capture_end(&capture);
    if (made == NULL) {
        return NULL;
    }
    if (direct) {
        engine = tw_openssl_new(&parts, &capture);
    }
    if (engine == NULL && !PyErr_Occurred()) {
        engine = tw_memorybio_new(&parts);
    }
    Py_DECREF(made);
    return engine;
}

void
tw_engine_free(TwEngine *engine)
{
    PyObject *sslobj;

    if (engine == NULL) {
        return;
    }
    engine->ops->detach(engine);
    sslobj = engine->sslobj;
    PyMem_Free(engine);
    Py_DECREF(sslobj);
}

int
tw_engine_traverse(TwEngine *engine, visitproc visit, void *arg)
{
    if (engine == NULL) {
        return 0;
    }
    Py_VISIT(engine->sslobj);
    return engine->ops->traverse(engine, visit, arg);
}

PyObject *
tw_engine_object(const TwEngine *engine)
{
    return engine->sslobj;
}

bool
tw_engine_is_busy(const TwEngine *engine)
{
    return engine->busy > 0;
}

/* -- methods of the SSLObject --------------------------------------------- */

/* One call of it: DONE, WANT or -1. */
static int
engine_call(TwEngine *e, PyObject *name)
{
    PyObject *argv[] = {e->sslobj};
    PyObject *result;

    if (e->ops->before_method(e) < 0) {
        return -1;
    }
    e->busy++;
    result = tw_call_method(e->loop, e->context, name, argv, 1);
    e->busy--;
    e->ops->after_method(e);
    if (result == NULL) {
        return tw_engine_take_again(e->loop->state) ? TW_ENGINE_WANT : -1;
    }
    Py_DECREF(result);
    return TW_ENGINE_DONE;
}

static int
engine_method(TwEngine *e, PyObject *name)
{
    int result, more = 1;

    do {
        result = engine_call(e, name);
        if (result == TW_ENGINE_WANT) {
            more = e->ops->refill(e);
        }
    } while (result == TW_ENGINE_WANT && more > 0);
    return more < 0 ? -1 : result;
}

int
tw_engine_handshake(TwEngine *engine)
{
    return engine_method(engine, engine->loop->state->str.do_handshake);
}

int
tw_engine_unwrap(TwEngine *engine)
{
    return engine_method(engine, engine->loop->state->str.unwrap);
}

/* -- dispatch ------------------------------------------------------------- */

tw_status
tw_engine_lend(TwEngine *engine, const char *p, size_t n)
{
    return engine->ops->lend(engine, p, n);
}

tw_status
tw_engine_keep(TwEngine *engine)
{
    return engine->ops->keep(engine);
}

size_t
tw_engine_in_size(TwEngine *engine)
{
    return engine->ops->in_size(engine);
}

size_t
tw_engine_bound(TwEngine *engine)
{
    return engine->ops->bound(engine);
}

Py_ssize_t
tw_engine_read(TwEngine *engine, char *p, size_t n)
{
    return engine->ops->read(engine, p, n);
}

Py_ssize_t
tw_engine_write(TwEngine *engine, const char *p, size_t n)
{
    return engine->ops->write(engine, p, n);
}

size_t
tw_engine_out_size(TwEngine *engine)
{
    return engine->ops->out_size(engine);
}

const char *
tw_engine_out_peek(TwEngine *engine)
{
    return engine->ops->out_peek(engine);
}

void
tw_engine_out_clear(TwEngine *engine)
{
    engine->ops->out_clear(engine);
}

PyObject *
tw_engine_out_take(TwEngine *engine)
{
    return engine->ops->out_take(engine);
}

static PyMethodDef engine_methods[] = {
    {"tls_backend", tw_engine_backend, METH_NOARGS,
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
