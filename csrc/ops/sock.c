#include "ops/sock.h"

#include "base/args.h"
#include "ops/sock_io.h"

static PyObject *
sock_make(PyObject *loop, const TwSockKind *kind, const TwArgs *spec,
          PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *out[3] = {NULL, NULL, NULL};

    if (tw_args_bind(spec, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    return (PyObject *)tw_sock_op_new((TwLoop *)loop, kind, out[0], out[1],
                                      out[2]);
}

/* One method: its name, its kind, how many arguments it must have, their
   names. */
#define SOCK_METHOD(fn, kind, required, ...)                                  \
    static PyObject *sock_loop_##fn(PyObject *loop, PyObject *const *args,    \
                                    Py_ssize_t nargs, PyObject *kwnames)      \
    {                                                                         \
        static const char *const names[] = {__VA_ARGS__};                     \
        static const TwArgs spec = {#fn, names, required,                     \
                                    (int)(sizeof(names) / sizeof(*names))};   \
        return sock_make(loop, &kind, &spec, args, nargs, kwnames);           \
    }

SOCK_METHOD(sock_recv, tw_sock_io_recv, 2, "sock", "n")
SOCK_METHOD(sock_recv_into, tw_sock_io_recv_into, 2, "sock", "buf")
SOCK_METHOD(sock_recvfrom, tw_sock_io_recvfrom, 2, "sock", "bufsize")
SOCK_METHOD(sock_recvfrom_into, tw_sock_io_recvfrom_into, 2, "sock", "buf",
            "nbytes")
SOCK_METHOD(sock_sendall, tw_sock_io_sendall, 2, "sock", "data")
SOCK_METHOD(sock_sendto, tw_sock_io_sendto, 3, "sock", "data", "address")
SOCK_METHOD(sock_connect, tw_sock_conn_connect, 2, "sock", "address")
SOCK_METHOD(_sock_connect_at_once, tw_sock_conn_connect_at_once, 2, "sock",
            "address")
SOCK_METHOD(sock_accept, tw_sock_conn_accept, 1, "sock")

/* Its row in the table; `more`: the arguments after the socket. */
#define SOCK_ROW(fn, more, text)                                              \
    {#fn, TW_FAST(sock_loop_##fn), TW_FASTKW, PyDoc_STR(                      \
        #fn "($self, /, sock" more ")\n--\n\n" text "\n\n"                    \
        "A coroutine.  OSError if the operation fails; TypeError for an\n"    \
        "SSLSocket; ValueError for a blocking socket in debug mode.\n"        \
        "See library/asyncio-eventloop.")}

PyMethodDef tw_sock_loop_methods[] = {
    SOCK_ROW(sock_recv, ", n",
"Receive at most n bytes; b'' at the end of the stream."),
    SOCK_ROW(sock_recv_into, ", buf",
"Receive data into a writable buffer; returns the number of bytes."),
    SOCK_ROW(sock_recvfrom, ", bufsize",
"Receive a datagram of at most bufsize bytes; returns (bytes, address)."),
    SOCK_ROW(sock_recvfrom_into, ", buf, nbytes=0",
"Receive a datagram of at most nbytes (0: as many as fit) into a\n"
"writable buffer; returns (number of bytes, address)."),
    SOCK_ROW(sock_sendall, ", data",
"Send all of data.  After an error it is unknown how much was sent."),
    SOCK_ROW(sock_sendto, ", data, address",
"Send a datagram to address; returns the number of bytes sent."),
    SOCK_ROW(sock_connect, ", address",
"Connect to an address, which is resolved first if it is a name."),
    SOCK_ROW(sock_accept, "",
"Accept a connection; returns (conn, address), conn being non-blocking."),
    {"_sock_connect_at_once", TW_FAST(sock_loop__sock_connect_at_once),
     TW_FASTKW, NULL},
    {NULL},
};
