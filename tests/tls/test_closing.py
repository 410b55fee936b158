"""How TLS connections end: close(), abort(), the peer, the network."""
import asyncio
import contextvars
import gc
import socket
import ssl
import sys
import weakref

import pytest
import support
import tlskit
from support import Recorder


# -- closing ----------------------------------------------------------------

def test_close_and_close_notify(run):
    async def main():
        one, peer = await tlskit.with_peer()
        data = tlskit.blob(300000)
        one.transport.write(data)
        one.transport.close()
        assert one.transport.is_closing()
        one.transport.close()
        assert support.same(await peer.read_exactly(len(data)), data)
        assert await peer.drive(peer.obj.read) == b""       # a clean end
        await peer.unwrap()
        await one.saw("lost")
        assert one.names == ["made", "eof", "lost"] and one.lost is None
        peer.close()
    run(main())


def test_context_of_connection_lost(run):
    """abort(): its caller's.  close(): that of the connection, in which the shutdown ends."""
    var = contextvars.ContextVar("var")

    class Lost(Recorder):
        def connection_lost(self, exc):
            self.seen = var.get()
            super().connection_lost(exc)

    async def main():
        for method, seen in ("abort", "caller"), ("close", "connection"):
            var.set("connection")
            one, two = await tlskit.tls_pair(Lost)
            var.set("caller")
            getattr(one.transport, method)()
            var.set("later")
            await one.saw("lost")
            await two.saw("lost")
            assert one.seen == seen
    run(main())


def test_the_peer_closes(run):
    async def main():
        one, peer = await tlskit.with_peer()
        await peer.write(b"bye")
        await peer.unwrap()
        await one.saw("lost")
        assert one.digest == [("made",), ("data", b"bye"), ("eof",), ("lost", None)]
        peer.close()
    run(main())


def test_the_peer_closes_while_much_waits(run):
    """What was written before its close_notify still reaches a peer that is slow to read."""
    async def main():
        one, peer = await tlskit.with_peer()
        total = support.fill(one.transport)
        for _ in range(4):
            one.transport.write(b"x" * 500_000)
        await peer.raw(peer.close_notify())
        seen = 0
        with pytest.raises(ssl.SSLZeroReturnError):     # our close_notify
            while data := await peer.read():
                seen += len(data)
        assert seen == total + 2_000_000
        peer.close()
        await one.saw("lost")
        assert one.lost is None
    run(main())


def test_eof_without_close_notify(run):
    async def main():
        one, peer = await tlskit.with_peer()
        await peer.write(b"bye")
        peer.close()
        await one.saw("lost")
        assert one.digest == [("made",), ("data", b"bye"), ("eof",), ("lost", None)]
    run(main())


def test_eof_inside_a_record(run):
    async def main():
        one, peer = await tlskit.with_peer()
        await peer.raw(peer.record(b"all") + peer.record(b"part")[:-1])
        peer.close()
        await one.saw("lost")
        assert one.digest == [("made",), ("data", b"all"), ("eof",), ("lost", None)]
    run(main())


def test_eof_received_true_has_no_effect(run, logs):
    async def main():
        one, peer = await tlskit.with_peer(lambda: Recorder({"eof": lambda p: True}))
        await peer.unwrap()
        await one.saw("lost")
        peer.close()
        (record,) = logs.take()
        assert record.getMessage() == (
            "returning true from eof_received() has no effect when using ssl")
    run(main())


def test_eof_received_raises(run, errors):
    def fail(protocol):
        raise ZeroDivisionError

    async def main():
        one, peer = await tlskit.with_peer(lambda: Recorder({"eof": fail}))
        await peer.raw(peer.close_notify())
        await one.saw("lost")
        assert isinstance(one.lost, ZeroDivisionError)
        assert [c["message"] for c in errors.take()] == ["Error calling eof_received()"]
        peer.close()
    run(main())


@pytest.mark.tidewire
def test_abort_is_immediate(run):
    async def main():
        one, peer = await tlskit.with_peer()
        one.transport.write(tlskit.blob(8 << 20))
        one.transport.abort()
        assert one.transport.is_closing()
        await support.turns(4)
        assert one.names == ["made", "pause", "lost"] and one.lost is None
        assert one.transport.get_write_buffer_size() == 0
        assert len(await peer.read_all()) < 8 << 20
        peer.close()
    run(main())


def test_close_ends_within_the_timeout(run):
    async def main():
        one, peer = await tlskit.with_peer(ssl_shutdown_timeout=0.05)
        one.transport.close()
        await one.saw("lost")                   # the peer never answers
        assert isinstance(one.lost, TimeoutError)
        assert str(one.lost) == "SSL shutdown timed out"
        peer.close()
    run(main())


def test_close_with_a_peer_that_never_reads(run):
    async def main():
        one, peer = await tlskit.with_peer(ssl_shutdown_timeout=0.05)
        one.transport.write(tlskit.blob(8 << 20))
        one.transport.close()
        await one.saw("lost")
        assert isinstance(one.lost, TimeoutError)
        peer.close()
    run(main())


@pytest.mark.tidewire           # asyncio: late 3.14
@pytest.mark.parametrize("close_first", [True, False])
def test_the_timeout_holds_until_everything_is_sent(run, close_first):
    async def main():
        one, peer = await tlskit.with_peer(ssl_shutdown_timeout=0.05)
        one.transport.write(tlskit.blob(8 << 20))
        if close_first:
            one.transport.close()
        peer.sock.shutdown(socket.SHUT_WR)          # says goodbye, but does not read
        await one.saw("lost")
        assert isinstance(one.lost, TimeoutError)
        peer.close()
    run(main())


@pytest.mark.tidewire           # asyncio: late 3.14
def test_is_closing_after_an_error(run):
    async def main():
        one, peer = await tlskit.with_peer(
            lambda: Recorder({"lost": lambda p, e: seen.append(p.transport.is_closing())}))
        await peer.raw(b"this is no TLS")
        while not one.transport.is_closing():
            await support.io_turns(1)
        await one.saw("lost")
        peer.close()

    seen = []
    run(main())
    assert seen == [True]


def test_abort_after_close(run):
    async def main():
        one, peer = await tlskit.with_peer()
        one.transport.close()
        await support.io_turns(2)
        assert "lost" not in one.names
        one.transport.abort()
        await one.saw("lost")
        assert one.lost is None
        peer.close()
    run(main())


def test_data_after_our_close_notify(run):
    async def main():
        one, peer = await tlskit.with_peer()
        one.transport.close()
        await peer.write(b"still talking")
        await one.saw("lost")
        assert isinstance(one.lost, ssl.SSLError)
        assert one.lost.reason == "APPLICATION_DATA_AFTER_CLOSE_NOTIFY"
        assert one.data == b""
        peer.close()
    run(main())


def test_writes_after_the_end_are_ignored(run, logs):
    async def main():
        one, peer = await tlskit.with_peer()
        await tlskit.finish(one, peer)
        for _ in range(4):
            one.transport.write(b"x")
            assert not logs
        one.transport.write(b"x")
        one.transport.writelines([b"x"])
        assert [r.getMessage() for r in logs.take()] == ["SSL connection is closed"] * 2
    run(main())


def test_methods_after_the_end(run):
    async def main():
        one, peer = await tlskit.with_peer(kind="tcp")
        transport = one.transport
        await tlskit.finish(one, peer)
        transport.pause_reading()
        transport.resume_reading()
        transport.close()
        transport.abort()
        assert transport.is_closing()
        await support.turns(4)
        assert one.names == ["made", "lost"]
    run(main())


@pytest.mark.tidewire
@pytest.mark.parametrize("how", ["close", "abort", "peer"])
def test_nothing_is_left_of_a_connection(run, no_gc, how):
    class Simple(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            self.lost = asyncio.get_running_loop().create_future()

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    async def main():
        context = tlskit.client_context()
        one, peer = await tlskit.with_peer(Simple, client=context)
        refs = weakref.ref(one.transport), weakref.ref(one), weakref.ref(context)
        if how == "peer":
            await peer.raw(peer.close_notify())
        else:
            getattr(one.transport, how)()
            if how == "close":
                await peer.unwrap()
        await one.lost
        peer.close()
        return refs

    refs = run(main())
    run(support.turns(3))
    assert [ref() for ref in refs] == [None] * 3


@pytest.mark.tidewire
@pytest.mark.skipif(sys.version_info < (3, 14), reason="create_connection()'s own cycle")
def test_nothing_is_left_of_a_refused_certificate(run, no_gc):
    """As in asyncio, late in 3.14 (gh-159049)."""
    refs = []

    class Simple(asyncio.Protocol):
        def __init__(self):
            refs.append(weakref.ref(self))

    async def theirs(peer):
        try:
            await peer.handshake()
        except ssl.SSLError:
            peer.close()

    async def main():
        context = tlskit.client_context(trust=False)
        refs.append(weakref.ref(context))
        sock, other = support.socketpair()
        peer = tlskit.Peer(other, tlskit.server_context(), server_side=True)
        task = asyncio.create_task(theirs(peer))
        try:
            await tlskit.wrap(sock, Simple, context)
        except ssl.SSLCertVerificationError:
            await task

    before = {id(o) for o in gc.get_objects() if isinstance(o, asyncio.Transport)}
    run(main())
    run(support.turns(3))
    assert len(refs) == 2 and [ref() for ref in refs] == [None] * 2
    assert not [o for o in gc.get_objects()
                if isinstance(o, asyncio.Transport) and id(o) not in before]


def test_isinstance(run):
    async def main():
        one, two = await tlskit.tls_pair()
        assert isinstance(one.transport, asyncio.Transport)
        assert isinstance(one.transport, asyncio.transports._FlowControlMixin)
        assert "ssl" in type(one.transport).__name__.lower()
        one.transport.attribute = 1
        assert weakref.ref(one.transport)() is one.transport
        assert repr(one.transport)
        await support.close(one, two)
    run(main())


def test_sockets_are_closed(run):
    async def main():
        one, two = await tlskit.tls_pair(kind="tcp")
        sock = one.transport.get_extra_info("socket")
        assert sock.fileno() >= 0 and sock.family == socket.AF_INET
        await support.close(one, two)
        assert sock.fileno() == -1
    run(main())


@pytest.mark.tidewire   # asyncio: gh-109534, not before 3.13
def test_a_broken_handshake_leaves_nothing_to_the_collector(loop, run):
    gone = []

    class Protocol(asyncio.Protocol):
        def __init__(self):
            weakref.finalize(self, gone.append, 1)

    async def main():
        server = await loop.create_server(
            Protocol, "127.0.0.1", 0, ssl=tlskit.server_context())
        gc.collect()
        gc.disable()
        try:
            for hello in b"", b"GET / HTTP/1.0\r\n\r\n":
                count = len(gone)
                with socket.create_connection(server.sockets[0].getsockname()) as client:
                    client.sendall(hello)
                    await asyncio.sleep(0.01)
                for _ in range(1000):
                    if len(gone) > count:
                        break
                    await asyncio.sleep(0.005)
                assert len(gone) == count + 1
        finally:
            gc.enable()
            server.close()

    run(main())
