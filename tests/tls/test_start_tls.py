"""start_tls() in both roles, over our streams, over TLS, and over foreign transports."""
import asyncio
import ssl

import pytest
import support
import tlskit
from support import BufferedRecorder, Recorder


async def upgrade(protocol, context, **kwargs):
    """loop.start_tls() for a protocol; its transport is the new one then."""
    protocol.transport = await tlskit.start(protocol, context, **kwargs)
    return protocol.transport


@pytest.mark.parametrize("kind", support.KINDS)
def test_both_roles(run, kind):
    async def main():
        one, two = await support.pair(kind)
        one.transport.write(b"plain")
        await two.got(b"plain")
        client, server = tlskit.client_context(), tlskit.server_context()
        lower = one.transport
        await asyncio.gather(upgrade(one, client), upgrade(two, server, server_side=True))
        assert one.names == ["made"], "connection_made is not called again"
        assert one.transport is not lower and not one.transport.is_closing()
        assert one.transport.get_extra_info("cipher")
        assert one.transport.get_extra_info("sslcontext") is client
        assert one.transport.get_extra_info("peername") == lower.get_extra_info("peername")
        one.transport.write(b"secret" * 1000)
        await two.got(b"plain" + b"secret" * 1000)
        two.transport.write(b"answer")
        await one.got(b"answer")
        one.transport.close()
        await one.saw("lost")
        await two.saw("lost")
        assert two.lost is None
        assert one.names == ["made", "data", "eof", "lost"]
    run(main())


def test_what_was_written_before_leaves_in_clear(run):
    async def main():
        transport, one, sock = await support.connected("unix")
        big = b"c" * (1 << 20)
        transport.write(big)
        transport.write(b"tail")
        upgraded = asyncio.ensure_future(upgrade(one, tlskit.client_context()))
        assert await support.recv_exactly(sock, len(big) + 4) == big + b"tail"
        peer = await tlskit.Peer(sock, tlskit.server_context(), server_side=True).handshake()
        await upgraded
        one.transport.write(b"secret")
        assert await peer.read_exactly(6) == b"secret"
        await tlskit.finish(one, peer)
    run(main())


def test_a_client_hello_that_came_early(run):
    """Bytes in the kernel when start_tls() is called."""
    async def main():
        _, one, sock = await support.connected("unix")
        one.transport.pause_reading()
        peer = tlskit.Peer(sock, tlskit.client_context(), server_hostname=tlskit.NAME)
        shaken = asyncio.ensure_future(peer.handshake())
        await support.io_turns(3)
        await upgrade(one, tlskit.server_context(), server_side=True)
        await shaken
        await peer.write(b"hello")
        await one.got(b"hello")
        await tlskit.finish(one, peer)
    run(main())


@pytest.mark.tidewire        # asyncio itself: from 3.14 on (and late 3.13)
def test_a_client_hello_in_the_stream_readers_buffer(run):
    async def main():
        served = asyncio.get_running_loop().create_future()

        async def serve(reader, writer):
            assert await reader.readline() == b"STARTTLS\r\n"
            while not reader._buffer:
                await support.io_turns(1)       # the ClientHello came with it
            await writer.start_tls(tlskit.server_context())
            writer.write(await reader.readline())
            writer.close()
            await writer.wait_closed()
            served.set_result(True)

        a, b = support.socketpair("tcp")
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader, serve)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, b)
        context = tlskit.client_context()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        obj = context.wrap_bio(incoming, outgoing, server_hostname=tlskit.NAME)
        with pytest.raises(ssl.SSLWantReadError):
            obj.do_handshake()
        peer = tlskit.Peer(a, context, server_hostname=tlskit.NAME)
        await peer.raw(b"STARTTLS\r\n" + outgoing.read())
        peer.obj, peer.incoming, peer.outgoing = obj, incoming, outgoing
        await peer.handshake()
        await peer.write(b"line\n")
        assert await peer.read_exactly(5) == b"line\n"
        await peer.unwrap()
        await served
        peer.close()
    run(main())


def test_stream_writer_start_tls(run):
    async def main():
        async def serve(reader, writer):
            assert await reader.readline() == b"STARTTLS\n"
            writer.write(b"go\n")
            await writer.start_tls(tlskit.server_context())
            while line := await reader.readline():
                writer.write(line.upper())
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"go\n"
            await writer.start_tls(tlskit.client_context(), server_hostname=tlskit.NAME)
            for i in range(5):
                writer.write(b"line %d\n" % i)
                await writer.drain()
                assert await reader.readline() == b"LINE %d\n" % i
            writer.close()
            await writer.wait_closed()
            await support.io_turns(3)
    run(main())


def test_start_tls_in_data_received(run):
    async def main():
        loop = asyncio.get_running_loop()
        tasks = []

        def upgrade_now(protocol, data):
            if data == b"STARTTLS":
                protocol.transport.write(b"ok")
                tasks.append(loop.create_task(
                    upgrade(protocol, tlskit.server_context(), server_side=True)))

        _, one, sock = await support.connected("unix", lambda: Recorder({"data": upgrade_now}))
        await loop.sock_sendall(sock, b"STARTTLS")
        assert await support.recv_exactly(sock, 2) == b"ok"
        peer = tlskit.Peer(sock, tlskit.client_context(), server_hostname=tlskit.NAME)
        await peer.handshake()
        await tasks[0]
        await peer.write(b"hello")
        await one.got(b"STARTTLShello")
        await tlskit.finish(one, peer)
    run(main())


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
def test_tls_in_tls(run, kind):
    async def main():
        one, two = await tlskit.tls_pair()
        await asyncio.gather(upgrade(one, tlskit.client_context()),
                             upgrade(two, tlskit.server_context(), server_side=True))
        data = bytes(range(256)) * 4096
        three = kind(*([None, memoryview(bytearray(65536))] if kind is BufferedRecorder else []))
        two.transport.set_protocol(three)
        one.transport.write(data)
        await three.got(data)
        two.transport.write(data)
        await one.got(data)
        assert one.transport.get_extra_info("socket") is not None
        one.transport.close()
        await one.saw("lost")
        await three.saw("lost")
        assert one.lost is None and three.lost is None
    run(main())


def test_three_deep(run):
    async def main():
        one, two = await tlskit.tls_pair()
        for _ in range(2):
            await asyncio.gather(upgrade(one, tlskit.client_context()),
                                 upgrade(two, tlskit.server_context(), server_side=True))
        one.transport.write(b"x" * 100000)
        await two.got(100000)
        one.transport.abort()
        await one.saw("lost")
        await two.saw("lost")
    run(main())


# -- over a transport of somebody else --------------------------------------

def test_over_a_foreign_transport(run):
    async def main():
        one, two = Recorder(), Recorder()
        lower = tlskit.MemoryTransport(one)
        one.transport = lower
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        obj = tlskit.server_context().wrap_bio(incoming, outgoing, server_side=True)
        upgraded = asyncio.ensure_future(upgrade(one, tlskit.client_context()))
        while not upgraded.done():
            await asyncio.sleep(0)
            incoming.write(lower.take())
            try:
                obj.do_handshake()
            except ssl.SSLWantReadError:
                pass
            lower.deliver(outgoing.read())
        await upgraded
        one.transport.write(b"hello")
        incoming.write(lower.take())
        assert obj.read(100) == b"hello"
        obj.write(b"answer" * 30000)
        lower.deliver(outgoing.read())
        await one.got(b"answer" * 30000)
        assert one.transport.get_extra_info("peername") == "nobody"

        lower.protocol.pause_writing()
        one.transport.write(b"x" * (1 << 20))
        assert not lower.sent and one.names[-1] == "pause"
        assert one.transport.get_write_buffer_size() >= 1 << 20
        lower.protocol.resume_writing()
        assert one.names[-1] == "resume" and len(lower.sent) > 1 << 20
        assert one.transport.get_write_buffer_size() == 0

        one.transport.abort()
        await one.saw("lost")
        assert lower.lost and one.lost is None
        await support.turns(2)
        del two
    run(main())


# -- checks and failures ----------------------------------------------------

def test_checks(run):
    async def main():
        loop = asyncio.get_running_loop()
        one, two = await support.pair()
        context = tlskit.client_context()
        with pytest.raises(TypeError, match="sslcontext is expected to be an instance of "
                                            "ssl.SSLContext, got None"):
            await loop.start_tls(one.transport, one, None)
        with pytest.raises(TypeError, match="transport .* is not supported by start_tls"):
            await loop.start_tls(object(), one, context)
        with pytest.raises(ValueError, match="ssl_handshake_timeout should be a positive number"):
            await loop.start_tls(one.transport, one, context, ssl_handshake_timeout=0)
        assert asyncio.iscoroutine(coro := loop.start_tls(one.transport, one, context))
        coro.close()
        one.transport.write(b"unhurt")
        await two.got(b"unhurt")
        await support.close(one, two)
    run(main())


def test_failed_handshake(run):
    async def main():
        one, two = await support.pair()
        results = await asyncio.gather(
            upgrade(one, tlskit.client_context(trust=False)),
            upgrade(two, tlskit.server_context(), server_side=True), return_exceptions=True)
        assert isinstance(results[0], ssl.SSLCertVerificationError)
        assert isinstance(results[1], (ssl.SSLError, ConnectionResetError))
        await one.saw("lost")
        await two.saw("lost")
    run(main())


def test_cancel(run):
    async def main():
        _, one, sock = await support.connected("unix")
        lower = one.transport
        task = asyncio.ensure_future(upgrade(one, tlskit.client_context()))
        await support.io_turns(3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert lower.is_closing()
        await support.turns(4)
        sock.close()
    run(main())


def test_timeout(run):
    async def main():
        _, one, sock = await support.connected("unix")
        with pytest.raises(ConnectionAbortedError, match="longer than 0.02 seconds"):
            await upgrade(one, tlskit.client_context(), ssl_handshake_timeout=0.02)
        await support.turns(4)
        sock.close()
    run(main())


def test_the_peer_goes_away(run):
    async def main():
        _, one, sock = await support.connected("unix")
        task = asyncio.ensure_future(upgrade(one, tlskit.client_context()))
        await support.io_turns(3)
        sock.close()
        with pytest.raises(ConnectionResetError):
            await task
        await support.turns(4)
    run(main())


def test_a_protocol_can_be_put_back(run):
    """set_protocol() of the lower transport takes TLS away again."""
    async def main():
        _, one, sock = await support.connected("unix")
        lower = one.transport
        upgraded = asyncio.ensure_future(upgrade(one, tlskit.client_context()))
        peer = await tlskit.Peer(sock, tlskit.server_context(), server_side=True).handshake()
        await upgraded
        two = Recorder()
        lower.set_protocol(two)
        await asyncio.get_running_loop().sock_sendall(sock, b"clear")
        await two.until(lambda: len(two.data) >= 5 and two.data.endswith(b"clear"))
        lower.abort()
        await two.saw("lost")
        one.transport.abort()
        peer.close()
    run(main())


@pytest.mark.parametrize("how", ["close", "abort"])
def test_connection_is_closed_meanwhile(run, how):
    """None, as asyncio's; aiohttp tells by it."""
    async def main():
        transport, one, sock = await support.connected("tcp")
        upgraded = asyncio.ensure_future(asyncio.get_running_loop().start_tls(
            transport, one, tlskit.client_context(), server_hostname=tlskit.NAME))
        assert await support.recv_exactly(sock, 5)      # of its hello
        getattr(transport, how)()
        assert await upgraded is None
        assert "lost" not in one.names
        sock.close()
    run(main())


@pytest.mark.tidewire
def test_a_transport_has_one_below_it(run):
    """The private door of start_tls(): neither a second one, nor a ring, nor one of another loop."""
    import tidewire
    from tidewire import _core

    def bare(loop):
        return _core.tls_over(
            loop, support.Recorder(), tlskit.client_context(), None, False, tlskit.NAME, 1, 1, False)

    async def main():
        loop = asyncio.get_running_loop()
        one, peer = await tlskit.with_peer()
        transport, protocol, other = await support.connected("unix")
        elsewhere = tidewire.new_event_loop()
        first, second, foreign = bare(loop), bare(loop), bare(elsewhere)
        for upper, lower in ((one.transport, transport), (first, first), (first, second),
                             (foreign, transport), (foreign, one.transport)):
            with pytest.raises(ValueError, match="no TLS transport over this"):
                upper._insert(lower)
        with pytest.raises(AttributeError):
            first._insert("no transport")
        for each in first, second, foreign:
            each.abort()
        assert transport.get_protocol() is protocol
        await tlskit.finish(one, peer)
        await support.close(protocol)
        other.close()
        elsewhere.close()
    run(main())


@pytest.mark.tidewire
def test_a_lower_transport_that_keeps_the_buffer(run):
    """The memory that get_buffer() gave cannot be resized while its bytes are decrypted."""
    async def main():
        def resize(protocol, data):
            try:
                buffer.clear()
            except BufferError:
                protocol.note("refused")

        one, peer = await tlskit.with_peer(lambda: support.Recorder({"data": resize}))
        adapter = one.transport._ssl_protocol
        data = peer.record(b"hello")
        buffer = adapter.get_buffer(-1)
        buffer[:len(data)] = data
        adapter.buffer_updated(len(data))
        assert one.events[1:] == [("data", b"hello"), ("refused",)]
        buffer.clear()
        await tlskit.finish(one, peer)
    run(main())
