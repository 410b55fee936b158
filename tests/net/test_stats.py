"""loop.stats(): what is counted, and that it is counted right."""
import asyncio
import bisect
import concurrent.futures
import errno
import gc
import json
import os
import resource
import signal
import socket
import ssl
import sys
import threading
import time

import pytest
import support
import tidewire
from parity import certificates

pytestmark = pytest.mark.tidewire

KINDS = ("tcp", "unix", "pipe", "udp", "tls", "sock")
TRAFFIC = {"bytes_in", "bytes_out", "messages_in", "messages_out"}
CONNECTIONS = {"opened", "accepted", "failed", "closed", "reset", "lost", "open"}


def run(loop, coro):
    return loop.run_until_complete(asyncio.wait_for(coro, 20))


class Echo(asyncio.Protocol):
    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def connection_lost(self, exc):
        if not self.lost.done():
            self.lost.set_result(exc)


# -- the form -----------------------------------------------------------------

def test_form(loop):
    stats = loop.stats()
    assert stats["version"] == 1
    assert set(stats["transports"]) == set(KINDS)
    for kind, values in stats["transports"].items():
        assert set(values) == TRAFFIC | (set() if kind in ("tls", "sock") else CONNECTIONS)
    assert set(stats["histograms"]) == {"callback", "turn", "lag", "poll", "ready"}
    assert json.loads(json.dumps(stats)) is not None


def test_bounds(loop):
    """Each bucket is at most a sixteenth wide, from 1 us to a minute, and the same in each call."""
    for name, histogram in loop.stats()["histograms"].items():
        bounds = histogram["bounds"]
        assert bounds is loop.stats()["histograms"][name]["bounds"]
        assert list(bounds) == sorted(set(bounds))
        assert len(histogram["counts"]) == len(bounds) + 1
        least = 16 if name == "ready" else 1e-6
        for low, high in zip(bounds, bounds[1:]):
            if low >= least:
                assert (high - low) / low <= 1 / 16 + 1e-9
        assert bounds[-1] > (10**6 if name == "ready" else 60)


def test_loops_are_told_apart(loop):
    others = [tidewire.new_event_loop() for _ in range(2)]
    try:
        stats = [one.stats() for one in (loop, *others)]
        assert len({one["id"] for one in stats}) == 3
        assert len({one["name"] for one in stats}) == 3
        assert {one["pid"] for one in stats} == {os.getpid()}
        loop.name = "front"
        assert loop.stats()["name"] == "front"
    finally:
        for one in others:
            one.close()


def test_life(loop):
    before = time.time()
    assert loop.stats()["state"] == "stopped"
    assert loop.stats()["thread"] is None

    async def main():
        return loop.stats()

    stats = run(loop, main())
    assert (stats["state"], stats["thread"]) == ("running", threading.get_ident())
    assert stats["poller"]
    turns = loop.stats()["turns"]
    assert loop.stats()["closed"] is None
    loop.close()
    stats = loop.stats()
    assert (stats["state"], stats["turns"], stats["poller"]) == ("closed", turns, None)
    assert before - 1 < stats["made"] <= stats["closed"] <= stats["time"]


def test_reset(loop):
    run(loop, asyncio.sleep(0))
    first = loop.stats(reset=True)
    assert first["turns"] > 0
    second = loop.stats()
    assert second["turns"] == second["callbacks"] == 0
    assert second["busy"] == second["idle"] == 0
    assert all(h["count"] == 0 for h in second["histograms"].values())
    run(loop, asyncio.sleep(0))
    third = loop.stats()
    assert 0 < third["turns"] <= first["turns"] + 5
    with pytest.raises(TypeError):
        loop.stats(1, 2)


def test_from_another_thread(loop):
    async def main():
        submitted = threading.Event()
        job = loop.run_in_executor(None, lambda: submitted.wait() and loop.stats())
        submitted.set()
        return await job

    stats = run(loop, main())
    assert stats["state"] == "running"
    assert (stats["executor"]["submitted"], stats["executor"]["running"]) == (1, 1)


# -- times --------------------------------------------------------------------

def bucket(histogram, seconds):
    return bisect.bisect_right(histogram["bounds"], seconds)


def test_every_callback_is_in_the_histogram(loop):
    done = loop.create_future()

    def chain(n):
        if n:
            loop.call_soon(chain, n - 1)
        else:
            done.set_result(None)

    loop.call_soon(chain, 5000)
    run(loop, done_of(done))
    stats = loop.stats()
    callbacks = stats["histograms"]["callback"]
    assert callbacks["count"] == sum(callbacks["counts"]) == stats["callbacks"] > 5000
    assert 0 < callbacks["sum"] <= stats["busy"] + stats["idle"]


async def done_of(future):
    return await future


@pytest.mark.parametrize("among", [0, 1000], ids=["alone", "among-quick-ones"])
def test_a_slow_callback_is_found(loop, among):
    """One that takes long is recorded as one, also among thousands of small ones."""
    took = []

    def slow():
        start = time.perf_counter()
        while time.perf_counter() - start < 0.05:
            pass
        took.append(time.perf_counter() - start)

    def small():
        pass

    async def main():
        for _ in range(among):
            loop.call_soon(small)
        loop.call_soon(slow)
        for _ in range(among):
            loop.call_soon(small)
        await asyncio.sleep(0)

    run(loop, main())
    histogram = loop.stats()["histograms"]["callback"]
    least = bucket(histogram, took[0] * 0.96)
    assert sum(histogram["counts"][least:]) == 1
    assert histogram["sum"] >= took[0]


def test_lag(loop):
    """A timer that comes behind a long callback is late by what that took."""
    def block():
        start = time.perf_counter()
        while time.perf_counter() - start < 0.05:
            pass

    async def main():
        done = loop.create_future()
        loop.call_later(0.001, done.set_result, None)
        loop.call_soon(block)
        await done

    run(loop, main())
    lag = loop.stats()["histograms"]["lag"]
    assert sum(lag["counts"][bucket(lag, 0.04):]) == 1
    assert sum(lag["counts"][bucket(lag, 55):]) == 0        # no moment is taken for a duration


def test_poll_and_turn(loop):
    before = loop.stats()
    run(loop, asyncio.sleep(0.02))
    after = loop.stats()
    poll = after["histograms"]["poll"]
    assert sum(poll["counts"][bucket(poll, 0.015):]) == 1
    assert poll["sum"] == pytest.approx(after["idle"])
    assert after["histograms"]["turn"]["count"] == after["turns"] > before["turns"]


def test_turns_do_not_overlap(loop):
    """What many turns without a wait took is what the run took, not a multiple of it."""
    async def main():
        for _ in range(2000):
            await asyncio.sleep(0)

    before, start = loop.stats(), time.perf_counter()
    run(loop, main())
    took, after = time.perf_counter() - start, loop.stats()
    turns = [stats["histograms"]["turn"] for stats in (before, after)]
    assert turns[1]["count"] - turns[0]["count"] > 20
    assert turns[1]["sum"] - turns[0]["sum"] < 5 * took


def test_ready(loop):
    async def main():
        for _ in range(500):
            loop.call_soon(int)
        await asyncio.sleep(0)

    run(loop, main())
    ready = loop.stats()["histograms"]["ready"]
    assert sum(ready["counts"][bucket(ready, 480):]) == 1
    assert ready["sum"] >= 500


# -- what is counted ----------------------------------------------------------

@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_connections_and_bytes(loop, kind, tmp_path):
    path = str(tmp_path / "s")
    messages = 7

    async def main():
        accepted = []

        def factory():
            accepted.append(Echo())
            return accepted[-1]

        if kind == "tcp":
            server = await loop.create_server(factory, "127.0.0.1", 0)
            host, port = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(host, port)
        else:
            server = await loop.create_unix_server(factory, path)
            reader, writer = await asyncio.open_unix_connection(path)
        for _ in range(messages):
            writer.write(b"x" * 100)
            await reader.readexactly(100)
        now = loop.stats()["transports"][kind]
        assert (now["opened"], now["accepted"], now["open"]) == (1, 1, 2)
        writer.close()
        await writer.wait_closed()
        await accepted[0].lost
        server.close()

    run(loop, main())
    stats = loop.stats()["transports"][kind]
    assert stats["bytes_in"] == stats["bytes_out"] == 2 * messages * 100
    assert stats["messages_in"] == stats["messages_out"] == 2 * messages
    assert (stats["closed"], stats["reset"], stats["lost"], stats["open"]) == (2, 0, 0, 0)


def test_reset_by_peer(loop):
    async def main():
        echoes = []

        def factory():
            echoes.append(Echo())
            return echoes[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        sock = socket.create_connection(server.sockets[0].getsockname())
        while not echoes:
            await asyncio.sleep(0.001)
        support.reset(sock)
        assert isinstance(await echoes[0].lost, ConnectionResetError)
        server.close()

    run(loop, main())
    stats = loop.stats()["transports"]["tcp"]
    assert (stats["accepted"], stats["reset"], stats["closed"]) == (1, 1, 0)


def test_failed(loop, tmp_path):
    async def main():
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))     # nobody listens
        with pytest.raises(OSError):
            await loop.create_connection(asyncio.Protocol, *sock.getsockname())
        sock.close()
        with pytest.raises(OSError):
            await loop.create_unix_connection(asyncio.Protocol, str(tmp_path / "none"))

    run(loop, main())
    stats = loop.stats()["transports"]
    assert (stats["tcp"]["failed"], stats["unix"]["failed"]) == (1, 1)
    assert stats["tcp"]["opened"] == stats["unix"]["opened"] == 0


def test_dropped_transport(loop):
    """A transport that nobody closed is not open any more once it is collected."""
    async def main():
        a, b = socket.socketpair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=a)
        transport.pause_reading()
        await asyncio.sleep(0)
        assert loop.stats()["transports"]["unix"]["open"] == 1
        with pytest.warns(ResourceWarning):
            del transport, _
            await asyncio.sleep(0)
            gc.collect()
        b.close()

    run(loop, main())
    stats = loop.stats()["transports"]["unix"]
    assert (stats["opened"], stats["closed"], stats["open"]) == (1, 1, 0)


def test_udp(loop):
    n = 40

    async def main():
        done = loop.create_future()
        came = []

        class Receiver(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                came.append(data)
                if len(came) == n:
                    done.set_result(None)

        receiver, _ = await loop.create_datagram_endpoint(
            Receiver, local_addr=("127.0.0.1", 0))
        sender, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=receiver.get_extra_info("sockname"))
        for i in range(n):
            sender.sendto(b"d" * (i % 3 + 1) * 10)
        await done
        assert loop.stats()["transports"]["udp"]["open"] == 2
        sender.close()
        receiver.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    run(loop, main())
    stats = loop.stats()["transports"]["udp"]
    size = sum((i % 3 + 1) * 10 for i in range(n))
    assert (stats["messages_out"], stats["bytes_out"]) == (n, size)
    assert (stats["messages_in"], stats["bytes_in"]) == (n, size)
    assert (stats["open"], stats["closed"]) == (0, 2)


def test_pipe(loop):
    async def main():
        r, w = os.pipe()
        reader = asyncio.StreamReader()
        read, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(r, "rb", 0))
        write, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(w, "wb", 0))
        write.write(b"p" * 1000)
        await reader.readexactly(1000)
        write.close()
        assert await reader.read() == b""
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    run(loop, main())
    stats = loop.stats()["transports"]["pipe"]
    assert (stats["bytes_in"], stats["bytes_out"]) == (1000, 1000)
    assert (stats["opened"], stats["open"]) == (2, 0)


def test_sock_methods(loop):
    async def main():
        a, b = socket.socketpair()
        a.setblocking(False)
        b.setblocking(False)
        await loop.sock_sendall(a, b"x" * 600)
        assert len(await loop.sock_recv(b, 100)) == 100
        assert await loop.sock_recv_into(b, bytearray(200)) == 200
        data, _ = await loop.sock_recvfrom(b, 300)
        assert len(data) == 300
        a.close()
        b.close()

    run(loop, main())
    assert loop.stats()["transports"]["sock"] == {
        "bytes_in": 600, "messages_in": 3, "bytes_out": 600, "messages_out": 1}


def test_sock_methods_of_a_subclass(loop):
    """A socket with methods of its own is asked by them, and counted all the same."""
    class Sock(socket.socket):
        def recv(self, n, *args):
            return super().recv(n, *args)

        def send(self, data, *args):
            return super().send(data, *args)

    async def main():
        a, b = socket.socketpair()
        a, b = (Sock(fileno=one.detach()) for one in (a, b))
        a.setblocking(False)
        b.setblocking(False)
        await loop.sock_sendall(a, b"x" * 600)
        assert len(await loop.sock_recv(b, 1000)) == 600
        a.close()
        b.close()

    run(loop, main())
    stats = loop.stats()["transports"]["sock"]
    assert (stats["bytes_in"], stats["bytes_out"]) == (600, 600)


def test_tls(loop):
    async def main():
        server_context, client_context = certificates.contexts()
        lost = loop.create_future()

        class Server(Echo):
            def connection_lost(self, exc):
                lost.set_result(exc)

        server = await loop.create_server(Server, "127.0.0.1", 0, ssl=server_context)
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=client_context, server_hostname="localhost")
        writer.write(b"t" * 1000)
        await reader.readexactly(1000)
        writer.close()
        await writer.wait_closed()
        await lost
        server.close()

    run(loop, main())
    stats = loop.stats()
    tls, tcp = stats["transports"]["tls"], stats["transports"]["tcp"]
    assert (tls["bytes_in"], tls["bytes_out"]) == (2000, 2000)
    assert tcp["bytes_in"] == tcp["bytes_out"] > 2000
    assert (stats["tls"]["handshakes"], stats["tls"]["failures"]) == (2, 0)
    assert 0 < stats["tls"]["seconds"] <= stats["busy"]


def test_tls_resumed(loop):
    async def main():
        server_context, client_context = certificates.contexts()
        client_context.maximum_version = ssl.TLSVersion.TLSv1_2
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context)
        address = server.sockets[0].getsockname()

        def blocking(session):
            with socket.create_connection(address) as plain:
                with client_context.wrap_socket(plain, server_hostname="localhost",
                                                session=session) as tls:
                    tls.sendall(b"x")
                    tls.recv(1)
                    return tls.session

        session = await loop.run_in_executor(None, blocking, None)
        assert loop.stats()["tls"]["resumed"] == 0
        await loop.run_in_executor(None, blocking, session)
        server.close()

    run(loop, main())
    tls = loop.stats()["tls"]
    assert (tls["handshakes"], tls["resumed"]) == (2, 1)


def test_tls_failures(loop):
    async def main():
        server_context, _ = certificates.contexts()
        loop.set_exception_handler(lambda *args: None)
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context)
        with pytest.raises(ssl.SSLError):
            await loop.create_connection(     # knows no authority
                asyncio.Protocol, *server.sockets[0].getsockname(),
                ssl=ssl.create_default_context(), server_hostname="localhost")
        while loop.stats()["tls"]["failures"] < 2:
            await asyncio.sleep(0.001)
        server.close()

    run(loop, main())
    assert loop.stats()["tls"]["handshakes"] == 0


def test_writing(loop):
    async def main():
        a, b = socket.socketpair()
        b.setblocking(False)
        paused = loop.create_future()

        class Client(asyncio.Protocol):
            def pause_writing(self):
                paused.set_result(None)

        transport, _ = await loop.create_connection(Client, sock=a)
        transport.write(b"w" * 5_000_000)
        await paused
        await asyncio.sleep(0)
        writing = loop.stats()["writing"]
        assert writing == {"pauses": 1, "paused": 1,
                           "waiting_bytes": transport.get_write_buffer_size()}
        assert writing["waiting_bytes"] > 0
        await support.recv_exactly(b, 5_000_000)
        transport.close()
        b.close()
        await asyncio.sleep(0)

    run(loop, main())
    assert loop.stats()["writing"] == {"pauses": 1, "paused": 0, "waiting_bytes": 0}


def test_writing_of_tls(loop):
    """A TLS transport counts once, with what waits in it and in the transport below."""
    async def main():
        server_context, client_context = certificates.contexts()
        servers = []

        class Server(asyncio.Protocol):
            def connection_made(self, transport):
                transport.pause_reading()
                servers.append(transport)

        server = await loop.create_server(Server, "127.0.0.1", 0, ssl=server_context)
        transport, _ = await loop.create_connection(
            asyncio.Protocol, *server.sockets[0].getsockname(), ssl=client_context,
            server_hostname="localhost")
        size = 20_000_000
        transport.write(b"w" * size)
        while not servers:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        writing = loop.stats()["writing"]
        assert (writing["pauses"], writing["paused"]) == (1, 1)
        assert size / 4 < writing["waiting_bytes"] <= size * 1.1
        transport.abort()
        servers[0].abort()
        server.close()
        await asyncio.sleep(0.01)

    run(loop, main())
    assert loop.stats()["writing"]["waiting_bytes"] == 0


def test_accept_errors(loop):
    async def main():
        reported = loop.create_future()
        loop.set_exception_handler(lambda loop, context: reported.set_result(context))
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        client = socket.socket()
        client.setblocking(False)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Every number below the limit is in use.
        spare = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
        try:
            while True:
                try:
                    spare.append(os.dup(0))
                except OSError as exc:
                    assert exc.errno == errno.EMFILE
                    break
            client.connect_ex(server.sockets[0].getsockname())
            await reported
            count = loop.stats()["accept_errors"]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in spare:
                os.close(fd)
        client.close()
        server.close()
        return count

    assert run(loop, main()) == {"EMFILE": 1, "ENFILE": 0, "ENOBUFS": 0, "ENOMEM": 0, "other": 0}


def test_timers(loop):
    async def main():
        handles = [loop.call_later(3600, int) for _ in range(10)]
        for handle in handles[::2]:
            handle.cancel()
            handle.cancel()
        return loop.stats()["timers"], handles

    before = loop.stats()["timers"]
    timers = loop.run_until_complete(main())[0]
    assert timers["scheduled"] - before["scheduled"] == 10
    assert timers["cancelled"] - before["cancelled"] == 5
    assert timers["pending"] == 5


def test_signals(loop):
    async def main():
        got = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, got.set_result, None)
        os.kill(os.getpid(), signal.SIGUSR1)
        await got
        loop.remove_signal_handler(signal.SIGUSR1)

    run(loop, main())
    assert loop.stats()["signals"] == 1


def test_subprocesses(loop):
    async def main():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
        assert loop.stats()["subprocesses"] == {"started": 1, "exited": 0, "running": 1}
        process.stdin.close()
        await process.wait()

    run(loop, main())
    assert loop.stats()["subprocesses"] == {"started": 1, "exited": 1, "running": 0}


def test_executor(loop):
    async def main():
        begun, go_on = threading.Event(), threading.Event()

        def work():
            begun.set()
            go_on.wait()

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            jobs = [loop.run_in_executor(pool, work) for _ in range(3)]
            begun.wait()
            jobs_now = loop.stats()["executor"]
            go_on.set()
            await asyncio.gather(*jobs)
        return jobs_now

    now = run(loop, main())
    assert (now["submitted"], now["done"], now["running"], now["waiting"]) == (3, 0, 1, 2)
    after = loop.stats()["executor"]
    assert (after["submitted"], after["done"], after["running"], after["waiting"]) == (3, 3, 0, 0)
    assert after["seconds"] > 0


def test_lookups(loop):
    async def main():
        await loop.getaddrinfo("localhost", 80)

    run(loop, main())
    lookups = loop.stats()["lookups"]
    assert (lookups["submitted"], lookups["done"]) == (1, 1)
    assert (lookups["waiting"], lookups["running"]) == (0, 0)
    assert lookups["seconds"] > 0
