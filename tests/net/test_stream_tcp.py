"""TCP streams: read, write, close, abort, reset."""
import socket

import pytest

from net.tcpkit import end, served
import support
from support import Recorder


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
