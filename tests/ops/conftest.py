"""Sockets to run the operations on: a pair, and a listener."""
import socket

import pytest

import support


@pytest.fixture
def pair(request):
    kind = request.node.callspec.params.get("kind", "unix") \
        if hasattr(request.node, "callspec") else "unix"
    a, b = support.socketpair(kind)
    yield a, b
    a.close()
    b.close()


@pytest.fixture
def listener():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        sock.setblocking(False)
        yield sock
