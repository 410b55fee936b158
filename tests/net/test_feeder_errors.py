"""A StreamReader that is fed in C: the errors of data_received() and feed_data(), as in asyncio."""
import gc

import pytest

import support
from net.feederkit import Streams, not_in_debug_mode  # noqa: F401


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
