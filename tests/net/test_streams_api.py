"""asyncio.StreamReader and StreamWriter over the transports."""
import asyncio
import sys

import pytest

import support

kinds = pytest.mark.parametrize("kind", support.KINDS)


async def opened(kind="tcp", limit=2 ** 16):
    """reader, writer, and the bare socket of the other end."""
    ours, peer = support.socketpair(kind)
    if kind == "tcp":
        reader, writer = await asyncio.open_connection(sock=ours, limit=limit)
    else:
        reader, writer = await asyncio.open_unix_connection(sock=ours,
                                                            limit=limit)
    return reader, writer, peer


async def finish(writer, peer):
    writer.close()
    try:
        await writer.wait_closed()
    except (ConnectionError, BufferError):
        pass
    peer.close()


@kinds
def test_read_methods(run, kind):
    async def main():
        reader, writer, peer = await opened(kind)
        peer.send(b"line one\nline two\nexactly" + b"until;rest")
        assert await reader.readline() == b"line one\n"
        assert await reader.readuntil(b"two\n") == b"line two\n"
        assert await reader.readexactly(7) == b"exactly"
        assert await reader.readuntil(b";") == b"until;"
        assert await reader.read(2) == b"re"
        peer.send(b"!")
        peer.close()
        assert await reader.read() == b"st!"
        assert await reader.read(10) == b""
        assert reader.at_eof()
        await finish(writer, peer)

    run(main())


@kinds
def test_incomplete(run, kind):
    async def main():
        reader, writer, peer = await opened(kind)
        peer.send(b"abc")
        peer.close()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readexactly(10)
        assert caught.value.partial == b"abc"
        await finish(writer, peer)

    run(main())


@kinds
def test_limit(run, kind):
    async def main():
        reader, writer, peer = await opened(kind, limit=100)
        peer.send(b"x" * 300 + b"\n")
        with pytest.raises(ValueError):
            while True:
                line = await reader.readline()
                assert line.endswith(b"\n")
        await finish(writer, peer)

    run(main())


@kinds
def test_reader_pauses_the_transport(run, kind):
    """Beyond twice the limit nothing is taken from the socket."""
    async def main():
        reader, writer, peer = await opened(kind, limit=1000)
        loop = asyncio.get_running_loop()
        total = 20_000_000         # no kernel keeps that much
        task = asyncio.ensure_future(loop.sock_sendall(peer, b"x" * total))
        await support.io_turns(10)
        assert not writer.transport.is_reading()
        assert not task.done()
        assert len(await reader.readexactly(total)) == total
        await task
        peer.send(b"y")
        assert await reader.read(1) == b"y"
        assert writer.transport.is_reading()
        await finish(writer, peer)

    run(main())


@kinds
def test_iteration(run, kind):
    async def main():
        reader, writer, peer = await opened(kind)
        peer.send(b"a\nb\nc")
        peer.close()
        lines = [line async for line in reader]
        assert lines == [b"a\n", b"b\n", b"c"]
        await finish(writer, peer)

    run(main())


@kinds
def test_two_readers_at_once(run, kind):
    async def main():
        reader, writer, peer = await opened(kind)
        task = asyncio.ensure_future(reader.readline())
        await support.turns()
        with pytest.raises(RuntimeError, match="already waiting"):
            await reader.readline()
        peer.send(b"x\n")
        assert await task == b"x\n"
        await finish(writer, peer)

    run(main())


@kinds
def test_cancelled_read_loses_nothing(run, kind):
    async def main():
        reader, writer, peer = await opened(kind)
        for i in range(20):
            task = asyncio.ensure_future(reader.readexactly(4))
            await support.turns(i % 4)
            peer.send(b"ab")
            await support.io_turns(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            peer.send(b"cd")
            assert await reader.readexactly(4) == b"abcd"
        await finish(writer, peer)

    run(main())


@kinds
def test_connection_reset(run, kind):
    async def main():
        reader, writer, peer = await opened(kind)
        writer.write(b"unread")
        await writer.drain()
        await support.io_turns(1)
        if kind == "tcp":
            support.reset(peer)
            with pytest.raises(ConnectionResetError):
                await reader.read()
            with pytest.raises(ConnectionResetError):
                await writer.drain()
            writer.close()
            with pytest.raises(ConnectionResetError):
                await writer.wait_closed()
        else:
            peer.close()
            try:
                assert await reader.read() == b""
            except ConnectionResetError:
                pass            # a Unix peer that left bytes unread
            await finish(writer, peer)

    run(main())


@kinds
def test_feed_by_hand(run, kind):
    """The reader is an ordinary object: feed_data works beside us."""
    async def main():
        reader, writer, peer = await opened(kind)
        reader.feed_data(b"by hand ")
        peer.send(b"by wire")
        peer.close()
        assert await reader.read() == b"by hand by wire"
        await finish(writer, peer)

    run(main())


@kinds
def test_patched_reader(run, kind):
    """A reader whose feed_data was replaced gets every byte there."""
    async def main():
        reader, writer, peer = await opened(kind)
        seen = []
        original = reader.feed_data
        reader.feed_data = lambda data: (seen.append(bytes(data)),
                                         original(data.upper()))
        peer.send(b"hello\n")
        assert await reader.readline() == b"HELLO\n"
        assert b"".join(seen) == b"hello\n"
        del reader.feed_data
        peer.send(b"again\n")
        assert await reader.readline() == b"again\n"
        await finish(writer, peer)

    run(main())


def test_patched_class(run, monkeypatch):
    async def main():
        reader, writer, peer = await opened()
        seen = []
        original = asyncio.StreamReader.feed_data

        def feed_data(self, data):
            seen.append(bytes(data))
            original(self, data)

        peer.send(b"one\n")
        assert await reader.readline() == b"one\n"
        monkeypatch.setattr(asyncio.StreamReader, "feed_data", feed_data)
        peer.send(b"two\n")
        assert await reader.readline() == b"two\n"
        monkeypatch.undo()
        peer.send(b"three\n")
        assert await reader.readline() == b"three\n"
        assert b"".join(seen) == b"two\n"
        await finish(writer, peer)

    run(main())


def test_subclasses_are_honoured(loop, run):
    class Reader(asyncio.StreamReader):
        fed = b""

        def feed_data(self, data):
            self.fed += data
            super().feed_data(data)

    class Protocol(asyncio.StreamReaderProtocol):
        calls = 0

        def data_received(self, data):
            self.calls += 1
            super().data_received(data)

    async def main():
        ours, peer = support.socketpair()
        reader = Reader(loop=loop)
        transport, protocol = await loop.create_unix_connection(
            lambda: Protocol(reader, loop=loop), sock=ours)
        peer.send(b"hello")
        assert await reader.readexactly(5) == b"hello"
        assert reader.fed == b"hello" and protocol.calls == 1
        transport.close()
        await support.turns(3)
        peer.close()

    run(main())


@kinds
def test_exported_buffer(run, kind, errors):
    """Somebody holds a view of the reader's bytearray: as stock, an error."""
    async def main():
        reader, writer, peer = await opened(kind)
        peer.send(b"x")
        while not reader._buffer:
            await asyncio.sleep(0)
        view = memoryview(reader._buffer)
        peer.send(b"y")
        await support.io_turns(3)
        view.release()
        await finish(writer, peer)

    run(main())
    (context,) = errors.take()
    assert isinstance(context["exception"], BufferError)
    assert context["message"] == \
        "Fatal error: protocol.data_received() call failed."


@kinds
def test_set_exception_wakes_the_reader(run, kind):
    async def main():
        reader, writer, peer = await opened(kind)
        task = asyncio.ensure_future(reader.read(10))
        await support.turns()
        reader.set_exception(LookupError("x"))
        with pytest.raises(LookupError):
            await task
        assert isinstance(reader.exception(), LookupError)
        await finish(writer, peer)

    run(main())


def test_server(loop, run):
    async def main():
        async def handle(reader, writer):
            while data := await reader.read(1000):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        async def client(port, i):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for n in range(20):
                writer.write(b"%d-%d\n" % (i, n))
                await writer.drain()
                assert await reader.readline() == b"%d-%d\n" % (i, n)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            return i

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            out = await asyncio.gather(*(client(port, i) for i in range(20)))
        await support.io_turns()
        return out

    assert run(main()) == list(range(20))


def test_server_with_plain_callback(loop, run):
    async def main():
        def handle(reader, writer):
            writer.write(b"hello")
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b"hello"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12),
                    reason="3.11 only logs it when the task is collected")
def test_handler_that_raises(loop, run, errors):
    async def main():
        async def handle(reader, writer):
            raise ZeroDivisionError

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(main())
    (context,) = errors.take()
    assert isinstance(context["exception"], ZeroDivisionError)


@kinds
def test_writer_attributes(run, kind):
    async def main():
        reader, writer, peer = await opened(kind)
        assert writer.transport.get_protocol() is not None
        assert writer.get_extra_info("socket") is not None
        assert writer.can_write_eof()
        assert not writer.is_closing()
        writer.writelines([b"a", b"b"])
        await writer.drain()
        assert await support.recv_exactly(peer, 2) == b"ab"
        writer.write_eof()
        assert await support.recv_all(peer) == b""
        writer.close()
        assert writer.is_closing()
        await finish(writer, peer)

    run(main())


@kinds
def test_line_by_line_ping_pong(run, kind):
    async def main():
        reader, writer, peer = await opened(kind)
        loop = asyncio.get_running_loop()
        for i in range(300):
            writer.write(b"%d\n" % i)
            got = await support.recv_exactly(peer, len(b"%d\n" % i))
            await loop.sock_sendall(peer, got)
            assert await reader.readline() == b"%d\n" % i
        await finish(writer, peer)

    run(main())


def test_dead_reader_drops_the_data(loop, run):
    """The program forgot the reader of a connection that it serves."""
    async def main():
        import gc

        async def handle(reader, writer):
            keep.append(writer)

        keep = []
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while not keep:
            await asyncio.sleep(0)
        await support.turns(5)
        gc.collect()
        writer.write(b"nobody reads this")
        await support.io_turns()
        keep[0].write(b"but this arrives")
        assert await reader.readexactly(16) == b"but this arrives"
        writer.close()
        await writer.wait_closed()
        keep.pop().close()
        await support.io_turns()
        server.close()
        await server.wait_closed()

    run(main())
