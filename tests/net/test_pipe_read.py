"""The reading side of pipes."""
import asyncio
import os
import random
import socket

import pytest

from net.pipekit import files, pipe_pair, reader
import support
from support import Recorder


# -- reading ------------------------------------------------------------------

@pytest.mark.parametrize("size", [1, 4096, 65536, 65537, 1 << 20, 5 << 20])
def test_read_sizes(run, size):
    data = random.Random(size).randbytes(size)

    async def main():
        one, two = await pipe_pair()
        two.transport.write(data)
        two.transport.close()
        await one.saw("lost")
        await two.saw("lost")
        assert support.same(one.data, data)

    run(main())


def test_many_small_and_big(run):
    rng = random.Random(5)
    parts = [rng.randbytes(rng.choice([1, 10, 1000, 70000, 300000]))
             for _ in range(100)]

    async def main():
        one, two = await pipe_pair()
        for part in parts:
            two.transport.write(part)
            if rng.random() < 0.3:
                await asyncio.sleep(0)
        two.transport.close()
        await one.saw("lost")
        await two.saw("lost")
        assert support.same(one.data, b"".join(parts))

    run(main())


def test_pause_and_resume(run):
    async def main():
        one, two = await pipe_pair()
        one.transport.pause_reading()
        one.transport.pause_reading()
        assert not one.transport.is_reading()
        two.transport.write(b"one")
        await support.io_turns()
        assert one.data == b""
        one.transport.resume_reading()
        one.transport.resume_reading()
        assert one.transport.is_reading()
        await one.got(b"one")
        two.transport.close()
        await one.saw("lost")
        await two.saw("lost")
        assert not one.transport.is_reading()
        one.transport.pause_reading()
        one.transport.resume_reading()
        assert not one.transport.is_reading()

    run(main())


def test_pause_in_connection_made_and_eof_while_paused(run):
    async def main():
        r, w = files()
        w.write(b"early")
        w.close()
        one = await reader(r, {"made": lambda p: p.transport.pause_reading()})
        await support.io_turns()
        assert one.names == ["made"]
        one.transport.resume_reading()
        await one.saw("lost")
        assert one.events == [("made",), ("data", b"early"), ("eof",),
                              ("lost", None)]

    run(main())


def test_pause_in_data_received(run):
    async def main():
        one, two = await pipe_pair()
        one.hooks["data"] = lambda p, data: p.transport.pause_reading()
        two.transport.write(b"a" * 300000)
        await one.saw("data")
        seen = len(one.data)
        await support.io_turns()
        assert len(one.data) == seen < 300000
        del one.hooks["data"]
        one.transport.resume_reading()
        await one.got(300000)
        two.transport.close()
        await one.saw("lost")
        await two.saw("lost")

    run(main())


def test_data_that_somebody_else_has_read(run):
    """Both pipes are ready in one turn.  Whoever comes first empties the other."""
    async def main():
        ends = [files(), files()]
        fds = [r.fileno() for r, _ in ends]
        readers = [await reader(r) for r, _ in ends]
        for one, other in zip(readers, reversed(fds)):
            one.hooks["data"] = lambda p, data, other=other: os.read(other, 100)
        for _, w in ends:
            w.write(b"x")
        await support.io_turns()
        assert sorted(one.data for one in readers) == [b"", b"x"]
        for one in readers:
            one.hooks.clear()
        for (_, w), one in zip(ends, readers):
            w.write(b"y")
            w.close()
            await one.saw("lost")
            assert one.data.endswith(b"y") and one.lost is None

    run(main())


@pytest.mark.parametrize("when", ["made", "data", "eof"])
def test_close_in_callback(run, when):
    async def main():
        # In debug mode BaseEventLoop asks the closed file for its number.
        asyncio.get_running_loop().set_debug(False)
        r, w = files()
        w.write(b"x")
        w.close()
        one = await reader(r, {when: lambda p, *a: p.transport.close()})
        await one.saw("lost")
        await support.turns()
        names = ["made", "data", "eof", "lost"]
        if when == "eof":
            assert one.names == names
        else:
            assert one.names == names[:names.index(when) + 1] + ["lost"]
        assert one.lost is None
        assert r.closes == 1

    run(main())


def test_close_twice(run):
    async def main():
        r, w = files()
        one = await reader(r)
        one.transport.close()
        one.transport.close()
        assert one.names == ["made"]
        await one.saw("lost")
        one.transport.close()
        await support.turns()
        assert one.names == ["made", "lost"]
        assert r.closes == 1
        w.close()

    run(main())


@pytest.mark.parametrize("when", ["made", "data", "eof", "lost"])
def test_exceptions_in_callbacks(run, errors, when):
    def fail(protocol, *args):
        raise ZeroDivisionError

    async def main():
        r, w = files()
        one = await reader(r, {when: fail})
        w.write(b"first")
        await one.got(b"first")
        w.write(b"second")
        w.close()
        await one.saw("lost")
        await support.turns()
        assert r.closes == 1
        return one

    one = run(main())
    assert one.names == ["made", "data", "eof", "lost"]
    assert one.data == b"firstsecond"
    taken = errors.take()
    assert len(taken) == (2 if when == "data" else 1)
    for context in taken:
        assert isinstance(context["exception"], ZeroDivisionError)
        assert context["message"].startswith("Exception in callback ")


def test_read_error(loop, run, errors):
    """An error that is not EIO is reported, and given to connection_lost."""
    async def main():
        server = socket.create_server(("127.0.0.1", 0))
        peer = socket.create_connection(server.getsockname())
        sock, _ = server.accept()
        server.close()
        one = await reader(sock)
        support.reset(peer)
        await one.saw("lost")
        assert isinstance(one.lost, ConnectionResetError)
        assert sock.fileno() == -1

    run(main())
    (context,) = errors.take()
    assert context["message"] == "Fatal read error on pipe transport"
    assert isinstance(context["exception"], ConnectionResetError)
    assert set(context) >= {"message", "exception", "transport", "protocol"}


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("when", ["data", "eof", "lost"])
def test_exceptions_that_leave(loop, leave, when):
    r, w = files()

    def fail(protocol, *args):
        raise leave

    one = loop.run_until_complete(reader(r, {when: fail}))
    w.write(b"x")
    w.close()

    with pytest.raises(leave):
        loop.run_forever()
    one.hooks.clear()
    loop.run_until_complete(one.saw("lost"))
    loop.run_until_complete(support.turns())
    assert one.names == ["made", "data", "eof", "lost"]
    assert r.closed


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
def test_connection_made_that_leaves(loop, leave):
    """The steps behind it are still made: the reader reads."""
    r, w = files()

    def fail(protocol):
        raise leave

    task = loop.create_task(reader(r, {"made": fail}))
    with pytest.raises(leave):
        loop.run_forever()
    one = loop.run_until_complete(task)
    w.write(b"x")
    w.close()
    loop.run_until_complete(one.saw("lost"))
    assert one.names == ["made", "data", "eof", "lost"]


def test_cancelled_connect(loop, run):
    async def main():
        r, w = files()
        for pipe, connect in ((r, loop.connect_read_pipe),
                              (w, loop.connect_write_pipe)):
            made = []

            def factory():
                made.append(Recorder())
                return made[0]

            task = loop.create_task(connect(factory, pipe))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await made[0].saw("lost")
            await support.turns()
            assert made[0].names[0] == "made"
            assert pipe.closes == 1

    run(main())
