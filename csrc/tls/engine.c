/* What both engines share: how they end, and the methods of the SSLObject. */
#include "tls/engine.h"

#include "tls/engine_impl.h"

void
tw_engine_free(TwEngine *engine)
{
    PyObject *sslobj, *context;

    if (engine == NULL) {
        return;
    }
    engine->ops->detach(engine);
    tw_input_drop(&engine->in, engine->loop);
    sslobj = engine->sslobj;
    context = engine->context;
    PyMem_Free(engine);
    Py_DECREF(sslobj);
    Py_XDECREF(context);
}

int
tw_engine_traverse(TwEngine *engine, visitproc visit, void *arg)
{
    if (engine == NULL) {
        return 0;
    }
    Py_VISIT(engine->sslobj);
    Py_VISIT(engine->context);
    return engine->ops->traverse(engine, visit, arg);
}

tw_status
tw_engine_lend(TwEngine *e, const char *p, size_t n)
{
    if (e->ops->lent != NULL) {
        e->ops->lent();
    }
    return tw_input_lend(&e->in, e->loop, p, n);
}

int
tw_engine_raised(const TwEngine *e)
{
    const tw_state *state = e->loop->state;

    if (PyErr_ExceptionMatches(tw_engine_name(state, TW_TLS_WANT_READ))
        || PyErr_ExceptionMatches(tw_engine_name(state, TW_TLS_SYSCALL))) {
        PyErr_Clear();
        return TW_ENGINE_WANT;
    }
    return -1;
}

/* Call the method once: DONE, WANT or -1. */
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
    return tw_status_steal(result) < 0 ? tw_engine_raised(e) : TW_ENGINE_DONE;
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
tw_engine_is_resumed(TwEngine *engine)
{
    /* allow: a property of the ssl module's own class */
    PyObject *reused = PyObject_GetAttr(
        engine->sslobj, engine->loop->state->str.session_reused);
    int resumed = reused == Py_True;

    Py_XDECREF(reused);
    tw_call_ignore_error();
    return resumed;
}

int
tw_engine_unwrap(TwEngine *engine)
{
    return engine_method(engine, engine->loop->state->str.unwrap);
}
