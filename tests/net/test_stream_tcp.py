"""TCP streams: connect, serve, read, write, close, abort, reset."""
import asyncio
import errno
import gc
import socket
import sys
import weakref

import pytest

import support
from support import Recorder


async def served(loop, factory, **kwargs):
    server = await loop.create_server(factory, "127.0.0.1", 0, **kwargs)
    return server, server.sockets[0].getsockname()[1]


async def end(server):
    server.close()
    await server.wait_closed()


def test_echo(loop, run):
    async def main():
        echo = {"data": lambda p, data: p.transport.write(data)}
        made = []

        def factory():
            made.append(Recorder(echo))
            return made[-1]

        server, port = await served(loop, factory)
        transport, protocol = await loop.create_connection(
            Recorder, "127.0.0.1", port)
        transport.write(b"hello")
        await protocol.got(b"hello")
        transport.close()
        await protocol.saw("lost")
        await made[0].saw("lost")
        await end(server)
        assert protocol.names == ["made", "data", "lost"]
        assert made[0].names == ["made", "data", "eof", "lost"]
        assert protocol.lost is None and made[0].lost is None

    run(main())


@pytest.mark.parametrize("kind", ["tcp", "tcp6", "unix"])
@pytest.mark.parametrize("size", [1, 100, 65535, 65536, 262144, 262145,
                                  3_000_001])
def test_bytes_arrive_whole(run, kind, size):
    async def main():
        data = bytes(i * 7 % 251 for i in range(1000)) * (size // 1000 + 1)
        data = data[:size]
        one, two = await support.pair(kind)
        one.transport.write(data)
        assert support.same(await two.got(size), data)
        await support.close(one, two)

    if kind == "tcp6" and not socket.has_ipv6:
        pytest.skip("no IPv6")
    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_both_ways_at_once(run, kind):
    async def main():
        one, two = await support.pair(kind)
        for i in range(50):
            one.transport.write(b"a" * 10000)
            two.transport.write(b"b" * 10000)
        await one.got(500000)
        await two.got(500000)
        assert set(one.data) == set(b"b") and set(two.data) == set(b"a")
        await support.close(one, two)

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
@pytest.mark.parametrize("make", [
    bytes, bytearray, memoryview,
    lambda d: memoryview(bytearray(d)),
    lambda d: memoryview(d)[::1],
], ids=["bytes", "bytearray", "memoryview", "writable", "slice"])
def test_write_takes_bytes_like(run, kind, make):
    async def main():
        one, two = await support.pair(kind)
        assert one.transport.write(make(b"hello")) is None
        await two.got(b"hello")
        await support.close(one, two)

    run(main())


@pytest.mark.asyncio_defect("keeps a reference to it", since=(3, 12))
@pytest.mark.parametrize("kind", support.KINDS)
def test_a_bytearray_may_change_after_write(run, kind):
    """Queued or not, what write() saw is what arrives."""
    async def main():
        one, two = await support.pair(kind)
        two.transport.pause_reading()
        filled = support.fill(one.transport)
        data = bytearray(b"a" * 200000)
        one.transport.write(data)
        data[:] = b"b" * 200000
        data.clear()            # no export is left either
        two.transport.resume_reading()
        await two.got(filled + 200000)
        assert support.same(two.data[filled:], b"a" * 200000)
        await support.close(one, two)

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
@pytest.mark.parametrize("wrong", ["text", None, 3, [b"x"], object()])
def test_write_wrong_type(run, kind, wrong):
    async def main():
        one, two = await support.pair(kind)
        with pytest.raises(TypeError):
            one.transport.write(wrong)
        one.transport.write(b"x")
        await two.got(b"x")
        await support.close(one, two)

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_write_of_wider_items(run, kind):
    """len() of an array is not its size in bytes: all of it must go."""
    import array

    async def main():
        one, two = await support.pair(kind)
        data = array.array("I", range(10))
        try:
            one.transport.write(memoryview(data))
            await two.got(data.tobytes())
        finally:
            await support.close(one, two)

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
@pytest.mark.parametrize("empty", [b"", bytearray(), memoryview(b"")])
def test_write_nothing(run, kind, empty):
    async def main():
        one, two = await support.pair(kind)
        one.transport.write(empty)
        one.transport.writelines([empty, empty])
        one.transport.writelines([])
        one.transport.write(b"x")
        await two.got(b"x")
        assert one.transport.get_write_buffer_size() == 0
        await support.close(one, two)

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_writelines(run, kind):
    async def main():
        one, two = await support.pair(kind)
        parts = [b"a", bytearray(b"bc"), memoryview(b"def")]
        one.transport.writelines(parts)
        one.transport.writelines(iter(parts))
        await two.got(b"abcdef" * 2)
        lines = [b"%d;" % i for i in range(3000)]       # more than IOV_MAX
        one.transport.writelines(lines)
        await two.got(b"abcdef" * 2 + b"".join(lines))
        with pytest.raises(TypeError):
            one.transport.writelines(["text"])
        with pytest.raises(TypeError):
            one.transport.writelines(17)
        await support.close(one, two)

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_many_writes_keep_their_order(run, kind):
    async def main():
        one, two = await support.pair(kind)
        expected = bytearray()
        for i in range(3000):
            part = bytes([i % 256]) * (i % 97)
            one.transport.write(part)
            expected += part
        await two.got(bytes(expected))
        await support.close(one, two)

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_close_sends_what_was_written(run, kind):
    async def main():
        one, two = await support.pair(kind)
        two.transport.pause_reading()
        size = support.fill(one.transport)
        one.transport.write(b"end")
        one.transport.close()
        assert one.transport.is_closing()
        await support.io_turns()
        assert "lost" not in one.names
        two.transport.resume_reading()
        await one.saw("lost")
        await two.saw("lost")
        assert support.same(two.data, b"x" * size + b"end")
        assert one.lost is None

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_abort_drops_what_was_written(run, kind):
    async def main():
        one, two = await support.pair(kind)
        two.transport.pause_reading()
        size = support.fill(one.transport)
        one.transport.abort()
        assert one.transport.is_closing()
        assert one.transport.get_write_buffer_size() == 0
        assert "lost" not in one.names          # not from inside abort()
        await one.saw("lost")
        assert one.lost is None
        two.transport.resume_reading()
        await two.saw("lost")
        assert len(two.data) < size

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_close_twice_and_abort_after_close(run, kind):
    async def main():
        one, two = await support.pair(kind)
        assert one.transport.close() is None
        one.transport.close()
        assert one.transport.abort() is None
        one.transport.abort()
        await one.saw("lost")
        await two.saw("lost")
        one.transport.close()
        one.transport.abort()
        await support.io_turns()
        assert one.names == ["made", "lost"]
        assert two.names == ["made", "eof", "lost"]

    run(main())


def test_connection_reset(run):
    async def main():
        transport, protocol, peer = await support.connected("tcp")
        support.reset(peer)
        await protocol.saw("lost")
        assert isinstance(protocol.lost, ConnectionResetError)
        assert protocol.names == ["made", "lost"]
        assert transport.is_closing()

    run(main())


def test_data_then_reset(run):
    """What came before the reset may be lost, the error may not."""
    async def main():
        transport, protocol, peer = await support.connected("tcp")
        transport.write(b"unread")
        await support.io_turns()
        peer.close()        # unread data: the kernel sends RST
        await protocol.saw("lost")
        assert isinstance(protocol.lost, (ConnectionResetError, type(None)))

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_write_to_a_gone_peer(run, kind):
    """The error of a write closes the transport; reading told nothing."""
    async def main():
        transport, protocol, peer = await support.connected(kind)
        transport.pause_reading()
        peer.close()
        for _ in range(100):
            if transport.is_closing():
                break
            transport.write(b"x" * 1000)
            await support.io_turns(1)
        await protocol.saw("lost")
        assert isinstance(protocol.lost,
                          (BrokenPipeError, ConnectionResetError))
        assert protocol.names == ["made", "lost"]

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_writes_after_the_connection_was_lost(run, kind, logs):
    async def main():
        one, two = await support.pair(kind)
        await support.close(one, two)
        for _ in range(4):
            one.transport.write(b"ignored")
        assert logs == []
        for _ in range(3):
            one.transport.write(b"ignored")
        assert {r.getMessage() for r in logs.take()} <= {
            "socket.send() raised exception."}

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_warning_from_the_fifth_write_on(run, kind, logs):
    async def main():
        one, two = await support.pair(kind)
        two.transport.pause_reading()
        support.fill(one.transport)
        one.transport.abort()
        for i in range(8):
            one.transport.write(b"ignored")
        await one.saw("lost")
        texts = [r.getMessage() for r in logs.take()]
        # abort() counts as the first lost one, as in asyncio.
        assert texts == ["socket.send() raised exception."] * len(texts)
        assert 3 <= len(texts) <= 4
        await support.close(two)

    run(main())


@pytest.mark.asyncio_defect("writelines: TypeError", since=(3, 12))
@pytest.mark.parametrize("kind", support.KINDS)
def test_write_after_close_is_sent_or_ignored_but_never_raises(run, kind):
    async def main():
        one, two = await support.pair(kind)
        one.transport.close()
        one.transport.write(b"late")
        one.transport.writelines([b"later"])
        await one.saw("lost")
        await two.saw("lost")

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_is_closing(run, kind):
    async def main():
        one, two = await support.pair(kind)
        assert one.transport.is_closing() is False
        one.transport.close()
        assert one.transport.is_closing() is True
        await one.saw("lost")
        assert one.transport.is_closing() is True
        await two.saw("lost")
        assert two.transport.is_closing() is True

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_pause_and_resume_reading(run, kind):
    async def main():
        one, two = await support.pair(kind)
        assert two.transport.is_reading() is True
        two.transport.pause_reading()
        two.transport.pause_reading()
        assert two.transport.is_reading() is False
        one.transport.write(b"hello")
        await support.io_turns(5)
        assert two.names == ["made"]
        two.transport.resume_reading()
        two.transport.resume_reading()
        assert two.transport.is_reading() is True
        await two.got(b"hello")
        two.transport.close()
        assert two.transport.is_reading() is False
        two.transport.pause_reading()
        two.transport.resume_reading()
        assert two.transport.is_reading() is False
        await two.saw("lost")
        two.transport.pause_reading()
        two.transport.resume_reading()
        assert two.transport.is_reading() is False
        await support.close(one)

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_pause_inside_data_received_holds_at_once(run, kind):
    async def main():
        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder(
                {"data": lambda p, data: p.transport.pause_reading()}))
        peer.send(b"x" * 100)
        await protocol.saw("data")
        first = len(protocol.data)
        for _ in range(5):
            try:
                peer.send(b"y" * 10000)
            except BlockingIOError:
                break
            await support.io_turns(2)
        assert len(protocol.data) == first
        peer.close()
        await support.io_turns()
        assert "eof" not in protocol.names
        await support.close(protocol)

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_eof_while_paused_is_kept(run, kind):
    async def main():
        transport, protocol, peer = await support.connected(kind)
        transport.pause_reading()
        peer.send(b"last words")
        peer.close()
        await support.io_turns(5)
        assert protocol.names == ["made"]
        transport.resume_reading()
        await protocol.saw("lost")
        assert protocol.names == ["made", "data", "eof", "lost"]
        assert protocol.data == b"last words"

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_pause_in_connection_made(run, kind):
    async def main():
        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder(
                {"made": lambda p: p.transport.pause_reading()}))
        peer.send(b"x")
        await support.io_turns(5)
        assert protocol.names == ["made"]
        assert not transport.is_reading()
        transport.resume_reading()
        await protocol.got(b"x")
        await support.close(protocol)
        peer.close()

    run(main())


def test_data_comes_after_create_connection_returned(loop, run):
    async def main():
        server, port = await served(loop, lambda: Recorder(
            {"made": lambda p: p.transport.write(b"greeting")}))
        for _ in range(20):
            transport, protocol = await loop.create_connection(
                Recorder, "127.0.0.1", port)
            assert protocol.names == ["made"]
            await protocol.got(b"greeting")
            await support.close(protocol)
        await end(server)
        await support.io_turns()

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_set_protocol(run, kind):
    async def main():
        one, two = await support.pair(kind)
        transport = one.transport
        assert transport.get_protocol() is one
        other = Recorder()
        other.transport = transport
        transport.set_protocol(other)
        assert transport.get_protocol() is other
        two.transport.write(b"hello")
        await other.got(b"hello")
        assert one.names == ["made"]
        await support.close(other)
        await two.saw("lost")
        assert one.names == ["made"] and other.names == ["data", "lost"]

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_set_protocol_in_the_middle_of_data(run, kind):
    async def main():
        second = Recorder()

        def switch(protocol, data):
            second.transport = protocol.transport
            protocol.transport.set_protocol(second)

        transport, first, peer = await support.connected(
            kind, lambda: Recorder({"data": switch}))
        peer.send(b"one")
        await first.got(b"one")
        peer.send(b"two")
        await second.got(b"two")
        assert first.data == b"one"
        peer.close()
        await second.saw("lost")
        assert "lost" not in first.names

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_connection_made_that_closes(run, kind):
    async def main():
        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder({"made": lambda p: p.transport.close()}))
        await protocol.saw("lost")
        assert protocol.names == ["made", "lost"]
        peer.close()

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
@pytest.mark.parametrize("how", ["close", "abort"])
def test_close_in_data_received(run, kind, how):
    async def main():
        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder(
                {"data": lambda p, d: getattr(p.transport, how)()}))
        peer.send(b"x")
        await protocol.saw("lost")
        assert protocol.names == ["made", "data", "lost"]
        assert protocol.lost is None
        peer.close()

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
@pytest.mark.parametrize("place", ["made", "data", "eof", "lost"])
def test_callbacks_that_raise(run, kind, place, errors):
    async def main():
        def fail(protocol, *args):
            raise ZeroDivisionError(place)

        made = []

        def factory():
            made.append(Recorder({place: fail}))
            return made[-1]

        transport, protocol, peer = await support.connected(kind, factory)
        peer.send(b"x")
        peer.close()
        if place == "made":
            # asyncio leaves such a transport reading.
            transport.close()
        await protocol.saw("lost")
        await support.turns()
        return protocol

    protocol = run(main())
    (context,) = errors.take()
    assert isinstance(context["exception"], ZeroDivisionError)
    message = context["message"]
    if place in ("data", "eof"):
        method = {"data": "data_received", "eof": "eof_received"}[place]
        assert message == \
            f"Fatal error: protocol.{method}() call failed."
        assert context["protocol"] is protocol
        assert context["transport"] is protocol.transport
        assert isinstance(protocol.lost, ZeroDivisionError)
    else:
        assert message.startswith("Exception in callback ")
        assert "handle" in context


@pytest.mark.parametrize("kind", support.KINDS)
def test_transport_types(run, kind):
    async def main():
        one, two = await support.pair(kind)
        assert isinstance(one.transport, asyncio.Transport)
        assert isinstance(one.transport, asyncio.BaseTransport)
        assert weakref.ref(one.transport)() is one.transport
        one.transport.anything = 1
        assert one.transport.anything == 1
        number = one.transport.get_extra_info("socket").fileno()
        assert f" fd={number} read=polling write=<idle, bufsize=0>>" in repr(one.transport)
        await support.close(one, two)
        assert repr(one.transport).endswith(f" closed fd={number}>")    # for log files
        assert one.transport._sock_fd == number

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_methods_can_be_patched_on_an_instance(run, kind):
    """aiohttp's and uvicorn's tests do so."""
    async def main():
        one, two = await support.pair(kind)
        seen = []
        one.transport.write = seen.append
        one.transport.write(b"x")
        assert seen == [b"x"]
        del one.transport.write
        one.transport.write(b"y")
        await two.got(b"y")
        await support.close(one, two)

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_everything_is_let_go_after_the_end(run, kind):
    async def main():
        one, two = await support.pair(kind)
        refs = [weakref.ref(x) for x in (one, two, one.transport,
                                         two.transport)]
        await support.close(one, two)
        await support.turns()
        del one, two
        gc.collect()
        return [ref() for ref in refs]

    assert run(main()) == [None] * 4


@pytest.mark.parametrize("kind", support.KINDS)
def test_socket_is_closed_after_connection_lost(run, kind):
    """In connection_lost the socket can still be asked for SO_ERROR."""
    async def main():
        seen = []

        def lost(protocol, exc):
            sock = protocol.transport.get_extra_info("socket")
            seen.append(sock.fileno() >= 0)
            seen.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

        ours, peer = support.socketpair(kind)
        _, protocol = await support.connect_sock(
            ours, lambda: Recorder({"lost": lost}))
        await support.close(protocol)
        await support.turns()
        assert seen == [True, 0]
        assert ours.fileno() == -1
        peer.close()

    run(main())


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


@pytest.mark.parametrize("kind", support.KINDS)
def test_big_load_in_small_pieces(run, kind):
    """A small send buffer: every partial write happens."""
    async def main():
        a, b = support.socketpair(kind)
        a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        _, one = await support.connect_sock(a, Recorder)
        _, two = await support.connect_sock(b, Recorder)
        data = bytes(range(256)) * 2000
        for i in range(0, len(data), 7777):
            one.transport.write(data[i:i + 7777])
        await two.got(data)
        await support.close(one, two)

    run(main())


def test_hundred_connections(loop, run):
    async def main():
        echo = {"data": lambda p, data: p.transport.write(data)}
        server, port = await served(loop, lambda: Recorder(echo))
        clients = [(await loop.create_connection(
            Recorder, "127.0.0.1", port))[1] for _ in range(100)]
        for round in range(5):
            for i, client in enumerate(clients):
                client.transport.write(b"%03d." % i)
        for i, client in enumerate(clients):
            await client.got(b"%03d." % i * 5)
        await support.close(*clients)
        await end(server)
        await support.io_turns()

    run(main())
