/* The Loop type: which files have its methods; no logic. */
#include "core/loop_type.h"

#include "core/overrides.h"
#include "core/watchdog.h"
#include "net/accept.h"
#include "net/pipe.h"
#include "net/process.h"
#include "net/stats.h"
#include "net/stream.h"
#include "net/udp.h"
#include "net/userfd.h"
#include "ops/dns.h"
#include "ops/resolver.h"
#include "ops/sendfile.h"
#include "ops/sock.h"

/* Each file has a table of its own methods. */
static PyMethodDef *const loop_method_tables[] = {
    /* core */
    tw_loop_life_methods,
    tw_loop_run_methods,
    tw_nest_loop_methods,
    tw_loop_sched_methods,
    tw_future_loop_methods,
    tw_watchdog_loop_methods,
    /* net */
    tw_stream_loop_methods,
    tw_udp_loop_methods,
    tw_pipe_loop_methods,
    tw_accept_loop_methods,
    tw_process_loop_methods,
    tw_userfd_loop_methods,
    tw_stats_loop_methods,
    /* ops */
    tw_sock_loop_methods,
    tw_dns_loop_methods,
    tw_resolver_loop_methods,
    tw_sendfile_loop_methods,
    NULL,
};

PyDoc_STRVAR(loop_doc,
"The C half of tidewire.Loop: everything that runs often.\n\n"
"Not for use by itself: tidewire.Loop derives from this and from asyncio's\n"
"BaseEventLoop.");

static PyType_Slot loop_slots[] = {
    {Py_tp_doc, (void *)loop_doc},
    {Py_tp_new, tw_loop_new},
    {Py_tp_dealloc, tw_loop_dealloc},
    {Py_tp_setattro, tw_overrides_setattr},
    {Py_tp_traverse, tw_loop_traverse},
    {Py_tp_clear, tw_loop_clear},
    {Py_tp_getset, tw_loop_getset},
    {0, NULL},
};

static PyType_Spec loop_spec = {
    .name = "tidewire._core.Loop",
    .basicsize = sizeof(TwLoop),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = loop_slots,
};

tw_status
tw_loop_type_setup(tw_state *state, PyObject *module)
{
    if (tw_state_add_type(state, &state->loop_type, &loop_spec, NULL, 1) < 0) {
        return -1;
    }
    return tw_state_add_methods(state->loop_type, loop_method_tables);
}
