"""The writing side of pipes."""
import asyncio
import contextlib
import errno
import os
import socket

import pytest

from net.pipekit import files, fill, pipe_pair, read_some, writer
import support


# -- writing ------------------------------------------------------------------

def test_write_checks(run):
    async def main():
        r, w = files()
        two = await writer(w)
        for data in ("text", 7, None, [b"x"]):
            with pytest.raises(AssertionError) as info:
                two.transport.write(data)
            assert repr(data) in str(info.value)
        with pytest.raises(TypeError):
            two.transport.writelines([b"x", "text"])
        two.transport.close()
        await two.saw("lost")
        r.close()

    run(main())


def test_queue_and_limits(run):
    async def main():
        r, w = files()
        room = fill(w.fileno())
        two = await writer(w)
        transport = two.transport
        transport.set_write_buffer_limits(high=100, low=10)
        assert transport.get_write_buffer_limits() == (10, 100)
        with pytest.raises(ValueError):
            transport.set_write_buffer_limits(high=1, low=2)
        transport.write(b"a" * 100)
        assert transport.get_write_buffer_size() == 100
        await support.turns()
        assert two.names == ["made"]
        transport.write(bytearray(b"b"))
        assert transport.get_write_buffer_size() == 101
        assert two.names == ["made", "pause"]
        transport.write(memoryview(b"c" * 50))
        assert two.names == ["made", "pause"]
        data = await read_some(r.fileno(), room + 151)
        assert data == b"f" * room + b"a" * 100 + b"b" + b"c" * 50
        await two.saw("resume")
        assert transport.get_write_buffer_size() == 0
        transport.close()
        await two.saw("lost")
        r.close()
        assert two.names == ["made", "pause", "resume", "lost"]

    run(main())


def test_mutable_memory_is_copied(run):
    async def main():
        r, w = files()
        room = fill(w.fileno())
        two = await writer(w)
        data = bytearray(b"before")
        two.transport.write(data)
        two.transport.write(memoryview(data))
        data[:] = b"behind"
        data += b"more"
        assert (await read_some(r.fileno(), room + 12))[room:] == b"beforebefore"
        two.transport.abort()
        await two.saw("lost")
        r.close()

    run(main())


def test_writes_of_one_callback(loop, run):
    """They arrive in order, before anything that could show that they do not."""
    async def main():
        r, w = files()
        two = await writer(w)
        os.set_blocking(r.fileno(), False)
        transport = two.transport

        def read():
            with contextlib.suppress(BlockingIOError):
                return os.read(r.fileno(), 1 << 20)
            return b""

        for flush in (transport.get_write_buffer_size, transport.is_closing,
                      lambda: transport.get_extra_info("pipe"),
                      lambda: transport.set_protocol(two),
                      lambda: transport.set_write_buffer_limits(70000),
                      lambda: transport.write(bytearray(b"!")),
                      lambda: transport.write(b"!" * 65536)):
            transport.write(b"one ")
            transport.write(b"two")
            flush()
            assert read()[:8].rstrip(b"!") == b"one two"
            while transport.get_write_buffer_size():
                await support.io_turns()
            read()
        for count in 3, 8, 30:
            for i in range(count):
                transport.write(b"%d " % i)
            await asyncio.sleep(0)
            assert read() == b"".join(b"%d " % i for i in range(count))
        transport.write(b"last")
        transport.abort()
        assert read() == b"last"
        await two.saw("lost")
        r.close()

    run(main())


def test_write_to_closed_peer_then_close(run):
    async def main():
        r, w = files()
        two = await writer(w)
        r.close()
        two.transport.write(b"x")
        two.transport.close()
        await two.saw("lost")
        assert isinstance(two.lost, BrokenPipeError)
        assert w.closes == 1

    run(main())


def test_close_flushes(run):
    async def main():
        r, w = files()
        two = await writer(w)
        data = os.urandom(1 << 20)
        two.transport.write(data)
        assert two.transport.get_write_buffer_size() > 0
        two.transport.close()
        assert two.transport.is_closing()
        two.transport.write(b"too late")
        await support.io_turns()
        assert "lost" not in two.names
        assert support.same(await read_some(r.fileno(), len(data)), data)
        await two.saw("lost")
        assert two.lost is None
        assert os.read(r.fileno(), 10) == b""
        r.close()
        assert w.closes == 1

    run(main())


def test_write_eof_closes(run):
    async def main():
        one, two = await pipe_pair()
        two.transport.write(b"all")
        two.transport.write_eof()
        two.transport.write_eof()
        assert two.transport.is_closing()
        await two.saw("lost")
        await one.saw("lost")
        assert one.data == b"all"

    run(main())


def test_abort_drops(run):
    async def main():
        r, w = files()
        room = fill(w.fileno())
        two = await writer(w)
        two.transport.write(b"dropped")
        two.transport.abort()
        assert two.transport.get_write_buffer_size() == 0
        assert two.names == ["made"]
        await two.saw("lost")
        assert two.lost is None
        assert len(await read_some(r.fileno(), room)) == room
        assert os.read(r.fileno(), 10) == b""
        r.close()
        assert w.closes == 1

    run(main())


def test_abort_after_close(run):
    async def main():
        r, w = files()
        fill(w.fileno())
        two = await writer(w)
        two.transport.write(b"waits")
        two.transport.close()
        await support.turns()
        assert "lost" not in two.names
        two.transport.abort()
        await two.saw("lost")
        r.close()
        assert w.closes == 1

    run(main())


@pytest.mark.parametrize("kind", ["pipe", "socket"])
@pytest.mark.parametrize("queued", [False, True])
def test_peer_closes(run, kind, queued):
    async def main():
        if kind == "pipe":
            r, w = files()
        else:
            r, w = socket.socketpair()
        if queued:
            fill(w.fileno())
        two = await writer(w)
        if queued:
            two.transport.write(b"never read")
        await support.io_turns()
        assert two.names == ["made"]
        r.close()
        await two.saw("lost")
        if queued:
            assert type(two.lost) is BrokenPipeError
            assert two.lost.args == ()
        else:
            assert two.lost is None
        assert two.transport.is_closing()
        assert two.transport.get_write_buffer_size() == 0

    run(main())


def test_readable_writing_end_has_lost_its_peer(run):
    async def main():
        r, w = socket.socketpair()
        two = await writer(w)
        r.send(b"anything")
        await two.saw("lost")
        assert two.lost is None
        r.close()

    run(main())


def test_write_to_closed_peer_in_the_same_turn(run):
    async def main():
        r, w = files()
        two = await writer(w)
        r.close()
        two.transport.write(b"x")
        two.transport.write(b"y")
        await two.saw("lost")
        assert isinstance(two.lost, BrokenPipeError)
        assert two.lost.errno == errno.EPIPE
        await support.turns()
        assert w.closes == 1

    run(main())


def test_writes_after_the_end(run, logs):
    async def main():
        r, w = files()
        two = await writer(w)
        two.transport.close()
        await two.saw("lost")
        for n in range(10):
            assert two.transport._conn_lost == n
            two.transport.write(b"ignored")
        r.close()

    run(main())
    texts = [record.getMessage() for record in logs.take()]
    assert texts == ["pipe closed by peer or os.write(pipe, data) raised exception."] * 5


def test_writes_after_one_that_failed(run, logs):
    async def main():
        r, w = files()
        two = await writer(w)
        r.close()
        two.transport.write(b"broken")
        for n in range(1, 11):
            assert two.transport._conn_lost == n
            two.transport.write(b"ignored")
        await two.saw("lost")

    run(main())
    assert len(logs.take()) == 6


@pytest.mark.tidewire    # asyncio calls connection_lost twice: AttributeError
def test_close_in_pause_and_resume(run):
    async def main():
        for action in "close", "abort":
            for when in "pause", "resume":
                r, w = files()
                room = fill(w.fileno())
                two = await writer(
                    w, {when: lambda p: getattr(p.transport, action)()})
                two.transport.write(b"z" * 100000)
                if when == "resume":
                    await read_some(r.fileno(), room + 100000)
                elif action == "close":
                    data = await read_some(r.fileno(), room + 100000)
                    assert data.endswith(b"z" * 100000)
                await two.saw("lost")
                assert two.lost is None
                await support.turns()
                assert w.closes == 1
                r.close()

    run(main())


def test_write_in_resume(run):
    async def main():
        r, w = files()
        room = fill(w.fileno())
        two = await writer(w, {"resume": lambda p: p.transport.write(b"more")})
        two.transport.write(b"z" * 100000)
        await read_some(r.fileno(), room + 100000)
        assert await read_some(r.fileno(), 4) == b"more"
        two.transport.close()
        await two.saw("lost")
        r.close()

    run(main())
