"""Stream transports and their protocols: pausing, switching, raising, letting go."""
import array
import asyncio
import gc
import os
import socket
import weakref

import pytest

from net.tcpkit import end, served
import support
from support import Recorder


@pytest.mark.parametrize("kind", support.KINDS)
def test_pause_and_resume_reading(run, kind):
    async def main():
        one, two = await support.pair(kind)
        assert two.transport.is_reading() is True
        two.transport.pause_reading()
        two.transport.pause_reading()
        assert two.transport.is_reading() is False
        one.transport.write(b"hello")
        await support.io_turns(5)
        assert two.names == ["made"]
        two.transport.resume_reading()
        two.transport.resume_reading()
        assert two.transport.is_reading() is True
        await two.got(b"hello")
        two.transport.close()
        assert two.transport.is_reading() is False
        two.transport.pause_reading()
        two.transport.resume_reading()
        assert two.transport.is_reading() is False
        await two.saw("lost")
        two.transport.pause_reading()
        two.transport.resume_reading()
        assert two.transport.is_reading() is False
        await support.close(one)

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_pause_inside_data_received_holds_at_once(run, kind):
    async def main():
        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder(
                {"data": lambda p, data: p.transport.pause_reading()}))
        peer.send(b"x" * 100)
        await protocol.saw("data")
        first = len(protocol.data)
        for _ in range(5):
            try:
                peer.send(b"y" * 10000)
            except BlockingIOError:
                break
            await support.io_turns(2)
        assert len(protocol.data) == first
        peer.close()
        await support.io_turns()
        assert "eof" not in protocol.names
        await support.close(protocol)

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_eof_while_paused_is_kept(run, kind):
    async def main():
        transport, protocol, peer = await support.connected(kind)
        transport.pause_reading()
        peer.send(b"last words")
        peer.close()
        await support.io_turns(5)
        assert protocol.names == ["made"]
        transport.resume_reading()
        await protocol.saw("lost")
        assert protocol.names == ["made", "data", "eof", "lost"]
        assert protocol.data == b"last words"

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_pause_in_connection_made(run, kind):
    async def main():
        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder(
                {"made": lambda p: p.transport.pause_reading()}))
        peer.send(b"x")
        await support.io_turns(5)
        assert protocol.names == ["made"]
        assert not transport.is_reading()
        transport.resume_reading()
        await protocol.got(b"x")
        await support.close(protocol)
        peer.close()

    run(main())


def test_data_comes_after_create_connection_returned(loop, run):
    async def main():
        server, port = await served(loop, lambda: Recorder(
            {"made": lambda p: p.transport.write(b"greeting")}))
        for _ in range(20):
            transport, protocol = await loop.create_connection(
                Recorder, "127.0.0.1", port)
            assert protocol.names == ["made"]
            await protocol.got(b"greeting")
            await support.close(protocol)
        await end(server)
        await support.io_turns()

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_set_protocol(run, kind):
    async def main():
        one, two = await support.pair(kind)
        transport = one.transport
        assert transport.get_protocol() is one
        other = Recorder()
        other.transport = transport
        transport.set_protocol(other)
        assert transport.get_protocol() is other
        two.transport.write(b"hello")
        await other.got(b"hello")
        assert one.names == ["made"]
        await support.close(other)
        await two.saw("lost")
        assert one.names == ["made"] and other.names == ["data", "lost"]

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_set_protocol_in_the_middle_of_data(run, kind):
    async def main():
        second = Recorder()

        def switch(protocol, data):
            second.transport = protocol.transport
            protocol.transport.set_protocol(second)

        transport, first, peer = await support.connected(
            kind, lambda: Recorder({"data": switch}))
        peer.send(b"one")
        await first.got(b"one")
        peer.send(b"two")
        await second.got(b"two")
        assert first.data == b"one"
        peer.close()
        await second.saw("lost")
        assert "lost" not in first.names

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_connection_made_that_closes(run, kind):
    async def main():
        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder({"made": lambda p: p.transport.close()}))
        await protocol.saw("lost")
        assert protocol.names == ["made", "lost"]
        peer.close()

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
@pytest.mark.parametrize("how", ["close", "abort"])
def test_close_in_data_received(run, kind, how):
    async def main():
        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder(
                {"data": lambda p, d: getattr(p.transport, how)()}))
        peer.send(b"x")
        await protocol.saw("lost")
        assert protocol.names == ["made", "data", "lost"]
        assert protocol.lost is None
        peer.close()

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
@pytest.mark.parametrize("place", ["made", "data", "eof", "lost"])
def test_callbacks_that_raise(run, kind, place, errors):
    async def main():
        def fail(protocol, *args):
            raise ZeroDivisionError(place)

        made = []

        def factory():
            made.append(Recorder({place: fail}))
            return made[-1]

        transport, protocol, peer = await support.connected(kind, factory)
        peer.send(b"x")
        peer.close()
        if place == "made":
            # asyncio leaves such a transport reading.
            transport.close()
        await protocol.saw("lost")
        await support.turns()
        return protocol

    protocol = run(main())
    (context,) = errors.take()
    assert isinstance(context["exception"], ZeroDivisionError)
    message = context["message"]
    if place in ("data", "eof"):
        method = {"data": "data_received", "eof": "eof_received"}[place]
        assert message == \
            f"Fatal error: protocol.{method}() call failed."
        assert context["protocol"] is protocol
        assert context["transport"] is protocol.transport
        assert isinstance(protocol.lost, ZeroDivisionError)
    else:
        assert message.startswith("Exception in callback ")
        assert "handle" in context


@pytest.mark.parametrize("kind", support.KINDS)
def test_transport_types(run, kind):
    async def main():
        one, two = await support.pair(kind)
        assert isinstance(one.transport, asyncio.Transport)
        assert isinstance(one.transport, asyncio.BaseTransport)
        assert weakref.ref(one.transport)() is one.transport
        one.transport.anything = 1
        assert one.transport.anything == 1
        number = one.transport.get_extra_info("socket").fileno()
        assert f" fd={number} read=polling write=<idle, bufsize=0>>" in repr(one.transport)
        await support.close(one, two)
        assert repr(one.transport).endswith(f" closed fd={number}>")    # for log files
        assert one.transport._sock_fd == number

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_methods_can_be_patched_on_an_instance(run, kind):
    """aiohttp's and uvicorn's tests do so."""
    async def main():
        one, two = await support.pair(kind)
        seen = []
        one.transport.write = seen.append
        one.transport.write(b"x")
        assert seen == [b"x"]
        del one.transport.write
        one.transport.write(b"y")
        await two.got(b"y")
        await support.close(one, two)

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_everything_is_let_go_after_the_end(run, kind):
    async def main():
        one, two = await support.pair(kind)
        refs = [weakref.ref(x) for x in (one, two, one.transport,
                                         two.transport)]
        await support.close(one, two)
        await support.turns()
        del one, two
        gc.collect()
        return [ref() for ref in refs]

    assert run(main()) == [None] * 4


@pytest.mark.parametrize("kind", support.KINDS)
def test_socket_is_closed_after_connection_lost(run, kind):
    """In connection_lost the socket can still be asked for SO_ERROR."""
    async def main():
        seen = []

        def lost(protocol, exc):
            sock = protocol.transport.get_extra_info("socket")
            seen.append(sock.fileno() >= 0)
            seen.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

        ours, peer = support.socketpair(kind)
        _, protocol = await support.connect_sock(
            ours, lambda: Recorder({"lost": lost}))
        await support.close(protocol)
        await support.turns()
        assert seen == [True, 0]
        assert ours.fileno() == -1
        peer.close()

    run(main())


@pytest.mark.parametrize("kind", ["stream", "datagrams"])
def test_name_of_a_type_that_is_no_data(run, kind):
    async def main():
        loop = asyncio.get_running_loop()
        if kind == "stream":
            transport, protocol, peer = await support.connected("unix")
            send = transport.write
        else:
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
            send = transport.sendto
        with pytest.raises(TypeError) as info:
            send(array.array("b", b"abc"))
        assert str(info.value) == "data argument must be a bytes-like object, not 'array'"
        transport.close()
        await support.turns()
        if kind == "stream":
            peer.close()

    run(main())


@pytest.mark.parametrize("kind", ["stream", "datagrams", "read pipe", "write pipe"])
def test_report_of_a_raising_connection_lost(run, errors, kind):
    class Protocol(asyncio.Protocol):
        def connection_lost(self, exc):
            raise LookupError

    async def main():
        loop, peer = asyncio.get_running_loop(), None
        if kind == "stream":
            one, peer = support.socketpair()
            transport, _ = await loop.create_connection(Protocol, sock=one)
        elif kind == "datagrams":
            transport, _ = await loop.create_datagram_endpoint(
                Protocol, local_addr=("127.0.0.1", 0))
        else:
            r, w = os.pipe()
            r, w = os.fdopen(r, "rb", 0), os.fdopen(w, "wb", 0)
            ours, peer, connect = ((r, w, loop.connect_read_pipe) if kind == "read pipe"
                                   else (w, r, loop.connect_write_pipe))
            transport, _ = await connect(Protocol, ours)
        transport.close()
        await support.turns()
        (context,) = errors.take()
        assert "Transport._call_connection_lost(" in context["message"]
        assert isinstance(context["exception"], LookupError)
        if peer:
            peer.close()

    run(main())


def test_protocol_set_while_its_error_is_reported(script):
    """Each collection sets another protocol, also one between the error and its report."""
    (line,) = script("""
        import asyncio, gc, socket
        holding = []
        seen = set()
        transport = None

        class First(asyncio.Protocol):
            def data_received(self, data):
                Swap()
                # So that the next dictionary is a new one, whose making may collect.
                holding.extend({} for _ in range(300))
                gc.set_threshold(1)
                raise LookupError

        class Other(asyncio.Protocol):
            pass

        class Swap:
            def __init__(self):
                self.me = self

            def __del__(self):
                if transport is not None:
                    transport.set_protocol(Other())
                    Swap()
                    holding.extend({} for _ in range(3))

        def report(loop, context):
            seen.add(type(context["protocol"]).__name__)

        async def main(loop):
            global transport
            loop.set_exception_handler(report)
            for _ in range(20):
                one, two = socket.socketpair()
                transport, _ = await loop.create_connection(First, sock=one)
                two.send(b"x")
                await asyncio.sleep(0.01)
                gc.set_threshold(700)
                transport.abort()
                transport = None
                two.close()
                await asyncio.sleep(0)

        loop = new_loop()
        loop.run_until_complete(main(loop))
        loop.close()
        print(*seen - {"First", "Other"}, "end")
        """, env={"PYTHONMALLOC": "debug"})
    assert line == "end"
