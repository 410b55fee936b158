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

from net.pipekit import CountedFile, Writer, files, pipe_pair, read_some, reader, writer
import support
from support import Recorder


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


@pytest.mark.parametrize("inherited", [False, True])
def test_device_that_cannot_be_polled(run, errors, inherited):
    async def main():
        pipe = open("/dev/null", "rb", 0)
        os.set_inheritable(pipe.fileno(), inherited)
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


@pytest.mark.asyncio_defect("its transport is left half made")
@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
def test_a_closed_socket_is_no_pipe(run, method):
    async def main():
        sock = socket.socket()
        sock.close()
        with pytest.raises(OSError) as info:
            await getattr(asyncio.get_running_loop(), method)(asyncio.Protocol, sock)
        assert info.value.errno == errno.EBADF

    run(main())
