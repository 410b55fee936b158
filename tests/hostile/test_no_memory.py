"""Allocations that fail: no crash, no hang, no wrong data, and the loop goes on.

A child process forks for each point: in it one allocation of Python's memory
fails, the n-th, or twenty from there on, while a small program runs.  Errors
are fine, and so are events that get lost (a MemoryError in a task's wake-up
leaves it asleep, with asyncio too) and what a StreamReader has forgotten;
afterwards there is memory again, and the
loop has to work.
"""
import sys

import pytest

pytest.importorskip("_testcapi")
# dict.setdefault(), with which a task enters its step, leaves a broken dict
# behind in CPython 3.13.0 when an allocation fails: any loop crashes then.
pytestmark = pytest.mark.skipif(
    sys.version_info[:2] == (3, 13), reason="CPython's own dicts break")

RUN = """
    import logging
    import ssl
    import tempfile

    import _testcapi
    import trustme

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    is_stock, points, width = LOOP == "stock", POINTS, WIDTH
    DATA = bytes(range(256)) * 300

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data)

    class Client(asyncio.Protocol):
        def __init__(self, data):
            self.data, self.got = data, b""
            self.done = asyncio.get_running_loop().create_future()

        def connection_made(self, transport):
            self.transport = transport
            transport.writelines([self.data[:100], self.data[100:]])

        def data_received(self, data):
            self.got += data
            # Bytes may be missing at the end, but never in between.
            if not self.data.startswith(self.got):
                os._exit(77)
            if len(self.got) == len(self.data):
                self.transport.close()

        def connection_lost(self, exc):
            self.done.done() or self.done.set_result(None)

    async def tcp(**options):
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            Echo, "127.0.0.1", 0, ssl=options.pop("server_ssl", None))
        _, client = await loop.create_connection(
            lambda: Client(DATA), *server.sockets[0].getsockname(), **options)
        client.transport.get_extra_info("socket")
        client.transport.get_extra_info("peercert")
        await client.done
        server.close()

    authority = trustme.CA()
    server_ssl = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_ssl)
    client_ssl = ssl.create_default_context()
    authority.configure_trust(client_ssl)

    async def tls():
        await tcp(ssl=client_ssl, server_hostname="localhost",
                  server_ssl=server_ssl)

    async def streams():
        async def handle(reader, writer):
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
            writer.close()

        with tempfile.TemporaryDirectory() as folder:
            path = folder + "/socket"
            server = await asyncio.start_unix_server(handle, path)
            reader, writer = await asyncio.open_unix_connection(path)
            for line in [b"one" * 100, b"two" * 10000]:
                writer.write(line + b"\\n")
                await reader.readline()
            writer.write_eof()
            await reader.read()
            writer.close()
            server.close()

    class Datagrams(asyncio.DatagramProtocol):
        def __init__(self, echoes):
            self.echoes, self.left = echoes, 4
            self.done = asyncio.get_running_loop().create_future()

        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, addr):
            self.left -= 1
            if self.echoes:
                self.transport.sendto(data, addr)
            elif self.left == 0:
                self.transport.close()

        def connection_lost(self, exc):
            self.done.done() or self.done.set_result(None)

    async def udp():
        loop = asyncio.get_running_loop()
        server, _ = await loop.create_datagram_endpoint(
            lambda: Datagrams(True), local_addr=("127.0.0.1", 0))
        address = server.get_extra_info("sockname")
        for where in {"remote_addr": address}, {"local_addr": ("127.0.0.1", 0)}:
            client, protocol = await loop.create_datagram_endpoint(
                lambda: Datagrams(False), **where)
            for size in 10, 10, 0, 20:
                client.sendto(b"x" * (size or 1), address)
            await protocol.done
        server.close()

    async def pipes():
        loop = asyncio.get_running_loop()
        r, w = os.pipe()
        with open(r, "rb", 0) as source, open(w, "wb", 0) as sink:
            reader = asyncio.StreamReader()
            await loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), source)
            transport, _ = await loop.connect_write_pipe(
                asyncio.BaseProtocol, sink)
            transport.write(DATA[:50])
            await reader.readexactly(50)
            transport.write(DATA * 3)
            transport.close()
            await reader.read()

    async def subprocess():
        process = await asyncio.create_subprocess_exec(
            "/bin/cat", stdin=-1, stdout=-1)
        await process.communicate(b"hello")

    async def timers():
        loop = asyncio.get_running_loop()
        handles = [loop.call_later(0.0001 * i, int, 1) for i in range(20)]
        for handle in handles[::2]:
            handle.cancel()
        done = loop.create_future()
        loop.call_soon(lambda *args: None, 1, 2, 3, 4, 5)
        loop.call_soon_threadsafe(done.set_result, 1)
        await done
        for i in range(200):
            loop.call_later(100, int).cancel()
        await asyncio.gather(*(asyncio.sleep(0.0001) for _ in range(5)))
        loop.add_signal_handler(signal.SIGUSR1, int)
        loop.remove_signal_handler(signal.SIGUSR1)

    async def sockets():
        loop = asyncio.get_running_loop()
        with socket.socket() as listener, socket.socket() as client:
            listener.setblocking(False)
            client.setblocking(False)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            accepting = loop.create_task(loop.sock_accept(listener))
            await loop.sock_connect(client, listener.getsockname())
            server, _ = await accepting
            with server, tempfile.TemporaryFile() as file:
                waiting = loop.create_task(loop.sock_recv(server, 100))
                await asyncio.sleep(0)
                await loop.sock_sendall(client, b"hello")
                await waiting
                file.write(DATA)
                file.flush()
                await loop.sock_sendfile(client, file, 0, 1000)
                await loop.sock_recv_into(server, bytearray(2000))
                loop.add_reader(server, int, 1, 2, 3, 4)
                loop.remove_reader(server)

    async def names():
        loop = asyncio.get_running_loop()
        await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
        await loop.getnameinfo(("127.0.0.1", 80))
        tasks = [loop.create_task(loop.getaddrinfo("localhost", i))
                 for i in range(10)]
        await asyncio.sleep(0)
        tasks[5].cancel()
        await asyncio.wait(tasks)

    async def works(loop):
        await asyncio.sleep(0.0001)
        one, two = await support.pair("unix")
        one.transport.write(b"fine")
        await two.got(b"fine")
        await support.close(one, two)

    def end(loop, reports):
        "There is memory again."
        if not is_stock:
            loop.run_until_complete(works(loop))
            for report in reports:
                exc = report.get("exception")
                if isinstance(exc, SystemError) and "tidewire" in str(exc):
                    raise exc
        loop.close()

    def child(program, n, patience):
        loop, reports, done = None, [], False
        try:
            loop = new_loop()
            loop.set_exception_handler(lambda l, c: reports.append(c))
            # It stands in the queue before anything can fail.
            dog = loop.call_later(patience * support.SLOWER, loop.stop)
            task = loop.create_task(program())
            signal.setitimer(signal.ITIMER_REAL, 8 * support.SLOWER)
            gc.disable()
            _testcapi.set_nomemory(n, n + width)
            try:
                loop.run_until_complete(task)
                done = True
            except Exception as exc:
                _testcapi.remove_mem_hooks()
                if isinstance(exc, SystemError) and "tidewire" in str(exc):
                    raise
            finally:
                _testcapi.remove_mem_hooks()
            dog.cancel()
            # Asking for it took memory, too.
            asyncio._set_running_loop(None)
            end(loop, reports)
            gc.collect()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(78)
        os._exit(0 if done else 1)

    def go(program, n, patience=0.3):
        pid = os.fork()
        if not pid:
            os.dup2(null, 1)
            os.dup2(noise.fileno(), 2)
            noise.truncate(0)
            child(program, n, patience)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    null = os.open(os.devnull, os.O_RDWR)
    noise = tempfile.TemporaryFile(mode="w+")
    new_loop().close()
    gc.collect()
    gc.freeze()
    program = globals()[PROGRAM]
    # How many allocations are there?  From there on all of it succeeds.
    high = 50
    while go(program, high, 0.5) != 0:
        high *= 2
        assert high < 100000
    statuses = [go(program, n) for n in sorted(
        {1 + high * i // points for i in range(points)} | set(range(1, 5)))]
    bad = [s for s in statuses if s not in (0, 1)]
    if bad:
        noise.seek(0)
        print(noise.read(), file=sys.stderr)
    print(bad, len(statuses) > 5, 1 in statuses)
"""

PROGRAMS = ["tcp", "tls", "streams", "udp", "pipes", "subprocess", "timers",
            "sockets", "names"]


@pytest.mark.parametrize("width", [1, 20], ids=["one", "twenty"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_allocations_fail(script, loop_name, program, width):
    source = (f"    LOOP, PROGRAM, WIDTH, POINTS = {loop_name!r}, {program!r}, "
              f"{width}, {10 if width == 1 else 5}\n")
    assert script(source + RUN, timeout=60,
                  env={"PYTHONMALLOC": "debug"}) == ["[] True True"]
