"""Objects between the engine and the program that answer what they should not."""
import asyncio
import ssl

import pytest

import support
import tlskit

pytestmark = pytest.mark.tidewire       # asyncio believes them


def client_of(**methods):
    context = tlskit.client_context()
    context.sslobject_class = type("Object", (ssl.SSLObject,), methods)
    return context


async def answered(context, act):
    """What connection_lost() was told after act(one, peer)."""
    one, peer = await tlskit.with_peer(client=context)
    await act(one, peer)
    await one.saw("lost")
    peer.close()
    return one


async def receives(one, peer):
    await peer.write(b"0123456789")


async def sends(one, peer):
    one.transport.write(b"0123456789")


READ = "read() of a TLS object returned more than was asked for"
COUNT = "a TLS object reported more bytes than it was given"


@pytest.mark.parametrize("act, text, methods", [
    (sends, COUNT, {"write": lambda self, data: len(data) + 1}),
    (sends, COUNT, {"write": lambda self, data: -1}),
    (sends, "an integer", {"write": lambda self, data: "x"}),
    (sends, "too large", {"write": lambda self, data: 2 ** 70}),
    (receives, READ, {"read": lambda self, n, buffer=None: b"x" * (n + 1)}),
    (receives, "bytes-like object", {"read": lambda self, n, buffer=None: 5}),
    (receives, "bytes-like object", {"read": lambda self, n, buffer=None: None}),
])
def test_wrong_answers(run, errors, act, text, methods):
    async def main():
        one = await answered(client_of(**methods), act)
        assert text in str(one.lost), one.lost
        assert one.events.count(("data", b"0123456789")) == 0
        return one.lost

    lost = run(main())
    contexts = errors.take()
    assert all(context["exception"] is lost for context in contexts)


def test_a_buffered_protocol_and_an_object_that_says_too_much(run, errors):
    async def main():
        context = client_of(read=lambda self, n, buffer=None: n + 1 if buffer else b"x" * (n + 1))
        one, peer = await tlskit.with_peer(support.BufferedRecorder, client=context)
        await peer.write(b"0123456789")
        await one.saw("lost")
        peer.close()
        assert str(one.lost) in (READ, COUNT)

    run(main())
    errors.take()


def test_partial_writes_are_continued(run):
    """write() of an object may encrypt a part of what it is given."""
    calls = []

    def write(self, data):
        calls.append(len(data))
        return ssl.SSLObject.write(self, data[:1 + len(data) // 2])

    async def main():
        one, two = await tlskit.tls_pair(client=client_of(write=write))
        data = tlskit.blob(100_000)
        one.transport.write(data)
        one.transport.writelines([data[:10], data[10:20000]])
        await two.got(data + data[:20000])
        await support.close(one, two)

    run(main())
    assert len(calls) > 10


def test_what_the_adapter_refuses(run):
    """The protocol of the transport below, as a foreign transport calls it."""
    room = "buffer_updated() without room for that many bytes"

    async def main():
        one, peer = await tlskit.with_peer()
        adapter = one.transport._ssl_protocol
        size = len(adapter.get_buffer(-1))
        for count, kind, text in [
                (-1, ValueError, room), (size + 1, ValueError, room), (-5, ValueError, room),
                ("x", TypeError, "integer"), (None, TypeError, "integer"),
                (2 ** 80, OverflowError, "too large")]:
            with pytest.raises(kind) as raised:
                adapter.buffer_updated(count)
            assert text in str(raised.value)
        assert len(adapter.get_buffer(-1)) == size
        record = peer.record(b"hello")
        adapter.get_buffer(-1)[:len(record)] = record
        adapter.buffer_updated(len(record))
        assert one.events[1:] == [("data", b"hello")]
        with pytest.raises(ValueError, match="without room"):
            adapter.buffer_updated(0)       # the buffer was consumed
        await tlskit.finish(one, peer)

    run(main())


def test_a_buffer_that_is_exactly_full(run):
    """All of get_buffer()'s room at once."""
    async def main():
        one, peer = await tlskit.with_peer()
        adapter = one.transport._ssl_protocol
        stream = b"".join(peer.record(tlskit.blob(16000)) for _ in range(30))
        sent = tlskit.blob(16000) * 30
        while stream:
            buffer = adapter.get_buffer(-1)
            n = min(len(buffer), len(stream))
            buffer[:n], stream = stream[:n], stream[n:]
            adapter.buffer_updated(n)
        await one.got(sent)
        await tlskit.finish(one, peer)

    run(main())


@pytest.mark.parametrize("size", [1, 16384, 16385, 65535, 65536, 65537, 131072, 200_001])
def test_ciphertext_in_any_piece(run, size):
    """What the engine keeps between two calls grows and shrinks by any size."""
    async def main():
        one, peer = await tlskit.with_peer()
        data = tlskit.blob(size)
        adapter = one.transport._ssl_protocol
        stream = b"".join(peer.record(data[i:i + 16384]) for i in range(0, size, 16384))
        for i in range(0, len(stream), 7001):
            piece = stream[i:i + 7001]
            adapter.get_buffer(-1)[:len(piece)] = piece
            adapter.buffer_updated(len(piece))
        await one.got(data)
        one.transport.write(data)
        assert await peer.read_exactly(size) == data
        await tlskit.finish(one, peer)

    run(main())


@pytest.mark.parametrize("names", ["C_NAMES[:-1]", "(*C_NAMES, 1)", "list(C_NAMES)", "None"])
def test_another_version_of_the_python_part(script, names):
    """A tidewire._tls that is not this extension's is refused, each time it is asked for."""
    assert script(f"""
        from tidewire import _tls
        from tidewire._tls import C_NAMES
        from tls import tlskit

        async def connect():
            a, b = support.socketpair()
            try:
                await tlskit.wrap(a, support.Recorder, tlskit.client_context())
            finally:
                a.close()
                b.close()

        loop = new_loop()
        _tls.C_NAMES = {names}
        for _ in range(2):
            try:
                loop.run_until_complete(connect())
            except ImportError as exc:
                print(exc)
        loop.close()
    """) == ["tidewire._tls is of another version than tidewire._core"] * 2


def test_the_loop_goes_on(run, errors):
    """After an object's wrong answer another connection works on the same loop."""
    async def main():
        bad = client_of(write=lambda self, data: len(data) + 1)
        await answered(bad, sends)
        errors.take()
        one, two = await tlskit.tls_pair()
        one.transport.write(b"fine")
        await two.got(b"fine")
        await support.close(one, two)
        await asyncio.sleep(0)

    run(main())


@pytest.mark.parametrize("high, low", [
    (0, 0), (1, 0), (1, 1), (100, 50), (100, 100), (70_000, 30), (65_537, 65_536), (65_537, 65_537),
    (262_144, 100_000), (262_145, 262_145), (1 << 20, 1 << 20)])
def test_marks_of_the_transport_below(run, high, low):
    """It stops taking ciphertext a byte before the TLS transport pauses, and has limits of its own."""
    async def main():
        one, peer = await tlskit.with_peer()
        lower = one.transport._ssl_protocol._transport
        assert lower.get_write_buffer_limits() == (64 << 10, 256 << 10)
        one.transport.set_write_buffer_limits(high, low)
        most = min(max(high - 1, 0), 256 << 10)
        assert lower.get_write_buffer_limits() == (min(low, 64 << 10, most), most)
        assert one.transport.get_write_buffer_limits() == (low, high)
        await tlskit.finish(one, peer)

    run(main())


def test_what_the_adapter_shows(run):
    async def main():
        one, peer = await tlskit.with_peer()
        transport, adapter = one.transport, one.transport._ssl_protocol
        assert adapter._app_transport is transport and adapter._app_protocol is one
        assert adapter._transport.get_extra_info("socket") is not None
        other = support.Recorder()
        transport.set_protocol(other)
        assert adapter._app_protocol is other
        transport.set_protocol(one)
        await tlskit.finish(one, peer)
        assert adapter._app_protocol is None and adapter._transport is None
        assert adapter._app_transport is transport

    run(main())
