"""get_extra_info and the socket it gives."""
import asyncio
import os
import socket

import pytest

import support
from support import Recorder


def test_tcp(run):
    async def main():
        ours, peer = support.socketpair("tcp")
        names = ours.getsockname(), ours.getpeername()
        transport, protocol = await support.connect_sock(ours, Recorder)
        assert transport.get_extra_info("sockname") == names[0]
        assert transport.get_extra_info("peername") == names[1]
        assert isinstance(transport.get_extra_info("peername"), tuple)
        await support.close(protocol)
        peer.close()

    run(main())


def test_tcp6(run):
    if not socket.has_ipv6:
        pytest.skip("no IPv6")

    async def main():
        ours, peer = support.socketpair("tcp6")
        names = ours.getsockname(), ours.getpeername()
        transport, protocol = await support.connect_sock(ours, Recorder)
        assert transport.get_extra_info("sockname") == names[0]
        assert transport.get_extra_info("peername") == names[1]
        assert len(names[0]) == 4
        await support.close(protocol)
        peer.close()

    run(main())


def test_unix_socketpair(run):
    async def main():
        transport, protocol, peer = await support.connected("unix")
        assert transport.get_extra_info("sockname") == ""
        assert transport.get_extra_info("peername") == ""
        await support.close(protocol)
        peer.close()

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_unknown_keys(run, kind):
    async def main():
        transport, protocol, peer = await support.connected(kind)
        assert transport.get_extra_info("nonsense") is None
        assert transport.get_extra_info("nonsense", 7) == 7
        assert transport.get_extra_info("nonsense", default=7) == 7
        assert transport.get_extra_info(name="nonsense", default=7) == 7
        for key in ("compression", "cipher", "peercert", "sslcontext",
                    "ssl_object", "pipe", "subprocess"):
            assert transport.get_extra_info(key, "default") == "default"
        assert transport.get_extra_info(5, 6) == 6
        with pytest.raises(TypeError):
            transport.get_extra_info()
        await support.close(protocol)
        peer.close()

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_socket(run, kind):
    async def main():
        ours, peer = support.socketpair(kind)
        fd, family = ours.fileno(), ours.family
        transport, protocol = await support.connect_sock(ours, Recorder)
        sock = transport.get_extra_info("socket")
        assert isinstance(sock, asyncio.trsock.TransportSocket)
        assert sock.fileno() == fd
        assert sock.family == family and sock.type == socket.SOCK_STREAM
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == 1
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10000)
        assert transport.get_extra_info("socket").fileno() == fd
        duplicate = sock.dup()
        duplicate.close()
        sock.setblocking(False)
        with pytest.raises(ValueError):
            sock.setblocking(True)
        assert sock.gettimeout() == 0
        for name in ("recv", "send", "close", "connect"):
            assert not hasattr(sock, name)
        await support.close(protocol)
        peer.close()

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_after_close(run, kind):
    async def main():
        transport, protocol, peer = await support.connected(kind)
        before = [transport.get_extra_info(key)
                  for key in ("sockname", "peername")]
        await support.close(protocol)
        await support.turns()
        after = [transport.get_extra_info(key)
                 for key in ("sockname", "peername")]
        assert before == after
        sock = transport.get_extra_info("socket")
        assert sock is None or sock.fileno() == -1
        peer.close()

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_asked_only_after_close(run, kind):
    """Nobody asked before, so nothing was made; it is known all the same."""
    async def main():
        ours, peer = support.socketpair(kind)
        names = ours.getsockname(), ours.getpeername()
        transport, protocol = await support.connect_sock(ours, Recorder)
        await support.close(protocol)
        await support.turns()
        assert transport.get_extra_info("sockname") == names[0]
        assert transport.get_extra_info("peername") == names[1]
        peer.close()

    run(main())


@pytest.mark.parametrize("kind", support.KINDS)
def test_in_connection_made_and_lost(run, kind):
    async def main():
        seen = []

        def look(protocol, *args):
            transport = protocol.transport
            seen.append((transport.get_extra_info("peername"),
                         transport.get_extra_info("sockname"),
                         transport.get_extra_info("socket").fileno() > 0))

        transport, protocol, peer = await support.connected(
            kind, lambda: Recorder({"made": look, "lost": look}))
        peer.close()
        await protocol.saw("lost")
        assert seen[0] == seen[1] and seen[0][2]

    run(main())


def test_peer_that_is_gone_already(loop, run):
    """accept() gives a connection whose peer has been reset: no address."""
    async def main():
        made = []

        def factory():
            made.append(Recorder())
            return made[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        for _ in range(5):
            sock = socket.create_connection(address)
            support.reset(sock)
        await support.io_turns(5)
        for protocol in made:
            await protocol.saw("lost")
            # The address that accept() gave, or nothing: never an error.
            protocol.transport.get_extra_info("peername")
        server.close()
        await server.wait_closed()

    run(main())


def test_nodelay_is_set(loop, run):
    """asyncio sets TCP_NODELAY on every TCP stream."""
    async def main():
        made = []

        def factory():
            made.append(Recorder())
            return made[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        _, client = await loop.create_connection(Recorder, "127.0.0.1", port)
        client.transport.write(b"x")
        while not made or not made[0].data:
            await asyncio.sleep(0)
        values = [p.transport.get_extra_info("socket").getsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for p in (client, made[0])]
        await support.close(client)
        await made[0].saw("lost")
        server.close()
        await server.wait_closed()
        return values

    assert all(run(main()))


def test_descriptors_are_not_inherited(run):
    import os

    async def main():
        one, two = await support.pair("tcp")
        fds = [p.transport.get_extra_info("socket").fileno()
               for p in (one, two)]
        flags = [os.get_inheritable(fd) for fd in fds]
        blocking = [os.get_blocking(fd) for fd in fds]
        await support.close(one, two)
        return flags + blocking

    assert run(main()) == [False] * 4


def test_accepted_descriptors_are_not_inherited(loop, run):
    import os

    async def main():
        seen = []
        done = loop.create_future()

        def made(protocol):
            fd = protocol.transport.get_extra_info("socket").fileno()
            seen.extend([os.get_inheritable(fd), os.get_blocking(fd)])
            done.set_result(None)

        server = await loop.create_server(
            lambda: Recorder({"made": made}), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        _, client = await loop.create_connection(Recorder, "127.0.0.1", port)
        await done
        await support.close(client)
        await support.io_turns()
        server.close()
        await server.wait_closed()
        return seen

    assert run(main()) == [False, False]


# -- asyncio's slots --------------------------------------------------------

def test_the_dict_itself_can_be_replaced(run):
    async def main():
        transport, protocol, peer = await support.connected("unix")
        transport._extra = {"peername": "somebody", "more": 5}
        assert transport.get_extra_info("peername") == "somebody"
        assert transport.get_extra_info("more") == 5
        await support.close(protocol)
        peer.close()
    run(main())


def test_marks_can_be_assigned(run):
    async def main():
        transport, protocol, peer = await support.connected("unix")
        support.fill(transport)
        transport._low_water = transport._high_water = 1 << 30
        assert transport.get_write_buffer_limits() == (1 << 30, 1 << 30)
        await support.close(protocol)
        peer.close()
    run(main())


@pytest.mark.tidewire        # the stock loop breaks in a later method
def test_the_loop_stays(run):
    async def main():
        transport, protocol, peer = await support.connected("unix")
        transport._loop = asyncio.get_running_loop()
        for value in None, 5, object():
            with pytest.raises(AttributeError):
                transport._loop = value
        for name in "_loop", "_extra", "_high_water":
            with pytest.raises(AttributeError):
                delattr(transport, name)
        with pytest.raises(AttributeError):
            transport._extra = None
        await support.close(protocol)
        peer.close()
    run(main())


# -- private attributes that libraries assign ----------------------------------

async def assigned_transports(loop):
    one, two = socket.socketpair()
    one.setblocking(False)
    stream, _ = await loop.create_connection(support.Recorder, sock=one)
    r, w = os.pipe()
    reading, _ = await loop.connect_read_pipe(support.Recorder, os.fdopen(r, "rb", 0))
    datagrams, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
    return (stream, reading, datagrams), two, w


def test_protocol_is_assigned(run):
    async def main():
        transports, peer, w = await assigned_transports(asyncio.get_running_loop())
        for transport in transports[:2]:
            transport._protocol = support.Recorder()
            assert transport.get_protocol() is transport._protocol
        peer.send(b"x")
        os.write(w, b"x")
        for transport in transports[:2]:
            await transport._protocol.got(b"x")
        for transport in transports:
            transport.close()
        await support.turns()
        peer.close()
        os.close(w)

    run(main())


def test_closing_is_assigned(run):
    async def main():
        transports, peer, w = await assigned_transports(asyncio.get_running_loop())
        stream, reading, datagrams = transports
        for transport in stream, datagrams:
            transport._closing = False
            assert not transport.is_closing()
            transport._closing = True
            assert transport.is_closing() and transport._closing is True
            transport.abort()
        reading.close()
        await support.turns()
        peer.close()
        os.close(w)

    run(main())


def test_names_as_asyncios(run):
    async def main():
        transports, peer, w = await assigned_transports(asyncio.get_running_loop())
        stream, reading, datagrams = transports
        assert stream._protocol_connected is datagrams._protocol_connected is True
        assert hasattr(stream, "_eof") and not hasattr(datagrams, "_eof")
        for transport in transports:
            transport.close()
        await support.turns()
        peer.close()
        os.close(w)

    run(main())


@pytest.mark.tidewire
def test_assignments_are_checked(run):
    async def main():
        transports, peer, w = await assigned_transports(asyncio.get_running_loop())
        for transport in transports:
            with pytest.raises(AttributeError):
                transport._protocol = None
            for name in ("_protocol", "_closing"):
                with pytest.raises(AttributeError):
                    delattr(transport, name)
            transport.close()
            with pytest.raises(AttributeError):
                transport._closing = False
        await support.turns()
        for transport in transports:
            with pytest.raises(AttributeError):
                transport._protocol = support.Recorder()
        peer.close()
        os.close(w)

    run(main())


def test_an_accepted_socket_with_the_number_0(script):
    assert script("""
        server = socket.create_server(("127.0.0.1", 0))
        server.setblocking(False)
        client = socket.create_connection(server.getsockname())
        loop = new_loop()

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport):
                sock = transport.get_extra_info("socket")
                print(sock.fileno(), sock.getpeername() == client.getsockname())
                transport.close()

            def connection_lost(self, exc):
                done.set_result(None)

        async def main():
            global done
            done = loop.create_future()
            listening = await loop.create_server(Protocol, sock=server)
            os.close(0)
            await done
            listening.close()
            await asyncio.sleep(0)
            try:
                os.fstat(0)
            except OSError:
                print("closed")

        loop.run_until_complete(main())
        loop.close()
    """) == ["0 True", "closed"]
