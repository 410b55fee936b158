"""Datagrams that the kernel hands over merged: whoever reads them sees single ones."""
import asyncio
import socket

import pytest
import support

from .udpkit import HOSTS, Dgrams, bound, close, connected, endpoint, name_of

UDP_SEGMENT, UDP_GRO = 103, 104


def can_merge():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
            sock.getsockopt(socket.IPPROTO_UDP, UDP_SEGMENT)
        except OSError:
            return False
    return True


pytestmark = pytest.mark.skipif(support.is_portable() or not can_merge(),
                                reason="no UDP_GRO in this build or kernel")


def is_merging(protocol):
    sock = protocol.transport.get_extra_info("socket")
    return bool(sock.getsockopt(socket.IPPROTO_UDP, UDP_GRO))


class Sender:
    """Sends a burst as one message that the kernel cuts, or leaves whole for GRO."""

    def __init__(self, server):
        where = name_of(server)
        self.sock = socket.socket(socket.AF_INET6 if ":" in where[0] else socket.AF_INET,
                                  socket.SOCK_DGRAM)
        self.sock.connect(where[:2])

    def burst(self, pieces):
        """All but the last have one size."""
        self.sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, len(pieces[0]))
        self.sock.send(b"".join(pieces))
        self.sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 0)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()


def numbered(n, start=0):
    return [b"%05d" % i for i in range(start, start + n)]


async def learned(server, sender):
    """The endpoint has seen bursts, and forgotten what was in them."""
    for _ in range(3):
        sender.burst(numbered(30))
        await server.count(len(server.payloads) + 30)
    server.events.clear()


@pytest.mark.parametrize("host", HOSTS)
def test_bursts_of_all_sizes(run, is_stock, host):
    async def main():
        server = await bound(host=host)
        with Sender(server) as sender:
            await learned(server, sender)
            if not is_stock:
                assert is_merging(server)
            want = []
            for size, n, last in ((1, 60, 1), (1200, 50, 7), (1200, 2, 1200), (700, 64, 700)):
                pieces = [bytes([i]) * size for i in range(n - 1)] + [b"x" * last]
                want += pieces
                sender.burst(pieces)
                sender.sock.send(b"alone")
                want.append(b"alone")
                await server.count(len(want))
            assert server.payloads == want
            assert len(set(server.peers)) == 1
            assert server.peers[0][:2] == sender.sock.getsockname()[:2]
            await close(server)

    run(main())


def test_several_senders(run):
    async def main():
        server = await bound()
        with Sender(server) as one, Sender(server) as two:
            await learned(server, one)
            for i in range(4):
                one.burst(numbered(20, 20 * i))
                two.burst(numbered(15, 1000 + 15 * i))
            await server.count(4 * 35)
            for sender, want in ((one, numbered(80)), (two, numbered(60, 1000))):
                name = sender.sock.getsockname()
                assert [e[1] for e in server.events if e[2] == name] == want
            await close(server)

    run(main())


@pytest.mark.tidewire
def test_pause_in_the_middle(run):
    """The rest comes after resume_reading(), in order, though the kernel has nothing more."""
    async def main():
        def pause(p, data, addr):
            if data in (b"00007", b"00020"):
                p.transport.pause_reading()

        server = await bound(lambda: Dgrams({"dgram": pause}))
        with Sender(server) as sender:
            server.events.clear()
            sender.burst([b"%05d" % i for i in range(100, 140)])
            await server.count(40)
            sender.burst([b"%05d" % i for i in range(100, 140)])
            await server.count(80)
            assert is_merging(server)
            server.events.clear()
            sender.burst(numbered(30))
            await server.count(8)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert server.payloads == numbered(8)
            server.transport.resume_reading()
            await server.count(21)
            assert server.payloads == numbered(21)
            sender.burst(numbered(5, 30))
            server.transport.resume_reading()
            await server.count(35)
            assert server.payloads == numbered(35)
            await close(server)

    run(main())


@pytest.mark.parametrize("how", ["close", "abort"])
def test_close_in_the_middle(run, how):
    async def main():
        def stop(p, data, addr):
            if data == b"00007" and len(p.payloads) < 30:
                getattr(p.transport, how)()

        server = await bound(lambda: Dgrams({"dgram": stop}))
        with Sender(server) as sender:
            for _ in range(2):
                sender.burst([b"%05d" % i for i in range(100, 140)])
                await server.count(len(server.payloads) + 40)
            server.events.clear()
            sender.burst(numbered(30))
            await server.until(lambda: "lost" in server.names)
            assert server.payloads == numbered(8)

    run(main())


def test_set_protocol_in_the_middle(run):
    async def main():
        second = Dgrams()

        def swap(p, data, addr):
            if data == b"00003":
                p.transport.set_protocol(second)

        server = await bound(lambda: Dgrams({"dgram": swap}))
        with Sender(server) as sender:
            for _ in range(2):
                sender.burst([b"%05d" % i for i in range(100, 140)])
                await server.count(len(server.payloads) + 40)
            server.events.clear()
            sender.burst(numbered(20))
            await second.count(16)
            assert server.payloads + second.payloads == numbered(20)
            assert len(server.payloads) == 4
            second.transport = server.transport
            await close(second)

    run(main())


def test_an_exception_leaves_in_the_middle(loop, run):
    async def prepare():
        def leave(p, data, addr):
            if data == b"00003":
                raise KeyboardInterrupt

        server = await bound(lambda: Dgrams({"dgram": leave}))
        sender = Sender(server)
        for _ in range(2):
            sender.burst([b"%05d" % i for i in range(100, 140)])
            await server.count(len(server.payloads) + 40)
        server.events.clear()
        return server, sender

    server, sender = run(prepare())
    with sender:
        sender.burst(numbered(20))
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()

        async def rest():
            await server.count(20)
            assert server.payloads == numbered(20)
            await close(server)

        run(rest())


def fileno(protocol):
    return protocol.transport.get_extra_info("socket").fileno()


def duplicate(protocol):
    return protocol.transport.get_extra_info("socket").dup()


WAYS = {"fileno": fileno, "dup": duplicate, "_sock": lambda p: p.transport._sock}


@pytest.mark.parametrize("way", WAYS)
def test_the_program_gets_the_socket(run, is_stock, way):
    """What it could read itself from then on are single datagrams; what was merged is delivered."""
    async def main():
        got = []

        def ask(p, data, addr):
            if data == b"00003":
                got.append(WAYS[way](p))

        server = await bound(lambda: Dgrams({"dgram": ask}))
        with Sender(server) as sender:
            for _ in range(2):
                sender.burst([b"%05d" % i for i in range(100, 140)])
                await server.count(len(server.payloads) + 40)
            if not is_stock:
                assert is_merging(server)
            server.events.clear()
            for i in range(3):
                sender.burst(numbered(20, 20 * i))
            await server.count(60)
            assert server.payloads == numbered(60)
            if not is_stock:
                assert not is_merging(server)
            sender.burst(numbered(20))
            await server.count(80)
            assert server.payloads[60:] == numbered(20)
            for copy in got if way == "dup" else ():
                copy.close()
            await close(server)

    run(main())


@pytest.mark.tidewire
def test_paused_and_then_the_program_reads(run):
    """A paused endpoint keeps nothing of what comes once the program has a duplicate."""
    async def main():
        server = await bound()
        with Sender(server) as sender:
            await learned(server, sender)
            assert is_merging(server)
            server.transport.pause_reading()
            sender.burst(numbered(10))
            with duplicate(server) as copy:
                copy.setblocking(False)
                sender.burst(numbered(10, 10))
                assert [copy.recv(1000) for _ in range(10)] == numbered(10, 10)
                server.transport.resume_reading()
                await server.count(10)
                assert server.payloads == numbered(10)
            await close(server)

    run(main())


@pytest.mark.tidewire
def test_a_refusal_is_not_lost_then(run):
    """The error that is read when the option is cleared goes to error_received()."""
    async def main():
        server = await bound()
        client = await connected(server)
        for _ in range(3):
            for data in numbered(40):
                server.transport.sendto(data, name_of(client))
            await client.count(len(client.payloads) + 40)
        assert is_merging(client)
        await close(server)
        client.transport.sendto(b"nobody is there")
        fileno(client)
        await client.until(lambda: client.problems)
        assert isinstance(client.problems[0], ConnectionRefusedError)
        await close(client)

    run(main())


@pytest.mark.tidewire
def test_not_where_the_program_has_the_socket(run):
    async def main():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
            server = await endpoint(sock=sock)
            with Sender(server) as sender:
                await learned(server, sender)
                assert not is_merging(server)
            await close(server)

    run(main())


@pytest.mark.tidewire
def test_not_while_datagrams_come_one_by_one(run):
    async def main():
        server = await bound()
        with Sender(server) as sender:
            for i in range(30):
                sender.burst([b"one"])
                await server.count(i + 1)
            assert not is_merging(server)
        await close(server)

    run(main())


@pytest.mark.tidewire
def test_the_switch(monkeypatch, make_loop):
    monkeypatch.setenv("TIDEWIRE_GRO", "off")
    loop = make_loop()

    async def main():
        server = await bound()
        with Sender(server) as sender:
            await learned(server, sender)
            assert not is_merging(server)
        await close(server)

    loop.run_until_complete(asyncio.wait_for(main(), 10 * support.SLOWER))
