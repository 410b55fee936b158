"""loop.sendfile() and loop.sock_sendfile()."""
import asyncio
import io
import os
import socket
import ssl
import tempfile
import time

import pytest

import support

# Late in 3.14 the file's position is set also when nothing was sent.
ALWAYS_MOVES = (asyncio.SelectorEventLoop._sock_sendfile_update_filepos
                .__code__.co_argcount == 3)

kinds = pytest.mark.parametrize("kind", support.KINDS)
DATA = os.urandom(1 << 20) * 3 + b"tail"
BIG = 64 << 20


@pytest.fixture
def file():
    with tempfile.TemporaryFile() as file:
        file.write(DATA)
        file.seek(0)
        yield file


@pytest.fixture
def big_file():
    with tempfile.TemporaryFile() as file:
        file.truncate(BIG)
        yield file


@pytest.fixture
def sockets(request):
    params = getattr(getattr(request.node, "callspec", None), "params", {})
    a, b = support.socketpair(params.get("kind", "tcp"))
    yield a, b
    a.close()
    b.close()


RANGES = [(0, None), (0, 1), (5, 100_000), (len(DATA) - 3, None),
          (len(DATA) - 3, 100), (len(DATA), None), (len(DATA) + 10, 5),
          (1 << 20, 1 << 20)]


def expected(offset, count):
    return DATA[offset:] if count is None else DATA[offset:offset + count]


# -- sock_sendfile ----------------------------------------------------------

@kinds
@pytest.mark.parametrize("offset, count", RANGES)
def test_sock_ranges(loop, run, sockets, file, kind, offset, count):
    a, b = sockets
    wanted = expected(offset, count)
    file.seek(7)

    async def main():
        task = asyncio.ensure_future(
            loop.sock_sendfile(a, file, offset, count, fallback=False))
        got = await support.recv_exactly(b, len(wanted))
        assert await task == len(wanted)
        assert support.same(got, wanted)
        assert file.tell() == (offset + len(wanted) if wanted or ALWAYS_MOVES else 7)
        assert support.drain(b) == b""

    run(main())


def test_sock_empty_file(loop, run, sockets):
    a, b = sockets
    with tempfile.TemporaryFile() as file:
        assert run(loop.sock_sendfile(a, file)) == 0


def test_sock_slow_peer(loop, run, sockets, file):
    """A few bytes at a time, through the smallest of buffers."""
    a, b = sockets
    a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    b.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    async def main():
        task = asyncio.ensure_future(loop.sock_sendfile(a, file, 0, 20_000))
        got = bytearray()
        while len(got) < 20_000:
            got += await loop.sock_recv(b, 777)
            await asyncio.sleep(0)
        assert await task == 20_000
        assert support.same(got, DATA[:20_000])

    run(main())


def test_sock_file_that_grows_and_shrinks(loop, run, sockets, file):
    a, b = sockets

    async def main():
        for size in len(DATA) * 2, 1000:
            task = asyncio.ensure_future(loop.sock_sendfile(a, file))
            await support.turns(2)
            assert not task.done()
            os.ftruncate(file.fileno(), size)
            reader = asyncio.ensure_future(drain())
            sent = await task
            reader.cancel()
            total = got[0] + len(support.drain(b))
            assert sent == total and (sent == size or size == 1000)
            got[0] = 0

    got = [0]

    async def drain():
        while True:
            got[0] += len(await loop.sock_recv(b, 65536))

    run(main())


NO_SENDFILE = [
    pytest.param(lambda: io.BytesIO(DATA), id="memory"),
    pytest.param(lambda: _Fake(), id="no-fileno"),
]


class _Fake:
    """Only what the fallback needs."""

    def __init__(self):
        self._file = io.BytesIO(DATA)
        self.readinto = self._file.readinto
        self.seek = self._file.seek


@pytest.mark.parametrize("make", NO_SENDFILE)
def test_sock_fallback(loop, run, sockets, make):
    a, b = sockets

    async def main():
        file = make()
        with pytest.raises(asyncio.SendfileNotAvailableError,
                           match="not a regular file"):
            await loop.sock_sendfile(a, file, fallback=False)
        task = asyncio.ensure_future(loop.sock_sendfile(a, file, 3, 200_000))
        got = await support.recv_exactly(b, 200_000)
        assert await task == 200_000
        assert support.same(got, DATA[3:200_003])

    run(main())


def test_sock_pipe_is_no_file(loop, run, sockets):
    a, b = sockets
    r, w = os.pipe()
    with open(r, "rb") as reader, open(w, "wb", buffering=0) as writer:
        writer.write(b"from a pipe")

        async def main():
            with pytest.raises(asyncio.SendfileNotAvailableError,
                               match="os.sendfile call failed"):
                await loop.sock_sendfile(a, reader, 0, 5, fallback=False)

        run(main())


@pytest.mark.parametrize("offset, count, error", [
    (-1, None, ValueError), (0, 0, ValueError), (0, -1, ValueError),
    ("0", None, TypeError), (0, "1", TypeError), (None, None, TypeError),
    (0, 1.0, TypeError), (1 << 80, None, OverflowError)])
def test_sock_wrong_ranges(loop, run, sockets, file, offset, count, error):
    with pytest.raises(error):
        run(loop.sock_sendfile(sockets[0], file, offset, count))


def test_sock_huge_count(loop, run, sockets, file):
    a, b = sockets

    async def main():
        task = asyncio.ensure_future(
            loop.sock_sendfile(a, file, 0, 1 << 62, fallback=False))
        await support.recv_exactly(b, len(DATA))
        assert await task == len(DATA)

    run(main())


def test_sock_wrong_objects(loop, run, sockets, file):
    a, b = sockets
    with tempfile.TemporaryFile("w+") as text:
        with pytest.raises(ValueError, match="binary mode"):
            run(loop.sock_sendfile(a, text))
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.setblocking(False)
        with pytest.raises(ValueError, match="SOCK_STREAM"):
            run(loop.sock_sendfile(udp, file))
    with tempfile.TemporaryFile() as closed:
        pass
    with pytest.raises(ValueError, match="closed file"):
        run(loop.sock_sendfile(a, closed))


def test_sock_not_connected(loop, run, file):
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(asyncio.SendfileNotAvailableError):
            run(loop.sock_sendfile(sock, file, fallback=False))


def test_sock_peer_goes_away(loop, run, sockets, big_file):
    a, b = sockets

    async def main():
        task = asyncio.ensure_future(
            loop.sock_sendfile(a, big_file, fallback=False))
        await support.recv_exactly(b, 100_000)
        support.reset(b)
        with pytest.raises((ConnectionError, BrokenPipeError)):
            await task
        assert 100_000 <= big_file.tell() < BIG

    run(main())


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5])
def test_sock_cancel(loop, run, sockets, big_file, steps):
    a, b = sockets

    async def main():
        task = asyncio.ensure_future(loop.sock_sendfile(a, big_file))
        await support.turns(steps)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await support.turns(2)
        assert loop.remove_writer(a) is False
        support.drain(b)
        await loop.sock_sendall(a, b"after")
        await support.io_turns()
        assert support.drain(b).endswith(b"after")

    run(main())


@pytest.mark.tidewire
def test_sock_cancel_moves_the_file(loop, run, sockets, big_file):
    """file.tell() tells what was sent, also then."""
    a, b = sockets

    async def main():
        task = asyncio.ensure_future(loop.sock_sendfile(a, big_file))
        await support.io_turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await support.io_turns()
        got = 0
        a.close()
        got = len(await support.recv_all(b))
        assert got == big_file.tell() > 0

    run(main())


def test_sock_close_under_it(loop, run, sockets, big_file):
    """epoll says nothing any more: it waits, and can be cancelled."""
    a, b = sockets

    async def main():
        task = asyncio.ensure_future(loop.sock_sendfile(a, big_file))
        await support.io_turns()
        a.close()
        support.drain(b)
        await support.io_turns()
        task.cancel()
        with pytest.raises((asyncio.CancelledError, OSError)):
            await task

    run(main())


# -- sendfile ---------------------------------------------------------------

@kinds
@pytest.mark.parametrize("offset, count", RANGES)
def test_ranges(loop, run, file, kind, offset, count):
    wanted = expected(offset, count)

    async def main():
        one, two = await support.pair(kind)
        one.transport.write(b"before,")
        sent = await loop.sendfile(one.transport, file, offset, count,
                                   fallback=False)
        one.transport.write(b",after")
        assert sent == len(wanted)
        await two.got(b"before," + wanted + b",after")
        if wanted:
            assert file.tell() == offset + sent
        await support.close(one, two)

    run(main())


def test_behind_a_long_queue(loop, run, file):
    async def main():
        one, two = await support.pair()
        two.transport.pause_reading()
        size = support.fill(one.transport)
        task = asyncio.ensure_future(
            loop.sendfile(one.transport, file, fallback=False))
        await support.turns(3)
        assert not task.done()
        two.transport.resume_reading()
        assert await task == len(DATA)
        await two.got(size + len(DATA))
        assert two.data[size:] == DATA
        assert one.names.count("pause") == one.names.count("resume")
        await support.close(one, two)

    run(main())


def test_no_writes_meanwhile(loop, run, big_file):
    async def main():
        one, two = await support.pair()
        two.transport.pause_reading()
        task = asyncio.ensure_future(loop.sendfile(one.transport, big_file))
        await support.io_turns()
        with pytest.raises(RuntimeError, match="sendfile is in progress"):
            one.transport.write(b"x")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        two.transport.resume_reading()
        await support.io_turns()
        before = len(two.data)
        one.transport.write(b"now")
        await two.until(lambda: two.data.endswith(b"now"))
        assert len(two.data) >= before
        await support.close(one, two)

    run(main(), 30)


@pytest.mark.tidewire
def test_two_at_once(loop, run, big_file):
    """Refused; asyncio raises a KeyError of its own."""
    async def main():
        one, two = await support.pair()
        two.transport.pause_reading()
        task = asyncio.ensure_future(
            loop.sendfile(one.transport, big_file, 0, 8 << 20))
        await support.io_turns()
        with pytest.raises(RuntimeError, match="Empty waiter"):
            await loop.sendfile(one.transport, big_file)
        two.transport.resume_reading()
        assert await task == 8 << 20
        await two.got(8 << 20)
        await support.close(one, two)

    run(main(), 30)


@pytest.mark.parametrize("paused", [False, True])
def test_reading_is_paused_meanwhile(loop, run, big_file, paused):
    async def main():
        one, two = await support.pair()
        two.transport.pause_reading()
        if paused:
            one.transport.pause_reading()
        task = asyncio.ensure_future(
            loop.sendfile(one.transport, big_file, 0, 8 << 20))
        await support.io_turns()
        assert not one.transport.is_reading()
        two.transport.write(b"meanwhile")
        await support.io_turns()
        assert one.data == b""
        two.transport.resume_reading()
        await task
        assert one.transport.is_reading() is not paused
        one.transport.resume_reading()
        await one.got(b"meanwhile")
        await support.close(one, two)

    run(main(), 30)


def test_slow_peer(loop, run, file):
    async def main():
        transport, protocol, peer = await support.connected("unix")
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        task = asyncio.ensure_future(
            loop.sendfile(transport, file, 1, 1_000_000))
        got = bytearray()
        while len(got) < 1_000_000:
            got += await loop.sock_recv(peer, 3001)
            await asyncio.sleep(0)
        assert await task == 1_000_000
        assert support.same(got, DATA[1:1_000_001])
        await support.close(protocol)
        peer.close()

    run(main(), 30)


def test_peer_goes_away(loop, run, big_file):
    async def main():
        transport, protocol, peer = await support.connected()
        task = asyncio.ensure_future(loop.sendfile(transport, big_file))
        await support.recv_exactly(peer, 100_000)
        support.reset(peer)
        with pytest.raises(ConnectionError):
            await task
        transport.abort()
        await protocol.saw("lost")

    run(main(), 30)


@pytest.mark.tidewire
@pytest.mark.parametrize("end", ["close", "abort"])
def test_transport_is_closed_meanwhile(loop, run, big_file, end):
    """Asyncio's sendfile() would wait for ever."""
    async def main():
        transport, protocol, peer = await support.connected()
        task = asyncio.ensure_future(loop.sendfile(transport, big_file))
        await support.io_turns()
        getattr(transport, end)()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(task, 2)
        await protocol.saw("lost")
        got = await support.recv_all(peer)
        assert 0 < len(got) < BIG
        peer.close()

    run(main(), 30)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5])
def test_cancel(loop, run, big_file, steps):
    async def main():
        transport, protocol, peer = await support.connected()
        task = asyncio.ensure_future(loop.sendfile(transport, big_file))
        await support.turns(steps)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert transport.is_reading()
        transport.write(b"after")
        transport.close()
        got = await support.recv_all(peer)
        assert got.endswith(b"after")
        peer.close()
        await protocol.saw("lost")

    run(main(), 30)


@pytest.mark.parametrize("make", NO_SENDFILE)
def test_fallback(loop, run, make):
    async def main():
        one, two = await support.pair()
        file = make()
        with pytest.raises(asyncio.SendfileNotAvailableError):
            await loop.sendfile(one.transport, file, fallback=False)
        assert await loop.sendfile(one.transport, file, 3) == len(DATA) - 3
        await two.got(DATA[3:])
        await support.close(one, two)

    run(main())


def test_closing_transport(loop, run, file):
    async def main():
        one, two = await support.pair()
        one.transport.close()
        with pytest.raises(RuntimeError, match="is closing"):
            await loop.sendfile(one.transport, file)
        await support.close(one, two)

    run(main())


class _Open(asyncio.Transport):
    def is_closing(self):
        return False


def test_wrong_transport(loop, run, file):
    with pytest.raises(RuntimeError, match="sendfile is not supported"):
        run(loop.sendfile(_Open(), file))


@pytest.mark.parametrize("offset, count, error", [
    (-1, None, ValueError), (0, 0, ValueError), ("0", None, TypeError)])
def test_wrong_ranges(loop, run, file, offset, count, error):
    async def main():
        one, two = await support.pair()
        with pytest.raises(error):
            await loop.sendfile(one.transport, file, offset, count)
        one.transport.write(b"still usable")
        await two.got(b"still usable")
        await support.close(one, two)

    run(main())


def test_again_and_again(loop, run, file):
    async def main():
        one, two = await support.pair()
        for i in range(20):
            await loop.sendfile(one.transport, file, i, 10_000)
            one.transport.write(b"-")
        await two.got(b"".join(DATA[i:i + 10_000] + b"-" for i in range(20)))
        await support.close(one, two)

    run(main())


@pytest.mark.tidewire
def test_loop_sleeps_afterwards(loop, run, file):
    """The duplicate that was watched must be gone from epoll."""
    async def main():
        one, two = await support.pair()
        for _ in range(3):
            await loop.sendfile(one.transport, file)
        await two.got(3 * len(DATA))
        await support.turns(3)
        before = loop.stats()["turns"]
        cpu = time.thread_time()
        await asyncio.sleep(0.1)
        assert loop.stats()["turns"] - before < 10
        assert time.thread_time() - cpu < 0.05
        await support.close(one, two)

    run(main())


def test_over_tls(loop, run, file, tls_files):
    """There is no sendfile(2) for TLS: asyncio's fallback."""
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_context.load_cert_chain(tls_files)
    client_context = ssl.create_default_context()
    client_context.check_hostname = False
    client_context.verify_mode = ssl.CERT_NONE

    async def main():
        accepted = loop.create_future()

        def factory():
            protocol = support.Recorder()
            accepted.set_result(protocol)
            return protocol

        server = await loop.create_server(factory, "127.0.0.1", 0,
                                          ssl=server_context)
        where = server.sockets[0].getsockname()
        _, one = await loop.create_connection(
            support.Recorder, *where, ssl=client_context)
        two = await accepted
        with pytest.raises(RuntimeError, match="fallback is disabled"):
            await loop.sendfile(one.transport, file, fallback=False)
        assert await loop.sendfile(one.transport, file, 5) == len(DATA) - 5
        await two.got(DATA[5:])
        await support.close(one, two)
        server.close()
        await server.wait_closed()

    run(main(), 30)


@pytest.fixture
def tls_files(tmp_path):
    trustme = pytest.importorskip("trustme")
    path = tmp_path / "cert.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem \
        .write_to_path(path)
    return path
