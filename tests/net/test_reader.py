"""asyncio's StreamReader is fed in C: nothing may show it.

Each way in which a program can have its own idea of what data_received() and
feed_data() do, and each error that these raise, as the stock loop has them.
"""
import asyncio
import contextlib
import gc
import random
import sys

import pytest

import support

kinds = pytest.mark.parametrize("kind", support.KINDS)
FATAL = "Fatal error: protocol.data_received() call failed."


@pytest.fixture(autouse=True)
def not_in_debug_mode(loop):
    """There the protocol's own methods run."""
    loop.set_debug(False)


class Streams:
    """A reader, its writer, and the bare socket of the other end."""

    def __init__(self, kind="tcp", limit=2 ** 16, reader_class=asyncio.StreamReader,
                 protocol_class=asyncio.StreamReaderProtocol):
        self.kind, self.limit = kind, limit
        self.reader_class, self.protocol_class = reader_class, protocol_class

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        ours, self.peer = support.socketpair(self.kind)
        self.reader = self.reader_class(limit=self.limit, loop=loop)
        self.transport, self.protocol = await support.connect_sock(
            ours, lambda: self.protocol_class(self.reader, loop=loop))
        self.writer = asyncio.StreamWriter(self.transport, self.protocol, self.reader, loop)
        return self

    async def __aexit__(self, *exc):
        self.writer.close()
        with contextlib.suppress(Exception):    # data_received()'s, in some tests
            await self.writer.wait_closed()
        self.peer.close()

    async def echo(self, data=b"0123456789"):
        await asyncio.get_running_loop().sock_sendall(self.peer, data)
        assert support.same(await self.reader.readexactly(len(data)), data)

    async def buffered(self, size):
        """Wait until so much stands in the reader's buffer."""
        for _ in range(10000):
            if len(self.reader._buffer) >= size:
                return
            await support.io_turns(1)
        raise AssertionError(f"only {len(self.reader._buffer)} bytes came")

    async def ended(self, errors, exc_type):
        """The connection ends with a report of data_received()'s exception."""
        while not self.transport.is_closing():
            await support.io_turns(1)
        await support.turns(3)
        (context,) = errors.take()
        assert context["message"] == FATAL
        assert isinstance(context["exception"], exc_type)
        assert context["transport"] is self.transport
        assert context["protocol"] is self.protocol
        return context["exception"]


class Calls:
    """Which of asyncio's stream functions were called, by a profile function."""

    def __enter__(self):
        self.names = []
        sys.setprofile(self.note)
        return self

    def note(self, frame, event, arg):
        if event == "call" and frame.f_code.co_filename.endswith("asyncio/streams.py"):
            self.names.append(frame.f_code.co_name)

    def __exit__(self, *exc):
        sys.setprofile(None)

    def fed(self):
        return {"data_received", "feed_data", "_wakeup_waiter"} & set(self.names)


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


# -- waiters ----------------------------------------------------------------

def test_cancelled_waiter(loop, run):
    async def main():
        async with Streams() as s:
            s.reader._waiter = waiter = loop.create_future()
            waiter.cancel()
            s.peer.send(b"abc")
            await s.buffered(3)
            assert s.reader._waiter is None
            assert await s.reader.readexactly(3) == b"abc"
    run(main())


def test_read_is_cancelled_when_data_comes(run):
    async def main():
        async with Streams() as s:
            for _ in range(20):
                reading = asyncio.ensure_future(s.reader.readexactly(3))
                await support.turns(2)
                s.peer.send(b"abc")
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
                assert await s.reader.readexactly(3) == b"abc"
    run(main())


def test_waiter_that_is_done(loop, run, errors):
    async def main():
        async with Streams() as s:
            s.reader._waiter = waiter = loop.create_future()
            waiter.set_result("too early")
            s.peer.send(b"abc")
            await s.ended(errors, asyncio.InvalidStateError)
            assert s.reader._waiter is None
            assert bytes(s.reader._buffer) == b"abc"
    run(main())


def test_waiter_of_another_class(run):
    class Waiter:
        def cancelled(self):
            seen.append("cancelled")
            return False

        def set_result(self, result):
            seen.append(("set_result", result))

    async def main():
        async with Streams() as s:
            s.reader._waiter = Waiter()
            s.peer.send(b"abc")
            await s.buffered(3)
            assert seen == ["cancelled", ("set_result", None)]
            assert s.reader._waiter is None

    seen = []
    run(main())


def test_waiter_runs_in_its_own_turn(loop, run):
    """The task goes on in the turn after the data came, as a callback of its own."""
    async def main():
        async with Streams() as s:
            order = []

            async def read():
                await s.reader.readexactly(3)
                order.append("reader")

            reading = asyncio.ensure_future(read())
            await support.turns(2)
            future = s.reader._waiter
            future.add_done_callback(lambda _: order.append("callback"))
            s.peer.send(b"abc")
            await reading
            await support.turns(1)
            assert order == ["reader", "callback"]
    run(main())


# -- over the limit ---------------------------------------------------------

@kinds
def test_pauses_over_twice_the_limit(run, kind):
    async def main():
        async with Streams(kind, limit=100) as s:
            s.peer.send(b"x" * 200)
            await s.buffered(200)
            assert s.transport.is_reading() and not s.reader._paused
            s.peer.send(b"y")
            await s.buffered(201)
            assert not s.transport.is_reading() and s.reader._paused
            s.peer.send(b"z" * 50)
            await support.io_turns(3)
            assert len(s.reader._buffer) == 201
            assert await s.reader.readexactly(100) == b"x" * 100
            assert not s.transport.is_reading(), "101 bytes are still over the limit"
            assert await s.reader.readexactly(1) == b"x"
            assert s.transport.is_reading()
            assert await s.reader.readexactly(150) == b"x" * 99 + b"y" + b"z" * 50
    run(main())


def test_paused_by_the_program(run):
    async def main():
        async with Streams(limit=10) as s:
            s.transport.pause_reading()
            s.peer.send(b"x" * 100)
            await support.io_turns(3)
            assert not s.reader._buffer
            s.transport.resume_reading()
            await s.buffered(100)
            assert not s.transport.is_reading()
            assert await s.reader.readexactly(100) == b"x" * 100
    run(main())


class Stubborn:
    """A transport that cannot be paused."""

    def __init__(self, exc):
        self.exc, self.asked = exc, 0

    def pause_reading(self):
        self.asked += 1
        raise self.exc

    def resume_reading(self):
        raise AssertionError


def test_transport_that_cannot_pause(run):
    async def main():
        async with Streams(limit=10) as s:
            s.reader._transport = stubborn = Stubborn(NotImplementedError())
            for n in range(1, 4):
                s.peer.send(b"x" * 100)
                await s.buffered(100 * n)
            assert stubborn.asked == 1 and s.reader._transport is None
            assert not s.reader._paused
            assert await s.reader.readexactly(300) == b"x" * 300
    run(main())


def test_pause_reading_raises(run, errors):
    async def main():
        async with Streams(limit=10) as s:
            s.reader._transport = Stubborn(ZeroDivisionError())
            s.peer.send(b"x" * 100)
            await s.ended(errors, ZeroDivisionError)
            assert not s.reader._paused
    run(main())


def test_pause_reading_of_the_program(run):
    """pause_reading() replaced in the transport; it closes."""
    async def main():
        async with Streams(limit=10) as s:
            def pause():
                seen.append(s.reader._paused)
                s.transport.close()

            s.transport.pause_reading = pause
            s.peer.send(b"x" * 100)
            assert await s.reader.read(1000) == b"x" * 100
            assert seen == [False]
            assert await s.reader.read(1000) == b""

    seen = []
    run(main())


# -- errors -----------------------------------------------------------------

def test_data_after_feed_eof(run, errors):
    async def main():
        async with Streams() as s:
            s.reader.feed_eof()
            s.peer.send(b"late")
            exc = await s.ended(errors, AssertionError)
            assert str(exc) == "feed_data after feed_eof"
            assert not s.reader._buffer
    run(main())


@pytest.mark.parametrize("size", [5, 100_000])
def test_exported_buffer(run, errors, size):
    async def main():
        async with Streams() as s:
            await s.echo(b"x" * size)
            s.peer.send(b"seen")
            await s.buffered(4)
            with memoryview(s.reader._buffer) as view:
                s.peer.send(b"not")
                await s.ended(errors, BufferError)
                assert bytes(view) == b"seen"
            assert bytes(s.reader._buffer) == b"seen"
    run(main())


def test_exported_buffer_in_time(run):
    async def main():
        async with Streams() as s:
            s.peer.send(b"seen")
            await s.buffered(4)
            with memoryview(s.reader._buffer):
                await support.io_turns(2)
            s.peer.send(b"more")
            assert await s.reader.readexactly(8) == b"seenmore"
    run(main())


def test_set_exception_then_data(run):
    async def main():
        async with Streams() as s:
            s.reader.set_exception(ZeroDivisionError())
            s.peer.send(b"abc")
            await s.buffered(3)
            with pytest.raises(ZeroDivisionError):
                await s.reader.read(3)
            assert bytes(s.reader._buffer) == b"abc"
    run(main())


def test_attribute_is_missing(run, errors):
    async def main():
        async with Streams() as s:
            del s.reader._limit
            s.peer.send(b"abc")
            await s.ended(errors, AttributeError)
            assert bytes(s.reader._buffer) == b"abc"
    run(main())


def test_reader_is_gone(run):
    async def main():
        async with Streams() as s:
            await s.echo()
            s.writer._reader = s.reader = None
            gc.collect()
            assert s.protocol._stream_reader is None
            s.peer.send(b"nobody reads this")
            await support.io_turns(3)
            assert not s.transport.is_closing()
    run(main())


def test_without_a_reader(run):
    async def main():
        async with Streams() as s:
            s.protocol._stream_reader_wr = None
            s.peer.send(b"nobody reads this")
            await support.io_turns(3)
            assert not s.transport.is_closing() and not s.reader._buffer
    run(main())


def test_collector_at_every_step(run):
    async def main():
        async with Streams(limit=1000) as s:
            for size in 10, 5000, 40_000, 100_000, 3:
                await s.echo(b"x" * size)

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        run(main())
    finally:
        gc.set_threshold(*threshold)


def test_memory_goes_back_to_where_it_is_from(script):
    """An emptied buffer gets another block: Python's debug allocator looks on."""
    out = script("""
        async def main():
            one, two = support.socketpair()
            reader, writer = await asyncio.open_connection(sock=one)
            for _ in range(10):
                await loop.sock_sendall(two, bytes(200_000))
                assert await reader.readexactly(200_000) == bytes(200_000)
            writer.close()
            two.close()

        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
        print("fine")
    """, env={"PYTHONMALLOC": "debug"})
    assert out == ["fine"]
