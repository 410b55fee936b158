"""create_datagram_endpoint(): its arguments, what its transports hold, other people's programs."""
import asyncio
import gc
import os
import shutil
import socket
import subprocess
import sys
import weakref

import pytest

from net.udpkit import (
    Dgrams,
    Echo,
    bound,
    close,
    connected,
    drain,
    endpoint,
    name_of,
    pair,
    soon,
    unused_port,
)
import support

EMPTY = sys.version_info >= (3, 13)     # sendto(b"") sends
HEADER = 8 if EMPTY else 0              # counted for each that waits


# -- the endpoint's arguments ----------------------------------------------------

def test_unix_by_address(run, tmp_path):
    async def main():
        one, two = str(tmp_path / "one"), str(tmp_path / "two")
        server = await endpoint(Echo, local_addr=one, family=socket.AF_UNIX)
        client = await endpoint(local_addr=two, remote_addr=one,
                                family=socket.AF_UNIX)
        free = await endpoint(family=socket.AF_UNIX)
        assert client.transport.get_extra_info("peername") == one
        client.transport.sendto(b"to my peer")
        await client.count(1)
        assert client.peers == [one] and server.peers == [two]
        plain = await endpoint(local_addr=str(tmp_path / "three"),
                               family=socket.AF_UNIX)
        for text in b"to an address", b"and again":
            free.transport.sendto(text, str(tmp_path / "three"))
        await plain.count(2)
        assert plain.events[1:] == [("dgram", b"to an address", None),
                                    ("dgram", b"and again", None)]
        await close(server, client, free, plain)

    run(main())


def test_unix_abstract(run):
    async def main():
        name = b"\0tidewire-%d" % os.getpid()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(name)
        server = await endpoint(sock=sock)
        client = await endpoint(family=socket.AF_UNIX)
        client.transport.sendto(b"x", name)
        client.transport.sendto(b"y", name)
        await server.count(2)
        assert server.payloads == [b"x", b"y"]
        assert server.transport.get_extra_info("sockname") == name
        await close(server, client)

    run(main())


@pytest.mark.parametrize("kind", ["str", "other letters", "bytes", "bytearray"])
def test_unix_address_of_any_form(run, tmp_path, kind):
    async def main():
        path = str(tmp_path / ("\xfc\u03a9" if kind == "other letters" else "peer"))
        server = await endpoint(local_addr=path, family=socket.AF_UNIX)
        client = await endpoint(family=socket.AF_UNIX)
        to = {"bytes": os.fsencode, "bytearray": lambda path: bytearray(os.fsencode(path))}.get(
            kind, str)(path)
        client.transport.sendto(b"x", to)
        client.transport.sendto(b"y", to)
        await server.count(2)
        assert server.payloads == [b"x", b"y"]
        await close(server, client)

    run(main())


@pytest.mark.parametrize("to", ["", b"", "x" * 200])
def test_unix_address_that_cannot_be(run, errors, to):
    async def main():
        client = await endpoint(family=socket.AF_UNIX)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as plain:
            with pytest.raises(OSError) as want:
                plain.sendto(b"x", to)
        client.transport.sendto(b"x", to)
        await client.saw("error")
        assert repr(client.problems) == repr([want.value])
        await close(client)

    run(main())


@pytest.mark.tidewire       # stock asks for an address, and fails
def test_unix_socketpair(run):
    async def main():
        ours, peer = await pair()
        assert ours.transport.get_extra_info("peername") == ""
        ours.transport.sendto(b"out")
        ours.transport.sendto(b"and again")
        ours.transport.get_write_buffer_size()
        assert drain(peer) == [b"out", b"and again"]
        peer.send(b"in")
        await ours.count(1)
        assert ours.events[-1] == ("dgram", b"in", None)
        await close(ours)
        peer.close()

    run(main())


@pytest.mark.tidewire       # stock asks for an address, and fails
def test_unix_socketpair_and_another_address(run, tmp_path):
    """The peer has no name.  A datagram with an address goes there."""
    async def main():
        ours, peer = await pair()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(str(tmp_path / "other"))
            other.setblocking(False)
            ours.transport.sendto(b"x", str(tmp_path / "other"))
            ours.transport.sendto(b"y")
            ours.transport.get_write_buffer_size()
            assert drain(other) == [b"x"] and drain(peer) == [b"y"]
        await close(ours)
        peer.close()

    run(main())


def test_reuse_port(run):
    async def main():
        one = await bound(reuse_port=True)
        two = await endpoint(local_addr=name_of(one), reuse_port=True)
        assert name_of(one) == name_of(two)
        await close(one, two)

    run(main())


def test_broadcast(run):
    async def main():
        proto = await bound(allow_broadcast=True)
        sock = proto.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
        await close(proto)
        proto = await bound()
        sock = proto.transport.get_extra_info("socket")
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
        proto.transport.sendto(b"x", ("255.255.255.255", 9))
        await proto.saw("error")
        assert isinstance(proto.problems[0], PermissionError)
        await close(proto)

    run(main())


def test_broadcast_with_a_remote_address_does_not_connect(run):
    async def main():
        server = await bound()
        client = await endpoint(remote_addr=name_of(server),
                                allow_broadcast=True)
        assert client.transport.get_extra_info("peername") is None
        client.transport.sendto(b"1")
        client.transport.sendto(b"2", name_of(server))
        with pytest.raises(ValueError):
            client.transport.sendto(b"3", ("127.0.0.1", 9))
        await server.count(2)
        assert server.payloads == [b"1", b"2"]
        # Anybody may answer.
        server.transport.sendto(b"back", server.peers[0])
        await client.count(1)
        await close(client, server)

    run(main())


def test_errors_of_the_arguments(run):
    async def main():
        with pytest.raises(ValueError, match="unexpected address family"):
            await endpoint()
        with pytest.raises(TypeError):
            await endpoint(local_addr="127.0.0.1")
        with pytest.raises(ValueError, match="can not be used"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                await endpoint(sock=sock, local_addr=("127.0.0.1", 0))
        with pytest.raises(ValueError, match="was expected"):
            with socket.socket() as sock:
                await endpoint(sock=sock)
        server = await bound()
        with pytest.raises(OSError):
            await endpoint(local_addr=name_of(server))
        await close(server)

    run(main())


def test_a_given_socket_is_made_non_blocking_and_closed(run):
    async def main():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        proto = await endpoint(sock=sock)
        assert not sock.getblocking()
        info = proto.transport.get_extra_info("socket")
        assert info.fileno() == sock.fileno()
        await close(proto)
        assert sock.fileno() == -1

    run(main())


def test_a_connected_socket_ignores_addresses(run):
    async def main():
        server = await bound()
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(name_of(server))
        client = await endpoint(sock=sock)
        assert client.transport.get_extra_info("peername") == name_of(server)
        client.transport.sendto(b"1")
        client.transport.sendto(b"2", ("127.0.0.1", 9))
        await server.count(2)
        await close(server, client)

    run(main())


def test_the_peer_can_be_set(run):
    # As asyncio-dgram does for a socket that the program has connected.
    class Renames(tuple):
        def __eq__(self, other):
            client.transport._address = None
            return False

    async def main():
        nonlocal client
        server = await bound()
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(name_of(server))
        client = await endpoint(sock=sock)
        assert client.transport._address is None
        client.transport._address = name_of(server)
        assert client.transport._address == name_of(server)
        client.transport.sendto(b"1")
        client.transport.sendto(b"2", name_of(server))
        with pytest.raises(ValueError, match="Invalid address: must be None or"):
            client.transport.sendto(b"3", ("127.0.0.1", 9))
        with pytest.raises(ValueError, match="Invalid address: must be None or"):
            client.transport.sendto(b"3", Renames(("127.0.0.1", 9)))
        client.transport.sendto(b"4", ("127.0.0.1", 9))
        await server.count(3)
        assert server.payloads == [b"1", b"2", b"4"]
        await close(server, client)

    client = None
    run(main())


def test_extra_info(run):
    async def main():
        server = await bound()
        client = await connected(server)
        for proto in server, client:
            info = proto.transport.get_extra_info
            assert info("sockname") == info("socket").getsockname()
            assert info("nonsense") is None and info("nonsense", 1) == 1
        assert client.transport.get_extra_info("peername") == name_of(server)
        assert server.transport.get_extra_info("peername") is None
        names = name_of(server), name_of(client)
        await close(server, client)
        assert (name_of(server), name_of(client)) == names

    run(main())


# -- contexts, threads, collection ------------------------------------------------------

def test_callbacks_run_in_the_context_of_the_maker(run):
    import contextvars
    var = contextvars.ContextVar("var", default="outside")

    async def main():
        seen = []
        var.set("maker")
        server = await bound(lambda: Dgrams(
            {"dgram": lambda p, d, a: seen.append(var.get())}))
        var.set("later")
        client = await connected(server)
        client.transport.sendto(b"x")
        await server.count(1)
        assert seen == ["maker"]
        await close(client, server)

    run(main())


def test_patched_sendto(run):
    async def main():
        server = await bound()
        calls = []
        server.transport.sendto = lambda *args: calls.append(args)
        server.transport.sendto(b"x", 1)
        assert calls == [(b"x", 1)]
        await close(server)

    run(main())


def test_a_dropped_loop_is_collected(make_loop, no_gc, catch_warnings):
    loop = make_loop()
    server = loop.run_until_complete(bound())
    ref = weakref.ref(server)
    loop.run_until_complete(close(server))
    del server
    gc.collect()
    assert ref() is None


def test_endless_senders_leave_others_their_turn(run):
    async def main():
        ping = await bound(Echo)
        pong = await bound(Echo)
        for _ in range(20):
            ping.transport.sendto(b"ball", name_of(pong))
        turns = 0
        while len(ping.payloads) < 500:
            await asyncio.sleep(0)
            turns += 1
        assert turns > 5
        ping.transport.abort()
        pong.transport.abort()
        await ping.saw("lost")
        await pong.saw("lost")

    run(main())


# -- programs of others --------------------------------------------------------------------

class Resolver(Dgrams):
    """Asks a DNS server, by hand."""

    @staticmethod
    def question(number, name):
        labels = b"".join(bytes([len(p)]) + p.encode()
                          for p in name.split("."))
        return (number.to_bytes(2, "big") + b"\1\0\0\1\0\0\0\0\0\0"
                + labels + b"\0\0\1\0\1")


def start_dnsmasq(program, folder):
    """The process and its port, which nobody has for UDP nor for TCP."""
    for _ in range(20):
        port = unused_port()
        args = [program, "--keep-in-foreground", f"--port={port}", "--no-resolv",
                "--no-hosts", "--listen-address=127.0.0.1", "--bind-interfaces",
                f"--pid-file={folder}/pid", "--user=", "--conf-file=/dev/null",
                "--log-facility=-"]
        args += [f"--address=/host{i}.test/10.0.0.{i}" for i in range(50)]
        child = subprocess.Popen(args, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE, text=True,
                                 env={"PATH": os.environ["PATH"]})
        # "started", or what is wrong
        line = next((line for line in child.stderr if line.strip()), "it said nothing")
        if "in use" not in line:
            return child, port
        child.stderr.close()
        child.wait()
    raise AssertionError(line)


@pytest.mark.ecosystem
def test_against_dnsmasq(run, tmp_path):
    program = shutil.which("dnsmasq") or "/usr/sbin/dnsmasq"
    if not os.path.exists(program):
        pytest.skip("no dnsmasq")
    child, port = start_dnsmasq(program, tmp_path)

    async def main():
        client = await endpoint(Resolver, remote_addr=("127.0.0.1", port))
        # Until it is there, the kernel says: refused.
        for _ in range(200):
            client.transport.sendto(Resolver.question(999, "host1.test"))
            before = len(client.events)
            await client.until(lambda: len(client.events) > before)
            if client.payloads:
                break
            await asyncio.sleep(0.05)
        assert client.payloads, child.poll()
        client.events.clear()
        for i in range(50):
            client.transport.sendto(Resolver.question(i, f"host{i}.test"))
        await client.until(lambda: {
            int.from_bytes(p[:2], "big") for p in client.payloads
        } >= set(range(50)))
        for answer in client.payloads:
            number = int.from_bytes(answer[:2], "big")
            if number < 50:
                assert answer[-4:] == bytes([10, 0, 0, number])
        await close(client)

    try:
        run(main(), timeout=25)
    finally:
        child.kill()
        child.stderr.close()
        child.wait()


class NameServer(Dgrams):
    """Answers every A question with 192.0.2.1."""

    def datagram_received(self, data, addr):
        super().datagram_received(data, addr)
        end = data.index(b"\0", 12) + 5
        self.transport.sendto(
            data[:2] + b"\x84\0\0\1\0\1\0\0\0\0" + data[12:end]
            + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1", addr)


@pytest.mark.ecosystem
def test_against_dig(run):
    program = shutil.which("dig")
    if program is None:
        pytest.skip("no dig")

    async def main():
        server = await bound(NameServer)
        port = name_of(server)[1]
        child = await asyncio.create_subprocess_exec(
            program, "+short", "+tries=1", "+time=5", "+noedns",
            "@127.0.0.1", "-p", str(port), "one.test", "two.test",
            "three.test", stdout=asyncio.subprocess.PIPE)
        out, _ = await child.communicate()
        assert out.split() == [b"192.0.2.1"] * 3
        await close(server)

    run(main())


@pytest.mark.ecosystem
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_aioquic(run, tmp_path):
    aioquic = pytest.importorskip("aioquic.asyncio")
    trustme = pytest.importorskip("trustme")
    from aioquic.quic.configuration import QuicConfiguration

    ca = trustme.CA()
    cert = ca.issue_cert("localhost")
    cert.cert_chain_pems[0].write_to_path(str(tmp_path / "cert"))
    cert.private_key_pem.write_to_path(str(tmp_path / "key"))
    ca.cert_pem.write_to_path(str(tmp_path / "ca"))
    data = os.urandom(200_000)

    def serve_stream(reader, writer):
        async def echo():
            writer.write(await reader.read())
            writer.write_eof()
        tasks.append(asyncio.ensure_future(echo()))

    tasks = []

    async def main():
        config = QuicConfiguration(is_client=False, alpn_protocols=["echo"])
        config.load_cert_chain(str(tmp_path / "cert"), str(tmp_path / "key"))
        port = unused_port()
        server = await aioquic.serve("127.0.0.1", port, configuration=config,
                                     stream_handler=serve_stream)
        config = QuicConfiguration(is_client=True, alpn_protocols=["echo"],
                                   server_name="localhost")
        config.load_verify_locations(str(tmp_path / "ca"))
        async with aioquic.connect("127.0.0.1", port,
                                   configuration=config) as client:
            for size in 10, 200_000:
                reader, writer = await client.create_stream()
                writer.write(data[:size])
                writer.write_eof()
                assert support.same(await reader.read(), data[:size])
        await asyncio.gather(*tasks)
        server.close()
        await soon(10)

    run(main(), timeout=25)
