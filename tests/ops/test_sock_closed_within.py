"""A waiting operation that is closed by what it calls itself in the turn: an
argument's method, or an audit hook."""
import asyncio
import socket
import sys

import pytest

import support


class Closes:
    """What closes a coroutine when it is used for the second time: the first
    is the try before the coroutine waits."""

    def __init__(self):
        self.uses = 0
        self.operation = None
        self.then = lambda: None

    def use(self):
        self.uses += 1
        if self.uses == 2:
            self.operation.close()
            self.then()


class Number(Closes):
    def __index__(self):
        self.use()
        return 10


class Buffer(Closes):
    def __init__(self, content=bytearray(10)):
        super().__init__()
        self.content = content

    def __buffer__(self, flags):
        self.use()
        return memoryview(self.content)


# The operation has the last reference to the socket.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
needs_buffers = pytest.mark.skipif(sys.version_info < (3, 12), reason="no __buffer__ yet")


def wait(closes, operation):
    """Its first step: it waits from then on."""
    closes.operation = operation
    future = operation.send(None)
    assert asyncio.isfuture(future)
    return future


def test_another_socket_is_not_read(run):
    """The last reference to the socket goes, and its memory to another."""
    others = []

    def make():
        for _ in range(3):
            x, y = support.socketpair()
            y.send(b"theirs")
            others.append((x, y))

    async def main():
        loop = asyncio.get_running_loop()
        a, b = support.socketpair()
        number = Number()
        number.then = make
        wait(number, loop.sock_recv(a, number))
        del a
        b.send(b"ours")
        await support.io_turns(5)
        assert number.uses == 2
        for x, y in others:
            assert x.recv(10) == b"theirs"
            x.close()
            y.close()
        b.close()

    run(main())


@pytest.mark.parametrize("name", ["sock_recv", "sock_recvfrom", "sock_recvfrom_into"])
def test_by_the_size(run, name):
    async def main():
        loop = asyncio.get_running_loop()
        a, b = support.socketpair()
        number = Number()
        args = (bytearray(20), number) if name.endswith("into") else (number,)
        wait(number, getattr(loop, name)(a, *args))
        del a, args
        b.send(b"x")
        await support.io_turns(5)
        assert number.uses == 2
        b.close()

    run(main())


@needs_buffers
@pytest.mark.parametrize("name", ["sock_recv_into", "sock_recvfrom_into"])
def test_by_the_buffer(run, name):
    async def main():
        loop = asyncio.get_running_loop()
        a, b = support.socketpair()
        buffer = Buffer()
        args = (buffer, 5) if name == "sock_recvfrom_into" else (buffer,)
        wait(buffer, getattr(loop, name)(a, *args))
        del a
        b.send(b"x")
        await support.io_turns(5)
        assert buffer.uses == 2
        b.close()

    run(main())


@pytest.mark.tidewire
@needs_buffers
def test_by_the_buffer_and_nothing_is_taken(run):
    """asyncio's reads, for nobody: see docs/differences.rst."""
    async def main():
        loop = asyncio.get_running_loop()
        a, b = support.socketpair()
        buffer = Buffer()
        wait(buffer, loop.sock_recv_into(a, buffer))
        b.send(b"kept")
        await support.io_turns(5)
        assert a.recv(10) == b"kept"
        a.close()
        b.close()

    run(main())


def full_datagram_socket(path):
    """A sender that has to wait, and its receiver."""
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(path)
    receiver.setblocking(False)
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.setblocking(False)
    try:
        while True:
            sender.sendto(b"x" * 1000, path)
    except BlockingIOError:
        return sender, receiver


def drain_datagrams(sock):
    found = []
    try:
        while True:
            found.append(sock.recv(2000)[:1])
    except BlockingIOError:
        return found


@needs_buffers
def test_by_the_datagram(run, tmp_path):
    path = str(tmp_path / "s")

    async def main():
        loop = asyncio.get_running_loop()
        sender, receiver = full_datagram_socket(path)
        buffer = Buffer(b"y")
        wait(buffer, loop.sock_sendto(sender, buffer, path))
        del sender
        drain_datagrams(receiver)
        await support.io_turns(5)
        assert buffer.uses == 2
        receiver.close()

    run(main())


def test_by_an_audit_hook(script):
    out = script("""
        from ops.test_sock_closed_within import (
            Closes, drain_datagrams, full_datagram_socket, wait)
        import tempfile
        closes = Closes()

        def hook(event, args):
            if event == "socket.sendto" and closes.operation:
                closes.use()

        async def main():
            path = tempfile.mkdtemp() + "/s"
            sender, receiver = full_datagram_socket(path)
            sys.addaudithook(hook)
            wait(closes, loop.sock_sendto(sender, b"y", path))
            del sender
            drain_datagrams(receiver)
            await support.io_turns(5)
            print(closes.uses)
            receiver.close()
            os.unlink(path)
            os.rmdir(os.path.dirname(path))

        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
    """)
    assert out == ["2"]
