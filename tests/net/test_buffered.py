"""BufferedProtocol: the bytes land in the memory the protocol gave."""
import array
import asyncio
import ctypes
import mmap

import pytest

import support
from support import BufferedRecorder, Recorder

kinds = pytest.mark.parametrize("kind", support.KINDS)


@kinds
def test_receives(run, kind):
    async def main():
        one, two = await support.pair(kind, right=BufferedRecorder)
        assert isinstance(two, asyncio.BufferedProtocol)
        for i in range(20):
            one.transport.write(b"%d" % (i % 10) * 10)
        await two.got(200)
        one.transport.close()
        await two.saw("lost")
        assert two.names == ["made", "data", "eof", "lost"]
        assert set(two.hints) == {-1}

    run(main())


@kinds
@pytest.mark.parametrize("size", [1, 2, 7, 1000, 65536, 1 << 20])
def test_buffers_of_any_size(run, kind, size):
    async def main():
        total = min(20 * size + 13 if size < 1000 else 500 * size, 3_000_000)
        data = bytes(i % 251 for i in range(1000)) * (total // 1000 + 1)
        data = data[:total]
        one, two = await support.pair(
            kind, right=lambda: BufferedRecorder(buffer=size))
        one.transport.write(data)
        assert support.same(await two.got(total), data)
        await support.close(one, two)

    run(main())


@kinds
@pytest.mark.parametrize("make", [
    lambda: bytearray(100),
    lambda: memoryview(bytearray(100)),
    lambda: memoryview(bytearray(100))[50:],
    lambda: array.array("B", bytes(100)),
    lambda: mmap.mmap(-1, 100),
    lambda: (ctypes.c_char * 100)(),
    lambda: memoryview(array.array("I", [0] * 25)).cast("B"),
], ids=["bytearray", "memoryview", "slice", "array", "mmap", "ctypes", "cast"])
def test_kinds_of_memory(run, kind, make):
    async def main():
        buffer = make()
        one, two = await support.pair(
            kind, right=lambda: BufferedRecorder(buffer=buffer))
        one.transport.write(b"hello")
        await two.got(b"hello")
        assert bytes(memoryview(buffer).cast("B")[:5]) == b"hello"
        await support.close(one, two)

    run(main())


@kinds
def test_no_copy(run, kind):
    """The very object that get_buffer() returned holds the bytes."""
    async def main():
        buffers = [bytearray(10) for _ in range(4)]
        left = list(buffers)

        def get_buffer(protocol, hint):
            protocol.buffer = left.pop(0)
            return protocol.buffer

        transport, protocol, peer = await support.connected(
            kind, lambda: BufferedRecorder({"get_buffer": get_buffer}))
        for i in range(3):
            peer.send(b"%d" % i * 10)
            await protocol.got(10 * (i + 1))
        assert buffers[:3] == [b"0" * 10, b"1" * 10, b"2" * 10]
        await support.close(protocol)
        peer.close()

    run(main())


@kinds
def test_export_is_released_before_buffer_updated(run, kind):
    """The protocol may resize its bytearray there."""
    async def main():
        def updated(protocol, n):
            protocol.buffer.extend(b"!")    # BufferError if it is exported
            protocol.buffer.pop()

        transport, protocol, peer = await support.connected(
            kind, lambda: BufferedRecorder({"buffer_updated": updated}))
        peer.send(b"x")
        await protocol.got(b"x")
        await support.close(protocol)
        peer.close()

    run(main())


@kinds
def test_only_what_came_is_written(run, kind):
    async def main():
        buffer = bytearray(b"\xaa" * 100)
        transport, protocol, peer = await support.connected(
            kind, lambda: BufferedRecorder(buffer=buffer))
        peer.send(b"12345")
        await protocol.got(b"12345")
        assert buffer[5:] == b"\xaa" * 95
        await support.close(protocol)
        peer.close()

    run(main())


def fatal(context, message, kind, protocol):
    assert context["message"] == message
    assert isinstance(context["exception"], kind)
    assert context["protocol"] is protocol
    assert context["transport"] is protocol.transport


@kinds
@pytest.mark.parametrize("bad, exception", [
    (lambda p, h: bytearray(), RuntimeError),
    (lambda p, h: memoryview(b""), RuntimeError),
    (lambda p, h: None, TypeError),
    (lambda p, h: 17, TypeError),
    (lambda p, h: 1 / 0, ZeroDivisionError),
], ids=["empty", "emptyview", "None", "int", "raises"])
def test_bad_get_buffer(run, kind, bad, exception, errors):
    async def main():
        transport, protocol, peer = await support.connected(
            kind, lambda: BufferedRecorder({"get_buffer": bad}))
        peer.send(b"x")
        await protocol.saw("lost")
        assert isinstance(protocol.lost, exception)
        peer.close()
        return protocol

    protocol = run(main())
    (context,) = errors.take()
    fatal(context, "Fatal error: protocol.get_buffer() call failed.",
          exception, protocol)


@kinds
@pytest.mark.parametrize("make", [
    lambda: b"read only", lambda: memoryview(b"read only"), lambda: "text"])
def test_memory_that_cannot_be_written(run, kind, make, errors):
    """asyncio calls it a failed read."""
    async def main():
        transport, protocol, peer = await support.connected(
            kind, lambda: BufferedRecorder({"get_buffer": lambda p, h: make()}))
        peer.send(b"x")
        await protocol.saw("lost")
        assert isinstance(protocol.lost, (TypeError, BufferError))
        peer.close()

    run(main())
    (context,) = errors.take()
    assert context["message"].startswith("Fatal ")


@kinds
def test_buffer_updated_that_raises(run, kind, errors):
    async def main():
        transport, protocol, peer = await support.connected(
            kind, lambda: BufferedRecorder(
                {"buffer_updated": lambda p, n: 1 / 0}))
        peer.send(b"x")
        await protocol.saw("lost")
        assert isinstance(protocol.lost, ZeroDivisionError)
        peer.close()
        return protocol

    protocol = run(main())
    (context,) = errors.take()
    fatal(context, "Fatal error: protocol.buffer_updated() call failed.",
          ZeroDivisionError, protocol)


@kinds
@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("place", ["get_buffer", "buffer_updated"])
def test_close_inside(run, kind, how, place):
    async def main():
        def hook(protocol, n):
            getattr(protocol.transport, how)()
            return protocol.buffer

        transport, protocol, peer = await support.connected(
            kind, lambda: BufferedRecorder({place: hook}))
        peer.send(b"x")
        await protocol.saw("lost")
        assert protocol.names.count("lost") == 1
        assert protocol.lost is None
        assert protocol.data == b"x"    # also what was read after get_buffer()
        peer.close()

    run(main())


@kinds
@pytest.mark.parametrize("place", ["get_buffer", "buffer_updated"])
def test_pause_inside(run, kind, place):
    async def main():
        def hook(protocol, n):
            protocol.transport.pause_reading()
            return protocol.buffer

        transport, protocol, peer = await support.connected(
            kind, lambda: BufferedRecorder({place: hook}, buffer=10))
        peer.send(b"x" * 100)
        await protocol.got(10)
        await support.io_turns(3)
        assert len(protocol.data) == 10
        del protocol.hooks[place]
        transport.resume_reading()
        await protocol.got(100)
        await support.close(protocol)
        peer.close()

    run(main())


@kinds
def test_switch_kinds_of_protocol(run, kind):
    async def main():
        transport, first, peer = await support.connected(kind)
        second, third = BufferedRecorder(), Recorder()
        peer.send(b"one")
        await first.got(b"one")
        transport.set_protocol(second)
        peer.send(b"two")
        await second.got(b"two")
        transport.set_protocol(third)
        peer.send(b"three")
        await third.got(b"three")
        peer.close()
        await third.saw("lost")
        assert first.names == ["made", "data"]
        assert second.names == ["data"]

    run(main())


@kinds
def test_switch_inside(run, kind):
    """From buffer_updated; in get_buffer asyncio cannot have it."""
    async def main():
        other = Recorder()

        def hook(protocol, n):
            protocol.transport.set_protocol(other)

        transport, protocol, peer = await support.connected(
            kind, lambda: BufferedRecorder({"buffer_updated": hook}))
        peer.send(b"one")
        while not (protocol.data or other.data):
            await asyncio.sleep(0)
        peer.send(b"two")
        await other.until(lambda: b"two" in other.data)
        assert protocol.data + other.data == b"onetwo"
        transport.abort()
        await other.saw("lost")
        peer.close()

    run(main())


@kinds
def test_shrinking_the_buffer_under_the_read(run, kind):
    """get_buffer() itself is the last chance; later it is exported."""
    async def main():
        def get_buffer(protocol, hint):
            protocol.buffer = bytearray(1000)
            del protocol.buffer[10:]
            return protocol.buffer

        transport, protocol, peer = await support.connected(
            kind, lambda: BufferedRecorder({"get_buffer": get_buffer}))
        peer.send(b"x" * 100)
        await protocol.got(100)
        await support.close(protocol)
        peer.close()

    run(main())


@kinds
def test_eof_and_half_open(run, kind):
    async def main():
        import socket
        transport, protocol, peer = await support.connected(
            kind, lambda: BufferedRecorder({"eof": lambda p: True}))
        peer.shutdown(socket.SHUT_WR)
        await protocol.saw("eof")
        transport.write(b"x")
        assert await support.recv_exactly(peer, 1) == b"x"
        transport.close()
        await protocol.saw("lost")
        peer.close()

    run(main())


@kinds
def test_eof_hook_that_raises(run, kind, errors):
    async def main():
        transport, protocol, peer = await support.connected(
            kind, lambda: BufferedRecorder({"eof": lambda p: 1 / 0}))
        peer.close()
        await protocol.saw("lost")
        assert isinstance(protocol.lost, ZeroDivisionError)
        return protocol

    protocol = run(main())
    (context,) = errors.take()
    fatal(context, "Fatal error: protocol.eof_received() call failed.",
          ZeroDivisionError, protocol)


@kinds
def test_echo_out_of_the_buffer(run, kind):
    """write() of the receive buffer itself, which the next read changes."""
    async def main():
        def updated(protocol, n):
            protocol.transport.write(memoryview(protocol.buffer)[:n])

        one, two = await support.pair(kind, right=lambda: BufferedRecorder(
            {"buffer_updated": updated}, buffer=50))
        expected = bytearray()
        for i in range(100):
            part = bytes([i]) * 37
            one.transport.write(part)
            expected += part
        await one.got(bytes(expected))
        await support.close(one, two)

    run(main())


@kinds
def test_duck_typed_protocols(run, kind):
    """Not a subclass: asyncio treats it as a plain Protocol."""
    class Duck:
        def __init__(self):
            self.seen = []

        def connection_made(self, transport):
            self.seen.append("made")

        def data_received(self, data):
            self.seen.append(type(data))

        def eof_received(self):
            self.seen.append("eof")

        def connection_lost(self, exc):
            self.seen.append("lost")

    async def main():
        transport, protocol, peer = await support.connected(kind, Duck)
        peer.send(b"x")
        peer.close()
        while "lost" not in protocol.seen:
            await asyncio.sleep(0)
        return protocol.seen

    assert run(main()) == ["made", bytes, "eof", "lost"]


@kinds
def test_data_received_gets_bytes(run, kind):
    async def main():
        types = set()
        one, two = await support.pair(kind, right=lambda: Recorder(
            {"data": lambda p, data: types.add(type(data))}))
        for size in 1, 1000, 300000:
            one.transport.write(b"x" * size)
        await two.got(301001)
        await support.close(one, two)
        return types

    assert run(main()) == {bytes}
