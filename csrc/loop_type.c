/* The Loop type's method table; no logic. */
#include "loop_type.h"

#include "base/args.h"
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

#define VARKW (METH_VARARGS | METH_KEYWORDS)

static PyMethodDef loop_methods[] = {
    /* core */
    {"_open", tw_loop_meth_open, METH_VARARGS, NULL},
    {"_signal_fd", tw_loop_meth_signal_fd, METH_NOARGS, NULL},
    {"_note_signal", tw_loop_meth_note_signal, METH_O, NULL},
    {"_run_turns", tw_loop_meth_run_turns, METH_O, NULL},
    {"_run_nested", tw_loop_meth_run_nested, METH_O, NULL},
    {"_shut", tw_loop_meth_shut, METH_NOARGS, NULL},
    {"_flush_held", tw_loop_meth_flush_held, METH_NOARGS, NULL},
    {"_after_fork", tw_loop_meth_after_fork, METH_NOARGS, NULL},
    {"stop", tw_loop_meth_stop, METH_NOARGS, PyDoc_STR(
"stop($self, /)\n--\n\nStop run_forever() after the current turn.\n\n"
"See library/asyncio-eventloop.")},
    {"is_running", tw_loop_meth_is_running, METH_NOARGS, PyDoc_STR(
"is_running($self, /)\n--\n\n"
"True while the loop runs.  See library/asyncio-eventloop.")},
    {"is_closed", tw_loop_meth_is_closed, METH_NOARGS, PyDoc_STR(
"is_closed($self, /)\n--\n\n"
"True if the loop was closed.  See library/asyncio-eventloop.")},
    {"get_debug", tw_loop_meth_get_debug, METH_NOARGS, PyDoc_STR(
"get_debug($self, /)\n--\n\n"
"True in debug mode.  See library/asyncio-eventloop.")},
    {"stats", TW_FAST(tw_stats_loop_meth_stats), TW_FASTKW, tw_stats_doc},
    {"_watch_begin", tw_watchdog_loop_begin, METH_VARARGS, NULL},
    {"_watch_wait", tw_watchdog_loop_wait, METH_VARARGS, NULL},
    {"_watch_count", tw_watchdog_loop_count, METH_NOARGS, NULL},
    {"_watch_end", tw_watchdog_loop_end, METH_O, NULL},
    {"_count", tw_stats_loop_meth_count, METH_VARARGS, NULL},
    {"time", tw_loop_meth_time, METH_NOARGS, tw_loop_doc_time},
    {"call_soon", TW_FAST(tw_loop_meth_call_soon), TW_FASTKW,
     tw_loop_doc_call_soon},
    {"call_soon_threadsafe", TW_FAST(tw_loop_meth_call_soon_threadsafe),
     TW_FASTKW, tw_loop_doc_call_soon_threadsafe},
    {"call_later", TW_FAST(tw_loop_meth_call_later), TW_FASTKW,
     tw_loop_doc_call_later},
    {"call_at", TW_FAST(tw_loop_meth_call_at), TW_FASTKW, tw_loop_doc_call_at},
    {"create_future", tw_loop_meth_create_future, METH_NOARGS,
     tw_loop_doc_create_future},
    {"create_task", TW_FAST(tw_loop_meth_create_task), TW_FASTKW,
     tw_loop_doc_create_task},

    /* net */
    {"_make_socket_transport", TW_FAST(tw_stream_loop_make_socket), VARKW,
     NULL},
    {"_make_datagram_transport", TW_FAST(tw_udp_loop_make), VARKW,
     NULL},
    {"_start_serving", TW_FAST(tw_accept_loop_start_serving), VARKW,
     tw_accept_doc_start_serving},
    {"_stop_serving", tw_accept_loop_stop_serving, METH_O, NULL},
    {"add_reader", TW_FAST(tw_userfd_loop_add_reader), TW_FASTKW,
     tw_userfd_doc_add_reader},
    {"add_writer", TW_FAST(tw_userfd_loop_add_writer), TW_FASTKW,
     tw_userfd_doc_add_writer},
    {"remove_reader", TW_FAST(tw_userfd_loop_remove_reader), TW_FASTKW,
     tw_userfd_doc_remove_reader},
    {"remove_writer", TW_FAST(tw_userfd_loop_remove_writer), TW_FASTKW,
     tw_userfd_doc_remove_writer},
    {"_add_reader", TW_FAST(tw_userfd_loop_private_add_reader), METH_FASTCALL,
     NULL},
    {"_add_writer", TW_FAST(tw_userfd_loop_private_add_writer), METH_FASTCALL,
     NULL},
    {"_remove_reader", tw_userfd_loop_private_remove_reader, METH_O, NULL},
    {"_remove_writer", tw_userfd_loop_private_remove_writer, METH_O, NULL},
    {"_ensure_fd_no_transport", tw_userfd_loop_ensure_no_transport, METH_O,
     NULL},
    {"_make_read_pipe_transport", TW_FAST(tw_pipe_loop_make_read), TW_FASTKW,
     tw_pipe_doc_make_read},
    {"_make_write_pipe_transport", TW_FAST(tw_pipe_loop_make_write), TW_FASTKW,
     tw_pipe_doc_make_write},
    {"_watch_child", TW_FAST(tw_process_loop_watch_child), METH_FASTCALL,
     tw_process_doc_watch_child},

    /* tls */

    /* ops */
    TW_SOCK_METHODS,
    {"_literal_addresses", TW_FAST(tw_dns_loop_literal_addresses),
     METH_FASTCALL, NULL},
    {"_look_up_name", TW_FAST(tw_resolver_loop_look_up_name), METH_FASTCALL,
     NULL},
    {"_look_up_address", TW_FAST(tw_resolver_loop_look_up_address),
     METH_FASTCALL, NULL},
    {"_lookups_waiting", tw_resolver_loop_waiting, METH_NOARGS, NULL},
    {"_abandon_lookup", tw_resolver_loop_abandon, METH_O, NULL},
    {"_sock_sendfile_native", TW_FAST(tw_sendfile_loop_sock_sendfile_native),
     TW_FASTKW, tw_sendfile_doc_sock_sendfile_native},
    {NULL},
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
    {Py_tp_methods, loop_methods},
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
    return tw_state_add_type(state, &state->loop_type, &loop_spec, NULL, 1);
}
