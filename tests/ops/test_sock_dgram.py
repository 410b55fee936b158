"""sock_recvfrom, sock_recvfrom_into, sock_sendto."""
import asyncio
import array
import os
import socket
import sys
import tempfile

import pytest

import support

FAMILIES = ["inet", "inet6", "unix"]
families = pytest.mark.parametrize("family", FAMILIES)


def bound(family, directory):
    if family == "unix":
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(tempfile.mktemp(dir=directory))
    elif family == "inet6":
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        try:
            sock.bind(("::1", 0))
        except OSError:
            sock.close()
            pytest.skip("no IPv6 here")
    else:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


@pytest.fixture
def two(request, tmp_path):
    params = getattr(getattr(request.node, "callspec", None), "params", {})
    a = bound(params.get("family", "inet"), tmp_path)
    b = bound(params.get("family", "inet"), tmp_path)
    yield a, b
    a.close()
    b.close()


# -- receiving and sending --------------------------------------------------

@families
def test_exchange(loop, run, two, family):
    a, b = two

    async def main():
        assert await loop.sock_sendto(b, b"ready", a.getsockname()) == 5
        assert await loop.sock_recvfrom(a, 100) == (b"ready", b.getsockname())
        task = asyncio.ensure_future(loop.sock_recvfrom(a, 100))
        await support.io_turns()
        assert not task.done()
        assert await loop.sock_sendto(b, b"later", a.getsockname()) == 5
        assert await task == (b"later", b.getsockname())

    run(main())


@families
def test_into(loop, run, two, family):
    a, b = two

    async def main():
        buffer = bytearray(b"." * 8)
        b.sendto(b"ready", a.getsockname())
        assert (await loop.sock_recvfrom_into(a, buffer)
                == (5, b.getsockname()))
        assert buffer == b"ready..."
        task = asyncio.ensure_future(
            loop.sock_recvfrom_into(a, memoryview(buffer)[4:], 3))
        await support.io_turns()
        b.sendto(b"more than three", a.getsockname())
        assert await task == (3, b.getsockname())
        assert buffer == b"readmor."

    run(main())


@families
def test_empty_datagrams(loop, run, two, family):
    """Nothing came, from somebody: at once, and after a wait."""
    a, b = two

    async def main():
        buffer = bytearray(b"as it was")
        for call, expected in [
                (lambda: loop.sock_recvfrom_into(a, buffer), (0, b.getsockname())),
                (lambda: loop.sock_recvfrom(a, 9), (b"", b.getsockname())),
                (lambda: loop.sock_recv_into(a, buffer), 0), (lambda: loop.sock_recv(a, 9), b"")]:
            b.sendto(b"", a.getsockname())
            assert await call() == expected
            task = asyncio.ensure_future(call())
            await support.io_turns()
            assert not task.done()
            assert await loop.sock_sendto(b, b"", a.getsockname()) == 0
            assert await task == expected
        assert buffer == b"as it was"

    run(main())


@families
def test_empty_and_cut_datagrams(loop, run, two, family):
    a, b = two

    async def main():
        for data in b"", b"long", b"x":
            await loop.sock_sendto(b, data, a.getsockname())
        peer = b.getsockname()
        assert await loop.sock_recvfrom(a, 2) == (b"", peer)
        assert await loop.sock_recvfrom(a, 2) == (b"lo", peer)
        assert await loop.sock_recvfrom(a, 2) == (b"x", peer)

    run(main())


def test_many(loop, run, two):
    a, b = two

    async def echo():
        while True:
            data, peer = await loop.sock_recvfrom(a, 65536)
            if not data:
                return
            await loop.sock_sendto(a, data, peer)

    async def main():
        task = asyncio.ensure_future(echo())
        for i in range(200):
            await loop.sock_sendto(b, b"%d" % i, a.getsockname())
            assert await loop.sock_recvfrom(b, 100) == (
                b"%d" % i, a.getsockname())
        await loop.sock_sendto(b, b"", a.getsockname())
        await task

    run(main())


def test_big(loop, run, two):
    a, b = two
    data = os.urandom(60000)

    async def main():
        await loop.sock_sendto(b, data, a.getsockname())
        got, _ = await loop.sock_recvfrom(a, 1 << 20)
        assert support.same(got, data)
        await loop.sock_sendto(b, data, a.getsockname())
        got, _ = await loop.sock_recvfrom(a, 1 << 17)
        assert support.same(got, data)

    run(main())


def test_unnamed_peer(loop, run, tmp_path):
    with bound("unix", tmp_path) as a, \
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as b:
        b.setblocking(False)

        async def main():
            await loop.sock_sendto(b, b"who?", a.getsockname())
            return await loop.sock_recvfrom(a, 10)

        data, peer = run(main())
        assert data == b"who?" and not peer


@pytest.mark.skipif(not sys.platform.startswith("linux"),
                    reason="abstract addresses")
def test_abstract_peer(loop, run):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as a, \
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as b:
        for sock in a, b:
            sock.bind("")       # the kernel chooses a name
            sock.setblocking(False)

        async def main():
            await loop.sock_sendto(b, b"x", a.getsockname())
            return await loop.sock_recvfrom(a, 10)

        assert run(main()) == (b"x", b.getsockname())


def test_stream_sockets(loop, run):
    """recvfrom of a stream: no address."""
    a, b = support.socketpair("tcp")
    with a, b:
        b.send(b"abc")

        async def main():
            task = asyncio.ensure_future(loop.sock_recvfrom(a, 2))
            first = await task
            return first, await loop.sock_recvfrom_into(a, bytearray(5))

        (data, peer), (n, other) = run(main())
        assert (data, n) == (b"ab", 1)
        assert peer is None and other is None


def test_other_family(loop, run):
    """A family that only Python's socket object knows how to name."""
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    except (AttributeError, OSError):
        pytest.skip("no netlink")
    with sock:
        sock.setblocking(False)
        try:
            sock.bind((0, 0))
        except OSError:
            pytest.skip("no netlink")
        # RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP
        ask = array.array("I", [20, 18 | 0x301 << 16, 1, 0, 0]).tobytes()

        async def main():
            try:
                await loop.sock_sendto(sock, ask, (0, 0))
            except OSError:
                pytest.skip("netlink does not answer")
            return await loop.sock_recvfrom(sock, 65536)

        data, peer = run(main())
        assert data and peer == (0, 0)


def test_host_names_go_to_the_socket(loop, run, two):
    a, b = two

    async def main():
        await loop.sock_sendto(b, b"x", ("localhost", a.getsockname()[1]))
        return await loop.sock_recvfrom(a, 10)

    assert run(main())[0] == b"x"


# -- what is wrong ----------------------------------------------------------

@pytest.mark.parametrize("call, error", [
    (lambda loop, a: loop.sock_recvfrom(a, -1), ValueError),
    (lambda loop, a: loop.sock_recvfrom(a, "1"), TypeError),
    (lambda loop, a: loop.sock_recvfrom(a, None), TypeError),
    (lambda loop, a: loop.sock_recvfrom(a, 1 << 80), OverflowError),
    (lambda loop, a: loop.sock_recvfrom_into(a, b"bytes"), TypeError),
    (lambda loop, a: loop.sock_recvfrom_into(a, 5), TypeError),
    (lambda loop, a: loop.sock_recvfrom_into(a, bytearray(2), 3), ValueError),
    (lambda loop, a: loop.sock_recvfrom_into(a, bytearray(2), -3), ValueError),
    (lambda loop, a: loop.sock_sendto(a, "x", ("127.0.0.1", 9)), TypeError),
    (lambda loop, a: loop.sock_sendto(a, b"x", ("127.0.0.1",)), TypeError),
    (lambda loop, a: loop.sock_sendto(a, b"x", ("127.0.0.1", -1)),
     OverflowError),
    (lambda loop, a: loop.sock_sendto(a, b"x", None), TypeError),
    (lambda loop, a: loop.sock_sendto(a, b"x" * 70000, ("127.0.0.1", 9)),
     OSError),
])
def test_wrong_arguments(loop, run, two, call, error):
    a, b = two

    async def main():
        operation = call(loop, a)       # no error before it is awaited
        with pytest.raises(error):
            await operation

    run(main())


@pytest.mark.parametrize("call", [
    lambda loop, a: loop.sock_recvfrom(a),
    lambda loop, a: loop.sock_recvfrom_into(),
    lambda loop, a: loop.sock_sendto(a, b"x"),
    lambda loop, a: loop.sock_recvfrom(a, 1, 2),
    lambda loop, a: loop.sock_recvfrom(a, size=1),
    lambda loop, a: loop.sock_recvfrom(a, 1, bufsize=1),
])
def test_wrong_calls(loop, two, call):
    with pytest.raises(TypeError):
        call(loop, two[0])


def test_keywords(loop, run, two):
    a, b = two

    async def main():
        await loop.sock_sendto(sock=b, data=b"abc", address=a.getsockname())
        await loop.sock_sendto(b, b"d", address=a.getsockname())
        buffer = bytearray(4)
        n, _ = await loop.sock_recvfrom_into(sock=a, buf=buffer, nbytes=2)
        assert (n, buffer) == (2, b"ab\0\0")
        assert (await loop.sock_recvfrom(sock=a, bufsize=9))[0] == b"d"

    run(main())


def test_audit(loop, run, two, script):
    """sys.addaudithook() sees what the socket's own methods would show."""
    script("""
        seen = []
        sys.addaudithook(lambda name, args: seen.append(name))
        loop = new_loop()
        async def main():
            with socket.socket(type=socket.SOCK_DGRAM) as a, \\
                    socket.socket() as b:
                a.bind(("127.0.0.1", 0))
                a.setblocking(False)
                b.setblocking(False)
                await loop.sock_sendto(a, b"x", a.getsockname())
                try:
                    await loop.sock_connect(b, ("127.0.0.1", 1))
                except OSError:
                    pass
        loop.run_until_complete(main())
        loop.close()
        assert "socket.sendto" in seen, seen
        assert "socket.connect" in seen, seen
    """)


# -- cancelling, closing ----------------------------------------------------

def start(loop, what, a):
    if what == "recvfrom":
        return loop.sock_recvfrom(a, 10)
    return loop.sock_recvfrom_into(a, bytearray(10))


@families
@pytest.mark.parametrize("what", ["recvfrom", "recvfrom_into"])
@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_cancel(loop, run, two, family, what, steps):
    a, b = two

    async def main():
        task = asyncio.ensure_future(start(loop, what, a))
        await support.turns(steps)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await support.turns(2)
        assert loop.remove_reader(a) is False
        b.sendto(b"after", a.getsockname())
        assert (await loop.sock_recvfrom(a, 10))[0] == b"after"

    run(main())


@pytest.mark.parametrize("what", ["recvfrom", "recvfrom_into"])
def test_cancel_keeps_the_datagram(loop, run, two, what):
    a, b = two

    async def main():
        got = 0
        for i in range(20):
            task = asyncio.ensure_future(start(loop, what, a))
            await support.turns(3)
            b.sendto(b"x", a.getsockname())
            loop.call_soon(task.cancel)
            try:
                await task
                got += 1
            except asyncio.CancelledError:
                pass
        await support.io_turns(1)
        while True:
            try:
                got += len(a.recv(10))
            except BlockingIOError:
                break
        assert got == 20

    run(main())


def test_sendto_waits_and_is_cancelled(loop, run):
    """AF_UNIX datagrams have a short queue: sendto() has to wait."""
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with a, b, tempfile.TemporaryDirectory() as directory:
        c = bound("unix", directory)
        d = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with c, d:
            d.setblocking(False)

            async def main():
                sent = 0
                while True:
                    task = asyncio.ensure_future(
                        loop.sock_sendto(d, b"x%d" % sent, c.getsockname()))
                    await support.turns(3)
                    if not task.done():
                        break
                    assert await task == len(b"x%d" % sent)
                    sent += 1
                    assert sent < 100_000
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                task = asyncio.ensure_future(
                    loop.sock_sendto(d, b"last", c.getsockname()))
                await support.turns(3)
                for i in range(sent):
                    assert c.recv(100) == b"x%d" % i
                assert await task == 4
                assert (await loop.sock_recvfrom(c, 10))[0] == b"last"

            run(main())


@pytest.mark.tidewire
@pytest.mark.parametrize("what", ["recvfrom", "recvfrom_into"])
def test_close_under_it(loop, run, two, what):
    """The operation ends with EBADF; asyncio's would wait for ever."""
    a, b = two

    async def main():
        task = asyncio.ensure_future(start(loop, what, a))
        await support.turns(1)
        a.close()
        with pytest.raises(OSError):
            await asyncio.wait_for(task, 1)

    run(main())


def test_refused(loop, run):
    """An ICMP error that waits on a connected socket."""
    with socket.socket(type=socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        where = gone.getsockname()
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect(where)
        sock.setblocking(False)
        sock.send(b"x")

        async def main():
            with pytest.raises(ConnectionRefusedError):
                await loop.sock_recvfrom(sock, 10)

        run(main())
