"""sock_recv, sock_recv_into, sock_sendall, sock_connect, sock_accept."""
import asyncio
import errno
import socket
import sys
import tempfile

import pytest

from ops.sockkit import kinds
import support


def pending(task):
    return not task.done()


# -- receiving --------------------------------------------------------------

@kinds
def test_recv(loop, run, pair, kind):
    a, b = pair

    async def main():
        b.send(b"ready")
        assert await loop.sock_recv(a, 100) == b"ready"
        task = asyncio.ensure_future(loop.sock_recv(a, 3))
        await support.io_turns()
        assert pending(task)
        b.send(b"later")
        assert await task == b"lat"
        assert await loop.sock_recv(a, 100) == b"er"
        b.close()
        assert await loop.sock_recv(a, 100) == b""

    run(main())


@kinds
def test_recv_result_is_bytes_of_its_own(loop, run, pair, kind):
    a, b = pair

    async def main():
        b.send(b"x")
        first = await loop.sock_recv(a, 1 << 20)
        b.send(b"y")
        second = await loop.sock_recv(a, 1 << 20)
        assert type(first) is bytes and (first, second) == (b"x", b"y")
        assert sys.getsizeof(first) < 100

    run(main())


@kinds
def test_recv_zero(loop, run, pair, kind):
    """recv(0) gives b"" at once, as recv(2) does when data is there."""
    a, b = pair

    async def main():
        b.send(b"x")
        await support.io_turns(1)
        assert await loop.sock_recv(a, 0) == b""
        assert await loop.sock_recv(a, 10) == b"x"

    run(main())


@kinds
def test_recv_big(loop, run, pair, kind):
    a, b = pair
    data = bytes(range(256)) * 20000

    async def main():
        task = asyncio.ensure_future(loop.sock_sendall(b, data))
        received = await support.recv_exactly(a, len(data))
        await task
        assert support.same(received, data)

    run(main())


@kinds
def test_recv_into(loop, run, pair, kind):
    a, b = pair
    buffer = bytearray(10)

    async def main():
        b.send(b"ready")
        assert await loop.sock_recv_into(a, buffer) == 5
        assert buffer == b"ready" + bytes(5)
        view = memoryview(buffer)[5:]
        task = asyncio.ensure_future(loop.sock_recv_into(a, view))
        await support.io_turns()
        assert pending(task)
        b.send(b"later!!")
        assert await task == 5
        assert buffer == b"readylater"
        assert await loop.sock_recv(a, 10) == b"!!"
        b.close()
        assert await loop.sock_recv_into(a, buffer) == 0

    run(main())


def outcome(loop, coro):
    """What an awaitable ends with: a value, or the type of an exception."""
    try:
        return loop.run_until_complete(asyncio.wait_for(coro, 5))
    except Exception as exc:
        return type(exc)


def as_asyncio(loop, attempt):
    """attempt(loop) must end in the same way on the stock loop."""
    reference = asyncio.SelectorEventLoop()
    try:
        expected = attempt(reference)
    finally:
        reference.close()
    assert attempt(loop) == expected
    return expected


@pytest.mark.parametrize("buffer", [
    b"read only", "text", None, 5, bytearray(), memoryview(b"ro")], ids=repr)
def test_recv_into_wrong_buffers(loop, buffer):
    def attempt(loop):
        a, b = support.socketpair()
        with a, b:
            b.send(b"x")
            return outcome(loop, loop.sock_recv_into(a, buffer))

    as_asyncio(loop, attempt)


@pytest.mark.parametrize("size", [-1, "10", None, 1.5, 2 ** 70], ids=repr)
def test_recv_wrong_sizes(loop, size):
    def attempt(loop):
        a, b = support.socketpair()
        with a, b:
            b.send(b"x")
            return outcome(loop, loop.sock_recv(a, size))

    as_asyncio(loop, attempt)


@pytest.mark.parametrize("sock", ["text", None, 5, object()])
@pytest.mark.parametrize("call", [
    lambda loop, s: loop.sock_recv(s, 10),
    lambda loop, s: loop.sock_recv_into(s, bytearray(5)),
    lambda loop, s: loop.sock_sendall(s, b"x"),
    lambda loop, s: loop.sock_connect(s, ("127.0.0.1", 1)),
    lambda loop, s: loop.sock_accept(s)],
    ids=["recv", "recv_into", "sendall", "connect", "accept"])
def test_no_sockets(loop, call, sock):
    def attempt(loop):
        return outcome(loop, call(loop, sock))

    ours = attempt(loop)
    assert isinstance(ours, type) and issubclass(
        ours, (TypeError, AttributeError, ValueError))


@pytest.mark.parametrize("call", [
    lambda loop, s: loop.sock_recv(s, 10),
    lambda loop, s: loop.sock_recv_into(s, bytearray(5)),
    lambda loop, s: loop.sock_sendall(s, b"x"),
    lambda loop, s: loop.sock_connect(s, ("127.0.0.1", 1)),
    lambda loop, s: loop.sock_accept(s)],
    ids=["recv", "recv_into", "sendall", "connect", "accept"])
@pytest.mark.parametrize("what", ["closed", "unconnected", "udp"])
def test_unfit_sockets(loop, call, what):
    def attempt(loop):
        with socket.socket(type=socket.SOCK_DGRAM if what == "udp"
                           else socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            if what == "closed":
                sock.close()
            if what == "udp":
                sock.bind(("127.0.0.1", 0))
                sock.connect(sock.getsockname())
                sock.send(b"x")
            return outcome(loop, call(loop, sock))

    as_asyncio(loop, attempt)


@pytest.mark.parametrize("call", [
    lambda loop, s: loop.sock_recv(s, 10),
    lambda loop, s: loop.sock_recv_into(s, bytearray(5)),
    lambda loop, s: loop.sock_sendall(s, b"x"),
    lambda loop, s: loop.sock_connect(s, ("127.0.0.1", 1)),
    lambda loop, s: loop.sock_accept(s)],
    ids=["recv", "recv_into", "sendall", "connect", "accept"])
def test_blocking_socket_in_debug_mode(loop, call):
    loop.set_debug(True)
    with socket.socket() as sock:
        async def main():
            with pytest.raises(ValueError, match="must be non-blocking"):
                await call(loop, sock)
        loop.run_until_complete(main())


# -- sending ----------------------------------------------------------------

@kinds
@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_sendall(loop, run, pair, kind, make):
    a, b = pair

    async def main():
        assert await loop.sock_sendall(a, make(b"hello")) is None
        assert await support.recv_exactly(b, 5) == b"hello"
        assert await loop.sock_sendall(a, make(b"")) is None

    run(main())


@kinds
def test_sendall_waits(loop, run, pair, kind):
    a, b = pair
    data = bytes(i % 253 for i in range(8_000_000))

    async def main():
        task = asyncio.ensure_future(loop.sock_sendall(a, data))
        await support.io_turns()
        received = await support.recv_exactly(b, len(data))
        await task
        assert support.same(received, data)

    run(main())


@kinds
def test_sendall_to_a_closed_peer(loop, run, pair, kind):
    a, b = pair

    async def main():
        b.close()
        with pytest.raises(ConnectionError):
            for _ in range(100):
                await loop.sock_sendall(a, b"x" * 10000)
                await support.io_turns(1)

    run(main())


@pytest.mark.parametrize("data", ["text", None, 5, [b"x"]], ids=repr)
def test_sendall_wrong_types(loop, data):
    def attempt(loop):
        a, b = support.socketpair()
        with a, b:
            return outcome(loop, loop.sock_sendall(a, data))

    assert as_asyncio(loop, attempt) is TypeError


@pytest.mark.asyncio_defect("counts items, not bytes")
def test_sendall_wider_items(loop, run, pair):
    import array
    a, b = pair
    data = array.array("I", range(1000))

    async def main():
        await loop.sock_sendall(a, memoryview(data))
        assert await support.recv_exactly(b, 4000) == data.tobytes()

    run(main())


@kinds
def test_two_directions_of_one_socket(loop, run, pair, kind):
    a, b = pair

    async def main():
        receive = asyncio.ensure_future(support.recv_exactly(a, 1_000_000))
        send = asyncio.ensure_future(loop.sock_sendall(a, b"a" * 1_000_000))
        back = asyncio.ensure_future(loop.sock_sendall(b, b"b" * 1_000_000))
        assert len(await support.recv_exactly(b, 1_000_000)) == 1_000_000
        assert len(await receive) == 1_000_000
        await asyncio.gather(send, back)

    run(main())


# -- connecting and accepting -----------------------------------------------

def test_connect_and_accept(loop, run, listener):
    async def main():
        with socket.socket() as sock:
            sock.setblocking(False)
            accept = asyncio.ensure_future(loop.sock_accept(listener))
            await support.io_turns()
            assert pending(accept)
            assert await loop.sock_connect(
                sock, listener.getsockname()) is None
            conn, address = await accept
            with conn:
                assert address == sock.getsockname()
                assert isinstance(conn, socket.socket)
                assert conn.gettimeout() == 0
                assert not conn.get_inheritable()
                await loop.sock_sendall(conn, b"x")
                assert await loop.sock_recv(sock, 10) == b"x"

    run(main())


def test_connect_by_name(loop, run, listener):
    """A host name is looked up, for the inet families."""
    async def main():
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(
                sock, ("localhost", listener.getsockname()[1]))
            listener.accept()[0].close()

    run(main())


def test_connect_refused(loop, run):
    async def main():
        with socket.socket() as sock, socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            sock.setblocking(False)
            with pytest.raises(ConnectionRefusedError) as caught:
                await loop.sock_connect(sock, other.getsockname())
            assert caught.value.errno == errno.ECONNREFUSED

    run(main())


@pytest.mark.parametrize("address", [
    None, "text", 5, ("127.0.0.1",), ("127.0.0.1", "x"),
    ("127.0.0.1", 70000), (5, 5), ("127.0.0.1", 80, 5),
    ("127.0.0.1\0.example", 80)], ids=repr)
def test_connect_wrong_addresses(loop, address):
    def attempt(loop):
        with socket.socket() as sock:
            sock.setblocking(False)
            try:
                return outcome(loop, loop.sock_connect(sock, address))
            finally:
                loop.run_until_complete(loop.shutdown_default_executor())

    as_asyncio(loop, attempt)


@pytest.mark.parametrize("family, host", [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
@pytest.mark.parametrize("method", ["sock_connect", "sock_sendto"])
def test_no_host_is_cut_at_a_nul(loop, family, host, method):
    def attempt(loop):
        address = (host + "\0.example", 9)
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            if method == "sock_connect":
                return outcome(loop, loop.sock_connect(sock, address))
            return outcome(loop, loop.sock_sendto(sock, b"x", address))

    assert as_asyncio(loop, attempt) in (ValueError, TypeError)


@pytest.mark.parametrize("family, address", [
    (socket.AF_INET, ("127.0.0.1",)), (socket.AF_INET, ("127.0.0.1", 9, 0)),
    (socket.AF_INET6, ("::1",)), (socket.AF_INET6, ("::1", 9, 0, 0, 0)),
    (socket.AF_INET6, ("::1", 9, 1 << 20)),
    (socket.AF_INET, ["127.0.0.1", 9]), (socket.AF_INET6, ["::1", 9]), (socket.AF_INET6, "::1")])
def test_an_address_of_another_form(loop, family, address):
    def attempt(loop):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            return outcome(loop, loop.sock_sendto(sock, b"x", address))

    assert as_asyncio(loop, attempt) in (TypeError, OverflowError)


def test_connect_unix(loop, run):
    async def main():
        with socket.socket(socket.AF_UNIX) as server, \
                socket.socket(socket.AF_UNIX) as sock:
            server.bind("")             # an abstract name
            server.listen()
            sock.setblocking(False)
            server.setblocking(False)
            await loop.sock_connect(sock, server.getsockname())
            conn, address = await loop.sock_accept(server)
            conn.close()

    run(main())


@pytest.mark.tidewire        # asyncio says that it is connected
def test_connect_to_a_full_unix_backlog(loop, run):
    async def main():
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
            path = f"{folder}/s"
            listener.bind(path)
            listener.listen(1)
            filling = []
            try:
                while True:
                    filling.append(socket.socket(socket.AF_UNIX))
                    filling[-1].setblocking(False)
                    await loop.sock_connect(filling[-1], path)
                    filling[-1].getpeername()
            except BlockingIOError as exc:
                assert str(exc) == f"[Errno 11] Connect call failed {path}"
            assert len(filling) == 3
            with pytest.raises(BlockingIOError):
                await loop.create_unix_connection(asyncio.Protocol, path)
            listener.accept()[0].close()
            await loop.sock_connect(filling[-1], path)
            for sock in filling:
                sock.close()

    run(main())


def test_accept_several(loop, run, listener):
    async def main():
        clients = []
        for _ in range(5):
            clients.append(socket.create_connection(listener.getsockname()))
        for client in clients:
            conn, address = await loop.sock_accept(listener)
            assert address in [c.getsockname() for c in clients]
            conn.close()
        for client in clients:
            client.close()

    run(main())


@pytest.mark.parametrize("state", ["open", "closed", "unconnected"])
def test_recv_into_nothing(loop, run, pair, state):
    """No byte is asked for, and the socket is not asked."""
    a, b = pair
    if state == "closed":
        a.close()
    elif state == "unconnected":
        a.close()
        a = socket.socket()
        a.setblocking(False)

    async def main():
        for buffer in bytearray(), memoryview(bytearray(5))[5:]:
            with pytest.raises(StopIteration) as caught:
                loop.sock_recv_into(a, buffer).send(None)
            assert caught.value.value == 0

    run(main())
    a.close()


@pytest.mark.parametrize("size", [(), (0,)])
def test_recvfrom_into_nothing(loop, run, size):
    """That does ask: an empty buffer takes a datagram."""
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    a.setblocking(False)

    async def main():
        task = asyncio.ensure_future(loop.sock_recvfrom_into(a, bytearray(), *size))
        await support.io_turns()
        assert not task.done()
        b.send(b"x")
        assert (await task)[0] == 0
        with pytest.raises(BlockingIOError):
            a.recv(10)

    with a, b:
        run(main())
