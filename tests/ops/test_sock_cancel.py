"""Operations on a socket that are cancelled, closed under, or left waiting."""
import asyncio
import gc
import socket
import weakref

import pytest

from ops.sockkit import kinds
import support


# -- cancelling, closing, replacing -----------------------------------------

def start(loop, what, a, b):
    """An operation on a that has to wait."""
    if what == "recv":
        return loop.sock_recv(a, 10)
    if what == "recv_into":
        return loop.sock_recv_into(a, bytearray(10))
    if what == "sendall":
        return loop.sock_sendall(a, b"x" * 10_000_000)
    raise AssertionError(what)


OPERATIONS = ["recv", "recv_into", "sendall"]


@kinds
@pytest.mark.parametrize("what", OPERATIONS)
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5])
def test_cancel(loop, run, pair, kind, what, steps):
    """At each step; then the socket is as usable as before."""
    a, b = pair

    async def main():
        task = asyncio.ensure_future(start(loop, what, a, b))
        await support.turns(steps)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await support.turns(2)
        support.drain(b)
        assert loop.remove_reader(a) is False
        assert loop.remove_writer(a) is False
        b.send(b"after")
        assert await loop.sock_recv(a, 10) == b"after"

    run(main())


@kinds
@pytest.mark.parametrize("what", OPERATIONS)
def test_cancel_while_it_becomes_ready(loop, run, pair, kind, what):
    """The event and the cancel come in the same turn: nothing is lost."""
    a, b = pair

    async def main():
        received = b""
        for i in range(20):
            task = asyncio.ensure_future(start(loop, what, a, b))
            await support.turns(3)
            if what == "sendall":
                support.drain(b)
            else:
                b.send(b"x")
            loop.call_soon(task.cancel)
            try:
                result = await task
            except asyncio.CancelledError:
                pass
            else:
                received += result if what == "recv" else b"x" * (result or 0)
        if what != "sendall":
            await support.io_turns(1)
            received += support.drain(a)
            assert received == b"x" * 20

    run(main())


@pytest.mark.parametrize("steps", range(4))
def test_cancel_connect(loop, run, steps):
    async def main():
        with socket.socket() as sock:
            sock.setblocking(False)
            task = asyncio.ensure_future(
                loop.sock_connect(sock, ("127.0.0.1", 9)))
            await support.turns(steps)
            task.cancel()
            try:
                await task
            except (asyncio.CancelledError, ConnectionError):
                pass
            await support.turns(2)
            assert loop.remove_writer(sock) is False

    run(main())


@pytest.mark.parametrize("steps", range(4))
def test_cancel_accept(loop, run, listener, steps):
    """A connection that comes later is not swallowed."""
    async def main():
        task = asyncio.ensure_future(loop.sock_accept(listener))
        await support.turns(steps)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await support.turns(2)
        with socket.create_connection(listener.getsockname()) as client:
            conn, address = await loop.sock_accept(listener)
            assert address == client.getsockname()
            conn.close()

    run(main())


@kinds
@pytest.mark.parametrize("what", OPERATIONS)
def test_timeout(loop, run, pair, kind, what):
    a, b = pair

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(start(loop, what, a, b), 0.01)
        support.drain(b)
        b.send(b"after")
        assert await loop.sock_recv(a, 10) == b"after"

    run(main())


@kinds
@pytest.mark.parametrize("what", OPERATIONS)
def test_close_under_it(loop, run, kind, what):
    """asyncio leaves it waiting; it can be cancelled, and nothing dies."""
    async def main():
        a, b = support.socketpair(kind)
        task = asyncio.ensure_future(start(loop, what, a, b))
        await support.turns(3)
        a.close()
        await support.io_turns(3)
        b.close()
        await support.io_turns(3)
        task.cancel()
        try:
            await task
        except (asyncio.CancelledError, OSError):
            pass
        return await asyncio.sleep(0.001, True)

    assert run(main())


@kinds
@pytest.mark.parametrize("what", OPERATIONS)
def test_close_and_reuse_under_it(loop, run, kind, what):
    """The number is another socket now: that one is not disturbed."""
    async def main():
        a, b = support.socketpair(kind)
        task = asyncio.ensure_future(start(loop, what, a, b))
        await support.turns(3)
        number = a.fileno()
        a.close()
        c, d = support.socketpair(kind)
        await support.io_turns(2)
        task.cancel()
        try:
            await task
        except (asyncio.CancelledError, OSError):
            pass
        await support.turns(2)
        d.send(b"for c")
        assert await loop.sock_recv(c, 10) == b"for c"
        for sock in b, c, d:
            sock.close()
        return number

    run(main())


@kinds
def test_shutdown_under_it(loop, run, pair, kind):
    a, b = pair

    async def main():
        task = asyncio.ensure_future(loop.sock_recv(a, 10))
        await support.turns(3)
        a.shutdown(socket.SHUT_RD)
        assert await task == b""

    run(main())


@kinds
def test_peer_resets(loop, run, kind):
    async def main():
        a, b = support.socketpair("tcp")
        with a:
            task = asyncio.ensure_future(loop.sock_recv(a, 10))
            await support.turns(3)
            support.reset(b)
            with pytest.raises(ConnectionResetError):
                await task

    run(main())


@pytest.mark.parametrize("what", OPERATIONS)
def test_loop_closed_while_it_waits(make_loop, what):
    loop = make_loop()
    a, b = support.socketpair()
    task = None

    async def main():
        nonlocal task
        task = asyncio.ensure_future(start(loop, what, a, b))
        await support.turns(3)

    loop.run_until_complete(main())
    task._log_destroy_pending = False
    loop.close()
    a.close()
    b.close()
    del task
    gc.collect()


def test_everything_is_let_go(loop, run, pair):
    a, b = pair

    class Buffer(bytearray):
        pass

    async def main():
        buffer = Buffer(10)
        ref = weakref.ref(buffer)
        task = asyncio.ensure_future(loop.sock_recv_into(a, buffer))
        await support.turns(3)
        b.send(b"x")
        await task
        del buffer, task
        await support.turns(2)
        gc.collect()
        return ref()

    assert run(main()) is None


@kinds
def test_echo(loop, run, pair, kind):
    a, b = pair

    async def serve():
        while data := await loop.sock_recv(b, 1000):
            await loop.sock_sendall(b, data)

    async def main():
        task = asyncio.ensure_future(serve())
        for i in range(500):
            await loop.sock_sendall(a, b"%03d" % i)
            assert await support.recv_exactly(a, 3) == b"%03d" % i
        a.shutdown(socket.SHUT_WR)
        await task

    run(main())


def test_closed_loop(make_loop, pair):
    a, b = pair
    b.send(b"x")
    loop, other = make_loop(), make_loop()
    loop.close()

    async def main():
        # Data is there: asyncio does not look whether it is closed.
        assert await loop.sock_recv(a, 10) == b"x"
        with pytest.raises(RuntimeError):
            await loop.sock_recv(a, 10)

    try:
        other.run_until_complete(main())
    except RuntimeError as exc:
        assert "closed" in str(exc)
