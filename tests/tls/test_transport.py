"""TLS transports from the program's side: data, flow control, callbacks, extra info."""
import array
import asyncio
import gc
import os
import random
import ssl

import pytest
import support
import tlskit
from net.readkit import Keeper
from support import BufferedRecorder, Recorder

SIZES = [1, 2, 1000, 16383, 16384, 16385, 70000, 300000, 3 << 20]


# -- data -------------------------------------------------------------------

def viewed(*args, **kwargs):
    """asyncio loses data in a bytearray (cpython 156275), not in a view of it."""
    return BufferedRecorder(*args, buffer=memoryview(bytearray(65536)), **kwargs)


@pytest.mark.parametrize("version", tlskit.VERSIONS, ids=lambda v: v.name)
@pytest.mark.parametrize("kind", [Recorder, viewed])
def test_data_both_ways(run, version, kind):
    async def main():
        one, two = await tlskit.tls_pair(
            kind, kind, client=tlskit.client_context(version), server=tlskit.server_context(version))
        for size in SIZES:
            data = tlskit.blob(size)
            one.transport.write(data)
            two.transport.write(data)
        total = b"".join(map(tlskit.blob, SIZES))
        await one.got(total)
        await two.got(total)
        await support.close(one, two)
    run(main())


def test_what_is_kept_stays(run, engine):
    """As in net/test_spare.py."""
    async def main():
        one, keeper = await tlskit.tls_pair(right=lambda: Keeper(random.Random(7)))
        await keeper.is_sent_many(one.transport.write, 150_000)
        one.transport.close()
        await keeper.lost.wait()
        keeper.check()
        assert keeper.checked > 100

    run(main())


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_write_types(run, make):
    async def main():
        one, two = await tlskit.tls_pair()
        data = tlskit.blob(200000)
        given = make(data)
        one.transport.write(given)
        if make is bytearray:
            given[:] = bytes(len(given))       # it was taken already
        await two.got(data)
        await support.close(one, two)
    run(main())


@pytest.mark.parametrize("bad", ["text", 5, None, [b"x"]])
def test_write_refuses(run, bad):
    async def main():
        one, two = await tlskit.tls_pair()
        with pytest.raises(TypeError, match="data: expecting a bytes-like instance, got"):
            one.transport.write(bad)
        with pytest.raises(TypeError, match="instance, got array$"):
            one.transport.write(array.array("b", b"x"))
        one.transport.write(b"")
        one.transport.write(bytearray())
        one.transport.write(b"x")
        await two.got(b"x")
        await support.close(one, two)
    run(main())


def test_writelines(run):
    async def main():
        one, two = await tlskit.tls_pair()
        pieces = [b"a", bytearray(b"bc"), b"", memoryview(b"d" * 9000), b"e" * 50000, b"f"] * 5
        one.transport.writelines(pieces)
        one.transport.writelines(iter([b"1", b"2"]))
        one.transport.writelines([])
        await two.got(b"".join(pieces) + b"12")
        await support.close(one, two)
    run(main())


def test_small_writes_of_a_callback_leave_together(run):
    async def main():
        one, peer = await tlskit.with_peer()
        for i in range(20):
            one.transport.write(b"%02d" % i)
        await peer.read_exactly(40)
        await tlskit.finish(one, peer)
    run(main())


def test_no_write_eof(run):
    async def main():
        one, two = await tlskit.tls_pair()
        assert one.transport.can_write_eof() is False
        with pytest.raises(NotImplementedError):
            one.transport.write_eof()
        await support.close(one, two)
    run(main())


# -- a slow reader ----------------------------------------------------------

@pytest.mark.tidewire       # asyncio does not count what its lower transport holds
@pytest.mark.parametrize("make", [bytes, bytearray])
def test_a_slow_reader_stops_the_writer(run, make):
    async def main():
        one, peer = await tlskit.with_peer()
        data = make(tlskit.blob(64 << 20))
        one.transport.write(data)
        size = one.transport.get_write_buffer_size()
        assert size > 32 << 20
        assert one.names == ["made", "pause"]
        got = await peer.read_exactly(len(data))
        assert support.same(got, data)
        await one.saw("resume")
        assert one.transport.get_write_buffer_size() == 0
        assert one.names == ["made", "pause", "resume"]
        await tlskit.finish(one, peer)
    run(main(), timeout=25)


def test_write_buffer_size_is_exact(run, is_stock):
    async def main():
        one, peer = await tlskit.with_peer()
        one.transport.set_write_buffer_limits(high=50 << 20)
        sent = 0
        while one.transport.get_write_buffer_size() == 0:
            one.transport.write(b"x" * 16384)
            sent += 16384
        before = one.transport.get_write_buffer_size()
        one.transport.write(b"y" * 16384)
        assert one.transport.get_write_buffer_size() - before in (16384, 16384 + 22, 16384 + 29)
        received = await peer.read_exactly(sent + 16384)
        assert len(received) == sent + 16384
        await support.io_turns(3)
        assert one.transport.get_write_buffer_size() == 0
        await tlskit.finish(one, peer)
    run(main())


def test_limits(run):
    async def main():
        one, two = await tlskit.tls_pair()
        tr = one.transport
        assert tr.get_write_buffer_limits() == (128 << 10, 512 << 10)
        assert tr.get_read_buffer_limits() == (64 << 10, 256 << 10)
        assert tr.get_read_buffer_size() == 0
        tr.set_write_buffer_limits(low=100)
        assert tr.get_write_buffer_limits() == (100, 400)
        tr.set_write_buffer_limits(1000)
        assert tr.get_write_buffer_limits() == (250, 1000)
        tr.set_read_buffer_limits(high=10, low=2)
        assert tr.get_read_buffer_limits() == (2, 10)
        for method in tr.set_write_buffer_limits, tr.set_read_buffer_limits:
            with pytest.raises(ValueError, match="high .1. must be >= low .2. must be >= 0"):
                method(high=1, low=2)
            with pytest.raises(ValueError):
                method(high=-1)
            with pytest.raises(TypeError):
                method(1, 2, 3)
        await support.close(one, two)
    run(main())


@pytest.mark.tidewire
@pytest.mark.parametrize("limits", [(0, 0), (1, 0), (70000, 30), (1 << 20, 1 << 20)])
def test_pause_and_resume_come_in_pairs(run, limits):
    # Not for asyncio: with high=0 it pauses a writer that has nothing waiting.
    async def main():
        one, peer = await tlskit.with_peer()
        one.transport.set_write_buffer_limits(*limits)
        assert one.names == ["made"]
        for _ in range(3):
            one.events[:] = []
            data = tlskit.blob(8 << 20)
            one.transport.write(data)
            assert one.names == ["pause"]
            await peer.read_exactly(len(data))
            await one.saw("resume")
            assert one.names == ["pause", "resume"]
            assert one.transport.get_write_buffer_size() <= limits[1]
        await tlskit.finish(one, peer)
    run(main(), timeout=20)


# -- pausing ----------------------------------------------------------------

def test_pause_in_data_received_holds_at_once(run):
    async def main():
        one, peer = await tlskit.with_peer(
            lambda: Recorder({"data": lambda p, d: p.transport.pause_reading()}))
        first, second = peer.record(b"first"), peer.record(b"second")
        await peer.raw(first)
        await one.got(b"first")
        assert not one.transport.is_reading()
        await peer.raw(second)
        await support.io_turns(5)
        assert one.data == b"first"
        one.transport.resume_reading()
        one.transport.resume_reading()
        assert one.transport.is_reading()
        await one.got(b"firstsecond")
        await tlskit.finish(one, peer)
    run(main())


def test_a_paused_reader_stops_the_peer(run):
    async def main():
        one, peer = await tlskit.with_peer()
        one.transport.pause_reading()
        data = tlskit.blob(8 << 20)
        sending = asyncio.ensure_future(peer.write(data))
        while one.transport.get_read_buffer_size() < 256 << 10:
            await support.io_turns(1)
        await support.io_turns(10)
        assert one.transport.get_read_buffer_size() <= (256 << 10) + (256 << 10)
        assert one.data == b"" and not sending.done()
        one.transport.resume_reading()
        await one.got(data)
        await sending
        assert one.transport.get_read_buffer_size() == 0
        await tlskit.finish(one, peer)
    run(main())


@pytest.mark.tidewire       # asyncio forgets what does not fit into one buffer
@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
def test_eof_while_paused_loses_nothing(run, kind):
    async def main():
        one, peer = await tlskit.with_peer(kind)
        one.transport.pause_reading()
        data = tlskit.blob(100000)
        await peer.write(data)
        peer.close()                    # no close_notify
        while one.transport.get_read_buffer_size() < len(data):
            await support.io_turns(1)
        await support.io_turns(5)
        assert one.names == ["made"]
        one.transport.resume_reading()
        await one.saw("lost")
        assert support.same(one.data, data)
        assert one.names[-2:] == ["eof", "lost"] and one.lost is None
    run(main())


@pytest.mark.tidewire
def test_eof_while_paused_and_paused_again(run):
    # asyncio shuts down at the first resume_reading(): the rest is lost.
    async def main():
        def pause(protocol, data):
            protocol.transport.pause_reading()

        one, peer = await tlskit.with_peer(lambda: BufferedRecorder({"data": pause}, buffer=1000))
        one.transport.pause_reading()
        data = tlskit.blob(10000)
        await peer.write(data)
        peer.close()
        while one.transport.get_read_buffer_size() < len(data):
            await support.io_turns(1)
        for i in range(10):
            assert len(one.data) == i * 1000
            one.transport.resume_reading()
            await one.got((i + 1) * 1000)
            await support.io_turns(2)
        one.transport.resume_reading()
        await one.saw("lost")
        assert support.same(one.data, data)
    run(main())


# -- BufferedProtocol -------------------------------------------------------

@pytest.mark.parametrize("size", [1, 5, 1000, 1 << 20])
@pytest.mark.parametrize("make", [bytearray, lambda n: memoryview(bytearray(n))],
                         ids=["bytearray", "memoryview"])
@pytest.mark.tidewire
def test_buffered_in_any_memory(run, size, make):
    # asyncio copies a bytearray's tail and loses what is read into the copy.
    async def main():
        one, peer = await tlskit.with_peer(lambda: BufferedRecorder(buffer=make(size)))
        data = tlskit.blob(20000)
        await peer.write(data)
        await one.got(data)
        await tlskit.finish(one, peer)
    run(main())


@pytest.mark.tidewire
def test_buffered_empty_buffer_is_an_error(run, errors):
    async def main():
        one, peer = await tlskit.with_peer(lambda: BufferedRecorder(buffer=bytearray()))
        await peer.write(b"x")
        await one.saw("lost")
        assert isinstance(one.lost, RuntimeError)
        peer.close()
        (context,) = errors.take()
        assert context["message"] == "Fatal error on SSL protocol"
        assert context["exception"] is one.lost
    run(main())


def test_what_was_written_before_a_callback_raised_is_sent(run, errors):
    def hook(protocol, data):
        protocol.transport.write(b"answer")
        raise ZeroDivisionError

    async def main():
        one, peer = await tlskit.with_peer(lambda: Recorder({"data": hook}))
        await peer.write(b"x")
        assert await peer.read_exactly(6) == b"answer"
        await one.saw("lost")
        assert isinstance(one.lost, ZeroDivisionError)
        peer.close()
        errors.take()
    run(main())


@pytest.mark.tidewire       # asyncio says goodbye within close()
@pytest.mark.parametrize("end", ["abort", "raise"])
def test_close_and_raise_in_one_callback(run, errors, end):
    def hook(protocol, data):
        protocol.transport.close()
        if end == "raise":
            raise ZeroDivisionError
        protocol.transport.abort()

    async def main():
        one, peer = await tlskit.with_peer(lambda: Recorder({"data": hook}))
        await peer.write(b"x")
        await one.saw("lost")
        await support.io_turns()
        assert support.drain(peer.sock) in (b"", None)
        peer.close()
        errors.take()
    run(main())


@pytest.mark.tidewire       # asyncio asks a transport that it has given up
def test_questions_to_a_closed_transport(run):
    async def main():
        one, peer = await tlskit.with_peer()
        await tlskit.finish(one, peer)
        assert one.transport.is_reading() in (True, False)
        assert one.transport.get_write_buffer_size() == 0
        assert one.transport.is_closing()
    run(main())


@pytest.mark.tidewire       # asyncio has closed it by then, and answers None
def test_connection_lost_can_ask_about_the_connection(run):
    seen = []

    def lost(protocol, exc):
        ask = protocol.transport.get_extra_info
        seen.append((ask("peername"), ask("socket").fileno()))

    async def main():
        one, peer = await tlskit.with_peer(lambda: Recorder({"lost": lost}))
        there = one.transport.get_extra_info("peername")
        number = one.transport.get_extra_info("socket").fileno()
        await tlskit.finish(one, peer)
        assert seen == [(there, number)]
        with pytest.raises(OSError):
            os.fstat(number)
    run(main())


@pytest.mark.tidewire       # asyncio drops what came with the bad record
@pytest.mark.parametrize("make", [Recorder, BufferedRecorder])
def test_good_records_before_a_bad_one(run, make):
    async def main():
        one, peer = await tlskit.with_peer(make)
        good, bad = peer.record(b"good"), bytearray(peer.record(b"bad"))
        bad[-1] ^= 1
        await peer.raw(good + bad)
        await one.saw("lost")
        assert one.names == ["made", "data", "lost"]
        assert one.data == b"good"
        assert isinstance(one.lost, ssl.SSLError)
        peer.close()
    run(main())


@pytest.mark.parametrize("hook", ["get_buffer", "buffer_updated"])
def test_buffered_callback_raises(run, errors, hook):
    def fail(protocol, n):
        if n:           # asyncio asks for a buffer once before there is anything
            raise ZeroDivisionError
        return protocol.buffer

    async def main():
        one, peer = await tlskit.with_peer(lambda: BufferedRecorder({hook: fail}))
        await peer.write(b"x")
        await one.saw("lost")
        assert isinstance(one.lost, ZeroDivisionError)
        peer.close()
        (context,) = errors.take()
        assert context["message"] == "Fatal error on SSL protocol"
        assert context["exception"] is one.lost
        assert set(context) == {"message", "exception", "transport", "protocol"}
    run(main())


def test_the_buffer_is_free_in_buffer_updated(run):
    def resize(protocol, n):
        protocol.buffer.extend(b"more")     # BufferError if it was still exported

    async def main():
        one, peer = await tlskit.with_peer(
            lambda: BufferedRecorder({"buffer_updated": resize}))
        await peer.write(b"hello")
        await one.got(b"hello")
        await tlskit.finish(one, peer)
    run(main())


def test_set_protocol_in_the_middle(run):
    async def main():
        one, peer = await tlskit.with_peer()
        await peer.write(b"a" * 1000)
        await one.got(1000)
        for second in BufferedRecorder(buffer=100), Recorder(), BufferedRecorder(buffer=1 << 17):
            one.transport.set_protocol(second)
            assert one.transport.get_protocol() is second
            await peer.write(b"b" * 1000)
            await second.got(b"b" * 1000)
        assert one.data == b"a" * 1000
        one.transport.abort()
        await second.saw("lost")
        peer.close()
    run(main())


@pytest.mark.parametrize("kind", [Recorder, viewed])
def test_set_protocol_in_get_buffer(run, kind):
    """The buffer's data is its giver's, or another BufferedProtocol's to be told of."""
    def swap(protocol, n):
        if n:           # asyncio asks for a buffer once before there is anything
            protocol.transport.set_protocol(second)
        return protocol.buffer

    second = kind()

    async def main():
        one, peer = await tlskit.with_peer(
            lambda: viewed({"get_buffer": swap}), ours="server")
        await peer.write(b"hello")
        if kind is Recorder:
            await one.got(b"hello")
        else:
            await second.got(5)
        await peer.write(b"more")
        await second.got(b"more" if kind is Recorder else 9)
        assert one.data == (b"hello" if kind is Recorder else b"")
        one.transport.abort()
        await second.saw("lost")
        peer.close()
    run(main())


# -- callbacks that raise or close ------------------------------------------

@pytest.mark.parametrize("exc", [ZeroDivisionError, OSError, asyncio.CancelledError])
def test_data_received_raises(run, errors, exc):
    def fail(protocol, data):
        raise exc

    async def main():
        one, peer = await tlskit.with_peer(lambda: Recorder({"data": fail}))
        await peer.write(b"x")
        await one.saw("lost")
        assert type(one.lost) is exc
        peer.close()
        contexts = errors.take()
        if exc is ZeroDivisionError:
            assert [c["message"] for c in contexts] == ["Fatal error on SSL protocol"]
        elif exc is OSError:
            assert contexts == []
        else:
            assert [c["message"] for c in contexts] == [tlskit.TOLD_BELOW]
            assert contexts[0]["exception"] is one.lost
    run(main())


@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
def test_close_in_data_received(run, how, kind):
    def end(protocol, data):
        protocol.transport.write(b"last words")
        getattr(protocol.transport, how)()
        protocol.transport.write(b"too late")

    async def main():
        one, peer = await tlskit.with_peer(lambda: kind({"data": end}))
        await peer.write(b"x" * 40000)
        got = await peer.read_all()
        assert got == b"last words"
        peer.close()
        await one.saw("lost")
        assert one.lost is None
        assert one.transport.is_closing()
    run(main())


@pytest.mark.parametrize("how", ["close", "abort"])
def test_close_in_connection_made(run, how):
    async def main():
        one, two = await tlskit.tls_pair(
            right=lambda: Recorder({"made": lambda p: getattr(p.transport, how)()}))
        await one.saw("lost")
        await two.saw("lost")
        assert two.names[-1] == "lost" and "data" not in two.names
    run(main())


def test_keyboard_interrupt_in_data_received(loop, make_loop):
    def fail(protocol, data):
        raise KeyboardInterrupt

    async def main():
        one, peer = await tlskit.with_peer(lambda: Recorder({"data": fail}))
        await peer.write(b"x")
        state.append((one, peer))
        await one.saw("lost")

    state = []
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(main())
    one, peer = state.pop()
    peer.close()
    one.transport.abort()
    loop.run_until_complete(support.turns(5))


# -- extra info -------------------------------------------------------------

def test_extra_info(run):
    async def main():
        client = tlskit.client_context()
        one, two = await tlskit.tls_pair(client=client, kind="tcp")
        info = one.transport.get_extra_info
        obj = info("ssl_object")
        assert type(obj) is ssl.SSLObject
        assert info("sslcontext") is client is obj.context
        assert info("cipher") == obj.cipher() and len(info("cipher")) == 3
        assert info("compression") is None
        assert info("peercert") == obj.getpeercert()
        assert info("peername")[0] == "127.0.0.1"
        assert info("sockname")[0] == "127.0.0.1"
        assert isinstance(info("socket"), asyncio.trsock.TransportSocket)
        assert info("nonsense") is None and info("nonsense", 5) == 5
        assert info(name="nonsense", default=6) == 6
        assert two.transport.get_extra_info("peercert") is None
        assert obj.version() == "TLSv1.3" and obj.server_hostname == "localhost"
        assert obj.selected_alpn_protocol() is None and obj.pending() == 0
        assert obj.getpeercert(True).startswith(b"0")
        assert obj.get_channel_binding("tls-unique")
        assert two.transport.get_extra_info("ssl_object").shared_ciphers()
        assert one.transport._sslcontext is client if hasattr(
            one.transport, "_sslcontext") else True
        await support.close(one, two)
    run(main())


def test_the_ssl_object_outlives_the_transport(run):
    async def main():
        one, two = await tlskit.tls_pair()
        obj = one.transport.get_extra_info("ssl_object")
        await support.close(one, two)
        one.transport = None
        return obj

    obj = run(main())
    gc.collect()
    assert obj.version() == "TLSv1.3"
    assert obj.getpeercert()["subject"] is not None
    assert obj.write(b"nobody reads this") == 17
    with pytest.raises(ssl.SSLWantReadError):
        obj.read(10)
