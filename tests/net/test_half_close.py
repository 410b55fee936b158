"""write_eof and eof_received."""
import pytest

import support
from support import Recorder

kinds = pytest.mark.parametrize("kind", support.KINDS)


@kinds
def test_write_eof(run, kind):
    async def main():
        one, two = await support.pair(
            kind, Recorder, lambda: Recorder({"eof": lambda p: True}))
        assert one.transport.can_write_eof() is True
        one.transport.write(b"question")
        assert one.transport.write_eof() is None
        one.transport.write_eof()           # a second time: nothing
        await two.saw("eof")
        two.transport.write(b"answer")
        await one.got(b"answer")
        assert not one.transport.is_closing()
        two.transport.close()
        await one.saw("lost")
        await two.saw("lost")
        assert two.names == ["made", "data", "eof", "lost"]
        assert one.names == ["made", "data", "eof", "lost"]

    run(main())


@kinds
@pytest.mark.parametrize("call", [
    lambda t: t.write(b"x"), lambda t: t.writelines([b"x"])])
def test_write_after_write_eof(run, kind, call):
    async def main():
        one, two = await support.pair(kind)
        one.transport.write_eof()
        with pytest.raises(RuntimeError, match="after write_eof"):
            call(one.transport)
        await support.close(one, two)

    run(main())


@kinds
def test_write_of_nothing_after_write_eof(run, kind, is_stock):
    """asyncio raises before it looks at the data."""
    async def main():
        one, two = await support.pair(kind)
        one.transport.write_eof()
        with pytest.raises(RuntimeError):
            one.transport.write(b"")
        await support.close(one, two)

    run(main())


@kinds
def test_write_eof_waits_for_the_queue(run, kind):
    async def main():
        one, two = await support.pair(kind)
        two.transport.pause_reading()
        size = support.fill(one.transport)
        one.transport.write_eof()
        two.transport.resume_reading()
        await two.saw("eof")
        assert len(two.data) == size
        await support.close(one, two)

    run(main())


@kinds
@pytest.mark.parametrize("value, half_open", [
    (None, False), (False, False), (0, False), ("", False),
    (True, True), (1, True), ("yes", True)])
def test_eof_received_decides(run, kind, value, half_open):
    async def main():
        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder({"eof": lambda p: value}))
        import socket
        peer.shutdown(socket.SHUT_WR)
        await protocol.saw("eof")
        await support.io_turns(3)
        if half_open:
            assert "lost" not in protocol.names
            assert not transport.is_closing()
            transport.write(b"still talking")
            import asyncio
            loop = asyncio.get_running_loop()
            assert await loop.sock_recv(peer, 100) == b"still talking"
            transport.close()
        await protocol.saw("lost")
        assert protocol.names == ["made", "eof", "lost"]
        peer.close()

    run(main())


@kinds
def test_half_open_hears_eof_once(run, kind):
    async def main():
        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder({"eof": lambda p: True}))
        import socket
        peer.shutdown(socket.SHUT_WR)
        await protocol.saw("eof")
        await support.io_turns(10)
        assert protocol.names == ["made", "eof"]
        transport.pause_reading()
        transport.resume_reading()
        await support.io_turns(5)
        names = protocol.names
        await support.close(protocol)
        peer.close()
        return names

    # asyncio tells it again when reading is resumed: docs/differences.rst.
    assert run(main())[:2] == ["made", "eof"]


@kinds
def test_is_reading_after_eof(run, kind):
    async def main():
        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder({"eof": lambda p: True}))
        import socket
        peer.shutdown(socket.SHUT_WR)
        await protocol.saw("eof")
        state = transport.is_reading()
        await support.close(protocol)
        peer.close()
        return state

    assert run(main()) is True          # asyncio does not count EOF


@kinds
def test_both_ends_write_eof(run, kind):
    async def main():
        stay = {"eof": lambda p: True}
        one, two = await support.pair(kind, lambda: Recorder(stay),
                                      lambda: Recorder(stay))
        one.transport.write(b"a")
        one.transport.write_eof()
        two.transport.write(b"b")
        two.transport.write_eof()
        await one.saw("eof")
        await two.saw("eof")
        await support.io_turns(3)
        assert "lost" not in one.names + two.names
        one.transport.close()
        two.transport.close()
        await one.saw("lost")
        await two.saw("lost")
        assert one.data == b"b" and two.data == b"a"

    run(main())


@kinds
def test_write_eof_in_connection_made(run, kind):
    async def main():
        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder(
                {"made": lambda p: p.transport.write_eof()}))
        assert await support.recv_all(peer) == b""
        peer.close()
        await protocol.saw("lost")

    run(main())


@kinds
def test_write_eof_after_close(run, kind):
    async def main():
        one, two = await support.pair(kind)
        one.transport.close()
        one.transport.write_eof()
        await one.saw("lost")
        one.transport.write_eof()
        await two.saw("lost")

    run(main())


@kinds
def test_pending_writes_after_eof_received_are_sent(run, kind):
    """False from eof_received closes, and closing flushes."""
    async def main():
        import socket
        transport, protocol, peer = await support.connected(kind)
        size = support.fill(transport)
        peer.shutdown(socket.SHUT_WR)
        await protocol.saw("eof")
        assert transport.is_closing()
        assert len(await support.recv_all(peer)) == size
        await protocol.saw("lost")
        peer.close()

    run(main())
