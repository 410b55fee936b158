/* The addresses of a socket transport: its own and the peer's. */
#include <string.h>
#include <sys/socket.h>

#include "net/transport.h"

/* self->addrs: two packed addresses, ours and the peer's; each is a length
   byte and that many bytes. */
#define ADDR_MAX 110 /* sizeof(struct sockaddr_un) */

static unsigned char *
addr_pack(unsigned char *to, const TwAddr *addr)
{
    size_t len = addr->len > ADDR_MAX ? ADDR_MAX : addr->len;

    *to = (unsigned char)len;
    memcpy(to + 1, &addr->u, len);
    return to + 1 + len;
}

tw_status
tw_transport_keep_addrs(TwTransport *self, const TwAddr *peer)
{
    TwAddr local, asked;

    local.len = asked.len = sizeof(local.u);
    if (getsockname(self->fd, &local.u.any, &local.len) < 0) {
        local.len = 0;
    }
    if (peer == NULL) {
        if (getpeername(self->fd, &asked.u.any, &asked.len) < 0) {
            asked.len = 0;
        }
        peer = &asked;
    }
    self->addrs = PyMem_Malloc(2 + (size_t)local.len + peer->len);
    if (self->addrs == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    addr_pack(addr_pack(self->addrs, &local), peer);
    return 0;
}

int
tw_transport_family(const TwTransport *self)
{
    const unsigned char *local = self->addrs;
    sa_family_t family = AF_UNSPEC;

    if (local != NULL && local[0] >= sizeof(family)) {
        memcpy(&family, local + 1 + offsetof(struct sockaddr, sa_family),
               sizeof(family));
    }
    return family;
}

PyObject *
tw_transport_addr(TwTransport *self, bool peer)
{
    const unsigned char *p = self->addrs;
    struct sockaddr_storage aligned;
    PyObject *result;

    if (peer) {
        p += 1 + p[0];
    }
    memset(&aligned, 0, sizeof(aligned));
    memcpy(&aligned, p + 1, p[0]);
    result = tw_addr_to_python((struct sockaddr *)&aligned, p[0]);
    if (result == NULL && !PyErr_Occurred()) {
        /* A family that only the socket module knows. */
        tw_state *state = self->loop->state;
        PyObject *sock = tw_transport_socket(self);
        if (sock == NULL) {
            return NULL;
        }
        result = tw_call_plain_noargs(
            sock, peer ? state->str.getpeername : state->str.getsockname);
        Py_DECREF(sock);
        if (result == NULL && PyErr_ExceptionMatches(PyExc_OSError)) {
            PyErr_Clear();
            result = Py_NewRef(Py_None);
        }
    }
    return result;
}
