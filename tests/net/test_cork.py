"""Order and visibility of writes made in one callback.

However the loop groups them, the peer gets the bytes in order, and every
question that the program can ask has the answer it would have without
grouping.
"""
import asyncio
import socket
import struct

import pytest

import support
from support import Recorder

kinds = pytest.mark.parametrize("kind", support.KINDS)


@kinds
@pytest.mark.parametrize("count", [1, 2, 3, 7, 15, 16, 17, 18, 40, 100, 2000])
def test_many_small_writes_in_a_callback(run, kind, count):
    async def main():
        def answer(protocol, data):
            for i in range(count):
                protocol.transport.write(b"%05d" % i)

        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder({"data": answer}))
        peer.send(b"go")
        expected = b"".join(b"%05d" % i for i in range(count))
        assert await support.recv_exactly(peer, len(expected)) == expected
        await support.close(protocol)
        peer.close()

    run(main())


@kinds
@pytest.mark.parametrize("sizes", [
    (10, 100000, 10), (65536, 1), (1, 65536), (65535, 1, 65536, 1),
    (300000, 300000), (10,) * 20 + (70000,) + (10,) * 20])
def test_small_and_big_in_order(run, kind, sizes):
    async def main():
        expected = bytearray()

        def answer(protocol, data):
            for i, size in enumerate(sizes):
                part = bytes([i % 256]) * size
                protocol.transport.write(part)
                expected.extend(part)

        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder({"data": answer}))
        peer.send(b"go")
        received = await support.recv_exactly(peer, sum(sizes))
        assert support.same(received, bytes(expected))
        await support.close(protocol)
        peer.close()

    run(main())


def waiting(sock):
    """What has reached the peer by now."""
    return support.drain(sock)


@kinds
def test_from_a_task_the_bytes_leave_with_the_step(run, kind):
    async def main():
        transport, protocol, peer = await support.connected(kind)
        transport.write(b"a")
        transport.write(b"b")
        await asyncio.sleep(0)
        assert waiting(peer) == b"ab"
        await support.close(protocol)
        peer.close()

    run(main())


@kinds
@pytest.mark.parametrize("ask", [
    lambda t: t.get_write_buffer_size(),
    lambda t: t.get_extra_info("socket"),
    lambda t: t.set_protocol(t.get_protocol()),
], ids=["get_write_buffer_size", "socket", "set_protocol"])
def test_asking_flushes(run, kind, ask):
    """A question that could tell the difference finds the bytes sent."""
    async def main():
        transport, protocol, peer = await support.connected(kind)
        await asyncio.sleep(0)
        transport.write(b"a")
        transport.write(b"b")
        ask(transport)
        assert waiting(peer) == b"ab"
        await support.close(protocol)
        peer.close()

    run(main())


@kinds
def test_buffer_size_is_zero_after_small_writes(run, kind):
    async def main():
        sizes = []

        def answer(protocol, data):
            for _ in range(5):
                protocol.transport.write(b"x")
                sizes.append(protocol.transport.get_write_buffer_size())

        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder({"data": answer}))
        peer.send(b"go")
        await support.recv_exactly(peer, 5)
        assert sizes == [0] * 5
        await support.close(protocol)
        peer.close()

    run(main())


@kinds
@pytest.mark.parametrize("how, arrives", [
    ("close", True), ("abort", True), ("write_eof", True)])
def test_end_in_the_same_callback(run, kind, how, arrives):
    """asyncio has sent small writes before abort() is called."""
    async def main():
        def answer(protocol, data):
            protocol.transport.write(b"one")
            protocol.transport.write(b"two")
            getattr(protocol.transport, how)()

        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder({"data": answer}))
        peer.send(b"go")
        assert await support.recv_all(peer) == b"onetwo"
        await support.close(protocol)
        peer.close()

    run(main())


@kinds
def test_write_to_another_transport(run, kind):
    async def main():
        other, _, other_peer = await support.connected(kind)

        def answer(protocol, data):
            other.write(data)
            other.write(b"!")
            protocol.transport.write(b"ok")

        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder({"data": answer}))
        peer.send(b"hello")
        assert await support.recv_exactly(other_peer, 6) == b"hello!"
        assert await support.recv_exactly(peer, 2) == b"ok"
        await support.close(protocol)
        other.abort()
        await support.turns(3)
        peer.close()
        other_peer.close()

    run(main())


@kinds
def test_written_by_hand_in_between(run, kind):
    """The program sends on a duplicate of the socket: order is kept."""
    async def main():
        def answer(protocol, data):
            transport = protocol.transport
            transport.write(b"1")
            with transport.get_extra_info("socket").dup() as copy:
                copy.send(b"2")
            transport.write(b"3")

        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder({"data": answer}))
        peer.send(b"go")
        assert await support.recv_exactly(peer, 3) == b"123"
        await support.close(protocol)
        peer.close()

    run(main())


@kinds
def test_the_error_of_a_write_comes(run, kind):
    """A peer that is gone: connection_lost, with the error."""
    async def main():
        def answer(protocol, data):
            protocol.transport.write(b"x")
            protocol.transport.write(b"y")

        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder({"data": answer, "eof": lambda p: True}))
        peer.send(b"go")
        peer.close()
        await protocol.saw("data")
        for _ in range(20):
            if transport.is_closing():
                break
            transport.write(b"z")
            await support.io_turns(1)
        await protocol.saw("lost")
        assert isinstance(protocol.lost, (BrokenPipeError,
                                          ConnectionResetError))

    run(main())


@kinds
def test_a_mutable_buffer_changed_after_write(run, kind):
    async def main():
        def answer(protocol, data):
            buffer = bytearray(b"first ")
            protocol.transport.write(buffer)
            buffer[:] = b"second"
            protocol.transport.write(memoryview(buffer))
            buffer[:] = b"xxxxxx"

        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder({"data": answer}))
        peer.send(b"go")
        assert await support.recv_exactly(peer, 12) == b"first second"
        await support.close(protocol)
        peer.close()

    run(main())


@kinds
def test_limits_decide_in_the_callback(run, kind):
    """pause_writing comes from inside write(), not some time later."""
    async def main():
        seen = []

        def answer(protocol, data):
            protocol.transport.set_write_buffer_limits(high=0)
            while "pause" not in protocol.names:
                protocol.transport.write(b"x" * 10000)
            seen.append(protocol.transport.get_write_buffer_size() > 0)

        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder({"data": answer}))
        peer.send(b"go")
        await protocol.saw("pause")
        assert seen == [True]
        await support.close(protocol)
        peer.close()

    run(main())


@kinds
def test_interrupt_in_the_callback(loop, kind):
    """What was written before KeyboardInterrupt is on its way."""
    def answer(protocol, data):
        protocol.transport.write(b"one")
        protocol.transport.write(b"two")
        raise KeyboardInterrupt

    async def start():
        return await support.connected(
            kind, lambda: Recorder({"data": answer}))

    transport, protocol, peer = loop.run_until_complete(start())
    peer.send(b"go")
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert waiting(peer) == b"onetwo"
    loop.run_until_complete(support.close(protocol))
    peer.close()


@kinds
def test_an_exception_in_the_callback(run, kind, errors):
    async def main():
        def answer(protocol, data):
            protocol.transport.write(b"one")
            protocol.transport.write(b"two")
            raise ZeroDivisionError

        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder({"data": answer}))
        peer.send(b"go")
        assert await support.recv_all(peer) == b"onetwo"
        await protocol.saw("lost")
        peer.close()

    run(main())
    assert len(errors.take()) == 1


@kinds
def test_writes_outside_the_loop(loop, kind):
    """Between two runs, nothing is held back."""
    transport, protocol, peer = loop.run_until_complete(
        support.connected(kind))
    transport.write(b"a")
    transport.write(b"b")
    assert waiting(peer) == b"ab"
    loop.run_until_complete(support.close(protocol))
    peer.close()


@kinds
def test_a_nested_loop_of_another_kind_of_wait(run, kind):
    """A callback that waits for the answer must have asked for it."""
    async def main():
        transport, protocol, peer = await support.connected(kind)
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        transport.write(b"question")
        answered = loop.create_future()
        loop.add_reader(peer, lambda: answered.set_result(peer.recv(100)))
        assert await asyncio.wait_for(answered, 5) == b"question"
        loop.remove_reader(peer)
        await support.close(protocol)
        peer.close()

    run(main())


def test_urgent_data_and_options_in_between(run):
    async def main():
        transport, protocol, peer = await support.connected("tcp")
        await asyncio.sleep(0)
        transport.write(b"a")
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.write(b"b")
        sock.shutdown(socket.SHUT_WR)
        assert await support.recv_all(peer) in (b"a", b"ab")
        await support.close(protocol)
        peer.close()

    run(main())


@kinds
def test_is_closing_knows_of_a_broken_connection(run, kind):
    """However often it was asked before, in the same callback."""
    async def main():
        def answer(protocol, data):
            transport = protocol.transport
            for _ in range(4):
                transport.write(b"x")
                asked.append(transport.is_closing())
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            transport.write(b"y")
            asked.append(transport.is_closing())

        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder({"data": answer}))
        peer.send(b"go")
        await protocol.saw("lost")
        assert asked == [False] * 4 + [True]
        assert isinstance(protocol.lost, (BrokenPipeError, ConnectionResetError))

    asked = []
    run(main())


@kinds
def test_all_that_was_asked_about_is_sent(run, kind):
    async def main():
        def answer(protocol, data):
            for i in range(100):
                protocol.transport.write(b"%d " % i)
                assert not protocol.transport.is_closing()

        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder({"data": answer}))
        whole = b"".join(b"%d " % i for i in range(100))
        for _ in range(3):
            peer.send(b"go")
            assert await support.recv_exactly(peer, len(whole)) == whole
        await support.close(protocol)
        peer.close()

    run(main())


@pytest.mark.tidewire
def test_the_first_answer_does_not_wait_for_the_others(run):
    """A callback that writes and asks, as StreamWriter.drain() does."""
    async def main():
        def answer(protocol, data):
            for piece in b"first", b"second", b"third":
                protocol.transport.write(piece)
                protocol.transport.is_closing()
                try:
                    came.append(peer.recv(100))
                except BlockingIOError:
                    came.append(None)

        transport, protocol, peer = await support.connected(
            "tcp", lambda: Recorder({"data": answer}))
        for _ in range(3):
            peer.send(b"go")
            assert await support.recv_exactly(peer, 11) == b"secondthird"
            assert came == [b"first", None, None]
            came.clear()
            await support.io_turns(1)
        await support.close(protocol)
        peer.close()

    came = []
    run(main())


def test_writelines_is_not_torn_by_pause_writing(run):
    """What pause_writing() writes comes behind the list."""
    class Answers(Recorder):
        def pause_writing(self):
            self.transport.write(b"<paused>")

    async def main():
        transport, protocol, peer = await support.connected("unix", Answers)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        transport.set_write_buffer_limits(high=10_000)
        pieces = [bytes([65 + i]) * 6000 for i in range(8)]
        transport.writelines(pieces)
        expected = b"".join(pieces) + b"<paused>"
        assert support.same(await support.recv_exactly(peer, len(expected)), expected)
        await support.close(protocol)
        peer.close()

    run(main())
