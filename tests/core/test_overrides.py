"""Methods of the loop that a program replaces: in a subclass, a class, an instance.

And time.monotonic, which freezegun and unittest.mock replace.
"""
import asyncio
import collections
import fractions
import signal
import socket
import time
import unittest.mock

import pytest
import support

NAMES = ("call_soon", "call_at", "call_later", "create_future", "create_task")


def counting(cls):
    """A subclass that counts the calls of its public methods, and the counter."""
    counts = collections.Counter()

    def count(name):
        def method(self, *args, **kwargs):
            counts[name] += 1
            return getattr(super(Loop, self), name)(*args, **kwargs)
        return method

    Loop = type("Loop", (cls,), {name: count(name) for name in NAMES})
    return Loop, counts


@pytest.fixture
def counted(loop_factory):
    loop = loop_factory()
    Loop, counts = counting(type(loop))
    loop.close()
    loop = Loop()
    yield loop, counts
    loop.close()


def run_counted(counted, main, **expected):
    loop, counts = counted
    loop.run_until_complete(main(counts))
    assert {name: counts[name] for name in expected} == expected


def test_a_transport_from_start_to_end(counted):
    loop, _ = counted

    async def main(counts):
        one, two = socket.socketpair()
        one.setblocking(False)
        counts.clear()
        transport, protocol = await loop.create_connection(support.Recorder, sock=one)
        # connection_made, the reader, the waiter; and the task's wake-up
        assert counts["call_soon"] == 4
        assert counts["create_future"] == 1
        transport.abort()
        assert counts["call_soon"] == 5
        await support.turns()
        two.close()

    run_counted(counted, main)


def test_steps_of_a_start_are_apart(counted):
    """A callback that connection_made schedules comes before what the start scheduled."""
    loop, _ = counted
    order = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            order.append("made")
            loop.call_soon(order.append, "soon")

        def data_received(self, data):
            order.append(data)

        def connection_lost(self, exc):
            order.append("lost")

    async def main(counts):
        one, two = socket.socketpair()
        one.setblocking(False)
        two.send(b"x")
        transport, _ = await loop.create_connection(Protocol, sock=one)
        await support.io_turns()
        transport.close()
        await support.turns()
        two.close()

    run_counted(counted, main)
    assert order == ["made", "soon", b"x", "lost"]


def test_exception_of_connection_made(counted, errors):
    loop, _ = counted
    loop.set_exception_handler(lambda loop, context: errors.append(context))

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            1 / 0

    async def main(counts):
        one, two = socket.socketpair()
        one.setblocking(False)
        transport, _ = await loop.create_connection(Protocol, sock=one)
        transport.abort()
        await support.turns()
        two.close()

    run_counted(counted, main)
    (context,) = errors.take()
    assert isinstance(context["exception"], ZeroDivisionError)


def test_future_of_a_socket_operation(counted):
    loop, _ = counted

    async def main(counts):
        one, two = socket.socketpair()
        with one, two:
            one.setblocking(False)
            counts.clear()
            waiting = asyncio.ensure_future(loop.sock_recv(one, 10))
            await support.turns()
            assert counts["create_future"] == 1
            two.send(b"x")
            assert await waiting == b"x"

    run_counted(counted, main)


def test_a_future_class_of_the_program(loop_factory):
    class Future(asyncio.Future):
        pass

    loop = loop_factory()
    cls = type(loop)
    loop.close()

    class Loop(cls):
        def create_future(self):
            return Future(loop=self)

    loop = Loop()
    one, two = socket.socketpair()
    seen = []

    async def main():
        waiting = asyncio.ensure_future(loop.sock_recv(one, 10))
        await support.turns()
        seen.append(type(waiting._fut_waiter))
        two.send(b"x")
        assert await waiting == b"x"

    with one, two:
        one.setblocking(False)
        loop.run_until_complete(main())
    loop.close()
    assert seen == [Future]


async def accept_one(loop, note=lambda: None):
    """A server accepts a connection, and both end."""
    made = loop.create_future()

    def factory():
        note()
        made.set_result(support.Recorder())
        return made.result()

    server = await loop.create_server(factory, sock=socket.create_server(("127.0.0.1", 0)))
    with socket.socket() as client:
        client.connect(server.sockets[0].getsockname())
        protocol = await made
        await protocol.saw("made")
    await protocol.saw("lost")
    server.close()
    await support.turns()


def test_accepted_connections_have_a_task(counted):
    loop, _ = counted

    async def main(counts):
        counts.clear()
        made = []

        await accept_one(loop, lambda: made.append(asyncio.current_task()))
        assert counts["create_task"] == 1
        assert [type(task) for task in made] == [asyncio.Task]

    run_counted(counted, main)


def test_accepted_connections_and_a_task_factory(loop):
    names = []

    def factory(loop, coro, **kwargs):
        names.append(coro.__name__)
        return asyncio.Task(coro, loop=loop, **kwargs)

    async def main():
        loop.set_task_factory(factory)
        await accept_one(loop)
        loop.set_task_factory(None)

    loop.run_until_complete(main())
    assert "_accept_connection2" in names


@pytest.mark.parametrize("where", ["subclass", "instance", "class"])
def test_hook_that_makes_the_transport_of_an_accepted_connection(loop_factory, monkeypatch, where):
    loop = loop_factory()
    cls = type(loop)
    original = cls._make_socket_transport
    calls = []

    def hook(*args, **kwargs):
        calls.append(sorted(kwargs))
        if where != "instance":
            return original(*args, **kwargs)
        return original(loop, *args, **kwargs)

    if where == "subclass":
        loop.close()
        loop = type("Loop", (cls,), {"_make_socket_transport": hook})()
    else:
        monkeypatch.setattr(loop if where == "instance" else cls, "_make_socket_transport", hook)
    try:
        loop.run_until_complete(accept_one(loop))
        assert calls == [["extra", "server", "waiter"]]
        if where != "subclass":
            monkeypatch.undo()
            loop.run_until_complete(accept_one(loop))
            assert len(calls) == 1
    finally:
        loop.close()


def test_hook_that_refuses_an_accepted_connection(loop_factory, errors):
    loop = loop_factory()
    cls = type(loop)
    loop.close()

    class Loop(cls):
        def _make_socket_transport(self, sock, *args, **kwargs):
            sock.close()
            raise ZeroDivisionError

    loop = Loop()

    async def main():
        loop.set_debug(True)
        server = await loop.create_server(support.Recorder, "127.0.0.1", 0)
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, server.sockets[0].getsockname())
            assert await loop.sock_recv(client, 1) == b""
        loop.set_debug(False)
        server.close()

    try:
        loop.set_exception_handler(lambda loop, context: errors.append(context))
        loop.run_until_complete(main())
    finally:
        loop.close()
    (context,) = errors.take()
    assert context["message"] == "Error on transport creation for incoming connection"
    assert isinstance(context["exception"], ZeroDivisionError)


def test_sendfile_of_a_transport_calls_sock_sendfile(loop, run, tmp_path):
    calls = []
    original = loop.sock_sendfile

    def sock_sendfile(sock, *args, **kwargs):
        calls.append((args[1:], kwargs))
        return original(sock, *args, **kwargs)

    async def main():
        transport, protocol, peer = await support.connected("unix")
        path = tmp_path / "file"
        path.write_bytes(b"abcdef")
        loop.sock_sendfile = sock_sendfile
        with path.open("rb") as file:
            assert await loop.sendfile(transport, file, 1, 3) == 3
        del loop.sock_sendfile
        assert await support.recv_exactly(peer, 3) == b"bcd"
        await support.close(protocol)
        peer.close()

    run(main())
    assert calls == [((1, 3), {"fallback": False})]


def test_a_signal_calls_no_public_method(counted):
    loop, _ = counted

    async def main(counts):
        called = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, called.set)
        counts.clear()
        signal.raise_signal(signal.SIGUSR1)
        await called.wait()
        assert counts["call_soon"] == 1     # of the future that waits
        loop.remove_signal_handler(signal.SIGUSR1)

    run_counted(counted, main)


@pytest.mark.parametrize("where", ["instance", "class"])
@pytest.mark.parametrize("name", ["call_soon", "create_future", "create_task"])
def test_replaced_while_it_lives(loop, where, name):
    target = loop if where == "instance" else type(loop)
    original = getattr(target, name)
    calls = []

    def replacement(*args, **kwargs):
        calls.append(args)
        return original(*args, **kwargs)

    async def main():
        with unittest.mock.patch.object(target, name, replacement):
            await accept_one(loop)
            one, two = socket.socketpair()
            with one, two:
                one.setblocking(False)
                waiting = asyncio.ensure_future(loop.sock_recv(one, 1))
                await support.turns()
                two.send(b"x")
                await waiting
        during = len(calls)
        await accept_one(loop)
        assert len(calls) == during > 0

    loop.run_until_complete(main())


# -- time ---------------------------------------------------------------------

class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture(params=["instance", "class", "monotonic"])
def clock(request, loop, monkeypatch):
    clock = Clock()
    if request.param == "instance":
        loop.time = clock
    elif request.param == "class":
        monkeypatch.setattr(type(loop), "time", lambda self: clock())
    else:
        monkeypatch.setattr(time, "monotonic", clock)
    return clock


def test_timers_follow_the_clock(clock, loop):
    seen = []
    loop.call_soon(lambda: None)
    handle = loop.call_later(500, seen.append, "later")
    assert loop.time() == 1000.0
    assert handle.when() == 1500.0
    loop.call_at(1400, seen.append, "at")

    def jump():
        assert seen == []
        clock.now = 1450.0
        loop.call_soon(check)

    def check():
        # The timer that is due runs in the turn of the jump or the next.
        if seen != ["at"]:
            loop.call_soon(check)
        else:
            clock.now = 1500.0
            loop.call_later(0, loop.stop)

    loop.call_soon(jump)
    loop.run_forever()
    assert seen == ["at", "later"]


def test_call_at_on_an_instance(loop):
    times = []
    original = loop.call_at

    def call_at(when, *args, **kwargs):
        times.append(when)
        return original(when, *args, **kwargs)

    loop.call_at = call_at
    handle = loop.call_later(10, print)
    assert times == [handle.when()]
    handle.cancel()
    del loop.call_at
    loop.call_later(10, print).cancel()
    assert len(times) == 1


def test_the_clock_of_before_comes_back(loop, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: 5.0)
        assert loop.time() == 5.0
    assert abs(loop.time() - time.monotonic()) < 5


@pytest.mark.parametrize("during", ["poll", "call_later"])
def test_a_clock_that_fails(loop, monkeypatch, during):
    """It leaves run_forever(), as any error of the loop itself, and the loop goes on."""
    calls = []

    def fail():
        calls.append(1)
        raise ZeroDivisionError

    timer = loop.call_later(100, print)
    with monkeypatch.context() as patch:
        if during == "poll":
            loop.call_soon(patch.setattr, time, "monotonic", fail)
            with pytest.raises(ZeroDivisionError):
                loop.run_forever()
        else:
            patch.setattr(time, "monotonic", fail)
            with pytest.raises(ZeroDivisionError):
                loop.call_later(1, print)
    assert calls
    timer.cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()


@pytest.mark.parametrize("debug", [False, True])
def test_a_clock_that_stands_at_minus_one(loop, run, debug):
    """-1.0 is what a failing clock returns in C, and a moment as any other."""
    seen = []

    async def main():
        loop.set_debug(debug)
        loop.call_later(0, seen.append, "later")
        loop.call_later(1, seen.append, "never").cancel()
        loop.call_at(-1, seen.append, "at")
        loop.call_later(fractions.Fraction(0), seen.append, "a fraction")
        handle = loop.call_later(0.0, seen.append, "zero")
        assert handle.when() == -1.0
        ours, peer = socket.socketpair()
        transport, protocol = await loop.create_connection(support.Recorder, sock=ours)
        peer.send(b"x")
        await protocol.got(1)
        peer.close()
        await protocol.saw("lost")
        await asyncio.sleep(0)

    loop.time = lambda: -1.0
    run(main())
    assert sorted(seen) == ["a fraction", "at", "later", "zero"]
    loop.set_debug(False)
    del loop.time


def test_freezegun(loop):
    freezegun = pytest.importorskip("freezegun")
    with freezegun.freeze_time("2030-01-01") as frozen:
        start = loop.time()
        seen = []
        loop.call_later(3600, seen.append, 1)
        loop.call_later(3600, loop.stop)
        loop.call_soon(frozen.tick, 3601)
        loop.run_forever()
        assert loop.time() == start + 3601
        assert seen == [1]


def test_an_interrupt_while_a_method_is_looked_up(loop):
    """A signal that arrives in the program's property is not lost."""
    class Loop(type(loop)):
        interrupts = False

        @property
        def call_at(self):
            if self.interrupts:
                type(self).interrupts = False
                raise KeyboardInterrupt
            return super().call_at

    own = Loop()
    try:
        own.call_soon(setattr, Loop, "interrupts", True)
        own.call_soon(own.call_later, 0, own.stop)
        with pytest.raises(KeyboardInterrupt):
            own.run_forever()
    finally:
        own.close()
