"""Datagram transports that close, pause, wait, and hold back."""
import asyncio
import gc
import os
import socket
import sys
import tracemalloc
import weakref

import pytest
import support

from net.udpkit import (
    Dgrams,
    Echo,
    HOSTS,
    bound,
    close,
    connected,
    drain,
    endpoint,
    filled,
    name_of,
    soon,
)

EMPTY = sys.version_info >= (3, 13)     # sendto(b"") sends
HEADER = 8 if EMPTY else 0              # counted for each that waits
IP_RECVTTL = 12                         # of Linux; the socket module has it from 3.14 on


# -- closing -----------------------------------------------------------------------

def test_close_flushes_what_was_just_sent(run):
    async def main():
        server = await bound()
        client = await connected(server)
        client.transport.sendto(b"1")
        client.transport.sendto(b"2")
        client.transport.close()
        assert client.transport.is_closing()
        await server.count(2)
        await client.saw("lost")
        await close(server)

    run(main())


def test_abort_after_sending(run):
    async def main():
        server = await bound()
        client = await connected(server)
        client.transport.sendto(b"1")
        client.transport.abort()
        await client.saw("lost")
        await server.count(1)       # the kernel had it already
        await close(server)

    run(main())


def test_datagrams_from_connection_lost(run):
    """Sent by connection_lost() itself, also what would be held until it returns."""
    class Leaving(Dgrams):
        def connection_lost(self, exc):
            for text in b"one", b"two", b"three":
                self.transport.sendto(text, self.target)
            super().connection_lost(exc)

    async def main():
        server = await bound()
        client = await bound(Leaving)
        client.target = name_of(server)
        for text in b"a", b"b":
            client.transport.sendto(text, client.target)
        client.transport.close()
        await client.saw("lost")
        await server.count(5)
        assert server.payloads == [b"a", b"b", b"one", b"two", b"three"]
        await close(server)

    run(main())


def test_the_queue_of_a_burst_returns_its_memory(run):
    async def main():
        client, reader, count = await filled()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            client.transport.set_write_buffer_limits(high=2 ** 30)
            for _ in range(20_000):
                client.transport.sendto(b"x")
            grown = tracemalloc.get_traced_memory()[0] - before
            left = count + 20_000
            while left:
                try:
                    reader.recv(100)
                    left -= 1
                except BlockingIOError:
                    await asyncio.sleep(0)
            gc.collect()
            kept = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert grown > 200_000 and kept < 100_000, (grown, kept)
        reader.close()
        await close(client)

    run(main())


def test_close_in_connection_made(run):
    async def main():
        proto = await bound(lambda: Dgrams(
            {"made": lambda p: p.transport.close()}))
        await proto.saw("lost")
        assert proto.names == ["made", "lost"]

    run(main())


@pytest.mark.parametrize("how", ["close", "abort"])
def test_close_in_datagram_received(run, how):
    async def main():
        server = await bound(lambda: Dgrams(
            {"dgram": lambda p, d, a: getattr(p.transport, how)()}))
        client = await connected(server)
        for i in range(5):
            client.transport.sendto(b"%d" % i)
        await server.saw("lost")
        assert server.payloads == [b"0"]
        await close(client)

    run(main())


def test_answer_and_close(run):
    def answer(protocol, data, addr):
        protocol.transport.sendto(b"bye", addr)
        protocol.transport.close()

    async def main():
        server = await bound(lambda: Dgrams({"dgram": answer}))
        client = await connected(server)
        client.transport.sendto(b"x")
        await client.count(1)
        assert client.payloads == [b"bye"]
        await close(client)

    run(main())


def test_sending_to_a_lost_peer_is_warned_of(run, logs):
    async def main():
        server = await bound()
        client = await connected(server)
        client.transport.abort()
        for _ in range(8):
            client.transport.sendto(b"x")
        await client.saw("lost")
        with pytest.raises(ValueError):
            client.transport.sendto(b"x", ("127.0.0.1", 9))
        assert [r.getMessage() for r in logs.take()] == [
            "socket.send() raised exception."] * 4
        await close(server)

    run(main())


@pytest.mark.tidewire       # stock raises an AttributeError of its own
def test_sending_on_a_closed_unconnected_transport(run, logs):
    async def main():
        server = await bound()
        await close(server)
        for _ in range(3):
            server.transport.sendto(b"x", ("127.0.0.1", 9))
        assert server.transport.get_write_buffer_size() == 0

    run(main())


def test_closed_methods(run):
    async def main():
        server = await bound()
        transport = server.transport
        await close(server)
        transport.close()
        transport.abort()
        transport.pause_reading()
        transport.resume_reading()
        assert transport.is_closing() and not transport.is_reading()
        assert server.names == ["made", "lost"]
        assert transport.get_protocol() is None

    run(main())


def test_unclosed_warns(run, no_gc, catch_warnings):
    async def main():
        server = await bound()
        server.transport.pause_reading()
        ref = weakref.ref(server.transport)
        del server
        gc.collect()
        assert any("unclosed transport" in str(w.message)
                   for w in catch_warnings)
        # Warnings hold their source, and from 3.15 on a weak reference to it
        # lives as long.
        catch_warnings.clear()
        gc.collect()
        assert ref() is None

    run(main())


def test_repr(run):
    async def main():
        server = await bound()
        text = repr(server.transport)
        assert "read=polling write=<idle, bufsize=0>" in text
        server.transport.close()
        assert " closing " in repr(server.transport)
        await server.saw("lost")
        assert " closed " in repr(server.transport)

    run(main())


# -- pausing reading ----------------------------------------------------------------

def test_pause_and_resume_reading(run):
    async def main():
        server = await bound()
        client = await connected(server)
        server.transport.pause_reading()
        server.transport.pause_reading()
        assert not server.transport.is_reading()
        client.transport.sendto(b"1")
        client.transport.sendto(b"2")
        await soon(10)
        assert server.payloads == []
        server.transport.resume_reading()
        server.transport.resume_reading()
        assert server.transport.is_reading()
        await server.count(2)
        assert server.payloads == [b"1", b"2"]
        await close(client, server)

    run(main())


def test_pause_in_connection_made(run):
    async def main():
        server = await bound(lambda: Dgrams(
            {"made": lambda p: p.transport.pause_reading()}))
        client = await connected(server)
        client.transport.sendto(b"1")
        await soon(10)
        assert server.payloads == []
        server.transport.resume_reading()
        await server.count(1)
        await close(client, server)

    run(main())


def test_pause_in_the_middle_of_a_batch(run):
    async def main():
        loop = asyncio.get_running_loop()
        server = await bound(lambda: Dgrams(
            {"dgram": lambda p, d, a: p.transport.pause_reading()}))
        client = await connected(server)
        want = [b"%d" % i for i in range(20)]
        for data in want:
            client.transport.sendto(data)
        for n in range(1, 21):
            await server.count(n)
            await soon(5)
            assert server.payloads == want[:n]
            loop.call_soon(server.transport.resume_reading)
        await soon()
        await close(client, server)

    run(main())


def test_pause_and_resume_at_once_in_a_batch(run):
    def flip(protocol, data, addr):
        protocol.transport.pause_reading()
        protocol.transport.resume_reading()

    async def main():
        server = await bound(lambda: Dgrams({"dgram": flip}))
        client = await connected(server)
        want = [b"%d" % i for i in range(20)]
        for data in want:
            client.transport.sendto(data)
        await server.count(20)
        assert server.payloads == want
        await close(client, server)

    run(main())


def test_close_while_paused_drops_what_was_received(run):
    async def main():
        server = await bound(lambda: Dgrams(
            {"dgram": lambda p, d, a: p.transport.pause_reading()}))
        client = await connected(server)
        for i in range(5):
            client.transport.sendto(b"%d" % i)
        await server.count(1)
        server.transport.resume_reading()
        server.transport.close()
        await server.saw("lost")
        await soon(5)
        assert server.payloads == [b"0"]
        await close(client)

    run(main())


def test_set_protocol_in_a_batch(run):
    async def main():
        second = Dgrams()
        server = await bound(lambda: Dgrams(
            {"dgram": lambda p, d, a: p.transport.set_protocol(second)}))
        client = await connected(server)
        for i in range(5):
            client.transport.sendto(b"%d" % i)
        await second.count(4)
        assert server.payloads == [b"0"]
        assert second.payloads == [b"1", b"2", b"3", b"4"]
        assert server.transport.get_protocol() is second
        server.transport.close()
        await second.saw("lost")
        await close(client)

    run(main())


# -- flow control ---------------------------------------------------------------------

def test_write_buffer(run):
    async def main():
        client, reader, count = await filled()
        transport = client.transport
        transport.set_write_buffer_limits(high=100, low=40)
        assert transport.get_write_buffer_limits() == (40, 100)
        transport.sendto(b"x" * 40)
        assert transport.get_write_buffer_size() == 40 + HEADER
        assert transport._buffer_size == 40 + HEADER
        assert "pause" not in client.names
        transport.sendto(b"y" * 70)
        assert transport.get_write_buffer_size() == 110 + 2 * HEADER
        assert client.names[-1] == "pause"
        transport.sendto(bytearray(b"z"))
        got = drain(reader)
        assert got == [b"fill"] * count
        await client.saw("resume")
        got = drain(reader)
        assert got == [b"x" * 40, b"y" * 70, b"z"]
        assert client.names == ["made", "pause", "resume"]
        assert transport.get_write_buffer_size() == 0 or EMPTY
        await close(client)
        reader.close()

    run(main())


@pytest.mark.tidewire       # 3.13.0 forgets the headers of what was sent
def test_write_buffer_is_exact_when_sent(run):
    async def main():
        client, reader, count = await filled()
        client.transport.sendto(b"x" * 40)
        assert client.transport.get_write_buffer_size() == 40 + HEADER
        drain(reader)
        while client.transport.get_write_buffer_size():
            await asyncio.sleep(0)
        assert drain(reader) == [b"x" * 40]
        await close(client)
        reader.close()

    run(main())


def test_close_with_a_full_queue(run):
    async def main():
        client, reader, count = await filled()
        for i in range(5):
            client.transport.sendto(b"%d" % i)
        client.transport.close()
        assert client.transport.is_closing()
        await soon(5)
        assert "lost" not in client.names
        client.transport.sendto(b"late")    # asyncio's takes it
        got = []
        while "lost" not in client.names:
            got += drain(reader)
            await asyncio.sleep(0)
        got += drain(reader)
        assert got[count:] == [b"0", b"1", b"2", b"3", b"4", b"late"]
        assert client.lost is None
        reader.close()

    run(main())


def test_abort_with_a_full_queue(run):
    async def main():
        client, reader, count = await filled()
        client.transport.sendto(b"waits")
        client.transport.abort()
        assert client.transport.get_write_buffer_size() == 0 or True
        await client.saw("lost")
        assert drain(reader) == [b"fill"] * count
        assert client.lost is None
        reader.close()

    run(main())


def test_queued_for_a_peer_that_goes(run):
    async def main():
        client, reader, count = await filled()
        client.transport.sendto(b"1")
        client.transport.sendto(b"2")
        reader.close()
        await client.saw("error", 2)
        assert isinstance(client.problems[0], ConnectionRefusedError)
        assert all(isinstance(e, OSError) for e in client.problems)
        await close(client)

    run(main())


@pytest.mark.parametrize("high, sent", [(0, 1), (100, 3)])
def test_pause_within_sendto(run, high, sent):
    """anyio sends one more only when it was not paused by the last one."""
    async def main():
        client, reader, count = await filled()
        client.transport.set_write_buffer_limits(high)
        seen = []
        for _ in range(sent):
            assert "pause" not in client.names
            client.transport.sendto(b"x" * 40)
        assert "pause" in client.names
        drain(reader)
        await client.saw("resume")
        assert client.transport.get_write_buffer_size() == 0
        client.transport.close()
        await client.saw("lost")
        assert drain(reader)[-1] == b"x" * 40
        reader.close()

    run(main())


def test_limits_are_checked(run):
    async def main():
        server = await bound()
        with pytest.raises(ValueError):
            server.transport.set_write_buffer_limits(high=1, low=2)
        await close(server)

    run(main())


# -- held back until the callback ends ------------------------------------------------

def test_everything_that_can_tell_sends_first(run):
    async def main():
        peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        peer.bind(("127.0.0.1", 0))
        peer.setblocking(False)
        client = await endpoint(remote_addr=peer.getsockname())
        transport = client.transport
        for tell in (transport.get_write_buffer_size, transport.is_closing,
                     lambda: transport.get_extra_info("socket"),
                     lambda: transport.set_protocol(client),
                     lambda: transport.set_write_buffer_limits(high=1000),
                     lambda: transport.sendto(b"l" * 30000),
                     transport.close):
            transport.sendto(b"1")
            transport.sendto(b"2")
            tell()
            assert drain(peer)[:2] == [b"1", b"2"]
        await client.saw("lost")
        peer.close()

    run(main())


def test_sent_in_connection_made_and_lost(run):
    async def main():
        server = await bound()
        peer = name_of(server)

        def send(protocol, *args):
            protocol.transport.sendto(b"hello", peer)

        client = await bound(lambda: Dgrams({"made": send, "lost": send}))
        await server.count(1)
        client.transport.close()
        await server.count(2)
        await close(server)

    run(main())


def test_sent_from_a_task_and_then_awaited(run):
    async def main():
        server = await bound(Echo)
        client = await connected(server)
        for i in range(10):
            client.transport.sendto(b"%d" % i)
            await client.count(i + 1)
        await close(client, server)

    run(main())


def test_a_slow_callback_does_not_hold_the_answers_of_others(run):
    """Answers of a batch leave before a callback that blocks returns."""
    async def main():
        peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(5)
        seen = []

        def answer(protocol, data, addr):
            protocol.transport.sendto(data, addr)
            if data == b"1":
                protocol.transport.is_closing()     # sends
                seen.append(peer.recv(100))
                seen.append(peer.recv(100))

        server = await bound(lambda: Dgrams({"dgram": answer}))
        for i in range(3):
            peer.sendto(b"%d" % i, name_of(server))
        await server.count(3)
        assert seen == [b"0", b"1"]
        await close(server)
        peer.close()

    run(main())


async def with_answers(server, peer):
    """Many bursts, each of which was answered."""
    peer.connect(name_of(server))
    peer.setblocking(False)
    for n in range(1, 30):
        for _ in range(8):
            peer.send(b"x")
        await server.count(8 * n)
        await asyncio.sleep(0)
        assert len(drain(peer)) == 8


@pytest.mark.tidewire
@pytest.mark.skipif(support.is_sanitized(), reason="every program is slow then")
def test_answers_of_a_turn_leave_together(run):
    async def main():
        seen = []

        def answer(protocol, data, addr):
            protocol.transport.sendto(data, addr)
            if data == b"y":
                seen.append(drain(peer))

        server = await bound(lambda: Dgrams({"dgram": answer}))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            await with_answers(server, peer)
            for _ in range(50):     # a busy machine may have made it slow
                seen.clear()
                await with_more_answers(server, peer, 3)
                seen.append(drain(peer))
                if seen == [[], [], [], [b"y"] * 3]:
                    break
            assert seen == [[], [], [], [b"y"] * 3]
        await close(server)

    run(main())


async def with_more_answers(server, peer, count):
    told = len(server.payloads) + count
    for _ in range(count):
        peer.send(b"y")
    await server.count(told)
    await asyncio.sleep(0)


def test_no_answer_waits_where_the_program_has_the_socket(run):
    """It may send by itself: the order is the program's."""
    async def main():
        def answer(protocol, data, addr):
            protocol.transport.sendto(data, addr)
            if data == b"y":
                ours.sendto(b"z", addr)

        ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        ours.bind(("127.0.0.1", 0))
        ours.setblocking(False)
        server = await endpoint(lambda: Dgrams({"dgram": answer}), sock=ours)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            await with_answers(server, peer)
            for _ in range(5):
                await with_more_answers(server, peer, 5)
                assert drain(peer) == [b"y", b"z"] * 5
        await close(server)

    run(main())


def test_options_between_datagrams_of_a_habit(run):
    """Each datagram leaves with the time to live that was set before it."""
    async def main():
        client = await bound()
        sock = client.transport.get_extra_info("socket")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
            peer.bind(("127.0.0.1", 0))
            peer.settimeout(5)
            for times in range(30):
                for ttl in range(1, 5):
                    if times >= 15:
                        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
                    client.transport.sendto(b"x", peer.getsockname())
                await asyncio.sleep(0)
                seen = [peer.recvmsg(10, 100)[1][0][2][0] for _ in range(4)]
                assert seen == [1, 2, 3, 4] or times < 15
        await close(client)

    run(main())


def test_burst_of_answers(run):
    async def main():
        server = await bound(Echo)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.connect(name_of(server))
            peer.setblocking(False)
            want = [b"%d" % i * 100 for i in range(50)]
            for data in want:
                peer.send(data)
            await server.count(50)
            await asyncio.sleep(0)
            assert drain(peer) == want
        await close(server)

    run(main())


def train_of_all_sizes():
    """Runs of equal sizes, shorter ends, empty ones, other targets."""
    sizes = ([100] * 5 + [50] + [50] * 3 + [200, 100, 100, 300] + [1400] * 40
             + [1] * 70 + [9000] * 9 + [2, 1, 2, 1] + [15000] * 8)
    return [bytes([n % 251]) * size for n, size in enumerate(sizes)]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("connect", [True, False])
def test_neighbours_of_all_sizes(run, host, connect):
    async def main():
        server = await bound(host=host)
        sock = server.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        client = (await connected(server) if connect
                  else await bound(host=host))
        want, seen = train_of_all_sizes(), 0
        for at in range(0, len(want), 7):   # what one receive buffer holds
            for data in want[at:at + 7]:
                client.transport.sendto(
                    data, None if connect else name_of(server))
            await server.count(at + len(want[at:at + 7]))
        assert server.payloads == want
        await close(client, server)

    run(main())


@pytest.mark.parametrize("sizes", [[100, 50, 50, 100, 100, 60, 60], [9, 9, 8, 7, 7, 7], [2, 1, 2, 1]])
def test_shorter_ones_between_datagrams_of_a_habit(run, sizes):
    """The kernel cuts one message into equal parts: a shorter datagram can only be the last."""
    async def main():
        server = await bound()
        client = await connected(server)
        for times in range(1, 30):
            for n, size in enumerate(sizes):
                client.transport.sendto(bytes([n]) * size)
            await server.count(len(sizes) * times)
        assert server.payloads == [bytes([n]) * size for n, size in enumerate(sizes)] * 29
        await close(client, server)

    run(main())


def test_more_than_a_packet_holds_for_one_peer(run):
    """Nine datagrams of a habit would be one message of 72,000 bytes."""
    async def main():
        server = await bound()
        sock = server.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        client = await connected(server)
        client.transport.set_write_buffer_limits(1 << 20)
        for times in range(1, 20):
            for n in range(9):
                client.transport.sendto(bytes([n]) * 8000)
            await server.count(9 * times)
        assert server.payloads == [bytes([n]) * 8000 for n in range(9)] * 19
        await close(client, server)

    run(main())


@pytest.mark.parametrize("form", [str, os.fsencode, lambda path: bytearray(os.fsencode(path))])
def test_unix_addresses_of_a_habit(run, tmp_path, form):
    async def main():
        path = str(tmp_path / "peer")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.bind(path)
            peer.setblocking(False)
            client = await endpoint(family=socket.AF_UNIX)
            for _ in range(20):
                for n in range(4):
                    client.transport.sendto(b"%d" % n, form(path))
                await asyncio.sleep(0)
                assert drain(peer) == [b"0", b"1", b"2", b"3"]
            await close(client)

    run(main())


def test_errors_of_a_habit_come_by_the_call_soon_of_the_program(loop, run):
    """What was held is refused when sendto() has returned."""
    calls = []

    def call_soon(callback, *args, context=None):
        calls.append(getattr(callback, "__name__", None))
        return type(loop).call_soon(loop, callback, *args, context=context)

    async def main():
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            name = b"\0tidewire-test-%d-%d" % (os.getpid(), id(peer))
            peer.bind(name)
            peer.setblocking(False)
            client = await endpoint(remote_addr=name.decode(), family=socket.AF_UNIX)
            for _ in range(20):
                for n in range(4):
                    client.transport.sendto(b"x")
                await asyncio.sleep(0)
                assert len(drain(peer)) == 4
        loop.call_soon = call_soon
        for _ in range(4):
            client.transport.sendto(b"x")
        await client.saw("error", 4)
        first, *others = client.problems      # the kernel takes the peer away
        assert isinstance(first, ConnectionRefusedError)
        assert all(isinstance(exc, OSError) for exc in others)
        del loop.call_soon
        await close(client)

    run(main())


def test_neighbours_for_two_peers(run):
    async def main():
        one, two = await bound(), await bound()
        client = await bound()
        for i in range(30):
            client.transport.sendto(b"%02d" % i,
                                    name_of(one if i % 5 < 3 else two))
        await one.count(18)
        await two.count(12)
        assert one.payloads == [b"%02d" % i for i in range(30) if i % 5 < 3]
        assert two.payloads == [b"%02d" % i for i in range(30) if i % 5 > 2]
        await close(client, one, two)

    run(main())


def test_trains_that_the_kernel_refuses(run):
    async def main():
        server = await bound()
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, 11, 1)   # SO_NO_CHECK
        sock.connect(name_of(server))
        client = await endpoint(sock=sock)
        want = [b"%02d" % i for i in range(20)]
        for _ in range(3):
            for data in want:
                client.transport.sendto(data)
            await server.count(len(server.payloads) + 20)
        assert server.payloads == want * 3
        assert client.problems == []
        await close(client, server)

    run(main())


# -- a socket that others read, too ------------------------------------------------

def rest(sock):
    got = []
    try:
        while True:
            got.append(sock.recv(10))
    except BlockingIOError:
        return got


@pytest.mark.parametrize("many", [8, 100])
@pytest.mark.parametrize("at", [0, 5])
@pytest.mark.parametrize("how", ["close", "abort", "pause_reading"])
def test_what_was_not_delivered_stays_in_the_socket(run, loop_name, how, at, many):
    """An endpoint stops in the middle of a burst; a duplicate of its socket has the rest."""
    if how == "pause_reading" and loop_name == "stock":
        pytest.skip("no pause_reading() there")

    async def main():
        loop = asyncio.get_running_loop()

        def stop(p, data, addr):
            if data == b"%d" % at:
                getattr(p.transport, how)()

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, \
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
            with sock.dup() as copy:
                for n in range(many):
                    sender.sendto(b"%d" % n, sock.getsockname())
                transport, proto = await loop.create_datagram_endpoint(
                    lambda: Dgrams({"dgram": stop}), sock=sock)
                await proto.count(at + 1)
                assert proto.payloads + rest(copy) == [b"%d" % n for n in range(many)]
                assert len(proto.payloads) == at + 1
                await close(proto)

    run(main())


@pytest.mark.tidewire
def test_a_socket_closed_behind_the_endpoint(run, errors):
    """The number belongs to another socket before the next datagram is read."""
    async def main():
        loop = asyncio.get_running_loop()
        others = []

        def swap(p, data, addr):
            if not others:
                number = sock.fileno()
                sock.close()
                others.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                assert others[0].fileno() == number
                others[0].bind(("127.0.0.1", 0))
                others[0].setblocking(False)
                sender.sendto(b"not for you", others[0].getsockname())

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
            for n in range(3):
                sender.sendto(b"%d" % n, sock.getsockname())
            transport, proto = await loop.create_datagram_endpoint(
                lambda: Dgrams({"dgram": swap}), sock=sock)
            await proto.count(1)
            await soon(2)
            assert proto.payloads == [b"0"]
            assert others[0].recv(20) == b"not for you"
            transport.abort()
            others[0].close()

    run(main())
