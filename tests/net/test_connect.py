"""create_connection() to literal addresses: short cuts that nobody can see."""
import asyncio
import gc
import inspect
import logging
import socket
import warnings

import pytest


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def outcome(loop, *args, **kwargs):
    """What connecting raises; the connection is closed."""
    async def main():
        try:
            transport, _ = await loop.create_connection(
                asyncio.Protocol, *args, **kwargs)
        except Exception as exc:
            shown = exc.exceptions if isinstance(exc, ExceptionGroup) else ()
            return (type(exc), str(exc), exc.__cause__ is exc.__context__,
                    [(type(sub), str(sub)) for sub in shown])
        peer = transport.get_extra_info("peername")
        sock = transport.get_extra_info("socket")
        made = (peer, sock.family, sock.type, sock.proto,
                sock.gettimeout(), transport.get_extra_info("sockname")[0],
                sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        transport.close()
        await asyncio.sleep(0)
        return made
    return loop.run_until_complete(main())


def test_signature(loop):
    mine = type(loop).create_connection
    base = asyncio.BaseEventLoop.create_connection
    assert inspect.signature(mine) == inspect.signature(base)
    assert inspect.iscoroutinefunction(mine)
    for bad in {"bogus": 1}, {"host": "127.0.0.1", "protocol_factory": 1}:
        with pytest.raises(TypeError):
            loop.create_connection(asyncio.Protocol, **bad)


CASES = [
    ("127.0.0.1", "port", {}),
    ("127.0.0.1", "text", {}),
    (b"127.0.0.1", "port", {}),
    ("127.0.0.1", "port", {"family": socket.AF_INET}),
    ("127.0.0.1", "port", {"family": socket.AF_INET6}),
    ("::ffff:127.0.0.1", "port", {}),
    ("127.0.0.1", "port", {"proto": socket.IPPROTO_TCP}),
    ("127.0.0.1", "port", {"proto": socket.IPPROTO_UDP}),
    ("127.0.0.1", "port", {"proto": 255}),
    ("127.0.0.1", "port", {"family": 77}),
    ("127.0.0.1", "port", {"interleave": 1}),
    ("127.0.0.1", "port", {"happy_eyeballs_delay": 1}),
    ("127.0.0.1", "port", {"local_addr": ("127.0.0.1", 0)}),
    ("127.0.0.1", "port", {"local_addr": ("::1", 0)}),
    ("127.0.0.1", "port", {"ssl": False}),
    ("127.0.0.1", "port", {"server_hostname": "x"}),
    ("127.0.0.1", "port", {"ssl_handshake_timeout": 1}),
    ("127.0.0.1", "port", {"flags": socket.AI_NUMERICHOST}),
    ("127.0.0.1", 1, {}),
    ("::1", 1, {}),
    ("127.0.0.1", 0, {}),
    ("127.0.0.1", None, {}),
    ("127.0.0.1", 70000, {}),
    ("127.0.0.1", -1, {}),
    ("127.0.0.1", 2 ** 70, {}),
    ("127.0.0.1", 1.0, {}),
    ("fe80::1", 1, {}),
    ("240.0.0.1", 1, {}),
    (None, None, {}),
    ("", 1, {}),
    (["127.0.0.1"], 1, {}),
]


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("host, port, kwargs", CASES)
def test_as_asyncio(make_loop, listener, host, port, kwargs, debug):
    number = listener.getsockname()[1]
    port = {"port": number, "text": str(number)}.get(port, port)
    stock = asyncio.SelectorEventLoop()
    try:
        want = outcome(stock, host, port, **kwargs)
    finally:
        stock.close()
    loop = make_loop()
    loop.set_debug(debug)
    assert outcome(loop, host, port, **kwargs) == want


@pytest.mark.skipif("all_errors" not in inspect.signature(
    asyncio.BaseEventLoop.create_connection).parameters, reason="new in 3.12")
def test_all_errors(loop):
    kind, text, _, errors = outcome(loop, "127.0.0.1", 1, all_errors=True)
    assert kind is ExceptionGroup
    assert errors == [(ConnectionRefusedError, "[Errno 111] Connect call "
                                               "failed ('127.0.0.1', 1)")]


def test_a_refused_socket_is_closed(loop, monkeypatch):
    made = []

    class Socket(socket.socket):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(socket, "socket", Socket)
    assert outcome(loop, "127.0.0.1", 1)[0] is ConnectionRefusedError
    assert [sock.fileno() for sock in made] == [-1]


@pytest.mark.parametrize("name", ["_ensure_resolved", "_connect_sock",
                                  "_create_connection_transport",
                                  "sock_connect", "_make_socket_transport"])
@pytest.mark.parametrize("place", ["instance", "subclass", "base"])
def test_changed_steps_are_taken(loop_factory, loop, listener, monkeypatch,
                                 name, place):
    seen = []
    kind = type(loop)
    inherited = getattr(kind, name)

    def step(*args, **kwargs):
        seen.append(name)
        return inherited(*args, **kwargs)

    if place == "instance":
        monkeypatch.setattr(loop, name,
                            lambda *args, **kw: step(loop, *args, **kw))
    elif place == "subclass":
        loop.__class__ = type("Changed", (kind,), {name: step})
    else:
        owner = next(c for c in kind.__mro__ if name in vars(c))
        try:
            monkeypatch.setattr(owner, name, step)
        except TypeError:
            pytest.skip("a type in C")
    assert outcome(loop, "127.0.0.1", listener.getsockname()[1])[0][0] \
        == "127.0.0.1"
    loop.__class__ = kind
    assert set(seen) == {name}


def test_debug_log(loop, listener, caplog):
    loop.set_debug(True)
    with caplog.at_level(logging.DEBUG, "asyncio"):
        outcome(loop, "127.0.0.1", listener.getsockname()[1])
    assert any("connected to 127.0.0.1:" in record.getMessage()
               for record in caplog.records)


@pytest.fixture
def full():
    """The address of a listener that answers nobody any more."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        fillers = []
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
            fillers.append(filler)
        yield sock.getsockname()
        for filler in fillers:
            filler.close()


def test_cancelled_while_it_connects(loop, full, monkeypatch):
    made = []

    class Socket(socket.socket):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    async def main():
        task = loop.create_task(loop.create_connection(
            asyncio.Protocol, *full))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    monkeypatch.setattr(socket, "socket", Socket)
    loop.run_until_complete(main())
    assert [sock.fileno() for sock in made] == [-1]


def test_cancelled_when_it_is_connected(loop, listener):
    """The transport is there, and its waiter was not told yet."""
    made = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            made.append(transport)
            task.cancel()

    async def main():
        nonlocal task
        task = loop.create_task(loop.create_connection(
            Protocol, *listener.getsockname()))
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)

    task = None
    loop.run_until_complete(main())
    assert made[0].is_closing()


def test_a_factory_that_fails(loop, listener):
    def factory():
        raise ZeroDivisionError

    async def main():
        with pytest.raises(ZeroDivisionError):
            await loop.create_connection(factory, *listener.getsockname())

    # Before 3.15 asyncio leaves the socket to the collector.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop.run_until_complete(main())
        gc.collect()
