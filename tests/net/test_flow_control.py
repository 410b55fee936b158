"""Write limits, pause_writing and resume_writing."""
import asyncio

import pytest

import support
from support import Recorder

kinds = pytest.mark.parametrize("kind", support.KINDS)


async def blocked(kind, factory=Recorder):
    """A transport whose peer does not read, with a full kernel buffer."""
    one, two = await support.pair(kind, factory)
    two.transport.pause_reading()
    return one, two, one.transport


async def finish(one, two):
    await support.close(one, two)


@kinds
def test_default_limits(run, kind):
    async def main():
        one, two = await support.pair(kind)
        assert one.transport.get_write_buffer_limits() == (16384, 65536)
        await finish(one, two)

    run(main())


@kinds
@pytest.mark.parametrize("arguments, limits", [
    (dict(), (16384, 65536)),
    (dict(high=100), (25, 100)),
    (dict(high=0), (0, 0)),
    (dict(low=10), (10, 40)),
    (dict(low=0), (0, 0)),
    (dict(high=100, low=100), (100, 100)),
    (dict(high=100, low=0), (0, 100)),
    (dict(high=None, low=None), (16384, 65536)),
])
def test_limits(run, kind, arguments, limits):
    async def main():
        one, two = await support.pair(kind)
        assert one.transport.set_write_buffer_limits(**arguments) is None
        assert one.transport.get_write_buffer_limits() == limits
        await finish(one, two)

    run(main())


@kinds
@pytest.mark.parametrize("arguments", [
    dict(high=10, low=20), dict(high=-1), dict(low=-1),
    dict(high=0, low=1), dict(high=-5, low=-10)])
def test_wrong_limits(run, kind, arguments):
    async def main():
        one, two = await support.pair(kind)
        with pytest.raises(ValueError, match="must be >="):
            one.transport.set_write_buffer_limits(**arguments)
        assert one.transport.get_write_buffer_limits() == (16384, 65536)
        await finish(one, two)

    run(main())


@kinds
def test_limits_of_wrong_type(run, kind):
    async def main():
        one, two = await support.pair(kind)
        with pytest.raises(TypeError):
            one.transport.set_write_buffer_limits(high="many")
        await finish(one, two)

    run(main())


@kinds
def test_buffer_size_is_exact(run, kind):
    async def main():
        one, two, transport = await blocked(kind)
        assert transport.get_write_buffer_size() == 0
        filled = support.fill(transport)
        size = transport.get_write_buffer_size()
        assert 0 < size <= 65536
        for i in range(1, 50):
            transport.write(b"y" * i)
            size += i
            assert transport.get_write_buffer_size() == size
        transport.writelines([b"z" * 10, bytearray(20), memoryview(b"ab")])
        size += 32
        assert transport.get_write_buffer_size() == size
        two.transport.resume_reading()
        await two.got(filled + sum(range(1, 50)) + 32)
        await support.io_turns()
        assert transport.get_write_buffer_size() == 0
        await finish(one, two)

    run(main())


@kinds
def test_pause_and_resume_come_in_pairs(run, kind):
    async def main():
        one, two, transport = await blocked(kind)
        for _ in range(3):
            two.transport.pause_reading()
            total = support.fill(transport)
            while "pause" not in one.names[-1:]:
                transport.write(b"x" * 65536)
            for _ in range(5):
                transport.write(b"x" * 65536)
            assert one.names[-1] == "pause"
            two.transport.resume_reading()
            await one.until(lambda: one.names[-1] == "resume")
            while transport.get_write_buffer_size():
                await asyncio.sleep(0)
        assert one.names == ["made"] + ["pause", "resume"] * 3
        await finish(one, two)

    run(main())


@kinds
def test_pause_is_strictly_above_the_high_mark(run, kind):
    async def main():
        one, two, transport = await blocked(kind)
        support.fill(transport)
        size = transport.get_write_buffer_size()
        transport.set_write_buffer_limits(high=size + 10)
        assert "pause" not in one.names or size > 65536
        one.events.clear()
        transport.write(b"x" * 10)
        assert one.names == []
        transport.write(b"x")
        assert one.names == ["pause"]
        await finish(one, two)

    run(main())


@kinds
def test_resume_is_at_the_low_mark(run, kind):
    """Sizes seen in resume_writing are at or below the low mark."""
    async def main():
        seen = []
        one, two, transport = await blocked(kind, lambda: Recorder(
            {"resume": lambda p: seen.append(
                p.transport.get_write_buffer_size())}))
        transport.set_write_buffer_limits(high=100000, low=50000)
        support.fill(transport)
        while "pause" not in one.names:
            transport.write(b"x" * 30000)
        two.transport.resume_reading()
        await one.saw("resume")
        assert seen[0] <= 50000
        await finish(one, two)

    run(main())


@kinds
def test_new_limits_pause_and_resume_at_once(run, kind):
    """asyncio pauses when the limits fall; it resumes at the next write."""
    async def main():
        one, two, transport = await blocked(kind)
        support.fill(transport)
        one.events.clear()
        reference = transport.get_write_buffer_size()
        transport.set_write_buffer_limits(high=0)
        assert one.names == ["pause"]
        assert transport.get_write_buffer_size() == reference
        transport.set_write_buffer_limits(high=0)
        assert one.names == ["pause"]
        await finish(one, two)

    run(main())


@kinds
def test_high_zero_pauses_whenever_something_is_queued(run, kind):
    async def main():
        one, two, transport = await blocked(kind)
        transport.set_write_buffer_limits(high=0)
        total = support.fill(transport)
        assert one.names == ["made", "pause"]
        two.transport.resume_reading()
        await one.saw("resume")
        assert transport.get_write_buffer_size() == 0
        await finish(one, two)

    run(main())


@kinds
def test_write_in_resume_writing(run, kind):
    """A protocol that keeps the queue full: every byte in order."""
    async def main():
        left = 30
        sent = 0

        def more(protocol):
            nonlocal left, sent
            while left and protocol.names[-1] != "pause":
                left -= 1
                sent += 50000
                protocol.transport.write(bytes([left]) * 50000)
            if not left:
                protocol.transport.write_eof()

        one, two, transport = await blocked(
            kind, lambda: Recorder({"resume": more}))
        filled = support.fill(transport)
        while one.names[-1] != "pause":
            transport.write(b"x" * 65536)
            filled += 65536
        two.transport.resume_reading()
        await two.saw("eof")
        expected = b"x" * filled + b"".join(
            bytes([n]) * 50000 for n in range(29, -1, -1))
        assert support.same(two.data, expected)
        await finish(one, two)

    run(main())


@kinds
@pytest.mark.parametrize("place", ["pause", "resume"])
def test_callbacks_that_raise(run, kind, place, errors):
    async def main():
        def fail(protocol):
            raise ZeroDivisionError

        one, two, transport = await blocked(
            kind, lambda: Recorder({place: fail}))
        total = support.fill(transport)
        while "pause" not in one.names:
            transport.write(b"x" * 65536)
            total += 65536
        two.transport.resume_reading()
        await two.got(total)
        if place == "resume":
            await one.saw("resume")
        await finish(one, two)

    run(main())
    (context,) = errors.take()
    assert isinstance(context["exception"], ZeroDivisionError)
    assert context["message"] == f"protocol.{place}_writing() failed"
    assert isinstance(context["protocol"], Recorder)
    assert isinstance(context["transport"], asyncio.Transport)


@kinds
def test_close_in_pause_writing(run, kind):
    async def main():
        one, two, transport = await blocked(
            kind, lambda: Recorder({"pause": lambda p: p.transport.close()}))
        total = 0
        while "pause" not in one.names:
            transport.write(b"x" * 65536)
            total += 65536
        two.transport.resume_reading()
        await one.saw("lost")
        await two.saw("lost")
        assert len(two.data) == total

    run(main())


@kinds
def test_abort_in_pause_writing(run, kind):
    async def main():
        one, two, transport = await blocked(
            kind, lambda: Recorder({"pause": lambda p: p.transport.abort()}))
        while "pause" not in one.names:
            transport.write(b"x" * 65536)
        await one.saw("lost")
        two.transport.resume_reading()
        await two.saw("lost")

    run(main())


@kinds
def test_drain(run, kind):
    async def main():
        a, b = support.socketpair(kind)
        if kind == "tcp":
            reader, writer = await asyncio.open_connection(sock=a)
        else:
            reader, writer = await asyncio.open_unix_connection(sock=a)
        _, two = await support.connect_sock(b, Recorder)
        two.transport.pause_reading()
        support.fill(writer.transport)
        for _ in range(3):
            writer.write(b"x" * 65536)
        task = asyncio.ensure_future(writer.drain())
        await support.io_turns()
        assert not task.done()
        two.transport.resume_reading()
        await task
        writer.close()
        await writer.wait_closed()
        await two.saw("lost")

    run(main())


@kinds
def test_slow_reader_makes_the_writer_wait(run, kind):
    """What the writer has in hand stays near the high mark."""
    async def main():
        a, b = support.socketpair(kind)
        if kind == "tcp":
            reader, writer = await asyncio.open_connection(sock=a)
        else:
            reader, writer = await asyncio.open_unix_connection(sock=a)
        peak = 0
        total = 4 << 20

        async def send():
            nonlocal peak
            for _ in range(total // 16384):
                writer.write(b"x" * 16384)
                peak = max(peak, writer.transport.get_write_buffer_size())
                await writer.drain()
            writer.write_eof()

        task = asyncio.ensure_future(send())
        assert len(await support.recv_all(b)) == total
        await task
        assert peak <= 65536 + 16384
        writer.close()
        await writer.wait_closed()
        b.close()

    run(main())
