"""The poll slot of a descriptor: one watcher after the other, and who has it."""
import asyncio
import socket
import sys

import pytest

from ops.sockkit import METHODS
import support


# -- the poll slot ----------------------------------------------------------

@pytest.mark.parametrize("kind", support.KINDS)
def test_transport_owns_the_descriptor(loop, run, kind):
    async def main():
        transport, protocol, peer = await support.connected(kind)
        sock = transport.get_extra_info("socket")
        with socket.socket(fileno=sock.dup().detach()) as same:
            fd = same.detach()
        with socket.socket(fileno=sock.fileno()) as other:
            other.setblocking(False)
            try:
                for operation in (loop.sock_recv(other, 10),
                                  loop.sock_recv_into(other, bytearray(9)),
                                  loop.sock_accept(other)):
                    with pytest.raises((RuntimeError, OSError)) as caught:
                        await asyncio.wait_for(operation, 1)
                    if caught.type is RuntimeError:
                        assert "is used by transport" in str(caught.value)
            finally:
                other.detach()
        socket.close(fd)
        await support.close(protocol)
        peer.close()

    run(main())


def test_second_operation_replaces_the_first(loop, run, pair):
    a, b = pair

    async def main():
        first = asyncio.ensure_future(loop.sock_recv(a, 10))
        await support.turns(2)
        second = asyncio.ensure_future(loop.sock_recv(a, 10))
        await support.turns(2)
        b.send(b"x")
        assert await second == b"x"
        await support.io_turns()
        assert not first.done()
        third = asyncio.ensure_future(loop.sock_recv(a, 10))
        await support.turns(2)
        first.cancel()                  # must not take the third's place
        await support.io_turns()
        b.send(b"y")
        assert await third == b"y"

    run(main())


def test_reader_replaces_the_operation(loop, run, pair):
    a, b = pair

    async def main():
        task = asyncio.ensure_future(loop.sock_recv(a, 10))
        await support.turns(2)
        called = asyncio.Event()
        loop.add_reader(a, called.set)
        b.send(b"x")
        await called.wait()
        assert loop.remove_reader(a) is True
        assert not task.done()
        task.cancel()
        await support.turns(2)
        assert await loop.sock_recv(a, 10) == b"x"

    run(main())


def test_remove_reader_takes_the_operation_out(loop, run, pair):
    a, b = pair

    async def main():
        task = asyncio.ensure_future(loop.sock_recv(a, 10))
        await support.turns(2)
        assert loop.remove_reader(a) is True
        assert loop.remove_reader(a) is False
        b.send(b"x")
        await support.io_turns()
        assert not task.done()
        task.cancel()
        await support.turns(1)
        assert a.recv(10) == b"x"

    run(main())


@pytest.mark.parametrize("use", ["recv", "reader", "transport"])
def test_number_is_reused_right_after(loop, run, use):
    """Closed and opened again in the same step: the watcher of the old
    socket must not stand for the new one."""
    async def one(a, b):
        task = asyncio.ensure_future(loop.sock_recv(a, 10))
        await support.turns(3)
        b.send(b"old")
        assert await task == b"old"

    async def main():
        for _ in range(5):
            a, b = support.socketpair()
            number = a.fileno()
            operation = loop.sock_recv(a, 10)
            future = operation.send(None)
            future.add_done_callback(lambda _: None)
            await support.turns(3)
            b.send(b"old")
            reused = loop.create_future()

            def swap(_):
                a.close()
                c, d = support.socketpair()
                reused.set_result((c, d))

            future.add_done_callback(swap)
            c, d = await reused
            operation.close()
            b.close()
            assert number in (c.fileno(), d.fileno())
            if d.fileno() == number:
                c, d = d, c
            await check(c, d)
            d.close()

    async def check(c, d):
        if use == "recv":
            task = asyncio.ensure_future(loop.sock_recv(c, 10))
            await support.turns(3)
            d.send(b"new")
            assert await task == b"new"
            c.close()
        elif use == "reader":
            called = asyncio.Event()
            loop.add_reader(c, called.set)
            d.send(b"new")
            await called.wait()
            assert loop.remove_reader(c)
            c.close()
        else:
            transport, protocol = await support.connect_sock(
                c, support.Recorder)
            d.send(b"new")
            await protocol.got(b"new")
            await support.close(protocol)

    run(main())


def test_reader_after_an_operation(loop, run, pair):
    """Each way of waiting after each other one."""
    a, b = pair

    async def main():
        for _ in range(3):
            task = asyncio.ensure_future(loop.sock_recv(a, 1))
            await support.turns(2)
            b.send(b"xy")
            await task
            called = asyncio.Event()
            loop.add_reader(a, called.set)
            await called.wait()
            loop.remove_reader(a)
            await support.io_turns()
            assert await loop.sock_recv(a, 5) == b"y"

    run(main())


@pytest.mark.tidewire
def test_loop_sleeps_between_operations(loop, run, pair):
    """Data that nobody waits for must not keep the loop awake, neither
    after an operation nor after a duplicate was closed."""
    a, b = pair

    async def idle():
        before = loop.stats()["turns"]
        await asyncio.sleep(0.05)
        return loop.stats()["turns"] - before

    async def main():
        task = asyncio.ensure_future(loop.sock_recv(a, 1))
        await support.turns(2)
        b.send(b"xyz")
        await task
        await support.turns(2)
        assert await idle() < 10
        with a.dup() as copy:
            copy.setblocking(False)
            support.drain(a)
            task = asyncio.ensure_future(loop.sock_recv(copy, 1))
            await support.turns(2)
            b.send(b"xyz")
            await task
            await support.turns(2)
        assert await idle() < 10
        # The same, closed in the very step that got the data.
        support.drain(a)
        copy = a.dup()
        copy.setblocking(False)
        operation = loop.sock_recv(copy, 1)
        future = operation.send(None)
        closed = asyncio.Event()
        future.add_done_callback(lambda future: (copy.close(), closed.set()))
        await support.turns(2)
        b.send(b"xyz")
        await closed.wait()
        operation.close()
        await support.turns(2)
        assert await idle() < 10
        support.drain(a)
        task = asyncio.ensure_future(loop.sock_recv(a, 1))
        await support.turns(2)
        b.send(b"x")
        assert await task == b"x"

    run(main())


def test_both_directions_and_the_end(loop, run):
    """Many sockets, closed in the very step that got the last data."""
    async def serve(sock):
        with sock:
            while data := await loop.sock_recv(sock, 1000):
                await loop.sock_sendall(sock, data)
                if data == b"last":
                    break

    async def main():
        for _ in range(100):
            a, b = support.socketpair()
            task = asyncio.ensure_future(serve(a))
            with b:
                for message in b"one", b"two", b"last":
                    await loop.sock_sendall(b, message)
                    assert await loop.sock_recv(b, 10) == message
                await task
                assert await loop.sock_recv(b, 10) == b""

    run(main())


def test_debug_mode(loop, run, pair):
    a, b = pair
    loop.set_debug(True)

    async def main():
        task = asyncio.ensure_future(loop.sock_recv(a, 10))
        await support.turns(2)
        await loop.sock_sendall(b, b"x")
        assert await task == b"x"
        a.setblocking(True)
        for name in METHODS:
            with pytest.raises(ValueError, match="must be non-blocking"):
                await METHODS[name](loop, a)

    run(main())


def test_interrupt_from_a_socket_method(loop, pair):
    """KeyboardInterrupt leaves the loop, as from any callback."""
    a, b = pair

    class Interrupts(socket.socket):
        armed = False

        def recv(self, n):
            if self.armed:
                raise KeyboardInterrupt
            return super().recv(n)

    with Interrupts(fileno=a.detach()) as own:
        own.setblocking(False)

        async def main():
            task = asyncio.ensure_future(loop.sock_recv(own, 10))
            await support.turns(2)
            own.armed = True
            b.send(b"x")
            await task

        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(main())
        own.armed = False


def test_references(loop, run, pair):
    a, b = pair

    async def main():
        for what in "done", "cancelled", "failed", "closed":
            data = bytearray(b"x" * 5_000_000)
            before = sys.getrefcount(data)
            operation = loop.sock_sendall(a, data)
            task = asyncio.ensure_future(operation)
            await support.turns(2)
            with pytest.raises(BufferError):
                data.append(0)          # held while it waits
            if what == "done":
                await support.recv_exactly(b, len(data))
                await task
            else:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            data.append(0)
            del task, operation
            support.drain(b)
            await support.turns(2)
            assert sys.getrefcount(data) == before

    run(main())
