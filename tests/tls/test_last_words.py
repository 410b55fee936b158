"""What was written before the end of a connection reaches the peer, and the end has the true reason."""
import asyncio
import socket
import ssl

import pytest
import support
import tlskit
from support import BufferedRecorder, Recorder

BODY = b"b" * 5000
# What OpenSSL calls a record whose MAC is wrong: 3.0, and Debian's 3.5 and 3.6.
BAD_RECORD = ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE")


async def last_words(peer):
    """All plaintext that comes before the connection ends, however it ends."""
    out = bytearray()
    while True:
        try:
            data = await peer.drive(peer.obj.read, 262144)
        except (ssl.SSLError, OSError):
            break
        if not data:
            break
        out += data
    peer.close()
    return bytes(out)


async def upgraded(factory, version):
    """Ours, a server that start_tls() has made, and a Peer."""
    a, b = support.socketpair("unix")
    loop = asyncio.get_running_loop()
    _, protocol = await loop.connect_accepted_socket(factory, a)
    plain = protocol.transport
    peer = tlskit.Peer(b, tlskit.client_context(version), server_hostname=tlskit.NAME)
    shaken = asyncio.ensure_future(peer.handshake())
    protocol.transport = await loop.start_tls(
        plain, protocol, tlskit.server_context(version), server_side=True)
    await shaken
    return protocol, peer


async def accepted(factory, version):
    return await tlskit.with_peer(
        factory, ours="server", client=tlskit.client_context(version),
        server=tlskit.server_context(version), ssl_shutdown_timeout=0.2)


MADE = {"accepted": accepted, "start_tls": upgraded}


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("version", tlskit.VERSIONS, ids=lambda v: v.name)
@pytest.mark.parametrize("size", [3, 1000, 20000, 60000])
def test_answer_before_the_request_is_read(run, made, version, size):
    """413 Payload Too Large: data of the client waits, the server answers and closes."""
    async def main():
        for when in "with the rest unread", "with the rest in the socket", "a turn later":
            one, peer = await MADE[made](Recorder, version)
            one.transport.pause_reading()
            await peer.write(b"head" + BODY)
            if when != "with the rest in the socket":
                await support.io_turns(3)
            one.transport.write(b"4" * size)
            if when == "a turn later":
                await asyncio.sleep(0)
            one.transport.close()
            assert await last_words(peer) == b"4" * size, when
            await one.saw("lost")
    run(main())


def test_answer_of_a_paused_stream(run):
    """start_server(): nobody reads, the StreamReader is over its limit and has paused."""
    async def main():
        closed = asyncio.get_running_loop().create_future()

        async def serve(reader, writer):
            while len(reader._buffer) <= 2048:
                await asyncio.sleep(0)
            await support.io_turns(2)
            writer.write(b"4" * 500)
            writer.close()
            try:
                await writer.wait_closed()
            except ssl.SSLError:
                pass
            closed.set_result(None)

        server = await asyncio.start_server(
            serve, "127.0.0.1", 0, ssl=tlskit.server_context(), limit=1024)
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, server.sockets[0].getsockname())
        peer = await tlskit.Peer(
            sock, tlskit.client_context(), server_hostname=tlskit.NAME).handshake()
        for _ in range(10):
            await peer.write(b"b" * 1000)
        assert await last_words(peer) == b"4" * 500
        await closed
        server.close()
    run(main())


def spoiled(record):
    record = bytearray(record)
    record[-1] ^= 1
    return bytes(record)


def answers(protocol, data):
    protocol.transport.write(b"answer")


KINDS = {"protocol": Recorder, "buffered": BufferedRecorder}


@pytest.mark.tidewire        # the stock loop does not deliver the good record
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", tlskit.VERSIONS, ids=lambda v: v.name)
@pytest.mark.parametrize("how", ["at once", "paused first", "paused by it"])
def test_bad_record_behind_a_good_one(run, kind, version, how):
    """The error of the connection is that of the record, whatever the protocol writes meanwhile."""
    def hook(protocol, data):
        if how == "paused by it":
            protocol.transport.pause_reading()
        answers(protocol, data)

    async def main():
        one, peer = await accepted(lambda: KINDS[kind]({"data": hook}), version)
        good = peer.record(b"good")
        bad = spoiled(peer.record(b"bad"))
        if how == "paused first":
            one.transport.pause_reading()
        await peer.raw(good + bad)
        if how == "paused first":
            await support.io_turns(3)
            one.transport.resume_reading()
        await one.saw("lost")
        peer.close()
        assert ("data", b"good") in one.digest
        assert type(one.lost) is ssl.SSLError, one.lost
        assert one.lost.reason in BAD_RECORD
    run(main())


@pytest.mark.parametrize("method", ["close", "abort"])
@pytest.mark.tidewire
def test_bad_record_and_a_protocol_that_ends_it(run, method):
    """abort() wins over the error that stands behind the good record; close() does not."""
    def hook(protocol, data):
        protocol.transport.write(b"answer")
        getattr(protocol.transport, method)()

    async def main():
        one, peer = await accepted(lambda: Recorder({"data": hook}), None)
        await peer.raw(peer.record(b"good") + spoiled(peer.record(b"bad")))
        await one.saw("lost")
        peer.close()
        if method == "abort":
            assert one.lost is None
        else:
            assert one.lost.reason in BAD_RECORD
    run(main())


@pytest.mark.tidewire
def test_an_alert_behind_a_good_record(run):
    """The peer's alert, with data in front of it, and a protocol that answers."""
    async def main():
        one, peer = await accepted(lambda: Recorder({"data": answers}), ssl.TLSVersion.TLSv1_2)
        good = peer.record(b"good")
        peer.incoming.write(b"\x17\x03\x03\x00\x20" + b"?" * 32)
        with pytest.raises(ssl.SSLError):
            peer.obj.read()
        await peer.raw(good + peer.outgoing.read())     # bad_record_mac
        await one.saw("lost")
        peer.close()
        assert ("data", b"good") in one.digest
        assert one.lost.reason == "SSLV3_ALERT_BAD_RECORD_MAC"
    run(main())


@pytest.mark.tidewire
def test_a_bad_record_and_a_stream(run):
    async def main():
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        one, peer = await tlskit.with_peer(lambda: asyncio.StreamReaderProtocol(reader))
        task = loop.create_task(reader.readexactly(4))
        await asyncio.sleep(0)
        await peer.raw(peer.record(b"good") + spoiled(peer.record(b"bad")))
        assert await task == b"good"
        with pytest.raises(ssl.SSLError, match="|".join(BAD_RECORD)):
            await reader.read()
        peer.close()
    run(main())


def fail(protocol, *args):
    protocol.transport.write(b"last words")
    raise ZeroDivisionError


def abort(protocol, *args):
    protocol.transport.write(b"last words")
    protocol.transport.abort()


def close(protocol, *args):
    protocol.transport.write(b"last words")
    protocol.transport.close()


@pytest.mark.parametrize("end", [fail, abort, close])
@pytest.mark.parametrize("where", ["made", "data", "eof", "buffered", "later"])
@pytest.mark.parametrize("version", tlskit.VERSIONS, ids=lambda v: v.name)
def test_written_in_the_callback_that_ends_it(run, errors, version, where, end):
    if end is fail and where in ("made", "later"):
        return      # see below; and a callback of the loop is not the transport's affair

    async def main():
        kind = BufferedRecorder if where == "buffered" else Recorder
        hook = "data" if where == "buffered" else where
        one, peer = await accepted(lambda: kind({hook: end}), version)
        if where in ("data", "buffered"):
            await peer.write(b"x")
        elif where == "eof":
            await peer.raw(peer.close_notify())
        elif where == "later":
            end(one)
        words = await last_words(peer)
        await one.saw("lost")
        errors.take()
        assert words == b"last words"
    run(main())


def test_written_and_then_no_answer_to_close_notify(run):
    """The shutdown's timeout: the peer has all data, but never says that it has."""
    async def main():
        one, peer = await accepted(Recorder, None)
        one.transport.write(b"last words")
        one.transport.close()
        assert await peer.read() == b"last words"
        await one.saw("lost")
        assert isinstance(one.lost, TimeoutError)
        peer.close()
    run(main())


def test_written_in_a_connection_made_that_raises(run, errors):
    async def main():
        made = []

        def factory():
            made.append(Recorder({"made": fail}))
            return made[0]

        loop = asyncio.get_running_loop()
        server = await loop.create_server(factory, "127.0.0.1", 0, ssl=tlskit.server_context())
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, server.sockets[0].getsockname())
        peer = tlskit.Peer(sock, tlskit.client_context(), server_hostname=tlskit.NAME)
        await peer.handshake()
        assert await last_words(peer) == b"last words"
        await made[0].saw("lost")
        assert isinstance(made[0].lost, ZeroDivisionError)
        errors.take()
        server.close()
    run(main())
