"""Debug mode: what it refuses, records and reports."""
import _thread
import asyncio
import functools
import inspect
import os
import re
import socket
import threading
import time
from asyncio.format_helpers import _format_callback_source as format_callback_source

import pytest
import support
from parity import certificates


def noop(*args):
    pass


@pytest.fixture
def debug_loop(loop):
    loop.set_debug(True)
    return loop


@pytest.mark.parametrize("call", [
    lambda loop: loop.call_soon(noop),
    lambda loop: loop.call_later(1, noop),
    lambda loop: loop.call_at(1, noop)],
    ids=["call_soon", "call_later", "call_at"])
def test_wrong_thread(debug_loop, call):
    loop = debug_loop
    seen = []

    def work():
        try:
            call(loop)
        except RuntimeError as exc:
            seen.append(str(exc))

    async def main():
        await loop.run_in_executor(None, work)

    loop.run_until_complete(main())
    (text,) = seen
    assert "Non-thread-safe operation" in text


def test_threadsafe_from_another_thread_is_fine(debug_loop):
    loop = debug_loop
    thread = threading.Timer(0.01, loop.call_soon_threadsafe, (loop.stop,))
    thread.start()
    loop.run_forever()
    thread.join()


def test_thread_without_a_python_frame(debug_loop):
    """A native library's thread calls the loop itself, and not a function of Python's that does."""
    made = []

    async def main():
        done = debug_loop.create_future()
        _thread.start_new_thread(debug_loop.call_soon_threadsafe, (done.set_result, "told"))
        assert await asyncio.wait_for(done, 10) == "told"
        call = functools.partial(debug_loop.call_soon_threadsafe, made.append, 1, context=None)
        _thread.start_new_thread(call, ())
        while not made:
            await asyncio.sleep(0)

    debug_loop.run_until_complete(main())


@pytest.mark.parametrize("method", [
    "call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_coroutine_as_callback(debug_loop, method):
    async def coro():
        pass

    first = (1,) if method in ("call_later", "call_at") else ()
    with pytest.raises(TypeError, match="coroutines cannot be used with"):
        getattr(debug_loop, method)(*first, coro)
    obj = coro()
    with pytest.raises(TypeError, match="coroutines cannot be used with"):
        getattr(debug_loop, method)(*first, obj)
    obj.close()


@pytest.mark.parametrize("method", ["call_soon", "call_later"])
def test_not_callable(debug_loop, method):
    first = (1,) if method == "call_later" else ()
    with pytest.raises(TypeError, match="a callable object was expected"):
        getattr(debug_loop, method)(*first, 17)


def test_coroutine_function_to_executor(debug_loop):
    async def coro():
        pass
    with pytest.raises(TypeError, match="coroutines cannot be used with"):
        debug_loop.run_until_complete(
            asyncio.wait_for(debug_loop.run_in_executor(None, coro), 5))


def test_slow_callback(debug_loop, slow_logs):
    loop = debug_loop
    loop.slow_callback_duration = 0.01

    def sluggish():
        time.sleep(0.03)

    loop.call_soon(sluggish)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert any("sluggish" in t and t.startswith("Executing <Handle")
               and "seconds" in t for t in slow_logs), slow_logs


def test_slow_task(debug_loop, slow_logs):
    loop = debug_loop
    loop.slow_callback_duration = 0.01

    async def sluggish():
        time.sleep(0.03)

    loop.run_until_complete(sluggish())
    assert any(t.startswith("Executing <Task") and "sluggish" in t
               for t in slow_logs), slow_logs


def test_slow_timer(debug_loop, slow_logs):
    loop = debug_loop
    loop.slow_callback_duration = 0.01

    def sluggish():
        time.sleep(0.03)
        loop.stop()

    loop.call_later(0, sluggish)
    loop.run_forever()
    assert any("TimerHandle" in t and "sluggish" in t for t in slow_logs)


def slow_protocol(slow, *bases):
    """A protocol whose method of this name is slow."""
    def sluggish(self, *args):
        time.sleep(0.03)
    return type("Slow", bases or (asyncio.Protocol,), {slow: sluggish})


async def slow_stream(loop, slow):
    one, two = socket.socketpair()
    with two:
        one.setblocking(False)
        transport, _ = await loop.create_connection(slow_protocol(slow), sock=one)
        two.send(b"x")
        await support.io_turns()
        two.shutdown(socket.SHUT_WR)
        await support.io_turns()
        transport.close()
        await support.io_turns()


class Buffered(asyncio.BufferedProtocol):
    def get_buffer(self, sizehint):
        return bytearray(10)

    def buffer_updated(self, nbytes):
        time.sleep(0.03)


async def slow_buffered(loop, slow):
    one, two = socket.socketpair()
    with two:
        one.setblocking(False)
        transport, _ = await loop.create_connection(Buffered, sock=one)
        two.send(b"x")
        await support.io_turns()
        transport.abort()
        await support.io_turns()


async def slow_writing(loop, slow):
    one, two = socket.socketpair()
    with two:
        one.setblocking(False)
        two.setblocking(False)
        transport, _ = await loop.create_connection(slow_protocol(slow), sock=one)
        transport.write(bytes(4_000_000))
        got = 0
        while got < 4_000_000:
            got += len(await loop.sock_recv(two, 1 << 20))
        await support.io_turns()
        transport.abort()
        await support.io_turns()


async def slow_datagrams(loop, slow):
    transport, _ = await loop.create_datagram_endpoint(
        lambda: slow_protocol(slow, asyncio.DatagramProtocol)(), local_addr=("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.sendto(b"x", transport.get_extra_info("sockname"))
    await support.io_turns()
    transport.close()
    await support.io_turns()


async def slow_error(loop, slow):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        nobody = peer.getsockname()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: slow_protocol(slow, asyncio.DatagramProtocol)(), remote_addr=nobody)
    transport.sendto(b"x")
    await support.io_turns()
    transport.close()
    await support.io_turns()


async def slow_read_pipe(loop, slow):
    r, w = os.pipe()
    transport, _ = await loop.connect_read_pipe(slow_protocol(slow), os.fdopen(r, "rb", 0))
    os.write(w, b"x")
    await support.io_turns()
    os.close(w)
    await support.io_turns()
    transport.close()
    await support.io_turns()


async def slow_write_pipe(loop, slow):
    r, w = os.pipe()
    transport, _ = await loop.connect_write_pipe(slow_protocol(slow), os.fdopen(w, "wb", 0))
    transport.write(bytes(200_000))
    got = 0
    while got < 200_000:
        got += len(os.read(r, 200_000))
        await support.io_turns()
    os.close(r)
    await support.io_turns()
    transport.close()
    await support.io_turns()


async def slow_factory(loop, slow):
    def factory():
        time.sleep(0.03)
        return asyncio.Protocol()

    server = await loop.create_server(factory, "127.0.0.1", 0)
    with socket.socket() as client:
        client.connect(server.sockets[0].getsockname())
        await support.io_turns()
    server.close()
    await support.io_turns()


async def slow_reader(loop, slow):
    one, two = socket.socketpair()
    with one, two:
        loop.add_reader(one, slow_protocol(slow)().data_received)
        two.send(b"x")
        await support.io_turns()
        loop.remove_reader(one)


async def slow_tls(loop, slow):
    server_context, client_context = certificates.contexts()
    server = await loop.create_server(
        slow_protocol(slow), "127.0.0.1", 0, ssl=server_context)
    reader, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=client_context, server_hostname="localhost")
    writer.write(b"x")
    await support.io_turns()
    writer.close()
    await writer.wait_closed()
    server.close()
    await support.io_turns()


STREAM, UDP = "_SelectorSocketTransport.", "_SelectorDatagramTransport."
READ_PIPE, WRITE_PIPE = "_UnixReadPipeTransport.", "_UnixWritePipeTransport."
SLUGGISH = "slow_protocol.<locals>.sluggish"


@pytest.mark.parametrize("what, slow, name", [
    (slow_stream, "connection_made", f"{SLUGGISH}(<"),
    (slow_stream, "data_received", f"{STREAM}_read_ready()"),
    (slow_stream, "eof_received", f"{STREAM}_read_ready()"),
    (slow_stream, "connection_lost", f"{STREAM}_call_connection_lost(None)"),
    (slow_buffered, "buffer_updated", f"{STREAM}_read_ready()"),
    (slow_writing, "resume_writing", f"{STREAM}_write_"),
    (slow_datagrams, "connection_made", f"{SLUGGISH}(<"),
    (slow_datagrams, "datagram_received", f"{UDP}_read_ready()"),
    (slow_datagrams, "connection_lost", "_SelectorTransport._call_connection_lost(None)"),
    (slow_error, "error_received", f"{UDP}_read_ready()"),
    (slow_read_pipe, "connection_made", f"{SLUGGISH}(<"),
    (slow_read_pipe, "data_received", f"{READ_PIPE}_read_ready()"),
    (slow_read_pipe, "eof_received", f"{SLUGGISH}()"),
    (slow_read_pipe, "connection_lost", f"{READ_PIPE}_call_connection_lost(None)"),
    (slow_write_pipe, "connection_made", f"{SLUGGISH}(<"),
    (slow_write_pipe, "resume_writing", f"{WRITE_PIPE}_write_ready()"),
    (slow_write_pipe, "connection_lost", f"{WRITE_PIPE}_call_connection_lost("),
    (slow_factory, "", "BaseSelectorEventLoop._accept_connection2("),
    (slow_reader, "data_received", SLUGGISH),
    (slow_tls, "connection_made", f"{STREAM}_read_ready()"),
    (slow_tls, "data_received", f"{STREAM}_read_ready()"),
    (slow_tls, "connection_lost", ""),
], ids=lambda value: getattr(value, "__name__", value))
def test_slow_io(debug_loop, slow_logs, what, slow, name):
    loop = debug_loop
    loop.slow_callback_duration = 0.015
    loop.run_until_complete(what(loop, slow))
    texts = [text for text in slow_logs
             if text.startswith(("Executing <Handle ", "Executing <Task ")) and name in text]
    assert texts, slow_logs
    assert all(re.search(r" created at \S+:\d+> took \d\.\d{3} seconds$", text) for text in texts)


def test_quick_io_is_not_reported(debug_loop, slow_logs):
    loop = debug_loop
    loop.slow_callback_duration = 10
    loop.run_until_complete(slow_stream(loop, "data_received"))
    assert slow_logs == []


def test_not_slow_without_debug(loop, slow_logs):
    loop.slow_callback_duration = 0.01
    loop.set_debug(False)
    loop.call_soon(time.sleep, 0.03)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert slow_logs == []


@pytest.mark.parametrize("debug", [False, True])
def test_arguments_in_a_report(loop, run, errors, debug):
    """As the running Python shows them: from 3.13 on only in debug mode."""
    def fail(*args):
        raise ZeroDivisionError

    loop.set_debug(debug)
    loop.call_soon(fail, "argument")
    loop.call_later(0, functools.partial(fail, "argument"))
    run(asyncio.sleep(0.01))
    shows = debug or "debug" not in inspect.signature(format_callback_source).parameters
    for context in errors.take():
        assert ("'argument'" in context["message"]) is shows


def test_source_traceback(debug_loop, errors):
    loop = debug_loop

    def fail():
        raise ZeroDivisionError

    def place():
        loop.call_soon(fail)

    place()
    loop.call_soon(loop.stop)
    loop.run_forever()
    (context,) = errors.take()
    names = [frame.name for frame in context["source_traceback"]]
    assert names[-1] == "place"


def test_source_traceback_of_timer(debug_loop, errors):
    loop = debug_loop

    def fail():
        raise ZeroDivisionError

    def place():
        loop.call_later(0, fail)

    def place_at():
        loop.call_at(0, fail)

    def place_safe():
        loop.call_soon_threadsafe(fail)

    place()
    place_at()
    place_safe()
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    names = {context["source_traceback"][-1].name for context in errors.take()}
    assert names == {"place", "place_at", "place_safe"}


def test_source_traceback_of_transports_callbacks(debug_loop):
    loop = debug_loop
    handle = loop.call_soon(noop)
    assert handle._source_traceback[-1].name == \
        "test_source_traceback_of_transports_callbacks"
    assert "created at" in repr(handle)


def test_coroutine_origin_tracking(loop):
    import sys

    async def depth():
        return sys.get_coroutine_origin_tracking_depth()

    loop.set_debug(False)
    before = sys.get_coroutine_origin_tracking_depth()
    assert loop.run_until_complete(depth()) == before
    loop.set_debug(True)
    assert loop.run_until_complete(depth()) > 0
    assert sys.get_coroutine_origin_tracking_depth() == before


def test_coroutine_origin_tracking_switched_while_running(loop):
    import sys

    async def main():
        before = sys.get_coroutine_origin_tracking_depth()
        loop.set_debug(not loop.get_debug())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return before, sys.get_coroutine_origin_tracking_depth()

    loop.set_debug(False)
    before, after = loop.run_until_complete(main())
    assert before == 0 and after > 0
    assert sys.get_coroutine_origin_tracking_depth() == 0


def test_never_awaited_names_its_origin(loop, catch_warnings):
    async def forgotten():
        pass

    async def main():
        forgotten()

    loop.set_debug(True)
    loop.run_until_complete(main())
    texts = [str(w.message) for w in catch_warnings]
    assert any("never awaited" in t and "Coroutine created at" in t
               for t in texts), texts
