"""Records in random pieces, with and without corruption, without sockets."""
import asyncio
import itertools
import ssl

import pytest
import support
import tlskit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import BufferedRecorder, Recorder

# Hypothesis looks at every random.Random; of some it says that they are short-lived.
pytestmark = pytest.mark.filterwarnings("ignore:It looks like `register_random`")

COMMON = settings(deadline=None, derandomize=True, max_examples=60, database=None,
                  suppress_health_check=[HealthCheck.function_scoped_fixture])


class Link:
    """A TLS transport on a transport in memory, and the other end as an object."""

    async def open(self, protocol, version=None):
        self.protocol = protocol
        self.lower = protocol.transport = tlskit.MemoryTransport(protocol)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.obj = tlskit.server_context(version).wrap_bio(
            self.incoming, self.outgoing, server_side=True)
        loop = asyncio.get_running_loop()
        upgraded = asyncio.ensure_future(loop.start_tls(
            self.lower, protocol, tlskit.client_context(version), server_hostname="localhost"))
        while not upgraded.done():
            await asyncio.sleep(0)
            self.incoming.write(self.lower.take())
            try:
                self.obj.do_handshake()
            except ssl.SSLWantReadError:
                pass
            self.lower.deliver(self.outgoing.read())
        self.transport = protocol.transport = upgraded.result()
        return self

    def seal(self, data):
        if data:
            self.obj.write(data)
        return self.outgoing.read()

    def open_sealed(self):
        self.incoming.write(self.lower.take())
        out = b""
        while True:
            try:
                out += self.obj.read(65536)
            except ssl.SSLWantReadError:
                return out

    async def close(self):
        self.transport.abort()
        await self.protocol.saw("lost")
        await support.turns(2)


def pieces(data, cuts):
    """data cut at these places (modulo its length)."""
    places = sorted({c % (len(data) + 1) for c in cuts} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places) if a < b]


def make_protocol(buffer):
    if buffer is None:
        return Recorder()
    return BufferedRecorder(buffer=memoryview(bytearray(buffer)))


MESSAGES = st.lists(st.integers(0, 40000), min_size=1, max_size=5)
CUTS = st.lists(st.integers(0, 1 << 17), max_size=12)
BUFFERS = st.sampled_from([None, None, 1000, 7, 100000])


@COMMON
@given(sizes=MESSAGES, cuts=CUTS, buffer=BUFFERS, old=st.booleans(), pauses=st.sets(st.integers(0, 12)))
@pytest.mark.tidewire
def test_random_pieces(loop, sizes, cuts, buffer, old, pauses):
    async def main():
        link = await Link().open(make_protocol(buffer), tlskit.VERSIONS[0] if old else None)
        messages = [bytes([65 + i]) * n for i, n in enumerate(sizes)]
        sealed = b"".join(link.seal(m) for m in messages)
        for i, piece in enumerate(pieces(sealed, cuts)):
            if i in pauses:
                if link.transport.is_reading():
                    link.transport.pause_reading()
                else:
                    link.transport.resume_reading()
                    await asyncio.sleep(0)
            link.lower.deliver(piece)
        link.transport.resume_reading()
        await asyncio.sleep(0)
        await link.protocol.got(b"".join(messages))
        for m in messages:
            link.transport.write(m)
        assert support.same(link.open_sealed(), b"".join(messages))
        await link.close()
    loop.run_until_complete(main())


def test_byte_by_byte(run):
    async def main():
        link = await Link().open(Recorder())
        sealed = link.seal(b"hello") + link.seal(b"x" * 3000) + link.seal(b"end")
        for i in range(len(sealed)):
            link.lower.deliver(sealed[i:i + 1])
        assert link.protocol.data == b"hello" + b"x" * 3000 + b"end"
        await link.close()
    run(main())


def test_eof_at_each_byte_of_a_record(run):
    async def main():
        size = 1
        for cut in range(100):
            if cut > size:
                return
            link = await Link().open(Recorder())
            link.lower.deliver(link.seal(b"first"))
            sealed = link.seal(b"x" * 20)
            size = len(sealed)
            link.lower.deliver(sealed[:cut])
            assert not link.lower.protocol.eof_received()
            link.lower.close()
            await link.protocol.saw("lost")
            assert link.protocol.names[-2:] == ["eof", "lost"]
            assert link.protocol.lost is None
            await support.turns(2)
    run(main())


@COMMON
@given(sizes=MESSAGES, cuts=CUTS, at=st.integers(0, 1 << 17), xor=st.integers(1, 255), buffer=BUFFERS)
@pytest.mark.tidewire
def test_corruption(loop, guard, sizes, cuts, at, xor, buffer):
    """A flipped byte: what came before it is delivered, then there is an SSLError."""
    async def main():
        link = await Link().open(make_protocol(buffer))
        messages = [bytes([65 + i]) * n for i, n in enumerate(sizes)]
        sealed = bytearray(b"".join(link.seal(m) for m in messages))
        if not sealed:
            return await link.close()
        sealed[at % len(sealed)] ^= xor
        for piece in pieces(bytes(sealed), cuts):
            link.lower.deliver(piece)
        await asyncio.sleep(0)
        data = link.protocol.data
        assert support.same(data, b"".join(messages)[:len(data)])
        if link.lower.closing:
            await link.protocol.saw("lost")
            assert link.protocol.lost is None or isinstance(link.protocol.lost, ssl.SSLError)
            await support.turns(2)
        else:
            assert len(data) < sum(sizes) or xor
            await link.close()
    loop.run_until_complete(main())


@COMMON
@given(data=st.binary(max_size=2000), cuts=CUTS)
@pytest.mark.tidewire
def test_garbage_after_the_handshake(loop, data, cuts):
    async def main():
        link = await Link().open(Recorder())
        for piece in pieces(data, cuts):
            link.lower.deliver(piece)
        await asyncio.sleep(0)
        if not link.lower.closing:
            link.transport.abort()
        await link.protocol.saw("lost")
        assert link.protocol.data == b""
        await support.turns(2)
    loop.run_until_complete(main())


@COMMON
@given(data=st.binary(max_size=600), cuts=CUTS)
@pytest.mark.tidewire
def test_garbage_in_the_handshake(loop, guard, data, cuts):
    async def main():
        protocol = Recorder()
        lower = tlskit.MemoryTransport(protocol)
        upgraded = asyncio.ensure_future(asyncio.get_running_loop().start_tls(
            lower, protocol, tlskit.server_context(), server_side=True))
        await support.turns(2)
        for piece in pieces(data, cuts):
            lower.deliver(piece)
        if not lower.closing:
            lower.protocol.eof_received()
            lower.close()
        await asyncio.wait([upgraded])
        assert isinstance(upgraded.exception(), (ssl.SSLError, ConnectionResetError))
        await support.turns(3)
    loop.run_until_complete(main())


ACTIONS = st.lists(st.tuples(st.sampled_from(
    ["write", "writelines", "pause", "resume", "deliver", "turn", "full", "room", "limits"]),
    st.integers(0, 70000)), max_size=25)


@COMMON
@given(actions=ACTIONS, buffer=BUFFERS)
@pytest.mark.tidewire
def test_random_actions(loop, actions, buffer):
    """Whatever the order: no byte is lost, pause and resume come in pairs."""
    async def main():
        link = await Link().open(make_protocol(buffer))
        sent, received, full = b"", b"", False
        for i, (action, n) in enumerate(actions):
            data = bytes([65 + i % 26]) * n
            if action == "write":
                link.transport.write(data)
                sent += data
            elif action == "writelines":
                link.transport.writelines([data[:100], data[100:], b"!"])
                sent += data + b"!"
            elif action == "pause":
                link.transport.pause_reading()
            elif action == "resume":
                link.transport.resume_reading()
            elif action == "deliver":
                link.lower.deliver(link.seal(data))
                received += data
            elif action == "turn":
                await asyncio.sleep(0)
            elif action == "full" and not full:
                full = True
                link.lower.protocol.pause_writing()
            elif action == "room" and full:
                full = False
                link.lower.protocol.resume_writing()
            elif action == "limits":
                link.transport.set_write_buffer_limits(n)
        link.transport.resume_reading()
        if full:
            link.lower.protocol.resume_writing()
        await asyncio.sleep(0)
        await link.protocol.got(received)
        assert support.same(link.open_sealed(), sent)
        names = [n for n in link.protocol.names if n in ("pause", "resume")]
        assert names == ["pause", "resume"] * (len(names) // 2)
        assert link.transport.get_write_buffer_size() == 0
        await link.close()
    loop.run_until_complete(main())
