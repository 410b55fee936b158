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
    TW_SOCK_FUNCTION(fn)                                                      \
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

/* What their docstrings share. */
#define SOCK_DOC_ERRORS                                                       \
    "A coroutine.  OSError if the operation fails; TypeError for an\n"        \
    "SSLSocket; ValueError for a blocking socket in debug mode.\n"            \
    "See library/asyncio-eventloop."

const char tw_sock_doc_sock_recv[] =
    "sock_recv($self, /, sock, n)\n--\n\n"
    "Receive at most n bytes; b'' at the end of the stream.\n\n"
    SOCK_DOC_ERRORS;
const char tw_sock_doc_sock_recv_into[] =
    "sock_recv_into($self, /, sock, buf)\n--\n\n"
    "Receive data into a writable buffer; returns the number of bytes.\n\n"
    SOCK_DOC_ERRORS;
const char tw_sock_doc_sock_recvfrom[] =
    "sock_recvfrom($self, /, sock, bufsize)\n--\n\n"
    "Receive a datagram of at most bufsize bytes; returns (bytes, address).\n"
    "\n"
    SOCK_DOC_ERRORS;
const char tw_sock_doc_sock_recvfrom_into[] =
    "sock_recvfrom_into($self, /, sock, buf, nbytes=0)\n--\n\n"
    "Receive a datagram of at most nbytes (0: as many as fit) into a\n"
    "writable buffer; returns (number of bytes, address).\n\n"
    SOCK_DOC_ERRORS;
const char tw_sock_doc_sock_sendall[] =
    "sock_sendall($self, /, sock, data)\n--\n\n"
    "Send all of data.  After an error it is unknown how much was sent.\n\n"
    SOCK_DOC_ERRORS;
const char tw_sock_doc_sock_sendto[] =
    "sock_sendto($self, /, sock, data, address)\n--\n\n"
    "Send a datagram to address; returns the number of bytes sent.\n\n"
    SOCK_DOC_ERRORS;
const char tw_sock_doc_sock_connect[] =
    "sock_connect($self, /, sock, address)\n--\n\n"
    "Connect to an address, which is resolved first if it is a name.\n\n"
    SOCK_DOC_ERRORS;
const char tw_sock_doc_sock_accept[] =
    "sock_accept($self, /, sock)\n--\n\n"
    "Accept a connection; returns (conn, address), conn being non-blocking.\n"
    "\n"
    SOCK_DOC_ERRORS;
