"""Transports on sockets that the program made, and who owns them."""
import asyncio
import gc
import inspect
import os
import socket

import pytest

import support
from support import Recorder


@pytest.mark.parametrize("kind", support.KINDS)
def test_create_connection_sock(run, kind):
    async def main():
        ours, peer = support.socketpair(kind)
        transport, protocol = await support.connect_sock(ours, Recorder)
        peer.send(b"hello")
        await protocol.got(b"hello")
        transport.close()
        await protocol.saw("lost")
        await support.turns()
        assert ours.fileno() == -1
        assert peer.recv(10) == b""
        peer.close()

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_connect_accepted_socket(loop, run, kind):
    async def main():
        ours, peer = support.socketpair(kind)
        transport, protocol = await loop.connect_accepted_socket(
            Recorder, ours)
        transport.write(b"hello")
        assert await support.recv_exactly(peer, 5) == b"hello"
        await support.close(protocol)
        await support.turns()
        assert ours.fileno() == -1
        peer.close()

    run(main())


def test_blocking_socket(loop, run):
    """It is made non-blocking."""
    async def main():
        ours, peer = socket.socketpair()
        transport, protocol = await loop.create_unix_connection(
            Recorder, sock=ours)
        assert not os.get_blocking(ours.fileno())
        peer.send(b"x")
        await protocol.got(b"x")
        await support.close(protocol)
        peer.close()

    run(main())


def test_create_server_sock(loop, run):
    async def main():
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        server = await loop.create_server(Recorder, sock=sock)
        _, protocol = await loop.create_connection(
            Recorder, *sock.getsockname())
        await support.close(protocol)
        await support.io_turns()
        server.close()
        await server.wait_closed()
        await support.turns()
        assert sock.fileno() == -1

    run(main())


def test_wrong_kind_of_socket(loop, run):
    async def main():
        for make in (lambda: socket.socket(type=socket.SOCK_DGRAM),
                     lambda: socket.socket(socket.AF_UNIX,
                                           socket.SOCK_DGRAM)):
            with make() as sock:
                for call in (loop.create_server, loop.create_connection,
                             loop.connect_accepted_socket,
                             loop.create_unix_connection,
                             loop.create_unix_server):
                    with pytest.raises(ValueError):
                        await call(Recorder, sock=sock)
                assert sock.fileno() >= 0

    run(main())


def test_detached_socket(loop, run):
    async def main():
        a, b = support.socketpair()
        fd = a.detach()
        with pytest.raises((ValueError, OSError)):
            await loop.create_unix_connection(Recorder, sock=a)
        os.close(fd)
        b.close()

    run(main())


def test_two_transports_on_one_socket(loop, run, is_stock):
    """asyncio refuses the second at add_reader's door, later or at once."""
    async def main():
        a, b = support.socketpair()
        _, protocol = await loop.create_unix_connection(Recorder, sock=a)
        b.send(b"x")
        await protocol.got(b"x")
        await support.close(protocol)
        b.close()

    run(main())


def test_sock_methods_refuse_a_transports_socket(loop, run):
    """In debug mode asyncio checks; the descriptor is in use."""
    async def main():
        a, b = support.socketpair()
        _, protocol = await loop.create_unix_connection(Recorder, sock=a)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.sock_recv(a, 10)
        await support.close(protocol)
        b.close()

    run(main())


def test_duplicate_lives_on(loop, run):
    async def main():
        a, b = support.socketpair()
        copy = a.dup()
        _, protocol = await loop.create_unix_connection(Recorder, sock=a)
        await support.close(protocol)
        await support.turns()
        copy.send(b"still open")
        assert b.recv(100) == b"still open"
        copy.close()
        b.close()

    run(main())


def test_makefile_keeps_the_descriptor(loop, run):
    """socket.close() waits for makefile() objects: nobody closes twice."""
    async def main():
        a, b = support.socketpair()
        file = a.makefile("rb", buffering=0)
        _, protocol = await loop.create_unix_connection(Recorder, sock=a)
        await support.close(protocol)
        await support.turns()
        assert os.fstat(file.fileno())
        file.close()
        assert b.recv(10) == b""
        b.close()

    run(main())


def test_descriptor_is_closed_once(loop, run):
    """A number that is free again belongs to whoever opens it next."""
    async def main():
        for _ in range(20):
            a, b = support.socketpair()
            number = a.fileno()
            _, protocol = await loop.create_unix_connection(Recorder, sock=a)
            protocol.transport.close()
            protocol.transport.abort()
            await protocol.saw("lost")
            await support.turns(3)
            fd = os.open("/dev/null", os.O_RDONLY)
            a.close()
            del a
            protocol.transport = None
            del protocol
            gc.collect()
            await support.turns(3)
            os.fstat(fd)            # not closed by someone else
            os.close(fd)
            b.close()

    run(main())


def test_data_waits_in_the_socket_already(loop, run):
    async def main():
        a, b = support.socketpair()
        b.send(b"early")
        b.close()
        _, protocol = await loop.create_unix_connection(Recorder, sock=a)
        assert protocol.names == ["made"]
        await protocol.saw("lost")
        assert protocol.names == ["made", "data", "eof", "lost"]

    run(main())


@pytest.mark.parametrize("method", ["create_unix_connection",
                                    "connect_accepted_socket"])
def test_factory_that_raises(loop, run, method):
    async def main():
        a, b = support.socketpair()
        with pytest.raises(ZeroDivisionError):
            await getattr(loop, method)(lambda: 1 / 0, sock=a)
        a.close()
        b.close()

    run(main())


def test_subclass_of_socket(loop, run):
    class Mine(socket.socket):
        closed = 0

        def close(self):
            self.closed += 1
            super().close()

    async def main():
        a, b = socket.socketpair()
        mine = Mine(fileno=a.detach())
        mine.setblocking(False)
        _, protocol = await loop.create_unix_connection(Recorder, sock=mine)
        b.send(b"x")
        await protocol.got(b"x")
        await support.close(protocol)
        await support.turns()
        assert mine.closed == 1
        b.close()

    run(main())


def test_streams_on_a_socket(run):
    async def main():
        a, b = support.socketpair("tcp")
        reader, writer = await asyncio.open_connection(sock=a)
        b.send(b"line\n")
        assert await reader.readline() == b"line\n"
        writer.close()
        await writer.wait_closed()
        b.close()

    run(main())


# -- what the program overrides (docs/differences.rst) ------------------------------

class Noting(socket.socket):
    """Notes which of its methods are called."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.calls = []

    def recv(self, *args):
        self.calls.append("recv")
        return super().recv(*args)

    def send(self, *args):
        self.calls.append("send")
        return super().send(*args)


@pytest.mark.tidewire
def test_methods_of_a_subclass(run):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener, Noting() as ours:
            ours.connect(listener.getsockname())
            ours.setblocking(False)
            with listener.accept()[0] as peer:
                peer.send(b"question")
                assert await loop.sock_recv(ours, 100) == b"question"
                await loop.sock_sendall(ours, b"answer")
                assert ours.calls == ["recv", "send"]
                transport, protocol = await support.connect_sock(ours, Recorder)
                peer.send(b"question")
                await protocol.got(b"question")
                transport.write(b"answer")
                await support.close(protocol)
                assert ours.calls == ["recv", "send"]

    run(main())


@pytest.mark.tidewire
def test_method_replaced_on_the_base_class(run, monkeypatch):
    async def main():
        transport, protocol, peer = await support.connected()
        monkeypatch.setattr(asyncio.Transport, "get_extra_info", lambda *args: "replaced")
        assert transport.get_extra_info("peername") == peer.getsockname()
        peer.close()
        await support.close(protocol)

    run(main())


@pytest.mark.tidewire
def test_sock_operations_are_no_coroutine_functions(loop):
    assert not inspect.iscoroutinefunction(loop.sock_recv)
