"""Accepting connections: bursts, EMFILE, factories that raise."""
import asyncio
import importlib
import inspect
import resource
import socket

import pytest

import support
from support import Recorder


class Server:
    """A server that keeps its protocols."""

    def __init__(self, loop, hooks=None, **kwargs):
        self.loop, self.kwargs = loop, kwargs
        self.made = []
        self.hooks = hooks

    def factory(self):
        self.made.append(Recorder(self.hooks))
        return self.made[-1]

    async def __aenter__(self):
        self.server = await self.loop.create_server(
            self.factory, "127.0.0.1", 0, **self.kwargs)
        self.address = self.server.sockets[0].getsockname()
        return self

    async def __aexit__(self, *exc):
        self.server.close()
        for protocol in self.made:
            if protocol.transport is not None:
                protocol.transport.abort()
        await self.server.wait_closed()
        await support.io_turns()

    async def accepted(self, count):
        deadline = self.loop.time() + 8
        while (sum("made" in p.names for p in self.made) < count):
            assert self.loop.time() < deadline, len(self.made)
            await asyncio.sleep(0)


def connect(address, count=1):
    return [socket.create_connection(address) for _ in range(count)]


def close(socks):
    for sock in socks:
        sock.close()


@pytest.mark.parametrize("backlog", [1, 5, 100])
def test_burst(loop, run, backlog):
    count = min(backlog, 10) + 1        # more would be sent again, later

    async def main():
        async with Server(loop, backlog=backlog) as server:
            socks = []
            for _ in range(count):
                sock = socket.socket()
                sock.setblocking(False)
                try:
                    sock.connect(server.address)
                except BlockingIOError:
                    pass
                socks.append(sock)
            await server.accepted(count)
            close(socks)
            for protocol in server.made:
                await protocol.saw("lost")

    run(main())


def connections_of(server):
    """As asyncio counts them: a number before 3.13."""
    return server._active_count if hasattr(server, "_active_count") else len(server._clients)


@pytest.mark.parametrize("how", ["close", "abort", "peer"])
def test_a_lost_connection_leaves_its_server(loop, run, how):
    async def main():
        async with Server(loop) as server:
            with socket.create_connection(server.address) as sock:
                await server.accepted(1)
                (protocol,) = server.made
                await protocol.saw("made")
                inner = protocol.transport._server
                assert connections_of(inner) == 1
                if how == "peer":
                    sock.close()
                else:
                    getattr(protocol.transport, how)()
                await protocol.saw("lost")
                await asyncio.sleep(0)
                assert connections_of(inner) == 0

    run(main())


def test_order_of_callbacks_for_data_that_came_early(loop, run):
    """The client has written and closed before the server accepts."""
    async def main():
        async with Server(loop) as server:
            for i in range(10):
                (sock,) = connect(server.address)
                sock.sendall(b"%d" % i)
                sock.close()
            await server.accepted(10)
            for protocol in server.made:
                await protocol.saw("lost")
                assert protocol.names == ["made", "data", "eof", "lost"]
            assert sorted(int(p.data) for p in server.made) == list(range(10))

    run(main())


def bad(first):
    """A factory that fails once, in the given way, and its good protocols."""
    made = []

    def factory():
        if not made:
            made.append(None)
            return first()
        made.append(Recorder())
        return made[-1]
    return factory, made


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("first, kind", [
    (lambda: 1 / 0, ZeroDivisionError), (lambda: None, AttributeError)],
    ids=["raises", "returns None"])
def test_bad_factory(loop, run, first, kind, debug, errors):
    """One connection is lost, the server goes on.

    asyncio tells the exception handler in debug mode only.
    """
    async def main():
        loop.set_debug(debug)
        factory, made = bad(first)
        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        socks = connect(address)
        while not made:
            await asyncio.sleep(0)
        socks += connect(address)
        while len(made) < 2:
            await asyncio.sleep(0)
        socks[1].sendall(b"x")
        await made[1].got(b"x")
        close(socks)
        await made[1].saw("lost")
        await support.io_turns(5)
        server.close()
        # From 3.12 on it would wait for the connection that was lost.

    import gc
    import warnings
    with warnings.catch_warnings():
        # asyncio leaves the socket, or the transport, to the collector.
        warnings.simplefilter("ignore", ResourceWarning)
        run(main())
        kinds = [type(c["exception"]) for c in errors.take()]
        loop.set_debug(False)
        loop.close()
        gc.collect()
    assert set(kinds) <= {kind}
    assert kinds or not debug


@pytest.mark.parametrize("made", [None, 5, "text", object()],
                         ids=["None", "int", "str", "object"])
def test_report_of_a_factory_that_makes_no_protocol(loop, run, made, errors):
    """In debug mode the report shows what it made, unless that was None."""
    async def main():
        loop.set_debug(True)
        server = await loop.create_server(lambda: made, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()):
            while not errors:
                await support.io_turns(1)
        server.close()

    import gc
    import warnings
    with warnings.catch_warnings():
        # asyncio leaves the socket to the collector.
        warnings.simplefilter("ignore", ResourceWarning)
        run(main())
        (context,) = errors.take()
        loop.set_debug(False)
        loop.close()
        shown = {key: context[key] for key in context if key not in ("message", "exception")}
        assert shown == ({} if made is None else {"protocol": made})
        assert context["message"] == "Error on transport creation for incoming connection"
        assert isinstance(context.pop("exception"), AttributeError)
        gc.collect()


@pytest.mark.parametrize("place", ["made", "data", "eof", "lost"])
def test_raising_protocols_do_not_stop_the_server(loop, run, place, errors):
    async def main():
        def fail(*args):
            raise ZeroDivisionError

        async with Server(loop, {place: fail}) as server:
            socks = connect(server.address, 3)
            for sock in socks:
                sock.sendall(b"x")
                sock.close()
            await server.accepted(3)
            for protocol in server.made:
                await protocol.saw("lost")

    run(main())
    assert len(errors.take()) == 3


def test_close_from_connection_made(loop, run):
    async def main():
        async with Server(
                loop, {"made": lambda p: p.transport.close()}) as server:
            socks = connect(server.address, 5)
            for sock in socks:
                sock.setblocking(False)
                assert await loop.sock_recv(sock, 10) == b""
            close(socks)

    run(main())


def test_server_closed_from_connection_made(loop, run):
    """Connections that were accepted in the same batch are not lost."""
    async def main():
        async with Server(
                loop, {"made": lambda p: server.server.close()}) as server:
            socks = connect(server.address, 3)
            await server.accepted(1)
            await support.io_turns()
            assert not server.server.is_serving()
            close(socks)
            for protocol in server.made:
                await protocol.until(lambda: "lost" in protocol.names
                                     or "made" not in protocol.names)

    run(main())


def test_close_before_anything_was_accepted(loop, run):
    async def main():
        async with Server(loop) as server:
            socks = connect(server.address, 3)
            server.server.close()
            await support.io_turns()
            close(socks)

    run(main())


def test_emfile(loop, run, errors):
    """A report, a pause of a second, and then the connections come."""
    async def main():
        async with Server(loop) as server:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            clients = [socket.socket() for _ in range(3)]
            spare = socket.socket()
            limit = spare.fileno() + 1
            fill = []
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            try:
                spare.close()
                # Every number below the limit is taken now.
                while True:
                    try:
                        fill.append(socket.socket())
                    except OSError:
                        break
                for client in clients:
                    client.setblocking(False)
                    with pytest.raises(BlockingIOError):
                        client.connect(server.address)
                deadline = loop.time() + 5
                while not errors and loop.time() < deadline:
                    await asyncio.sleep(0.001)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                close(fill)
            assert server.made == []
            # Some versions of asyncio report it backlog times.
            contexts = errors.take()
            assert contexts[0]["message"] == \
                "socket.accept() out of system resource"
            assert isinstance(contexts[0]["exception"], OSError)
            assert isinstance(contexts[0]["socket"],
                              asyncio.trsock.TransportSocket)
            # In asyncio, and here, after ACCEPT_RETRY_DELAY: one second.
            await server.accepted(3)
            close(clients)
            for protocol in server.made:
                await protocol.saw("lost")

    run(main())
    errors.clear()      # asyncio has more than one retry under way


def test_closed_while_it_waits_after_emfile(loop, run, errors):
    async def main():
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        client = socket.socket()
        fill = []
        spare = socket.socket()
        resource.setrlimit(resource.RLIMIT_NOFILE,
                           (spare.fileno() + 1, hard))
        try:
            spare.close()
            while True:
                try:
                    fill.append(socket.socket())
                except OSError:
                    break
            client.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.connect(address)
            deadline = loop.time() + 5
            while not errors and loop.time() < deadline:
                await asyncio.sleep(0.001)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            close(fill)
        server.close()
        await server.wait_closed()
        await asyncio.sleep(1.1)        # past the retry: nothing happens
        client.close()

    run(main())
    assert errors.take()[0]["message"] == \
        "socket.accept() out of system resource"


@pytest.mark.tidewire
def test_no_variable_leaks_from_client_to_client(loop, run):
    """Each connection has a context of its own: asyncio's rule from 3.15."""
    import contextvars
    var = contextvars.ContextVar("var", default=None)
    seen = []

    def made(protocol):
        seen.append(var.get())
        var.set(id(protocol))

    async def main():
        async with Server(loop, {"made": made}) as server:
            for n in range(1, 4):
                socks = connect(server.address)
                await server.accepted(n)
                close(socks)

    run(main())
    assert seen == [None] * 3


def test_accept_with_sock_accept(loop, run):
    async def main():
        with socket.socket() as listener:
            listener.setblocking(False)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            client = socket.create_connection(listener.getsockname())
            conn, address = await loop.sock_accept(listener)
            transport, protocol = await loop.connect_accepted_socket(
                Recorder, conn)
            assert address == client.getsockname()
            assert transport.get_extra_info("peername") == address
            client.sendall(b"x")
            await protocol.got(b"x")
            client.close()
            await protocol.saw("lost")

    run(main())


def test_made_in_the_turn_after_the_poll(loop, run):
    """asyncio has a task for each: others that are ready come before it."""
    seen = []

    def tick(n=1):
        seen.append(n)
        if "made" not in seen and n < 50:
            loop.call_soon(tick, n + 1)

    def factory():
        seen.append("factory")
        return Recorder({"made": lambda protocol: seen.append("made")})

    async def main():
        server = await loop.create_server(factory, "127.0.0.1", 0)
        await support.io_turns()
        socks = connect(server.sockets[0].getsockname(), 2)
        loop.call_soon(tick)
        while seen.count("made") < 2:
            await asyncio.sleep(0)
        close(socks)
        await support.io_turns()
        server.close()

    run(main())
    assert seen[:7] == [1, 2, "factory", "factory", 3, "made", "made"]


@pytest.mark.tidewire        # asyncio's server.close() raises then
def test_listener_closed_between_the_poll_and_the_turn(loop, run):
    """Its number belongs to another by then."""
    made = []

    async def main():
        listener = socket.create_server(("127.0.0.1", 0))
        number = listener.fileno()
        server = await loop.create_server(
            lambda: made.append(Recorder()) or made[-1], sock=listener)
        await support.io_turns()
        others = socket.create_server(("127.0.0.1", 0))
        client, = connect(listener.getsockname())
        theirs, = connect(others.getsockname())

        def replace():
            loop.remove_reader(listener)
            listener.close()
            with others:
                moved.append(others.dup())

        moved = []
        loop.call_soon(loop.call_soon, replace)
        await support.io_turns()
        assert moved[0].fileno() == number
        moved[0].setblocking(False)
        conn, address = moved[0].accept()
        assert address == theirs.getsockname()
        close([conn, moved[0], client, theirs])
        for protocol in made:
            protocol.transport.abort()
        await support.io_turns()
        server.close()

    run(main())


def test_backlog_of_nothing(loop, run):
    """listen(0) takes a connection, and newer asyncio accepts it."""
    selector_events = importlib.import_module("asyncio.selector_events")
    source = inspect.getsource(selector_events.BaseSelectorEventLoop._accept_connection)
    if "backlog + 1" not in source:
        pytest.skip("this version's asyncio accepts nothing then")

    async def main():
        async with Server(loop, backlog=0) as server:
            for n in range(1, 4):
                socks = connect(server.address)
                await server.accepted(n)
                close(socks)

    run(main())


@pytest.mark.parametrize("how", ["ipv4", "name", "local_addr"])
def test_closed_behind_a_connection_of_this_loop(run, how):
    """What open_connection() has connected is accepted before the program goes on."""
    async def serve(reader, writer):
        writer.write(b"served " + await reader.readline())
        await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        options = {"local_addr": ("127.0.0.1", 0)} if how == "local_addr" else {}
        reader, writer = await asyncio.open_connection(
            "localhost" if how == "name" else host, port, **options)
        server.close()
        writer.write(b"once\n")
        assert await reader.read() == b"served once\n"
        writer.close()
        await writer.wait_closed()

    run(main())
