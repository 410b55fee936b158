"""What the tests of the sock_ methods run over: kinds of sockets, and the methods."""
import pytest

import support

kinds = pytest.mark.parametrize("kind", support.KINDS)

METHODS = {
    "sock_recv": lambda loop, a: loop.sock_recv(a, 10),
    "sock_recv_into": lambda loop, a: loop.sock_recv_into(a, bytearray(9)),
    "sock_recvfrom": lambda loop, a: loop.sock_recvfrom(a, 10),
    "sock_recvfrom_into":
        lambda loop, a: loop.sock_recvfrom_into(a, bytearray(9)),
    "sock_sendall": lambda loop, a: loop.sock_sendall(a, b"x"),
    "sock_sendto": lambda loop, a: loop.sock_sendto(a, b"x", None),
    "sock_connect": lambda loop, a: loop.sock_connect(a, ("127.0.0.1", 1)),
    "sock_accept": lambda loop, a: loop.sock_accept(a),
}
