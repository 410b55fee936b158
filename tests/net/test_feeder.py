"""asyncio's StreamReader is fed in C: nothing may show it.

Each way in which a program can have its own idea of what data_received() and
feed_data() do.
"""
import asyncio
import gc
import random

import pytest

import support
from net.feederkit import Calls, Streams, not_in_debug_mode  # noqa: F401

kinds = pytest.mark.parametrize("kind", support.KINDS)


# -- the way that is taken --------------------------------------------------

@pytest.mark.tidewire
@pytest.mark.parametrize("size", [1, 1000, 50_000, 200_000])
@kinds
def test_no_python_feeds_the_reader(run, kind, size):
    async def main():
        async with Streams(kind) as s:
            with Calls() as calls:
                for _ in range(3):
                    await s.echo(bytes(size))
            assert "readexactly" in calls.names and not calls.fed()
    run(main())


@pytest.mark.tidewire
def test_no_python_feeds_a_servers_reader(run):
    async def main():
        async def handle(reader, writer):
            writer.write(await reader.readexactly(10))
            writer.close()

        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            with Calls() as calls:
                reader, writer = await asyncio.open_connection(
                    *server.sockets[0].getsockname())
                writer.write(b"0123456789")
                assert await reader.readexactly(10) == b"0123456789"
            assert "data_received" not in calls.names and "feed_data" not in calls.names
            writer.close()
            await writer.wait_closed()
    run(main())


@pytest.mark.tidewire
def test_the_objects_have_no_dicts_for_it(run):
    """Python's attribute access is slower for objects whose dict was asked for."""
    async def main():
        async with Streams() as s:
            await s.echo()
            for obj in s.reader, s.protocol:
                assert not [ref for ref in gc.get_referents(obj) if type(ref) is dict]
    run(main())


@kinds
def test_sizes(run, kind):
    """Small after large, large after small, more than was expected, the end."""
    async def main():
        rng = random.Random(7)
        sizes = [40_000, 250_000, 10, 33_000, 300_000, 1, 60_000, 400_000, 5]
        sizes += [rng.randrange(1, 300_000) for _ in range(30)]
        async with Streams(kind) as s:
            for size in sizes:
                await s.echo(rng.randbytes(size))
            s.peer.send(b"x" * 40_000)
            assert await s.reader.readexactly(40_000) == b"x" * 40_000
            s.peer.close()
            assert await s.reader.read() == b"" and s.reader.at_eof()
    run(main())


@kinds
def test_bytes_stay_in_order_in_a_full_buffer(run, kind):
    async def main():
        data = random.Random(3).randbytes(3_000_000)
        async with Streams(kind, limit=100_000) as s:
            loop = asyncio.get_running_loop()
            sent = asyncio.ensure_future(loop.sock_sendall(s.peer, data))
            got = bytearray()
            while len(got) < len(data):
                got += await s.reader.read(70_000)
                assert len(s.reader._buffer) <= 200_000 + 256 * 1024
            assert support.same(got, data)
            await sent
    run(main())


def test_nothing_came(run):
    """Readable, but somebody else reads it: the buffer stays as it is."""
    async def main():
        async with Streams("unix") as s:
            await s.echo(b"x" * 100_000)        # the next is expected to be as large
            s.peer.send(b"kept")
            await s.buffered(4)
            s.peer.send(b"stolen")
            sock = s.writer.get_extra_info("socket")
            assert support.same(sock._sock.recv(100), b"stolen")
            await support.io_turns(2)
            assert bytes(s.reader._buffer) == b"kept"
    run(main())


# -- programs that do it their way ------------------------------------------

class LoudReader(asyncio.StreamReader):
    def feed_data(self, data):
        super().feed_data(data.upper())


class PlainReader(asyncio.StreamReader):
    pass


class LoudProtocol(asyncio.StreamReaderProtocol):
    def data_received(self, data):
        super().data_received(data.upper())


@pytest.mark.parametrize("classes, answer", [
    ({"reader_class": LoudReader}, b"ABC"), ({"reader_class": PlainReader}, b"abc"),
    ({"protocol_class": LoudProtocol}, b"ABC"),
], ids=["reader", "plain reader", "protocol"])
@kinds
def test_subclasses(run, kind, classes, answer):
    async def main():
        async with Streams(kind, **classes) as s:
            for _ in range(2):
                s.peer.send(b"abc")
                assert await s.reader.readexactly(3) == answer
    run(main())


@pytest.mark.parametrize("of, name", [
    ("reader", "feed_data"), ("reader", "_wakeup_waiter"), ("protocol", "data_received")])
def test_replaced_in_the_object(run, of, name):
    async def main():
        async with Streams() as s:
            await s.echo()
            obj, seen = getattr(s, of), []
            original = getattr(obj, name)

            def spy(*args):
                seen.append(args)
                return original(*args)

            setattr(obj, name, spy)
            await s.echo(b"seen")
            assert seen == [() if name == "_wakeup_waiter" else (b"seen",)]
            delattr(obj, name)
            await s.echo()
            assert len(seen) == 1
    run(main())


@pytest.mark.parametrize("cls, name", [
    (asyncio.StreamReader, "feed_data"), (asyncio.StreamReader, "_wakeup_waiter"),
    (asyncio.StreamReaderProtocol, "data_received")])
def test_replaced_in_the_class(run, monkeypatch, cls, name):
    async def main():
        async with Streams() as s:
            await s.echo()
            seen, original = [], getattr(cls, name)

            def spy(self, *args):
                seen.append(args)
                return original(self, *args)

            for _ in range(2):
                with monkeypatch.context() as patch:
                    patch.setattr(cls, name, spy)
                    await s.echo(b"seen")
                assert seen == [() if name == "_wakeup_waiter" else (b"seen",)]
                await s.echo(b"unseen")
                assert len(seen) == 1
                seen.clear()
    run(main())


@pytest.mark.tidewire
def test_original_again(run, monkeypatch):
    async def main():
        async with Streams() as s:
            with monkeypatch.context() as patch:
                patch.setattr(asyncio.StreamReader, "feed_data", LoudReader.feed_data)
                patch.setattr(asyncio.StreamReader, "unrelated", 1, raising=False)
            with Calls() as calls:
                await s.echo()
            assert not calls.fed()
    run(main())


def test_the_readers_property_replaced(run, monkeypatch):
    async def main():
        other = asyncio.StreamReader()
        async with Streams() as s:
            await s.echo()
            with monkeypatch.context() as patch:
                patch.setattr(asyncio.StreamReaderProtocol, "_stream_reader",
                              property(lambda self: other))
                s.peer.send(b"other")
                assert await other.readexactly(5) == b"other"
            assert not s.reader._buffer
            await s.echo()
    run(main())


def test_attribute_access_replaced(run, monkeypatch):
    async def main():
        async with Streams() as s:
            await s.echo()
            asked = []

            def spy(self, name):
                asked.append(name)
                return object.__getattribute__(self, name)

            with monkeypatch.context() as patch:
                patch.setattr(asyncio.StreamReader, "__getattribute__", spy, raising=False)
                s.peer.send(b"abc")
                while "feed_data" not in asked:
                    await support.io_turns(1)
            assert await s.reader.readexactly(3) == b"abc"
            await s.echo()
    run(main())


def test_functions_of_class_attributes(run, monkeypatch):
    """A property in the class hides what is in the object."""
    async def main():
        elsewhere = bytearray()
        async with Streams() as s:
            await s.echo()
            with monkeypatch.context() as patch:
                patch.setattr(asyncio.StreamReader, "_buffer",
                              property(lambda self: elsewhere), raising=False)
                s.peer.send(b"abc")
                assert await s.reader.readexactly(3) == b"abc"
                s.peer.send(b"def")
                while not elsewhere:
                    await support.io_turns(1)
                assert elsewhere == b"def"
            await s.echo()
    run(main())


def test_another_protocol_in_between(run):
    async def main():
        async with Streams() as s:
            await s.echo()
            other = support.Recorder()
            s.transport.set_protocol(other)
            s.peer.send(b"other")
            await other.got(b"other")
            s.transport.set_protocol(s.protocol)
            await s.echo()
    run(main())


def test_another_class_of_a_live_object(run):
    async def main():
        async with Streams() as s:
            await s.echo()
            s.reader.__class__ = LoudReader
            s.peer.send(b"abc")
            assert await s.reader.readexactly(3) == b"ABC"
            s.reader.__class__ = asyncio.StreamReader
            s.protocol.__class__ = LoudProtocol
            s.peer.send(b"abc")
            assert await s.reader.readexactly(3) == b"ABC"
            s.protocol.__class__ = asyncio.StreamReaderProtocol
            await s.echo()
    run(main())


def test_a_buffer_of_another_class(run):
    class Buffer(bytearray):
        def extend(self, data):
            seen.append(bytes(data))
            super().extend(data)

    async def main():
        async with Streams() as s:
            s.reader._buffer = Buffer(b"old")
            s.peer.send(b"new")
            await s.buffered(6)
            assert seen == [b"new"]
            assert await s.reader.readexactly(6) == b"oldnew"

    seen = []
    run(main())


def test_another_buffer_and_limit(run):
    async def main():
        async with Streams(limit=2 ** 16) as s:
            await s.echo()
            s.reader._buffer = bytearray(b"old")
            s.reader._limit = 2
            s.peer.send(b"new")
            await s.buffered(6)
            assert not s.transport.is_reading()
            assert await s.reader.readexactly(6) == b"oldnew"
            assert s.transport.is_reading()
    run(main())


def test_debug_mode(loop, run):
    async def main():
        async with Streams() as s:
            loop.set_debug(True)
            await s.echo()
            loop.set_debug(False)
            await s.echo()
    run(main())


def test_overridden_call_soon(loop_factory):
    """A loop of the program's own sees the wake-up."""
    first = loop_factory()
    first.close()

    class Loop(type(first)):
        def call_soon(self, callback, *args, context=None):
            seen.append(callback)
            return super().call_soon(callback, *args, context=context)

    async def main():
        async with Streams() as s:
            waiting = asyncio.ensure_future(s.reader.readexactly(3))
            await support.turns(2)
            seen.clear()
            s.peer.send(b"abc")
            assert await waiting == b"abc"
            assert len(seen) >= 1

    seen = []
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())
