"""A StreamReader that is fed in C: who waits for it, and how it pauses the transport."""
import asyncio

import pytest

import support
from net.feederkit import Streams, not_in_debug_mode  # noqa: F401

kinds = pytest.mark.parametrize("kind", support.KINDS)


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
