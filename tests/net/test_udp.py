"""Datagram transports: UDP over IPv4 and IPv6, Unix datagrams."""
import asyncio
import os
import socket
import sys

import pytest

from net.udpkit import (
    Dgrams,
    Echo,
    HOSTS,
    bound,
    close,
    connected,
    endpoint,
    name_of,
    needs_ipv6,
    pair,
    soon,
    unused_port,
)
import support

EMPTY = sys.version_info >= (3, 13)     # sendto(b"") sends
HEADER = 8 if EMPTY else 0              # counted for each that waits


# -- sending and receiving ----------------------------------------------------

@pytest.mark.parametrize("host", HOSTS)
def test_echo(run, host):
    async def main():
        server = await bound(Echo, host)
        client = await connected(server)
        for size in 1, 100, 1400, 9000, 65000:
            client.transport.sendto(os.urandom(size))
            await client.count(len(client.payloads) + 1)
            assert len(client.payloads[-1]) == size
        assert client.payloads == server.payloads
        assert len(client.payloads) == 5
        assert set(client.peers) == {name_of(server)}
        assert set(server.peers) == {name_of(client)}
        await close(client, server)
        assert client.lost is None and server.lost is None
        assert client.names[0] == "made" and client.names[-1] == "lost"

    run(main())


def test_types(run, is_stock):
    async def main():
        server = await bound()
        assert isinstance(server.transport, asyncio.Transport)
        if not (is_stock and sys.version_info < (3, 12)):
            assert isinstance(server.transport, asyncio.DatagramTransport)
        await close(server)

    run(main())


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_kinds_of_data(run, make):
    async def main():
        server = await bound()
        client = await connected(server)
        data = make(b"some data")
        client.transport.sendto(data)
        if make is bytearray:
            data[:] = b"other one"      # after sendto() it is the caller's
        await server.count(1)
        assert server.payloads == [b"some data"]
        await close(client, server)

    run(main())


def test_bytes_of_a_memoryview_are_what_counts(run):
    async def main():
        server = await bound()
        client = await connected(server)
        client.transport.sendto(memoryview(b"x" * 12).cast("I"))
        await server.count(1)
        assert server.payloads == [b"x" * 12]
        await close(client, server)

    run(main())


def test_wrong_type(run):
    async def main():
        server = await bound()
        for data in "str", None, 5, [b"x"]:
            with pytest.raises(TypeError, match="data argument must be a byte"
                               "s-like object, not '%s'"
                               % type(data).__name__):
                server.transport.sendto(data, ("127.0.0.1", 9))
        with pytest.raises(TypeError):
            server.transport.sendto()
        with pytest.raises(TypeError):
            server.transport.sendto(b"x", ("127.0.0.1", 9), 1)
        with pytest.raises(TypeError):
            server.transport.sendto(b"x", nonsense=1)
        with pytest.raises(TypeError):
            server.transport.sendto(b"x", data=b"y")
        with pytest.raises(TypeError):
            server.transport.sendto(b"x", ("127.0.0.1", 9), addr=None)
        assert server.names == ["made"]
        await close(server)

    run(main())


def test_keywords(run):
    async def main():
        server = await bound()
        client = await bound()
        client.transport.sendto(data=b"1", addr=name_of(server))
        client.transport.sendto(b"2", addr=name_of(server))
        await server.count(2)
        assert server.payloads == [b"1", b"2"]
        await close(client, server)

    run(main())


def test_empty(run):
    async def main():
        server = await bound()
        client = await connected(server)
        client.transport.sendto(b"")
        client.transport.sendto(b"end")
        await server.until(lambda: b"end" in server.payloads)
        assert server.payloads == ([b""] if EMPTY else []) + [b"end"]
        # From another program they are always received.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
            plain.sendto(b"", name_of(server))
            before = len(server.payloads)
            await server.count(before + 1)
            assert server.payloads[-1] == b""
        await close(client, server)

    run(main())


def test_order_of_many(run):
    async def main():
        server = await bound()
        client = await connected(server)
        want = [b"%d" % i for i in range(100)]
        for data in want:
            client.transport.sendto(data)
        await server.count(len(want))
        assert server.payloads == want
        await close(client, server)

    run(main())


def test_many_peers(run):
    async def main():
        server = await bound(Echo)
        clients = [await connected(server) for _ in range(100)]
        for turn in range(3):
            for i, client in enumerate(clients):
                client.transport.sendto(b"%d-%d" % (turn, i))
            for i, client in enumerate(clients):
                await client.count(turn + 1)
                assert client.payloads[-1] == b"%d-%d" % (turn, i)
        names = {name_of(c) for c in clients}
        assert set(server.peers) == names and len(names) == 100
        await close(server, *clients)

    run(main())


@pytest.mark.tidewire
def test_same_peer_same_tuple(run):
    async def main():
        server = await bound()
        client = await connected(server)
        client.transport.sendto(b"1")
        client.transport.sendto(b"2")
        await server.count(2)
        assert server.peers[0] is server.peers[1]
        await close(client, server)

    run(main())


def test_equal_addresses_of_other_objects(run):
    async def main():
        server = await bound()
        client = await bound()
        host, port = name_of(server)
        for i in range(50):
            client.transport.sendto(b"%d" % i, (str(host), int(str(port))))
        await server.count(50)
        assert server.payloads == [b"%d" % i for i in range(50)]
        await close(client, server)

    run(main())


def test_host_names(run):
    async def main():
        server = await bound()
        client = await bound()
        port = name_of(server)[1]
        client.transport.sendto(b"0", ("127.0.0.1", port))
        client.transport.sendto(b"1", ("localhost", port))
        client.transport.sendto(b"2", ("127.0.0.1", port))
        await server.count(3)
        assert server.payloads == [b"0", b"1", b"2"]
        await close(client, server)

    run(main())


@needs_ipv6
def test_ipv6_short_addresses(run):
    async def main():
        server = await bound(host="::1")
        client = await bound(host="::1")
        port = name_of(server)[1]
        for addr in ("::1", port), ("::1", port, 0), ("0::1", port, 0, 0):
            client.transport.sendto(b"x", addr)
        await server.count(3)
        assert set(server.peers) == {name_of(client)}
        await close(client, server)

    run(main())


@needs_ipv6
def test_ipv6_socket_and_a_host_of_the_other_family(run):
    async def main():
        client = await bound(host="::1")
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as plain:
            with pytest.raises(OSError) as want:
                plain.sendto(b"x", ("127.0.0.1", 9))
        client.transport.sendto(b"x", ("127.0.0.1", 9))
        await client.saw("error")
        assert repr(client.problems) == repr([want.value])
        await close(client)

    run(main())


@needs_ipv6
def test_ipv6_scope(run):
    link_local = None
    with open("/proc/net/if_inet6") as file:
        for line in file:
            packed, index, _, scope, _, name = line.split()
            if scope == "20":
                link_local = (socket.inet_ntop(
                    socket.AF_INET6, bytes.fromhex(packed)), int(index, 16))
    if link_local is None:
        pytest.skip("no interface with a link-local address")
    host, index = link_local

    async def main():
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.bind((host, 0, 0, index))
        server = await endpoint(Echo, sock=sock)
        assert name_of(server)[3] == index
        client = await bound(host="::")
        client.transport.sendto(b"x", name_of(server))
        await client.count(1)
        assert client.peers[0][3] == index
        await close(client, server)

    run(main())


def test_large_unix_datagrams(run):
    async def main():
        ours, peer = await pair()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 19)
        data = os.urandom(150_000)
        peer.send(data)
        peer.send(b"small")
        await ours.count(2)
        assert support.same(ours.payloads[0], data)
        assert ours.payloads[1] == b"small"
        await close(ours)
        peer.close()

    run(main())


# -- errors -----------------------------------------------------------------------

def test_refused(run):
    async def main():
        client = await endpoint(remote_addr=("127.0.0.1", unused_port()))
        client.transport.sendto(b"x")
        await client.saw("error")
        assert isinstance(client.problems[0], ConnectionRefusedError)
        assert not client.transport.is_closing()
        client.transport.sendto(b"x")   # it goes on
        await client.saw("error", 2)
        await close(client)
        assert client.lost is None

    run(main())


def test_refused_when_many_are_sent(run):
    async def main():
        client = await endpoint(remote_addr=("127.0.0.1", unused_port()))
        for _ in range(5):
            client.transport.sendto(b"x")
        await client.saw("error")
        assert all(isinstance(e, ConnectionRefusedError)
                   for e in client.problems)
        await close(client)

    run(main())


def test_refused_then_there(run):
    async def main():
        port = unused_port()
        client = await endpoint(remote_addr=("127.0.0.1", port))
        client.transport.sendto(b"x")
        await client.saw("error")
        server = await endpoint(Echo, local_addr=("127.0.0.1", port))
        client.transport.sendto(b"y")
        await client.count(1)
        await close(client, server)

    run(main())


def test_too_long(run):
    async def main():
        server = await bound()
        client = await connected(server)
        client.transport.sendto(b"x" * 70000)
        await client.saw("error")
        assert client.problems[0].errno == 90       # EMSGSIZE
        client.transport.sendto(b"y")
        await server.count(1)
        assert server.payloads == [b"y"]
        await close(client, server)

    run(main())


def test_one_bad_among_good(run):
    async def main():
        server = await bound()
        client = await bound()
        client.transport.sendto(b"1", name_of(server))
        client.transport.sendto(b"2", ("255.255.255.255", 9))
        client.transport.sendto(b"3", name_of(server))
        await server.count(2)
        await client.saw("error")
        assert server.payloads == [b"1", b"3"]
        assert [type(e) for e in client.problems] == [PermissionError]
        await close(client, server)

    run(main())


def test_error_outside_of_a_callback_is_at_once(loop, run):
    client = run(bound())
    client.transport.sendto(b"x", ("255.255.255.255", 9))
    assert [type(e) for e in client.problems] == [PermissionError]
    run(close(client))


def test_unix_peer_is_gone(run, tmp_path):
    async def main():
        path = str(tmp_path / "peer")
        server = await endpoint(local_addr=path, family=socket.AF_UNIX)
        client = await endpoint(remote_addr=path, family=socket.AF_UNIX)
        await close(server)
        client.transport.sendto(b"x")
        await client.saw("error")
        assert isinstance(client.problems[0], ConnectionRefusedError)
        await close(client)

    run(main())


def test_no_address(run, errors):
    async def main():
        client = await bound()
        client.transport.sendto(b"x")
        await client.saw("lost")
        (context,) = errors.take()
        assert context["message"] == "Fatal write error on datagram transport"
        assert context["transport"] is client.transport
        assert context["protocol"] is client
        assert isinstance(client.lost, TypeError)

    run(main())


@pytest.mark.parametrize("addr", [5, ("127.0.0.1",), ("127.0.0.1", "x"),
                                  ("127.0.0.1", 70000), [1, 2], "127.0.0.1",
                                  ("127.0.0.1\0.example", 9)])
def test_nonsense_addresses(run, errors, addr):
    async def main():
        client = await bound()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
            with pytest.raises(Exception) as want:
                plain.sendto(b"x", addr)
        client.transport.sendto(b"x", addr)
        await client.saw("lost")
        (context,) = errors.take()
        assert type(context["exception"]) is type(want.value)
        assert str(context["exception"]) == str(want.value)

    run(main())


def test_unknown_host(run):
    async def main():
        client = await bound()
        client.transport.sendto(b"x", ("no.such.host.invalid", 9))
        await client.saw("error")
        assert isinstance(client.problems[0], socket.gaierror)
        await close(client)

    run(main())


def test_other_address_than_the_peer(run):
    async def main():
        server = await bound()
        client = await connected(server)
        peer = name_of(server)
        with pytest.raises(ValueError) as info:
            client.transport.sendto(b"x", ("127.0.0.1", 1))
        assert str(info.value) == f"Invalid address: must be None or {peer}"
        client.transport.sendto(b"y", (peer[0], peer[1]))
        client.transport.sendto(b"z", None)
        await server.count(2)
        assert server.payloads == [b"y", b"z"]
        await close(client, server)

    run(main())


def test_raising_callbacks(run, errors):
    def fail(protocol, *args):
        raise ZeroDivisionError("mine")

    async def main():
        server = await bound(lambda: Dgrams({"dgram": fail}))
        client = await endpoint(lambda: Dgrams({"error": fail}),
                                remote_addr=name_of(server))
        client.transport.sendto(b"1")
        client.transport.sendto(b"2")
        await server.count(2)
        assert len(errors) == 2
        for context in errors.take():
            assert isinstance(context["exception"], ZeroDivisionError)
            assert context["message"].startswith("Exception in callback ")
        assert not server.transport.is_closing()
        await close(server)
        client.transport.sendto(b"x")
        await client.saw("error")
        await soon()
        (context,) = errors.take()
        assert isinstance(context["exception"], ZeroDivisionError)
        assert not client.transport.is_closing()
        await close(client)

    run(main())


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_exceptions_that_leave_the_loop(loop, run, kind):
    def leave(protocol, data, addr):
        if data == b"2":
            raise kind

    server = run(bound(lambda: Dgrams({"dgram": leave})))
    client = run(connected(server))
    for i in range(1, 6):
        client.transport.sendto(b"%d" % i)
    with pytest.raises(kind):
        run(server.count(100))
    assert server.payloads == [b"1", b"2"]
    run(server.count(5))        # nothing was lost
    assert server.payloads == [b"1", b"2", b"3", b"4", b"5"]
    run(close(client, server))
