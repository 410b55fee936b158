"""The awaitable operations as coroutines, and on sockets of other classes."""
import asyncio
import collections.abc
import contextlib
import ctypes
import gc
import inspect
import os
import socket
import warnings
import weakref

import pytest

from ops.sockkit import METHODS
import support

methods = pytest.mark.parametrize("name", METHODS)


# -- what a coroutine is ----------------------------------------------------

@methods
def test_is_a_coroutine(loop, pair, name):
    operation = METHODS[name](loop, pair[0])
    assert asyncio.iscoroutine(operation)
    assert isinstance(operation, collections.abc.Coroutine)
    assert isinstance(operation, collections.abc.Awaitable)
    assert inspect.isawaitable(operation)
    assert not isinstance(operation, collections.abc.Iterable)
    assert operation.__name__ == name
    assert operation.__qualname__.endswith("." + name)
    assert operation.cr_running is False
    assert operation.cr_await is None
    assert name in repr(operation)
    weakref.ref(operation)
    assert operation.close() is None
    assert operation.close() is None


@methods
def test_never_awaited(loop, pair, name):
    """Nothing is done, and Python's warning is given."""
    operation = METHODS[name](loop, pair[0])
    with pytest.warns(RuntimeWarning, match=f"{name}' was never awaited"):
        del operation
        gc.collect()
    assert support.drain(pair[1]) == b""


def test_never_awaited_as_an_error(loop, pair, unraisable):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.sock_recv(pair[0], 1)
        gc.collect()
    assert "never awaited" in unraisable.take()[0]


def test_no_warning_once_started_or_closed(loop, run, pair):
    a, b = pair

    async def main():
        waiting = loop.sock_recv(a, 10)
        waiting.send(None)
        del waiting
        loop.sock_recv(a, 10).close()
        await loop.sock_sendall(b, b"x")
        await loop.sock_recv(a, 10)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(main())
        gc.collect()


def test_done_at_once_raises_stop_iteration(loop, run, pair):
    a, b = pair

    async def main():
        b.send(b"data")
        with pytest.raises(StopIteration) as caught:
            loop.sock_recv(a, 10).send(None)
        assert caught.value.value == b"data"
        with pytest.raises(StopIteration) as caught:
            loop.sock_sendall(a, b"data").send(None)
        assert caught.value.value is None

    run(main())


def test_tuple_result_through_stop_iteration(loop, run):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)

        async def main():
            sock.sendto(b"x", sock.getsockname())
            with pytest.raises(StopIteration) as caught:
                loop.sock_recvfrom(sock, 10).send(None)
            assert caught.value.value == (b"x", sock.getsockname())

        run(main())


def test_sends_and_states(loop, run, pair):
    a, b = pair

    async def main():
        operation = loop.sock_recv(a, 10)
        with pytest.raises(TypeError, match="just-started"):
            operation.send(1)
        future = operation.send(None)
        assert asyncio.isfuture(future)
        assert future._asyncio_future_blocking
        assert future.get_loop() is loop
        assert operation.cr_await is not None
        with pytest.raises(RuntimeError, match="await wasn't used"):
            operation.send(None)
        with pytest.raises(RuntimeError, match="already awaited"):
            operation.send(None)
        with pytest.raises(RuntimeError, match="already awaited"):
            await operation
        future.cancel()

    run(main())


def test_awaited_twice_at_once(loop, run, pair):
    a, b = pair

    async def waits(operation):
        return await operation

    async def main():
        operation = loop.sock_recv(a, 10)
        task = asyncio.ensure_future(waits(operation))
        await support.turns(1)
        with pytest.raises(RuntimeError, match="awaited already"):
            await operation
        b.send(b"x")
        assert await task == b"x"

    run(main())


@pytest.mark.parametrize("started", [False, True])
def test_throw(loop, run, pair, started):
    a, b = pair

    async def main():
        for thrown in ((KeyError("k"),), (KeyError,)):
            operation = loop.sock_recv(a, 10)
            future = operation.send(None) if started else None
            with pytest.raises(KeyError):
                operation.throw(*thrown)
            with pytest.raises(RuntimeError):
                operation.send(None)
            if future is not None:
                future.cancel()
            await support.turns(2)
        for wrong in (int, 5, "x"):
            with pytest.raises(TypeError):
                loop.sock_recv(a, 10).throw(wrong)
        with pytest.raises(TypeError):
            loop.sock_recv(a, 10).throw()
        b.send(b"still there")
        assert await loop.sock_recv(a, 20) == b"still there"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(main())
        gc.collect()


@pytest.mark.tidewire
def test_close_while_waiting_consumes_nothing(loop, run, pair):
    """asyncio's would still read, and lose what it read."""
    a, b = pair

    async def main():
        operation = loop.sock_recv(a, 10)
        operation.send(None)
        operation.close()
        b.send(b"kept")
        await support.io_turns()
        assert support.drain(a) == b"kept"

    run(main())


def test_wrapped_in_everything(loop, run, pair):
    a, b = pair

    async def main():
        b.send(b"1")
        assert await asyncio.wait_for(loop.sock_recv(a, 1), 1) == b"1"
        b.send(b"2")
        assert await asyncio.gather(loop.sock_recv(a, 1)) == [b"2"]
        b.send(b"3")
        assert await asyncio.shield(loop.sock_recv(a, 1)) == b"3"
        b.send(b"4")
        task = loop.create_task(loop.sock_recv(a, 1), name="named")
        assert task.get_name() == "named" and "sock_recv" in repr(task)
        done, _ = await asyncio.wait([task])
        assert done.pop().result() == b"4"
        task = asyncio.ensure_future(loop.sock_recv(a, 1))
        await support.turns(2)
        assert "sock_recv" in repr(task) and "wait_for" in repr(task)
        assert task.get_stack() == [] or task.get_stack()
        future = asyncio.run_coroutine_threadsafe(
            loop.sock_sendall(b, b"5"), loop)
        assert await task == b"5"
        assert await asyncio.wrap_future(future) is None

    run(main())


def test_run_until_complete(loop, pair):
    a, b = pair
    b.send(b"x")
    assert loop.run_until_complete(loop.sock_recv(a, 10)) == b"x"


def test_slow_name_is_cancelled(loop, run):
    """Cancelled while the name of sock_connect() is being resolved."""
    async def slow(*args, **kwargs):
        started.set()
        await asyncio.sleep(30)

    async def main():
        with socket.socket() as sock:
            sock.setblocking(False)
            task = asyncio.ensure_future(
                loop.sock_connect(sock, ("a.host.example", 80)))
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    started = asyncio.Event()
    loop.getaddrinfo = slow
    run(main())


def test_name_that_does_not_resolve(loop, run):
    async def fails(*args, **kwargs):
        await asyncio.sleep(0)
        raise socket.gaierror(-2, "no such name")

    async def main():
        with socket.socket() as sock:
            sock.setblocking(False)
            with pytest.raises(socket.gaierror):
                await loop.sock_connect(sock, ("a.host.example", 80))

    loop.getaddrinfo = fails
    run(main())


# -- sockets of other classes -----------------------------------------------

class Own(socket.socket):
    """Its own methods must be the ones that are called."""

    def recv(self, n):
        return super().recv(n).upper()

    def send(self, data):
        return super().send(bytes(data[:3]))

    def recv_into(self, buffer):
        return super().recv_into(buffer, 1)


def test_subclass(loop, run, pair):
    a, b = pair
    with Own(fileno=a.detach()) as own:
        own.setblocking(False)

        async def main():
            task = asyncio.ensure_future(loop.sock_recv(own, 10))
            await support.io_turns()
            b.send(b"shout")
            assert await task == b"SHOUT"
            await loop.sock_sendall(own, b"in pieces of three")
            assert b.recv(100) == b"in pieces of three"
            b.send(b"xyz")
            assert await loop.sock_recv_into(own, bytearray(5)) == 1

        run(main())


def test_subclass_sendall_waits(loop, run, pair):
    a, b = pair
    data = bytes(range(256)) * 2000

    class Whole(socket.socket):
        def send(self, data):
            return super().send(data)

    with Whole(fileno=a.detach()) as own:
        own.setblocking(False)

        async def main():
            task = asyncio.ensure_future(loop.sock_sendall(own, data))
            got = await support.recv_exactly(b, len(data))
            await task
            assert support.same(got, data)

        run(main())


def test_subclass_keeps_what_it_was_given_to_send(loop, run, pair):
    """It holds the buffer, also when the operation is over."""
    a, b = pair
    data = bytearray(range(200))
    kept = []

    class Keeps(socket.socket):
        def send(self, data):
            kept.append(data)
            return super().send(data[:90])

    with Keeps(fileno=a.detach()) as own:
        own.setblocking(False)

        async def main():
            await loop.sock_sendall(own, data)
            assert b.recv(1000) == data

        run(main())
        assert kept[0] is data
        with pytest.raises(BufferError):
            data.clear()
        assert [bytes(view) for view in kept[1:]] == [data[90:], data[180:]]
        kept.clear()
        data.clear()


@pytest.mark.asyncio_defect("counts items, not bytes")
def test_subclass_sends_what_counts_no_bytes(loop, run, pair):
    a, b = pair
    data = (ctypes.c_int * 50)(*range(50))

    with Own(fileno=a.detach()) as own:
        own.setblocking(False)

        async def main():
            await loop.sock_sendall(own, memoryview(data))
            assert b.recv(1000) == bytes(data)

        run(main())


def test_subclass_of_a_listener(loop, run):
    class Listener(socket.socket):
        pass

    with Listener() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)

        async def main():
            task = asyncio.ensure_future(loop.sock_accept(listener))
            await support.turns(2)
            with socket.create_connection(listener.getsockname()) as client:
                conn, address = await task
                with conn:
                    assert address == client.getsockname()
                    assert conn.gettimeout() == 0

        run(main())


# -- exceptions that leave the loop ------------------------------------------

class Interrupted(asyncio.Future):
    """A signal arrives while its result is set."""

    def set_result(self, value):
        raise KeyboardInterrupt("while the result is set")

    def set_exception(self, exc):
        super().set_exception(exc)
        if isinstance(exc, OSError):
            raise KeyboardInterrupt("while the exception is set")


def interrupted_loop(loop):
    """A loop whose futures are such, and whose call_soon() is the program's."""
    class Loop(type(loop)):
        interrupts = True

        def create_future(self):
            return Interrupted(loop=self) if self.interrupts else super().create_future()

        def call_soon(self, *args, **kwargs):
            return super().call_soon(*args, **kwargs)

    return Loop()


def test_an_interrupt_while_the_result_is_set(loop, pair):
    """The loop's own work behind it calls methods of the program's: that must not lose it."""
    a, b = pair
    own = interrupted_loop(loop)
    task = own.create_task(own.sock_recv(a, 10))
    own.call_later(0, b.send, b"x")
    with pytest.raises(KeyboardInterrupt, match="while the result is set"):
        own.run_forever()
    own.interrupts = False
    task.cancel()
    own.call_soon(own.stop)
    own.run_forever()
    own.close()


@pytest.mark.tidewire
def test_an_interrupt_does_not_drop_the_other_operation(loop, pair):
    """Two wait for a socket whose number another one gets: both hear of it."""
    a, b = pair
    own = interrupted_loop(loop)
    with contextlib.suppress(BlockingIOError):
        while True:
            a.send(bytes(65536))
    tasks = [own.create_task(own.sock_recv(a, 10)), own.create_task(own.sock_sendall(a, b"x"))]
    own.call_soon(own.stop)
    own.run_forever()
    own.interrupts = False
    number = a.detach()
    other, peer = socket.socketpair()
    os.dup2(other.fileno(), number)
    other.close()
    connection = own.create_task(own.create_connection(
        asyncio.Protocol, sock=socket.socket(fileno=number)))
    with pytest.raises(KeyboardInterrupt, match="while the exception is set"):
        own.run_until_complete(connection)
    own.run_until_complete(connection)[0].abort()
    results = own.run_until_complete(asyncio.wait_for(
        asyncio.gather(*tasks, return_exceptions=True), 10))
    assert [type(result) for result in results] == [OSError, OSError]
    peer.close()
    own.close()


# -- methods that the program replaced on the class ---------------------------

CLASS_METHODS = {
    "sock_recv": "recv", "sock_recv_into": "recv_into", "sock_recvfrom": "recvfrom",
    "sock_recvfrom_into": "recvfrom_into", "sock_sendall": "send", "sock_sendto": "sendto",
    "sock_connect": "connect", "sock_accept": "accept",
}


@methods
def test_method_replaced_on_the_class(loop, run, pair, name, monkeypatch):
    """As pytest-socket replaces connect(), to refuse hosts that are not allowed."""
    class Refused(Exception):
        pass

    def refuse(self, *args):
        raise Refused

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, CLASS_METHODS[name], refuse)
        with pytest.raises(Refused):
            run(METHODS[name](loop, pair[0]))
    pair[1].send(b"plain again")
    assert run(loop.sock_recv(pair[0], 5)) == b"plain"


def test_connection_to_a_refused_host(loop, run, monkeypatch):
    def refuse(self, address):
        raise ConnectionError(f"not allowed: {address}")

    async def main():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        monkeypatch.setattr(socket.socket, "connect", refuse)
        with pytest.raises(ConnectionError, match="not allowed"):
            await loop.create_connection(asyncio.Protocol, *address)
        server.close()

    run(main())
