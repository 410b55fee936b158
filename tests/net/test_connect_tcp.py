"""create_connection() and create_server()."""
import asyncio
import errno
import gc
import socket
import sys

import pytest

from net.tcpkit import end, served
import support
from support import Recorder


# -- create_connection ------------------------------------------------------

def refused_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_connection_refused(loop, run):
    async def main():
        with pytest.raises(ConnectionRefusedError) as caught:
            await loop.create_connection(Recorder, "127.0.0.1",
                                         refused_port())
        assert caught.value.errno == errno.ECONNREFUSED
        assert "Connect call failed" in str(caught.value)

    run(main())


def test_factory_is_not_called_without_a_connection(loop, run):
    async def main():
        made = []
        with pytest.raises(OSError):
            await loop.create_connection(lambda: made.append(1),
                                         "127.0.0.1", refused_port())
        assert made == []

    run(main())


def test_factory_that_raises(loop, run):
    async def main():
        async def answer(reader, writer):
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]

        def factory():
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await loop.create_connection(factory, "127.0.0.1", port)
        await support.io_turns(5)
        await end(server)

    # asyncio leaves the socket to the collector, which says so.
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        run(main())
        gc.collect()


@pytest.mark.parametrize("arguments", [
    dict(), dict(host="127.0.0.1", port=1, sock=True),
    dict(sock="nonsense"), dict(host="127.0.0.1"),
    dict(host="127.0.0.1", port=1, server_hostname="x"),
    dict(host="127.0.0.1", port=1, ssl_handshake_timeout=1),
    dict(host="127.0.0.1", port=1, ssl_shutdown_timeout=1),
    dict(host="127.0.0.1", port=1, nonsense=1),
    dict(host="127.0.0.1", port="nonsense"),
    dict(host="127.0.0.1", port=1, ssl=True, server_hostname=""),
], ids=str)
def test_wrong_arguments(loop, run, arguments):
    """The same exception as asyncio's, type and text."""
    def attempt(loop):
        kwargs = dict(arguments)
        if kwargs.get("sock") is True:
            kwargs["sock"] = socket.socket()
        try:
            loop.run_until_complete(asyncio.wait_for(
                loop.create_connection(Recorder, **kwargs), 5))
        except Exception as exc:
            return type(exc), str(exc)
        finally:
            if isinstance(kwargs.get("sock"), socket.socket):
                kwargs["sock"].close()

    reference = asyncio.SelectorEventLoop()
    try:
        expected = attempt(reference)
        reference.run_until_complete(reference.shutdown_default_executor())
    finally:
        reference.close()
    assert expected is not None
    ours = attempt(loop)
    assert ours[0] is expected[0]
    if expected[0] is not TypeError:        # those name the function
        assert ours[1] == expected[1]


@pytest.mark.parametrize("what", ["udp", "closed"])
def test_unfit_sockets(loop, run, what, errors):
    def attempt(loop):
        if what == "udp":
            sock = socket.socket(type=socket.SOCK_DGRAM)
        else:
            sock = socket.socket()
        if what == "closed":
            sock.close()
        else:
            sock.setblocking(False)
        with sock:
            try:
                transport, protocol = loop.run_until_complete(
                    loop.create_connection(Recorder, sock=sock))
            except Exception as exc:
                return type(exc)
            loop.run_until_complete(
                asyncio.wait_for(protocol.saw("lost"), 5))
            return type(protocol.lost)

    reference = asyncio.SelectorEventLoop()
    try:
        reference.set_exception_handler(lambda *args: None)
        expected = attempt(reference)
    finally:
        reference.close()
    assert attempt(loop) is expected
    errors.clear()


def test_local_addr(loop, run):
    async def main():
        server, port = await served(loop, Recorder)
        local = refused_port()
        transport, protocol = await loop.create_connection(
            Recorder, "127.0.0.1", port, local_addr=("127.0.0.1", local))
        assert transport.get_extra_info("sockname") == ("127.0.0.1", local)
        transport.abort()
        await end(server)
        await protocol.saw("lost")
        await support.io_turns()

    run(main())


def test_happy_eyeballs_and_all_errors(loop, run):
    async def main():
        server, port = await served(loop, Recorder)
        transport, protocol = await loop.create_connection(
            Recorder, "localhost", port, happy_eyeballs_delay=0.05,
            interleave=1, family=socket.AF_INET)
        await support.close(protocol)
        await end(server)
        if sys.version_info >= (3, 12):
            with pytest.raises(ExceptionGroup):
                await loop.create_connection(
                    Recorder, "127.0.0.1", port, all_errors=True)

    run(main())


def test_connect_by_name(loop, run):
    async def main():
        server = await loop.create_server(Recorder, "localhost", 0,
                                          family=socket.AF_INET)
        port = server.sockets[0].getsockname()[1]
        transport, protocol = await loop.create_connection(
            Recorder, "localhost", port, family=socket.AF_INET)
        await support.close(protocol)
        await end(server)

    run(main())


@pytest.mark.asyncio_defect("TypeError in __del__", since=(3, 13))
@pytest.mark.parametrize("steps", range(6))
def test_cancel_create_connection(loop, run, steps):
    """At each step; no descriptor stays open (the guard looks)."""
    async def main():
        server, port = await served(loop, Recorder)
        task = asyncio.ensure_future(
            loop.create_connection(Recorder, "127.0.0.1", port))
        await support.turns(steps)
        task.cancel()
        try:
            transport, protocol = await task
        except asyncio.CancelledError:
            pass
        else:
            await support.close(protocol)
        await end(server)
        await support.io_turns(5)

    import warnings
    with warnings.catch_warnings():
        # A transport whose creation was cancelled late is left to the
        # collector by asyncio too.
        warnings.simplefilter("ignore", ResourceWarning)
        run(main())
        gc.collect()


def test_closed_loop(make_loop):
    loop = make_loop()
    loop.close()
    other = make_loop()

    async def main():
        with pytest.raises(RuntimeError):
            await loop.create_connection(Recorder, "127.0.0.1", 1)
    other.run_until_complete(main())


# -- servers ----------------------------------------------------------------

def test_server_is_asyncios(loop, run):
    async def main():
        server, port = await served(loop, Recorder)
        assert isinstance(server, asyncio.Server)
        assert isinstance(server, asyncio.AbstractServer)
        assert server.is_serving()
        assert server.get_loop() is loop
        assert isinstance(server.sockets, tuple)
        await end(server)
        assert server.sockets == ()
        assert not server.is_serving()

    run(main())


def test_start_serving_later(loop, run):
    async def main():
        server, port = await served(loop, Recorder, start_serving=False)
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await loop.create_connection(Recorder, "127.0.0.1", port)
        await server.start_serving()
        transport, protocol = await loop.create_connection(
            Recorder, "127.0.0.1", port)
        await support.close(protocol)
        await end(server)
        await support.io_turns()

    run(main())


def test_serve_forever_and_async_with(loop, run):
    async def main():
        server, port = await served(loop, Recorder)
        async with server:
            task = asyncio.ensure_future(server.serve_forever())
            await support.turns()
            transport, protocol = await loop.create_connection(
                Recorder, "127.0.0.1", port)
            await support.close(protocol)
            await support.io_turns()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert server.sockets == ()

    run(main())


def test_close_keeps_connections(loop, run):
    async def main():
        made = []

        def factory():
            made.append(Recorder())
            return made[-1]

        server, port = await served(loop, factory)
        transport, protocol = await loop.create_connection(
            Recorder, "127.0.0.1", port)
        await protocol.until(lambda: True)
        while not made or not made[0].events:
            await asyncio.sleep(0)
        server.close()
        transport.write(b"still there")
        await made[0].got(b"still there")
        await support.close(protocol)
        await made[0].saw("lost")
        await server.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            await loop.create_connection(Recorder, "127.0.0.1", port)

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="3.12's rule")
def test_wait_closed_waits_for_connections(loop, run):
    async def main():
        made = []

        def factory():
            made.append(Recorder())
            return made[-1]

        server, port = await served(loop, factory)
        transport, protocol = await loop.create_connection(
            Recorder, "127.0.0.1", port)
        while not made:
            await asyncio.sleep(0)
        server.close()
        waiter = asyncio.ensure_future(server.wait_closed())
        await support.io_turns(5)
        assert not waiter.done()
        await support.close(protocol)
        await waiter
        assert made[0].names[-1] == "lost"

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="new in 3.13")
@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
def test_close_clients(loop, run, method):
    async def main():
        made = []

        def factory():
            made.append(Recorder())
            return made[-1]

        server, port = await served(loop, factory)
        pairs = [await loop.create_connection(Recorder, "127.0.0.1", port)
                 for _ in range(3)]
        while len(made) < 3:
            await asyncio.sleep(0)
        server.close()
        getattr(server, method)()
        await server.wait_closed()
        for _, protocol in pairs:
            await protocol.saw("lost")
        assert all(p.names[-1] == "lost" for p in made)

    run(main())


def test_each_accepted_connection_has_its_own_protocol(loop, run):
    async def main():
        made = []

        def factory():
            made.append(Recorder())
            return made[-1]

        server, port = await served(loop, factory)
        clients = [(await loop.create_connection(
            Recorder, "127.0.0.1", port))[1] for _ in range(20)]
        for i, client in enumerate(clients):
            client.transport.write(b"%d" % i)
        while len(made) < 20:
            await asyncio.sleep(0)
        for protocol in made:
            await protocol.saw("data")
        assert sorted(int(p.data) for p in made) == list(range(20))
        await support.close(*clients)
        for protocol in made:
            await protocol.saw("lost")
        await end(server)

    run(main())


def test_address_in_use(loop, run):
    async def main():
        server, port = await served(loop, Recorder)
        with pytest.raises(OSError) as caught:
            await loop.create_server(Recorder, "127.0.0.1", port)
        assert caught.value.errno == errno.EADDRINUSE
        await end(server)

    run(main())


def test_reuse_port_and_keep_alive(loop, run):
    async def main():
        server, port = await served(loop, Recorder, reuse_port=True)
        other = await loop.create_server(Recorder, "127.0.0.1", port,
                                         reuse_port=True)
        await end(server)
        await end(other)
        if sys.version_info >= (3, 13):
            server, port = await served(loop, Recorder, keep_alive=True)
            assert server.sockets[0].getsockopt(
                socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            await end(server)

    run(main())


def test_server_on_several_hosts(loop, run):
    async def main():
        server = await loop.create_server(
            Recorder, ["127.0.0.1", "127.0.0.2"], 0)
        names = [s.getsockname() for s in server.sockets]
        assert {name[0] for name in names} == {"127.0.0.1", "127.0.0.2"}
        for host, port in names:
            _, protocol = await loop.create_connection(Recorder, host, port)
            await support.close(protocol)
        await end(server)
        await support.io_turns()

    run(main())
