"""What a burst needed goes back to the system when the loop is quiet."""
import asyncio
import resource

import pytest

import support

pytestmark = [pytest.mark.tidewire, pytest.mark.skipif(
    support.is_sanitized(), reason="a sanitizer keeps memory that was freed")]

RSS = """
    import gc

    # No file object: its buffers could lie above what is measured, in the heap.
    statm = os.open("/proc/self/statm", os.O_RDONLY)

    def rss():
        pages = os.pread(statm, 100, 0).split()[1]
        return int(pages) * os.sysconf("SC_PAGESIZE") / 2 ** 20

    def noop(*args):
        pass

    def settle():
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.run_until_complete(asyncio.sleep(0.001))
        gc.collect()
        return rss()

    loop = new_loop()
    before = settle()
"""


def test_ready_handles(script):
    (line,) = script(RSS + """
    for _ in range(1_000_000):
        loop.call_soon(noop)
    peak = rss()
    after = settle()
    print(peak - before, after - before)
    loop.close()
    """)
    peak, after = map(float, line.split())
    assert peak > 100
    assert after < 6        # the queue alone had 8


def test_a_loop_that_never_waits(script):
    (line,) = script(RSS + """
    def chain(n):
        if n:
            loop.call_soon(chain, n - 1)
        else:
            loop.stop()

    for _ in range(1_000_000):
        loop.call_soon(noop)
    r, w = os.pipe()
    loop.add_reader(r, noop)
    loop.call_soon(chain, 500_000)
    loop.run_forever()
    print(rss() - before)
    loop.close()
    """)
    assert float(line) < 6


def test_timers(script):
    (line,) = script(RSS + """
    timers = [loop.call_later(1000, noop) for _ in range(500_000)]
    peak = rss()
    while timers:
        timers.pop().cancel()
    after = settle()
    print(peak - before, after - before)
    loop.close()
    """)
    peak, after = map(float, line.split())
    assert peak > 80
    assert after < 10       # the heap alone had 12, and as much for those that it lost


def test_order_survives(loop, run):
    """Queues that shrink while something waits in them."""
    seen = []
    many = 5_000 if loop.get_debug() else 50_000   # debug mode is slow

    async def main():
        timers = [loop.call_later(0.05 + i * 1e-6, seen.append, i) for i in range(300)]
        for timer in [loop.call_later(1000, seen.append) for _ in range(many)]:
            timer.cancel()
        for _ in range(many):
            loop.call_soon(int)
        await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        for i in range(300, 600):
            loop.call_later(0.06 + i * 1e-6, seen.append, i)
        for _ in range(2 * many):
            loop.call_soon(int)
        await asyncio.sleep(0.1)
        while len(seen) < 600:
            await asyncio.sleep(0.01)
        return timers

    run(main())
    assert seen == list(range(600))


def test_what_a_lost_connection_had_to_write(script):
    """The read buffer, made when the connection ends, does not lie above it in the heap."""
    (line,) = script(RSS + """
    class Flood(asyncio.Protocol):
        def connection_made(self, transport):
            for _ in range(100):
                transport.write(b"x" * 1_000_000)
            peaks.append(rss())

        def connection_lost(self, exc):
            lost.set_result(None)

    async def main():
        server = await loop.create_server(Flood, "127.0.0.1", 0)
        client = socket.create_connection(server.sockets[0].getsockname())
        while not peaks:
            await asyncio.sleep(0.001)
        client.close()
        await lost
        server.close()

    peaks, lost = [], loop.create_future()
    loop.set_exception_handler(noop)
    loop.run_until_complete(main())
    after = settle()
    print(peaks[0] - before, after - before)
    loop.close()
    """)
    peak, after = map(float, line.split())
    assert peak > 80
    assert after < 10


def test_table_of_descriptors(script):
    """Ten thousand descriptors are watched, then one."""
    (line,) = script("""
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(hard, 20_000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    loop = new_loop()
    a, b = socket.socketpair()
    fds = [os.dup(a.fileno()) for _ in range(most - 100)]
    for fd in fds:
        loop.add_writer(fd, int)
    loop.run_until_complete(asyncio.sleep(0))
    for fd in fds:
        loop.remove_writer(fd)
        os.close(fd)
    loop.run_until_complete(asyncio.sleep(0.001))
    seen = []
    loop.add_reader(a, seen.append, 1)
    b.send(b"x")
    fd = fcntl.fcntl(b.fileno(), fcntl.F_DUPFD, most - 50)
    loop.add_writer(fd, seen.append, 2)
    loop.run_until_complete(asyncio.sleep(0.001))
    print(sorted(set(seen)))
    loop.close()
    """.replace("import resource", "import resource, fcntl"))
    assert line == "[1, 2]"


@pytest.mark.parametrize("low, high", [(100, 17_000), (5_000, 17_000), (5_000, 9_000)])
def test_table_of_descriptors_after_a_high_number(script, low, high):
    """The one with the high number is closed: those that stay are served, and the next high one."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] <= high:
        pytest.skip("too few descriptors")
    (line,) = script(f"""
    import fcntl, resource
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data)

    async def made(number):
        one, two = socket.socketpair()
        moved = socket.socket(fileno=fcntl.fcntl(one, fcntl.F_DUPFD, number))
        one.close()
        moved.setblocking(False)
        two.setblocking(False)
        await loop.create_connection(Echo, sock=moved)
        return two

    async def answers(*peers):
        for peer in peers:
            await loop.sock_sendall(peer, b"?")
        return [await loop.sock_recv(peer, 10) for peer in peers]

    async def main():
        low, high = await made({low}), await made({high})
        seen = await answers(low, high)
        high.close()
        for _ in range(3):
            await asyncio.sleep(0.001)
        seen += await answers(low)
        high = await made({high})
        seen += await answers(high, low)
        high.close()
        low.close()
        print(seen == [b"?"] * 5)

    loop = new_loop()
    loop.run_until_complete(main())
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
    """)
    assert line == "True"


def test_closed_loops_leave_no_buffer(script):
    """The buffer for reading, 256 KiB in pages of its own."""
    (grown,) = script("""
        def size():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[0]) * os.sysconf("SC_PAGESIZE") / 2 ** 20

        async def read():
            one, other = socket.socketpair()
            reader, writer = await asyncio.open_connection(sock=one)
            other.send(b"x")
            assert await reader.read(1) == b"x"
            writer.close()
            await writer.wait_closed()
            other.close()

        def round():
            loop = new_loop()
            loop.run_until_complete(read())
            loop.close()

        for _ in range(10):
            round()
        before = size()
        for _ in range(100):
            round()
        print(size() - before)
    """)
    assert float(grown) < 12        # the buffers had 25
