/* The module tidewire._core: its state, and the set-up of every file. */
#include "base/compat.h"
#include "core/handle.h"
#include "core/loop_type.h"
#include "net/accept.h"
#include "net/pipe.h"
#include "net/userfd.h"
#include "net/process.h"
#include "net/feeder.h"
#include "net/stats.h"
#include "net/stream.h"
#include "net/udp.h"
#include "ops/dns.h"
#include "ops/resolver.h"
#include "ops/sock_coro.h"
#include "tls/engine.h"
#include "tls/filter.h"
#include "tls/tls_transport.h"

#ifndef TW_BUILD_FLAGS /* setup.py defines it */
#define TW_BUILD_FLAGS "unknown"
#endif

PyModuleDef tw_module_def;

static PyObject *
module_build_info(PyObject *module, PyObject *unused)
{
    const char *second = tw_pollers[1] == NULL ? NULL : tw_pollers[1]->name;
    const char *libuv = tw_poller_uv_version();
    PyObject *pollers =
        PyUnicode_FromFormat("%s%s%s", tw_pollers[0]->name,
                             second ? ", " : "", second ? second : "");

    return Py_BuildValue("{sNssssss}", "pollers", pollers, "libuv",
                         libuv == NULL ? "none" : libuv, "compiler",
                         __VERSION__, "flags", TW_BUILD_FLAGS);
}

static PyMethodDef module_methods[] = {
    {"build_info", module_build_info, METH_NOARGS, PyDoc_STR(
"build_info($module, /)\n--\n\n"
"How this module was built: a dict of strings.")},
    {NULL},
};

typedef tw_status (*TwSetup)(tw_state *state, PyObject *module);

static const TwSetup module_setups[] = {
    /* core */
    tw_loop_type_setup,
    tw_handle_setup,
    /* net */
    tw_userfd_setup,
    tw_accept_setup,
    tw_feeder_setup,
    tw_stream_setup,
    tw_pipe_read_setup,
    tw_pipe_write_setup,
    tw_process_setup,
    tw_udp_setup,
    tw_stats_setup,
    /* tls */
    tw_engine_setup,
    tw_adapter_setup,
    tw_tls_transport_setup,
    /* ops */
    tw_sock_coro_setup,
    tw_dns_setup,
    tw_resolver_setup,
};

static int
module_exec(PyObject *module)
{
    tw_state *state = PyModule_GetState(module);

    if (tw_state_init(state, module) < 0) {
        return -1;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(module_setups); i++) {
        if (module_setups[i](state, module) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    tw_state *state = PyModule_GetState(module);

    return state ? tw_state_traverse(state, visit, arg) : 0;
}

static int
module_clear(PyObject *module)
{
    tw_state *state = PyModule_GetState(module);

    if (state != NULL) {
        tw_state_clear(state);
    }
    return 0;
}

static void
module_free(void *module)
{
    module_clear(module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    TW_MODULE_ONE_INTERPRETER
    TW_MODULE_WITH_GIL
    {0, NULL},
};

PyModuleDef tw_module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "tidewire._core",
    .m_doc = "The C core of tidewire.",
    .m_size = sizeof(tw_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&tw_module_def);
}
