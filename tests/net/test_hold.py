"""Order and visibility of writes made in one callback.

However the loop groups them, the peer gets the bytes in order, and every
question that the program can ask has the answer it would have without
grouping.
"""
import asyncio
import os
import socket
import struct
import subprocess
import sys
import threading
import time

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

        transport, protocol, peer = await support.connected_by_name(
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

        transport, protocol, peer = await support.connected_by_name(
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
        transport, protocol, peer = await support.connected_by_name(kind)
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
        transport, protocol, peer = await support.connected_by_name(kind)
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

        transport, protocol, peer = await support.connected_by_name(
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

        transport, protocol, peer = await support.connected_by_name(
            kind, lambda: Recorder({"data": answer}))
        peer.send(b"go")
        assert await support.recv_all(peer) == b"onetwo"
        await support.close(protocol)
        peer.close()

    run(main())


@kinds
def test_write_to_another_transport(run, kind):
    async def main():
        other, _, other_peer = await support.connected_by_name(kind)

        def answer(protocol, data):
            other.write(data)
            other.write(b"!")
            protocol.transport.write(b"ok")

        transport, protocol, peer = await support.connected_by_name(
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

        transport, protocol, peer = await support.connected_by_name(
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

        transport, protocol, peer = await support.connected_by_name(
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

        transport, protocol, peer = await support.connected_by_name(
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

        transport, protocol, peer = await support.connected_by_name(
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
        return await support.connected_by_name(
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

        transport, protocol, peer = await support.connected_by_name(
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
        support.connected_by_name(kind))
    transport.write(b"a")
    transport.write(b"b")
    assert waiting(peer) == b"ab"
    loop.run_until_complete(support.close(protocol))
    peer.close()


@kinds
def test_a_nested_loop_of_another_kind_of_wait(run, kind):
    """A callback that waits for the answer must have asked for it."""
    async def main():
        transport, protocol, peer = await support.connected_by_name(kind)
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
        transport, protocol, peer = await support.connected_by_name("tcp")
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

        transport, protocol, peer = await support.connected_by_name(
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

        transport, protocol, peer = await support.connected_by_name(
            kind, lambda: Recorder({"data": answer}))
        whole = b"".join(b"%d " % i for i in range(100))
        for _ in range(3):
            peer.send(b"go")
            assert await support.recv_exactly(peer, len(whole)) == whole
        await support.close(protocol)
        peer.close()

    run(main())


def test_writelines_is_not_torn_by_pause_writing(run):
    """What pause_writing() writes comes behind the list."""
    class Answers(Recorder):
        def pause_writing(self):
            self.transport.write(b"<paused>")

    async def main():
        transport, protocol, peer = await support.connected_by_name("unix", Answers)
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


# -- the habit ----------------------------------------------------------------

async def callback(function):
    """Run it in a callback of its own."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def call():
        try:
            done.set_result(function())
        except BaseException as exc:
            done.set_exception(exc)

    loop.call_soon(call)
    return await done


async def with_habit(kind="tcp", writes=2, times=20):
    """A connection whose program has written so often in each callback."""
    transport, protocol, peer = await support.connected_by_name(kind)

    def write():
        for _ in range(writes):
            transport.write(b"habit")

    for _ in range(times):
        await callback(write)
        assert drain_all(peer, 5 * writes) == b"habit" * writes
    return transport, protocol, peer


def drain_all(sock, size):
    """Exactly so much: over TCP it may come in pieces."""
    out = bytearray()
    sock.setblocking(True)
    sock.settimeout(5)
    while len(out) < size:
        out += sock.recv(size - len(out))
    sock.setblocking(False)
    return bytes(out)


async def end(protocol, peer):
    await support.close(protocol)
    peer.close()


@kinds
def test_without_a_habit_each_write_leaves_at_once(run, kind):
    async def main():
        transport, protocol, peer = await support.connected_by_name(kind)

        def write():
            for i in range(100):
                transport.write(b"%d" % i)
                assert waiting(peer) == b"%d" % i

        await callback(write)
        await end(protocol, peer)

    run(main())


@kinds
@pytest.mark.parametrize("writes", [2, 3, 10])
def test_the_last_write_of_a_habit_sends_all(run, kind, writes):
    """A callback that keeps the habit may wait for what it wrote."""
    async def main():
        transport, protocol, peer = await with_habit(kind, writes)

        def write():
            for _ in range(writes):
                transport.write(b"again")
            return drain_all(peer, 5 * writes)

        for _ in range(30):
            assert await callback(write) == b"again" * writes
        await end(protocol, peer)

    run(main())


@kinds
@pytest.mark.parametrize("second", [bytes, bytearray], ids=["bytes", "bytearray"])
def test_what_cannot_leave_behind_a_held_write_pauses(run, kind, second):
    """write() itself calls pause_writing(), however little was held."""
    async def main():
        for _ in range(3):
            transport, protocol, peer = await with_habit(kind)
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

            def write():
                transport.write(bytes(40_000))      # noqa: B023
                transport.write(second(1 << 23))    # noqa: B023
                return protocol.names[-1]           # noqa: B023

            seen = await callback(write)
            transport.abort()
            await protocol.saw("lost")
            peer.close()
            assert seen == "pause"

    run(main())


@kinds
def test_what_is_held_while_another_thread_forks_is_sent_once(run, kind):
    """The child may close what it has inherited."""
    def fork():
        pid = os.fork()
        if pid == 0:
            try:
                transport.abort()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)

    def write():
        transport.write(b"first")
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()
        transport.write(b"again")

    async def main():
        nonlocal transport
        transport, protocol, peer = await with_habit(kind)
        await callback(write)
        await support.close(protocol)
        assert await support.recv_all(peer) == b"firstagain"
        peer.close()

    transport = None
    run(main())


async def at_last(attempt, kind, writes, wanted, times=20):
    """attempt(transport, peer), in a callback, on connections with a habit; a busy machine may
    have made the program a slow one: once it must be as wanted."""
    for _ in range(times):
        transport, protocol, peer = await with_habit(kind, writes)
        seen = await callback(lambda: attempt(transport, peer))     # noqa: B023
        seen.append(waiting(peer))
        await end(protocol, peer)
        if seen == wanted:
            return
    assert seen == wanted


@pytest.mark.tidewire
@pytest.mark.skipif(support.is_sanitized(), reason="every program is slow then")
@kinds
@pytest.mark.parametrize("writes", [2, 3, 10, 16])
def test_the_first_writes_of_a_habit_are_held(run, kind, writes):
    def attempt(transport, peer):
        seen = []
        for _ in range(writes):
            seen.append(waiting(peer))
            transport.write(b"again")
        seen.append(waiting(peer))
        transport.write(b"more")
        return [*seen, waiting(peer)]

    run(at_last(attempt, kind, writes, [b""] * writes + [b"again" * writes, b"more", b""]))


@pytest.mark.tidewire
@pytest.mark.skipif(support.is_sanitized(), reason="every program is slow then")
@kinds
def test_a_habit_of_computing_before_the_first_write(run, kind):
    """Only the time between the writes makes a program slow."""
    async def main():
        transport, protocol, peer = await support.connected_by_name(kind)

        def write():
            time.sleep(0.0005)
            transport.write(b"1")
            transport.write(b"2")
            seen = waiting(peer)
            transport.write(b"3")
            return seen, drain_all(peer, 3 - len(seen))

        for _ in range(500):        # a busy machine interrupts some of them
            if await callback(write) == (b"", b"123"):
                break
        else:
            pytest.fail("nothing was held")
        await end(protocol, peer)

    run(main())


@pytest.mark.tidewire
@kinds
def test_a_broken_habit_is_sent_when_the_callback_ends(run, kind):
    def attempt(transport, peer):
        transport.write(b"one")
        return [waiting(peer)]

    run(at_last(attempt, kind, 2, [b"", b"one"]))


@pytest.mark.tidewire
@kinds
@pytest.mark.parametrize("name", ["pause_reading", "resume_reading"])
def test_room_is_not_waited_for_while_a_write_is_held(run, kind, name):
    """Nothing was refused: the loop would find the descriptor writable, turn after turn."""
    def attempt(transport, peer):
        if name == "resume_reading":
            transport.pause_reading()
        transport.write(b"one")
        held = waiting(peer) == b""
        getattr(transport, name)()
        return [held, "write=<idle" in repr(transport)]

    run(at_last(attempt, kind, 2, [True, True, b"one"]))


@kinds
def test_a_broken_habit_is_forgotten(run, kind):
    async def main():
        transport, protocol, peer = await with_habit(kind)
        await callback(lambda: transport.write(b"one"))
        assert waiting(peer) == b"one"

        def write():
            transport.write(b"two")
            return waiting(peer)

        assert await callback(write) == b"two"
        await end(protocol, peer)

    run(main())


@kinds
def test_other_counts_in_each_callback(run, kind):
    """The fewest count; what comes behind them leaves at once."""
    async def main():
        transport, protocol, peer = await with_habit(kind, 3)
        for count in [3, 5, 4, 9, 3, 3, 7] * 5:
            def write(count=count):
                for _ in range(count):
                    transport.write(b"x")
                return drain_all(peer, count)

            assert await callback(write) == b"x" * count
        await end(protocol, peer)

    run(main())


BOUNDARIES = {
    "is_closing": lambda t, sock: t.is_closing(),
    "get_extra_info": lambda t, sock: t.get_extra_info("peername"),
    "get_write_buffer_size": lambda t, sock: t.get_write_buffer_size(),
    "set_write_buffer_limits": lambda t, sock: t.set_write_buffer_limits(70000),
    "set_protocol": lambda t, sock: t.set_protocol(t.get_protocol()),
    "setsockopt": lambda t, sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    "getsockopt": lambda t, sock: sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE),
    "shutdown": lambda t, sock: sock.shutdown(socket.SHUT_WR),
    "fileno": lambda t, sock: sock.fileno(),
    "dup": lambda t, sock: sock.dup().close(),
    "repr": lambda t, sock: repr(sock),
    "run_in_executor": lambda t, sock: asyncio.get_running_loop().run_in_executor(None, int),
    "fork": lambda t, sock: fork(),
    "close": lambda t, sock: t.close(),
    "abort": lambda t, sock: t.abort(),
    "write_eof": lambda t, sock: t.write_eof(),
}


def fork():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded")
@kinds
@pytest.mark.parametrize("name", BOUNDARIES)
def test_boundaries(run, kind, name):
    """Whatever the habit, what could show that a write was held sends it."""
    async def main():
        transport, protocol, peer = await with_habit(kind)
        sock = transport.get_extra_info("socket")

        def write():
            transport.write(b"one")
            result = BOUNDARIES[name](transport, sock)
            assert waiting(peer) == b"one"
            return result

        result = await callback(write)
        if asyncio.isfuture(result):
            await result
        await end(protocol, peer)

    run(main())


@kinds
def test_a_child_that_is_started(run, kind):
    """subprocess_exec(), and a signal that follows a write."""
    async def main():
        transport, protocol, peer = await with_habit(kind)
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        transport.write(b"one")
        child, _ = await loop.subprocess_exec(
            asyncio.SubprocessProtocol, sys.executable, "-c", "input()",
            stdin=subprocess.PIPE, stdout=None, stderr=None)
        assert waiting(peer) == b"one"
        for _ in range(10):
            await callback(lambda: [transport.write(b"habit") for _ in range(2)])
            drain_all(peer, 10)
        await asyncio.sleep(0)
        transport.write(b"two")
        child.kill()
        assert waiting(peer) == b"two"
        await child._wait()
        child.close()
        await end(protocol, peer)

    run(main())


@kinds
def test_repr_does_not_count_what_is_held(run, kind):
    async def main():
        transport, protocol, peer = await with_habit(kind)

        def write():
            before = repr(transport)
            transport.write(b"one")
            assert repr(transport) == before

        await callback(write)
        await end(protocol, peer)

    run(main())


@kinds
@pytest.mark.parametrize("writes", [1, 2])
def test_memory_of_a_broadcast_is_given_back(run, kind, writes):
    """What was held, or sent, is not referred to when the callback has ended."""
    async def main():
        all_of_them = [await with_habit(kind, 2, 10) for _ in range(40)]
        payload = b"x" * 2000
        before = sys.getrefcount(payload)

        def write():
            for transport, _, _ in all_of_them:
                for _ in range(writes):
                    transport.write(payload)

        await callback(write)
        assert sys.getrefcount(payload) == before
        for transport, protocol, peer in all_of_them:
            assert transport.get_write_buffer_size() == 0
            assert drain_all(peer, 2000 * writes) == payload * writes
            await end(protocol, peer)

    run(main())


@kinds
@pytest.mark.parametrize("take", [
    lambda t: t.get_extra_info("socket").fileno(),
    lambda t: t.get_extra_info("socket").dup().close(),
    lambda t: t.get_extra_info("socket")._sock,
    lambda t: t._sock,
    lambda t: t._sock_fd,
], ids=["fileno", "dup", "TransportSocket._sock", "_sock", "_sock_fd"])
@pytest.mark.parametrize("before", [True, False])
def test_nothing_is_held_of_a_descriptor_that_the_program_has(run, kind, take, before):
    async def main():
        if before:
            transport, protocol, peer = await support.connected_by_name(kind)
        else:
            transport, protocol, peer = await with_habit(kind)
        take(transport)

        def write():
            for _ in range(3):
                transport.write(b"x")
                assert waiting(peer) == b"x"

        for _ in range(20):
            await callback(write)
        await end(protocol, peer)

    run(main())


@kinds
def test_nothing_is_held_of_a_socket_that_the_program_keeps(run, kind):
    async def main():
        ours, peer = support.socketpair(kind)
        transport, protocol = await support.connect_sock(ours, Recorder)

        def write():
            for _ in range(3):
                transport.write(b"x")
                assert waiting(peer) == b"x"

        for _ in range(20):
            await callback(write)
        assert ours.fileno() > 0
        await end(protocol, peer)

    run(main())


@kinds
@pytest.mark.parametrize("other", ["dup", "fileno"])
def test_nothing_is_held_of_a_socket_that_the_program_gave(run, kind, other):
    """What it took of the socket before is still a way to the descriptor."""
    async def main():
        ours, peer = support.socketpair(kind)
        taken = ours.dup() if other == "dup" else ours.fileno()
        transport, protocol = await support.connect_sock(ours, Recorder)
        del ours

        def write():
            for _ in range(3):
                transport.write(b"x")
                assert waiting(peer) == b"x"

        for _ in range(20):
            await callback(write)
        if other == "dup":
            taken.close()
        await end(protocol, peer)

    run(main())


@kinds
def test_a_slow_program(run, kind):
    """It computes between the pieces of its answers: nothing waits for that."""
    async def main():
        transport, protocol, peer = await support.connected_by_name(kind)

        def write():
            for _ in range(3):
                transport.write(b"piece")
                assert waiting(peer) == b"piece"
                until = time.perf_counter() + 0.0005
                while time.perf_counter() < until:
                    pass

        for _ in range(20):
            await callback(write)
        await end(protocol, peer)

    run(main())


@kinds
def test_a_program_that_becomes_slow(run, kind):
    """The habit is forgotten with the second write."""
    async def main():
        transport, protocol, peer = await with_habit(kind, 10)

        def write():
            transport.write(b"first")
            time.sleep(0.001)
            transport.write(b"second")
            assert drain_all(peer, 11) == b"firstsecond"
            transport.write(b"third")
            assert waiting(peer) == b"third"

        await callback(write)
        await callback(write)
        await end(protocol, peer)

    run(main())


@kinds
def test_a_drain_between_pieces(run, kind):
    """write() and drain(), whatever comes between: each piece leaves."""
    async def main():
        ours, peer = support.socketpair(kind)
        _, writer = await asyncio.open_connection(sock=ours)
        del ours

        for _ in range(20):
            for piece in b"one", b"two":
                writer.write(piece)
                writer.write(b";")
                await writer.drain()
                assert drain_all(peer, 4) == piece + b";"
        writer.close()
        await writer.wait_closed()
        peer.close()

    run(main())


@kinds
def test_pieces_of_all_kinds_keep_their_order(run, kind):
    async def main():
        transport, protocol, peer = await with_habit(kind, 5)
        data = [b"bytes", bytearray(b"array"), memoryview(b"view"), bytearray(30000),
                b"x" * 100_000]

        def write():
            for piece in data:
                transport.write(piece)
            transport.writelines([b"a", b"", bytearray(b"b")])

        for _ in range(10):
            await callback(write)
            expected = b"".join(bytes(piece) for piece in data) + b"ab"
            assert support.same(await support.recv_exactly(peer, len(expected)), expected)
        await end(protocol, peer)

    run(main())


@kinds
def test_memory_that_changes_while_it_is_held(run, kind):
    async def main():
        transport, protocol, peer = await with_habit(kind, 3)

        def write():
            data = bytearray(b"first ")
            transport.write(data)
            data[:] = b"second"
            transport.write(memoryview(data))
            data[:] = b"xxxxxx"

        await callback(write)
        assert drain_all(peer, 12) == b"first second"
        await end(protocol, peer)

    run(main())


@kinds
def test_many_transports_in_one_callback(run, kind):
    """Twice to each of them, and once to half of them."""
    async def main():
        all_of_them = [await with_habit(kind, 2, 10) for _ in range(40)]

        def write():
            for transport, _, _ in all_of_them:
                transport.write(b"one")
            for transport, _, _ in all_of_them[::2]:
                transport.write(b"two")

        await callback(write)
        for n, (_, protocol, peer) in enumerate(all_of_them):
            assert waiting(peer) == (b"one" if n % 2 else b"onetwo")
            await end(protocol, peer)

    run(main())


@kinds
def test_an_end_while_something_is_held(run, kind):
    """The peer goes, the transport is dropped, an exception leaves."""
    async def main():
        transport, protocol, peer = await with_habit(kind)

        def write():
            transport.write(b"one")
            peer.close()

        await callback(write)
        for _ in range(20):
            if transport.is_closing():
                break
            transport.write(b"z")
            await support.io_turns(1)
        await protocol.saw("lost")

    run(main())


@pytest.mark.parametrize("how", ["os._exit(0)", "os.execv('/bin/true', ['true'])"])
def test_what_was_drained_survives_the_process(script, how):
    """With a habit or without: write() and drain(), then exec or _exit."""
    assert script(f"""
    import asyncio, os, socket
    async def main():
        writer.write(b"habit")
        writer.write(b"habit")
        await writer.drain()
        if n < 20:
            return
        writer.write(b"last ")
        await writer.drain()
        writer.write(b"words")
        await writer.drain()
        {how}
    ours, peer = socket.socketpair()
    if not os.fork():
        peer.close()
        loop = new_loop()
        _, writer = loop.run_until_complete(asyncio.open_connection(sock=ours))
        del ours
        for n in range(21):
            loop.run_until_complete(main())
        os._exit(1)
    ours.close()
    data = b""
    while piece := peer.recv(1000):
        data += piece
    assert os.wait()[1] == 0
    print(data[210:].decode())
    """) == ["last words"]


@pytest.mark.tidewire
@pytest.mark.parametrize("value", ["0", "1"])
def test_switched_off(monkeypatch, loop_factory, value):
    """TIDEWIRE_CORK=0: no habit is learned."""
    def attempt(transport, peer):
        transport.write(b"one")
        return [waiting(peer)]

    monkeypatch.setenv("TIDEWIRE_CORK", value)
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(at_last(attempt, "unix", 2, [b"one", b""] if value == "0" else [b"", b"one"]))
