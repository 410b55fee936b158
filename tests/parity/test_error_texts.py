"""Texts of errors: as asyncio's where it has one, and word for word where it has none."""
import asyncio
import contextlib
import os
import socket
import sys
import warnings

import pytest

from support import socketpair
from tls import tlskit


def said(function, *args, **kwargs):
    """What it returned or raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # throw() with three arguments
        try:
            result = function(*args, **kwargs)
            return "a future" if asyncio.isfuture(result) else repr(result)
        except BaseException as exc:
            return f"{type(exc).__name__}: {exc}"


@pytest.fixture
def both(make_loop):
    """both(function): what function(loop) returned on asyncio's loop, and on ours."""
    def both(function):
        results = []
        for loop in asyncio.SelectorEventLoop(), make_loop():
            with contextlib.closing(loop):
                results.append(function(loop))
        return results
    return both


# -- a socket operation as a coroutine ------------------------------------------------

class Asks(socket.socket):
    """Its recv() and send() call back."""
    ask = None

    def recv(self, n):
        if self.ask:
            return self.ask()
        return super().recv(n)


def operation(loop, script):
    """script(coroutine of a sock_recv(), the other socket, a note of what was said)."""
    ours, other = socketpair()
    with ours, other, Asks(fileno=ours.detach()) as ours:
        ours.setblocking(False)
        notes = []

        def note(function, *args):
            notes.append(said(function, *args))

        async def main():
            coro = loop.sock_recv(ours, 10)
            try:
                script(coro, other, note, ours)
            finally:
                coro.close()
            await asyncio.sleep(0)

        loop.run_until_complete(asyncio.wait_for(main(), 10))
        return notes


def fresh(coro, other, note, ours):
    note(coro.send, 5)
    note(coro.throw, 5)
    note(coro.throw, int)
    note(coro.throw, ValueError("one"), "two")


def thrown(*args):
    def script(coro, other, note, ours):
        note(coro.throw, *args)
        note(coro.send, None)
        note(coro.throw, KeyError("late"))
        note(coro.close)
    return script


def waiting(coro, other, note, ours):
    note(coro.send, None)
    note(coro.send, None)                       # the future is not done
    note(coro.send, None)


def thrown_while_waiting(coro, other, note, ours):
    coro.send(None)
    note(coro.throw, LookupError("stop"))
    note(coro.send, None)


def awaited_twice(coro, other, note, ours):
    async def waits():
        return await coro

    first, second = waits(), waits()
    first.send(None)
    note(second.send, None)
    first.close()
    second.close()


def returned(coro, other, note, ours):
    other.send(b"data")
    note(coro.send, None)
    note(coro.send, None)
    note(coro.throw, KeyError("late"))
    note(coro.close)


def within_itself(coro, other, note, ours):
    def ask():
        note(coro.send, None)
        note(coro.throw, KeyError)
        note(coro.close)
        return b"asked"

    ours.ask = ask
    note(coro.send, None)


def closed_while_waiting(coro, other, note, ours):
    coro.send(None)
    note(coro.close)
    note(coro.send, None)
    note(coro.close)


def raises(exception):
    def script(coro, other, note, ours):
        def ask():
            raise exception

        ours.ask = ask
        note(coro.send, None)
        note(coro.send, None)
    return script


SCRIPTS = [
    fresh, waiting, thrown_while_waiting, awaited_twice, returned, within_itself,
    closed_while_waiting, thrown(ValueError), thrown(ValueError("x")), thrown(ValueError, "text"),
    thrown(ValueError, ValueError("inner")), thrown(KeyError, None, None), thrown("text"),
    # From 3.12 on a coroutine function's coroutine lets it through, if it has not begun.
    pytest.param(thrown(StopIteration(3)), marks=pytest.mark.skipif(
        sys.version_info >= (3, 12), reason="3.12 changes it before the first step only")),
    thrown(GeneratorExit), thrown(LookupError, ("a", "b")),
    raises(ValueError("from recv")), raises(StopIteration(4)), raises(KeyError("k"))]


@pytest.mark.parametrize("script", SCRIPTS, ids=range(len(SCRIPTS)))
def test_an_operation_as_a_coroutine(both, script):
    stock, ours = both(lambda loop: operation(loop, script))
    assert ours == stock


@pytest.mark.tidewire       # Python's own count of the arguments says it in other words
def test_throw_takes_one_to_three(loop):
    def script(coro, other, note, ours):
        note(coro.throw)
        note(coro.throw, 1, 2, 3, 4)

    assert operation(loop, script) == ["TypeError: throw() takes 1 to 3 arguments"] * 2


# -- the loop ---------------------------------------------------------------------------

CALLS = [
    ("call_later", (None, print)), ("call_at", (None, print)), ("call_later", ("x", print)),
    ("call_soon_threadsafe", ()), ("set_exception_handler", (5,)),
    ("set_task_factory", (5,)), ("run_until_complete", (5,)), ("add_signal_handler", (0, print)),
    ("add_signal_handler", ("x", print)), ("remove_signal_handler", (1000,)),
    ("add_reader", ("x", print)),
    ("add_reader", (-1, print)), ("remove_reader", ("x",)), ("remove_writer", (-1,)),
    ("add_writer", (1.5, print)), ("create_task", (5,)), ("run_in_executor", (5, 5)),
]


@pytest.mark.parametrize("debug", [False, True])
def test_calls_of_the_loop(both, debug):
    def calls(loop):
        loop.set_debug(debug)
        return [said(getattr(loop, name), *args) for name, args in CALLS]

    stock, ours = both(calls)
    # Missing arguments are named by Python as a method of a class.
    assert [(c, s, o) for c, s, o in zip(CALLS, stock, ours, strict=True)
            if s != o and "required positional" not in s] == []


@pytest.mark.tidewire
@pytest.mark.parametrize("name", ["_ready", "_scheduled", "_selector"])
def test_queues_are_absent(loop, name):
    assert said(getattr, loop, name) == (
        f"AttributeError: '{type(loop).__module__}.{type(loop).__name__}' object has no attribute "
        f"'{name}' (tidewire keeps its queues in C)") or said(getattr, loop, name) == (
        f"AttributeError: 'Loop' object has no attribute '{name}' (tidewire keeps its queues in C)")
    setattr(loop, name, [])         # BaseEventLoop.__init__() of a subclass does
    assert not hasattr(loop, name)


@pytest.mark.tidewire
def test_parts_of_a_handle(loop):
    handle = loop.call_soon(print)
    with pytest.raises(AttributeError, match="^a handle has a callback$"):
        del handle._callback
    for value in None, {}, object():
        with pytest.raises(TypeError, match="^a handle has a Context$"):
            handle._context = value
    with pytest.raises(TypeError, match="^a handle has a Context$"):
        del handle._context
    handle.cancel()


@pytest.mark.tidewire
def test_internal_methods_count_their_arguments(loop):
    for count in 0, 5, 7:
        assert said(loop._literal_addresses, *range(count)) == (
            "TypeError: _literal_addresses() takes 6 arguments")
    assert said(loop._look_up_name, 1) == "TypeError: _look_up_name() takes 6 arguments"
    assert said(loop._look_up_address, 1, 2, 3) == "TypeError: _look_up_address() takes 2 arguments"
    assert said(loop._watch_begin, 0.0, print) == "ValueError: threshold must be positive"
    assert said(loop._watch_begin, 1e6, print) == "ValueError: threshold must be positive"
    assert said(loop._watch_begin, float("nan"), print) == "ValueError: threshold must be positive"


@pytest.mark.tidewire
def test_arguments_by_place_and_name(loop):
    async def main():
        ours, other = socketpair()
        with other:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            for call, text in [
                    (lambda: transport.write(), "write() missing required argument: 'data' (pos 1)"),
                    (lambda: transport.write(b"", data=b""),
                     "write() got multiple values for argument 'data'"),
                    (lambda: transport.write(b"", b""), "write() takes at most 1 arguments (2 given)"),
                    (lambda: transport.write(x=1), "write() got an unexpected keyword argument 'x'"),
                    (lambda: transport.writelines(),
                     "writelines() missing required argument: 'list_of_data' (pos 1)"),
                    (lambda: transport.get_extra_info(default=1),
                     "get_extra_info() missing required argument: 'name' (pos 1)"),
                    (lambda: transport.get_extra_info("a", 2, 3),
                     "get_extra_info() takes at most 2 arguments (3 given)"),
                    (lambda: transport.get_extra_info("a", name="b"),
                     "get_extra_info() got multiple values for argument 'name'"),
                    (lambda: transport.set_write_buffer_limits(1, 2, 3),
                     "set_write_buffer_limits() takes at most 2 arguments (3 given)"),
                    (lambda: transport.set_write_buffer_limits(hih=1),
                     "set_write_buffer_limits() got an unexpected keyword argument 'hih'"),
                    (lambda: loop.sock_recv(n=5),
                     "sock_recv() missing required argument: 'sock' (pos 1)"),
                    (lambda: loop.sock_recv(other),
                     "sock_recv() missing required argument: 'n' (pos 2)"),
                    (lambda: loop.sock_recv(other, 1, 2),
                     "sock_recv() takes at most 2 arguments (3 given)"),
                    (lambda: loop.sock_recv(other, sock=1),
                     "sock_recv() got multiple values for argument 'sock'"),
                    (lambda: loop.sock_sendall(other, dat=1),
                     "sock_sendall() got an unexpected keyword argument 'dat'")]:
                assert said(call) == f"TypeError: {text}"
            assert transport.get_extra_info(name="nothing", default=5) == 5
            assert transport.get_extra_info("nothing", default=6) == 6
            assert transport.get_extra_info("nothing", 7) == 7
            transport.set_write_buffer_limits(low=3, high=9)
            assert transport.get_write_buffer_limits() == (3, 9)
            transport.set_write_buffer_limits(8, low=2)
            assert transport.get_write_buffer_limits() == (2, 8)
            transport.abort()
            await asyncio.sleep(0)

    loop.run_until_complete(main())


# -- transports -------------------------------------------------------------------------

def on_a_stream(function):
    """function(transport, other socket) in a coroutine, on each loop."""
    def run(loop):
        async def main():
            ours, other = socketpair()
            with other:
                transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
                try:
                    return function(transport, other)
                finally:
                    transport.abort()
                    await asyncio.sleep(0)
        return loop.run_until_complete(main())
    return run


def test_limits_of_other_types(both):
    class Named:
        pass

    def calls(transport, other):
        return [said(transport.set_write_buffer_limits, **kwargs) for kwargs in (
            {"low": "x"}, {"low": []}, {"high": "x", "low": 1}, {"high": Named(), "low": 0},
            {"high": 1, "low": 2}, {"high": -1}, {"low": -1}, {"high": 2, "low": 2})]

    stock, ours = both(on_a_stream(calls))
    assert ours == stock


MOST = 2 ** 63 - 1          # of a C number of bytes, where there is no limit in practice
LIMITS = [(None, MOST // 4), (None, MOST // 4 - 1), (None, -1), (None, -2 ** 61 + 1), (None, -2 ** 61),
          (None, 3), (3, None), (4, None), (-1, None), (-5, None), (MOST, None), (MOST, MOST),
          (MOST - 1, MOST), (0, None), (None, 0), (5, 5), (5, 6), (5, -1), (None, None), (1, 0)]


@pytest.mark.parametrize("high, low", LIMITS)
def test_limits(both, high, low):
    def calls(transport, other):
        return (said(transport.set_write_buffer_limits, high, low),
                said(transport.set_write_buffer_limits, low=low, high=high),
                transport.get_write_buffer_limits(), transport.get_write_buffer_size())

    stock, ours = both(on_a_stream(calls))
    assert ours == stock


@pytest.mark.tidewire       # asyncio keeps numbers of any size
def test_limits_that_are_too_large_for_c(loop):
    def calls(transport, other):
        transport.set_write_buffer_limits(2 ** 70)
        out = [transport.get_write_buffer_limits()]
        transport.set_write_buffer_limits(low=2 ** 62)
        out.append(transport.get_write_buffer_limits())
        out.append(said(transport.set_write_buffer_limits, low=-2 ** 70))
        return out

    assert on_a_stream(calls)(loop) == [
        (MOST // 4, MOST), (2 ** 62, MOST),
        "ValueError: high (-4) must be >= low (-1) must be >= 0"]


def test_while_a_file_is_sent(both, is_stock):
    def calls(transport, other):
        waiter = transport._make_empty_waiter()
        done = waiter.done(), said(waiter.result)
        out = [done, said(transport.write, b"x"), said(transport._make_empty_waiter)]
        lines = said(transport.writelines, [b"x"])
        transport._reset_empty_waiter()
        out.append(said(transport.write, b"x"))
        return out, lines

    (stock, _), (ours, lines) = both(on_a_stream(calls))
    assert ours == stock
    assert stock[1:3] == ["RuntimeError: unable to write; sendfile is in progress",
                          "RuntimeError: Empty waiter is already set"]
    if not is_stock:
        assert lines == "RuntimeError: unable to writelines; sendfile is in progress"


def test_write_of_other_types(both, is_stock):
    def calls(transport, other):
        return [said(transport.write, value) for value in ("x", 5, None, [b"x"], range(3))]

    stock, ours = both(on_a_stream(calls))
    assert ours == stock


def test_after_write_eof(both, is_stock):
    def calls(transport, other):
        transport.write_eof()
        transport.write_eof()
        return [said(transport.write, b"x")], said(transport.writelines, [b"x"])

    (stock, _), (ours, lines) = both(on_a_stream(calls))
    assert ours == stock == ["RuntimeError: Cannot call write() after write_eof()"]
    if not is_stock:
        assert lines == "RuntimeError: Cannot call writelines() after write_eof()"


@pytest.mark.tidewire
def test_attributes_that_a_transport_needs(loop):
    def calls(transport, other):
        def delete(name):
            return said(delattr, transport, name)

        out = [delete(name) for name in ("_extra", "_loop", "_protocol", "_closing", "_high_water",
                                         "_low_water", "_protocol_paused")]
        out.append(said(setattr, transport, "_protocol", None))
        out.append(said(setattr, transport, "_loop", None))
        out.append(said(setattr, transport, "_extra", []))
        out.append(said(setattr, transport, "_closing", False))
        transport._loop = transport._loop
        transport._high_water = 77
        transport._low_water = 7
        out.append(transport.get_write_buffer_limits())
        transport._protocol_paused = True
        out.append(transport._protocol_paused)
        transport._protocol_paused = []
        out.append(transport._protocol_paused)
        out.append(said(setattr, transport, "_high_water", -1)[:13])
        out.append(said(setattr, transport, "_low_water", "x")[:9])
        transport._closing = 5
        out.append((transport.is_closing(), said(setattr, transport, "_closing", False)))
        return out

    needs = "AttributeError: a transport needs this attribute"
    assert on_a_stream(calls)(loop) == [needs] * 7 + [
        "AttributeError: a transport has a protocol",
        "AttributeError: a transport cannot change its loop",
        "AttributeError: _extra of a transport is a dict", "None", (7, 77), True, False,
        "OverflowError", "TypeError",
        (True, "AttributeError: a transport that is closing stays so")]


class Reports(list):
    """What a loop reports: message, exception, and which other keys."""

    def __init__(self, loop):
        loop.set_exception_handler(lambda loop, context: self.append(
            (context["message"], repr(context.get("exception")), sorted(context))))


class Buffered(asyncio.BufferedProtocol):
    """Its buffer is no good; `lost` says what it was told in the end."""

    def __init__(self, buffer):
        self.buffer = buffer
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, hint):
        return self.buffer

    def connection_lost(self, exc):
        self.lost.set_result(repr(exc))


BUFFERS = [b"", bytearray(), None, b"read-only", 5, [1], memoryview(b"read-only"), {}]


@pytest.mark.parametrize("buffer", BUFFERS, ids=range(len(BUFFERS)))
def test_get_buffer(both, buffer, logs):
    """What a BufferedProtocol may return: nothing that is empty or cannot be written."""
    def run(loop):
        reports = Reports(loop)

        async def main():
            ours, other = socketpair()
            with other:
                _, protocol = await loop.create_connection(lambda: Buffered(buffer), sock=ours)
                other.send(b"data")
                return await asyncio.wait_for(protocol.lost, 10)
        return loop.run_until_complete(main()), reports

    stock, ours = both(run)
    logs.take()
    assert ours == stock


@pytest.mark.tidewire       # asyncio's SSLProtocol shuts the connection down with other errors
@pytest.mark.parametrize("buffer", [bytearray(), memoryview(bytearray())], ids=["array", "view"])
def test_get_buffer_under_tls(make_loop, buffer, logs):
    loop = make_loop()
    reports = Reports(loop)

    async def main():
        protocol, peer = await tlskit.with_peer(lambda: Buffered(buffer))
        await peer.write(b"data")
        lost = await asyncio.wait_for(protocol.lost, 10)
        peer.close()
        return lost

    said = loop.run_until_complete(main())
    logs.take()
    assert said == "RuntimeError('get_buffer() returned an empty buffer')"
    assert [report[1] for report in reports] == [said]


class Pairs(socket.socket):
    """Not the system's answers."""
    answer = None

    def accept(self):
        return self.answer


@pytest.mark.parametrize("answer", [5, (), (1, 2, 3)], ids=repr)
def test_accept_without_a_pair(both, answer, is_stock):
    def run(loop):
        with Pairs() as sock:
            sock.setblocking(False)
            sock.answer = answer
            return said(loop.run_until_complete, loop.sock_accept(sock)).split(":")[0]

    stock, ours = both(run)
    # asyncio unpacks it.
    assert ours == (stock if is_stock else "TypeError") and stock in ("TypeError", "ValueError")


@pytest.mark.tidewire
def test_names_of_datagram_arguments(loop):
    async def main():
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
        with socket.socket(type=socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 0))
            other.setblocking(False)
            where = other.getsockname()
            transport.sendto(b"1", where)
            transport.sendto(b"2", addr=where)
            transport.sendto(data=b"3", addr=where)
            transport.sendto(addr=where, data=b"4")
            for call, text in [
                    (lambda: transport.sendto(),
                     "sendto() missing required argument: 'data' (pos 1)"),
                    (lambda: transport.sendto(addr=where),
                     "sendto() missing required argument: 'data' (pos 1)"),
                    (lambda: transport.sendto(b"", where, 3),
                     "sendto() takes at most 2 arguments (3 given)"),
                    (lambda: transport.sendto(b"", data=b""),
                     "sendto() got multiple values for argument 'data'"),
                    (lambda: transport.sendto(b"", where, addr=where),
                     "sendto() got multiple values for argument 'addr'"),
                    (lambda: transport.sendto(b"", adr=where),
                     "sendto() got an unexpected keyword argument 'adr'")]:
                assert said(call) == f"TypeError: {text}"
            got = [await asyncio.wait_for(loop.sock_recv(other, 10), 10) for _ in range(4)]
            assert got == [b"1", b"2", b"3", b"4"]
        transport.abort()
        await asyncio.sleep(0)

    loop.run_until_complete(main())


def test_raising_in_a_signal_handler(both, logs):
    """Of add_signal_handler(): reported, and the loop goes on."""
    import signal

    def run(loop):
        reports = Reports(loop)

        def handler():
            raise ValueError("handled")

        async def main():
            loop.add_signal_handler(signal.SIGUSR1, handler)
            os.kill(os.getpid(), signal.SIGUSR1)
            while not reports:
                await asyncio.sleep(0.001)
            loop.remove_signal_handler(signal.SIGUSR1)

        loop.run_until_complete(asyncio.wait_for(main(), 10))
        return [report[1:] for report in reports]

    stock, ours = both(run)
    logs.take()
    assert ours == stock
