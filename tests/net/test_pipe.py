"""Pipe transports: connect_read_pipe() and connect_write_pipe()."""
import asyncio
import contextlib
import contextvars
import errno
import gc
import io
import os
import random
import socket
import termios
import tty
import weakref

import pytest

import support
from support import Memory, Recorder


class Writer(Memory, asyncio.BaseProtocol):
    """The protocol of a writing end."""


class CountedFile(io.FileIO):
    """A file that counts how often it is closed."""
    closes = 0

    def close(self):
        self.closes += 1
        super().close()


def files(reading="rb", writing="wb"):
    r, w = os.pipe()
    return CountedFile(r, reading), CountedFile(w, writing)


async def reader(pipe, hooks=None):
    loop = asyncio.get_running_loop()
    _, protocol = await loop.connect_read_pipe(lambda: Recorder(hooks), pipe)
    return protocol


async def writer(pipe, hooks=None):
    loop = asyncio.get_running_loop()
    _, protocol = await loop.connect_write_pipe(lambda: Writer(hooks), pipe)
    return protocol


async def pipe_pair():
    r, w = files()
    return await reader(r), await writer(w)


def fill(fd):
    """Write until the descriptor takes no more; returns the bytes."""
    os.set_blocking(fd, False)
    total = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            total += os.write(fd, b"f" * 65536)
    with contextlib.suppress(BlockingIOError):
        while True:
            total += os.write(fd, b"f")
    return total


async def read_some(fd, size):
    """Exactly size bytes, from a descriptor that nobody else watches."""
    loop = asyncio.get_running_loop()
    os.set_blocking(fd, False)
    out, done = bytearray(), loop.create_future()

    def ready():
        out.extend(os.read(fd, min(65536, size - len(out))))
        if len(out) == size:
            loop.remove_reader(fd)
            done.set_result(None)

    loop.add_reader(fd, ready)
    await done
    return bytes(out)


# -- what is made -------------------------------------------------------------

def test_kinds(loop, run):
    async def main():
        one, two = await pipe_pair()
        assert isinstance(one.transport, asyncio.ReadTransport)
        assert not isinstance(one.transport, asyncio.WriteTransport)
        assert isinstance(two.transport, asyncio.WriteTransport)
        assert isinstance(two.transport, asyncio.transports._FlowControlMixin)
        for protocol in one, two:
            transport = protocol.transport
            pipe = transport.get_extra_info("pipe")
            assert isinstance(pipe, CountedFile)
            assert transport._pipe is pipe
            assert transport._fileno == pipe.fileno()
            assert not os.get_blocking(pipe.fileno())
            assert transport.get_extra_info("socket") is None
            assert transport.get_extra_info("nothing", 3) == 3
            assert transport.get_extra_info("nothing", default=4) == 4
            assert transport.get_protocol() is protocol
            assert not transport.is_closing()
            assert f"fd={pipe.fileno()}" in repr(transport)
            assert weakref.ref(transport)() is transport
            transport.attribute = 1
        assert one.transport.is_reading()
        assert two.transport.can_write_eof()
        assert two.transport.get_write_buffer_size() == 0
        assert two.transport.get_write_buffer_limits() == (16384, 65536)
        two.transport.close()
        await one.saw("lost")
        await two.saw("lost")
        for protocol in one, two:
            transport = protocol.transport
            assert transport.is_closing()
            assert transport._pipe is None
            assert transport.get_protocol() is None
            assert transport._loop is None
            assert transport.get_extra_info("pipe").closes == 1
            assert "closed" in repr(transport)

    run(main())


def test_order_of_callbacks(run):
    async def main():
        one, two = await pipe_pair()
        two.transport.write(b"spam")
        two.transport.write(bytearray(b" and "))
        two.transport.write(memoryview(b"eggs"))
        two.transport.writelines([b" or", bytearray(b" ham")])
        two.transport.write(b"")
        two.transport.close()
        await two.saw("lost")
        await one.saw("lost")
        assert one.events == [("made",), ("data", b"spam and eggs or ham"),
                              ("eof",), ("lost", None)]
        assert two.events == [("made",), ("lost", None)]

    run(main())


def test_refused_kinds(loop, run, tmp_path):
    async def main():
        with open(tmp_path / "f", "wb+") as pipe:
            with pytest.raises(ValueError) as info:
                await loop.connect_read_pipe(Recorder, pipe)
            assert str(info.value) == "Pipe transport is for pipes/sockets only."
            with pytest.raises(ValueError) as info:
                await loop.connect_write_pipe(Writer, pipe)
            assert str(info.value) == ("Pipe transport is only for pipes, "
                                       "sockets and character devices")
            assert not pipe.closed

    run(main())


def test_closed_file(loop, run, unraisable):
    async def main():
        r, w = files()
        r.close()
        w.close()
        with pytest.raises(ValueError):
            await loop.connect_read_pipe(Recorder, r)
        with pytest.raises(ValueError):
            await loop.connect_write_pipe(Writer, w)

    run(main())
    gc.collect()
    unraisable.take()       # asyncio's half-made transport fails in __del__


def test_file_without_fileno(loop, run, unraisable):
    class Pipe:
        def fileno(self):
            raise io.UnsupportedOperation("fileno")

        def close(self):
            pass

    async def main():
        with pytest.raises(io.UnsupportedOperation):
            await loop.connect_read_pipe(Recorder, Pipe())
        with pytest.raises(AttributeError):
            await loop.connect_write_pipe(Writer, 7)

    run(main())
    gc.collect()
    unraisable.take()       # asyncio's half-made transport fails in __del__


def test_blocking_file_is_made_nonblocking(run):
    async def main():
        r, w = files()
        os.set_blocking(r.fileno(), True)
        os.set_blocking(w.fileno(), True)
        one, two = await reader(r), await writer(w)
        assert not os.get_blocking(r.fileno())
        assert not os.get_blocking(w.fileno())
        two.transport.abort()
        await two.saw("lost")
        await one.saw("lost")

    run(main())


def test_protocol_swap(run):
    async def main():
        one, two = await pipe_pair()
        other = Recorder()
        one.transport.set_protocol(other)
        assert one.transport.get_protocol() is other
        two.transport.write(b"x")
        await other.got(b"x")
        two.transport.close()
        await other.saw("lost")
        await two.saw("lost")
        assert one.names == ["made"]

    run(main())


def test_context(run):
    var = contextvars.ContextVar("var", default="none")
    seen = []

    def look(protocol, *args):
        seen.append(var.get())

    hooks = dict.fromkeys(("made", "data", "eof", "lost"), look)

    async def main():
        r, w = files()
        var.set("reader")
        one = await reader(r, hooks)
        var.set("later")
        w.write(b"data")
        w.close()
        await one.saw("lost")

    run(main())
    assert seen[0] == "reader" and len(seen) == 4
    assert set(seen) <= {"reader", "later"}


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
    """Held or not, they arrive in order, and what shows them sends them."""
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


@pytest.mark.tidewire
def test_writes_of_one_callback_leave_together(loop, run):
    async def main():
        a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        b.setblocking(False)
        two = await writer(a)
        for i in range(5):
            two.transport.write(b"%d" % i)
        await asyncio.sleep(0)
        assert b.recv(100) == b"01234"
        two.transport.close()
        await two.saw("lost")
        b.close()

    run(main())


def test_corked_write_to_closed_peer(run):
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
        for _ in range(10):
            two.transport.write(b"ignored")
        r.close()

    run(main())
    texts = {record.getMessage() for record in logs.take()}
    assert texts == {"pipe closed by peer or os.write(pipe, data) raised exception."}


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


# -- what else is a pipe --------------------------------------------------------

def test_fifo(run, tmp_path):
    async def main():
        path = tmp_path / "fifo"
        os.mkfifo(path)
        r = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", 0)
        w = open(path, "wb", 0)
        one, two = await reader(r), await writer(w)
        two.transport.write(b"through a fifo")
        two.transport.close()
        await one.saw("lost")
        await two.saw("lost")
        assert one.data == b"through a fifo"

    run(main())


def test_sockets(run):
    async def main():
        a, b = socket.socketpair()
        one, two = await reader(a), await writer(b)
        data = os.urandom(1 << 20)
        two.transport.write(data)
        two.transport.close()
        await one.saw("lost")
        await two.saw("lost")
        assert support.same(one.data, data)

    run(main())


def test_dev_null_takes_everything(run):
    async def main():
        two = await writer(open("/dev/null", "wb", 0))
        two.transport.write(b"x" * 1000000)
        assert two.transport.get_write_buffer_size() == 0
        await support.io_turns()
        two.transport.close()
        await two.saw("lost")
        assert two.lost is None

    run(main())


def test_device_that_cannot_be_polled(run, errors):
    async def main():
        pipe = open("/dev/null", "rb", 0)
        one = await reader(pipe)
        await support.io_turns()
        assert one.names == ["made"]
        one.transport.close()
        await one.saw("lost")
        assert pipe.closed

    run(main())
    (context,) = errors.take()
    assert isinstance(context["exception"], PermissionError)
    assert "_add_reader" in context["message"]


@pytest.fixture
def terminal():
    master, slave = os.openpty()
    tty.setraw(slave, termios.TCSANOW)
    yield master, slave
    for fd in master, slave:
        with contextlib.suppress(OSError):
            os.close(fd)


def test_terminal_both_ways(run, terminal):
    """A read and a write transport on two descriptors of one terminal."""
    master, slave = terminal

    async def main():
        twin = os.dup(slave)
        r, w = CountedFile(slave, "rb"), CountedFile(twin, "wb")
        one, two = await reader(r), await writer(w)
        os.write(master, b"typed")
        await one.got(b"typed")
        two.transport.write(b"shown")
        assert await read_some(master, 5) == b"shown"
        os.write(master, b"again")
        await one.got(b"typedagain")
        two.transport.close()
        await two.saw("lost")
        os.write(master, b"!")
        await one.got(b"typedagain!")
        one.transport.close()
        await one.saw("lost")
        assert r.closes == w.closes == 1

    run(main())


@pytest.mark.parametrize("first", ["read", "write"])
def test_terminal_both_ways_on_one_descriptor(run, terminal, first, is_stock):
    master, slave = terminal

    async def main():
        r = CountedFile(slave, "rb+")
        w = CountedFile(slave, "rb+", closefd=False)
        if first == "read":
            one, two = await reader(r), await writer(w)
        else:
            two, one = await writer(w), await reader(r)
        os.write(master, b"typed")
        await one.got(b"typed")
        two.transport.write(b"shown")
        assert await read_some(master, 5) == b"shown"
        # more than the terminal takes: the writer has to wait for room
        two.transport.write(b"long " * 20000)
        assert two.transport.get_write_buffer_size() > 0
        assert await read_some(master, 100000) == b"long " * 20000
        os.write(master, b"again")
        await one.got(b"typedagain")
        two.transport.close()
        await two.saw("lost")
        if not is_stock:        # asyncio's writer takes the reader with it
            os.write(master, b"!")
            await one.got(b"typedagain!")
        one.transport.close()
        await one.saw("lost")
        assert r.closes == w.closes == 1

    run(main())


def test_terminal_hangs_up(run, terminal):
    """EIO is how a terminal ends: no report, and connection_lost has it."""
    master, slave = terminal

    async def main():
        one = await reader(CountedFile(master, "rb"))
        os.write(slave, b"bye")
        await one.got(b"bye")
        os.close(slave)
        await one.saw("lost")
        assert isinstance(one.lost, OSError) and one.lost.errno == errno.EIO
        assert "eof" not in one.names

    run(main())


# -- streams ------------------------------------------------------------------

def test_stream_reader_and_writer(loop, run):
    async def main():
        r, w = files()
        stream = asyncio.StreamReader(limit=1000)
        await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), r)
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, w)
        out = asyncio.StreamWriter(transport, protocol, None, loop)
        data = os.urandom(300000)

        async def send():
            for i in range(0, len(data), 1000):
                out.write(data[i:i + 1000])
                await out.drain()
            out.close()

        task = loop.create_task(send())
        assert support.same(await stream.read(-1), data)
        await task
        await support.turns()

    run(main())


# -- ends of everything -------------------------------------------------------

def test_idle_reader_stays_alive(run):
    async def main():
        r, w = files()
        one = await reader(r)
        one.transport = None
        gc.collect()
        w.write(b"still there")
        await one.got(b"still there")
        w.close()
        await one.saw("lost")

    run(main())


def test_dropped_transport_warns_and_closes(run, catch_warnings):
    async def main():
        r, w = files()
        one = await reader(r)
        one.transport.pause_reading()
        await support.io_turns()
        fd = r.fileno()
        one.transport = None
        del one, r
        gc.collect()
        with pytest.raises(OSError):
            os.fstat(fd)
        w.close()

    run(main())
    texts = [str(w.message) for w in catch_warnings
             if w.category is ResourceWarning]
    assert any("unclosed transport <" in text for text in texts), texts


def test_loop_closed_with_open_pipes(make_loop, catch_warnings):
    loop = make_loop()
    r, w = files()
    one = loop.run_until_complete(reader(r))
    two = loop.run_until_complete(writer(w))
    loop.close()
    for protocol in one, two:
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            protocol.transport.close()
        assert protocol.transport.is_closing()
        protocol.transport.close()
        assert protocol.names == ["made"]
        protocol.transport = None
    del protocol, one, two
    gc.collect()
    assert r.closed and w.closed
    assert len([w for w in catch_warnings
                if "unclosed transport" in str(w.message)]) == 2


def test_closed_behind_our_back(run, errors):
    """The program closes the descriptor: no crash, no foreign one hit."""
    async def main():
        r, w = files()
        one, two = await reader(r), await writer(w)
        os.close(r.fileno())
        os.close(w.fileno())
        fds = os.pipe()
        await support.io_turns()
        one.transport.close()
        two.transport.abort()
        await one.saw("lost")
        await two.saw("lost")
        for fd in fds:
            with contextlib.suppress(OSError):
                os.close(fd)

    run(main())
    errors.take()


@pytest.mark.tidewire    # asyncio calls connection_lost twice: AttributeError
def test_peers_end_at_random(run):
    """Both ends write, pause, close and abort in a random order."""
    async def main():
        for seed in range(60):
            rng = random.Random(seed)
            one, two = await pipe_pair()
            r = one.transport.get_extra_info("pipe")
            w = two.transport.get_extra_info("pipe")
            for _ in range(rng.randrange(12)):
                action = rng.randrange(6)
                if action == 0:
                    one.transport.pause_reading()
                elif action == 1:
                    one.transport.resume_reading()
                elif action == 2:
                    await support.turns(1)
                elif action == 3:
                    await asyncio.sleep(0.0001)
                else:
                    two.transport.write(rng.randbytes(rng.choice([10, 200000])))
            ends = [one.transport.close, two.transport.close,
                    two.transport.abort]
            for end in rng.sample(ends, rng.randint(1, 3)):
                end()
            one.transport.close()
            await one.saw("lost")
            await two.saw("lost")
            assert one.names.count("lost") == two.names.count("lost") == 1
            assert r.closes == w.closes == 1

    run(main(), timeout=25)
