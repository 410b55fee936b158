"""A loop that has nothing to do waits: no state of a descriptor makes it turn and turn."""
import pytest

from tidewire import _core

POLLERS = _core.build_info()["pollers"].split(", ")

STATES = """
    import resource, struct

    class Protocol(asyncio.Protocol):
        def eof_received(self):
            return True     # half-closed

    states = []
    state = states.append

    def pair():
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        return ours, peer

    async def stream(**how):
        "A TCP transport and its peer."
        with socket.create_server(("127.0.0.1", 0)) as listener:
            peer = socket.create_connection(listener.getsockname())
            ours = listener.accept()[0]
        return (await loop.create_connection(Protocol, sock=ours))[0], peer

    async def unix():
        ours, peer = pair()
        return (await loop.create_connection(Protocol, sock=ours))[0], peer

    async def pipe(connect, end):
        fds = os.pipe()
        file = open(fds[end], "wb" if end else "rb", 0)
        return (await connect(asyncio.Protocol, file))[0], fds[1 - end]

    @state
    async def listener():
        yield await loop.create_server(Protocol, "127.0.0.1", 0)

    @state
    async def no_descriptor_for_a_connection():
        server = await loop.create_server(Protocol, "127.0.0.1", 0)
        client = socket.socket()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
        client.setblocking(False)
        client.connect_ex(server.sockets[0].getsockname())
        yield server
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    @state
    async def paused_with_data():
        transport, peer = await stream()
        transport.pause_reading()
        peer.sendall(b"x" * 1000)
        yield peer

    @state
    async def paused_with_the_end():
        transport, peer = await stream()
        transport.pause_reading()
        peer.shutdown(socket.SHUT_WR)
        yield peer

    @state
    async def paused_and_reset():
        transport, peer = await stream()
        transport.pause_reading()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        yield transport

    @state
    async def half_closed():
        transport, peer = await stream()
        peer.shutdown(socket.SHUT_WR)
        yield peer

    @state
    async def half_closed_and_nobody_there():
        transport, peer = await unix()
        peer.close()
        yield transport

    @state
    async def half_closed_and_full():
        transport, peer = await unix()
        transport.write(bytes(5000000))
        peer.shutdown(socket.SHUT_WR)
        yield peer

    @state
    async def closing_and_full():
        transport, peer = await stream()
        transport.write(bytes(9000000))
        transport.close()
        peer.shutdown(socket.SHUT_WR)
        yield peer

    @state
    async def read_pipe_paused_and_hung_up():
        transport, end = await pipe(loop.connect_read_pipe, 0)
        transport.pause_reading()
        os.close(end)
        yield transport

    @state
    async def write_pipe_full():
        transport, end = await pipe(loop.connect_write_pipe, 1)
        transport.write(bytes(100000))
        yield transport
        os.close(end)

    @state
    async def write_pipe_with_data_to_read():
        ours, peer = pair()
        await loop.connect_write_pipe(Protocol, ours)
        peer.send(b"x")
        yield peer

    @state
    async def reader_of_a_closed_descriptor():
        ours, peer = pair()
        loop.add_reader(ours.fileno(), print)
        await asyncio.sleep(0)
        ours.close()
        yield peer
        peer.close()

    @state
    async def closed_descriptor_with_a_duplicate():
        ours, peer = pair()
        duplicate = ours.dup()
        transport, _ = await loop.create_connection(Protocol, sock=ours)
        transport.abort()
        peer.send(b"x")
        yield duplicate

    @state
    async def refused_datagrams():
        with socket.socket(type=socket.SOCK_DGRAM) as gone:
            gone.bind(("127.0.0.1", 0))
            address = gone.getsockname()
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=address)
        transport.sendto(b"x")
        yield transport

    @state
    async def datagrams_that_wait():
        ours, peer = socket.socketpair(type=socket.SOCK_DGRAM)
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, sock=ours)
        for _ in range(1000):
            transport.sendto(bytes(1000))
        yield peer

    @state
    async def socket_that_is_read_no_more():
        ours, peer = pair()
        peer.send(b"xx")
        await loop.sock_recv(ours, 1)
        task = loop.create_task(loop.sock_recv(peer, 1))
        await asyncio.sleep(0)
        task.cancel()
        ours.send(b"x")
        yield ours

    @state
    async def reader_that_was_removed():
        ours, peer = pair()
        peer.send(b"x")
        loop.add_reader(ours, loop.remove_reader, ours)
        yield peer

    @state
    async def child_without_its_pipes():
        child = await asyncio.create_subprocess_exec(
            "sh", "-c", "exec <&- >&- 2>&-; exec sleep 20", stdin=-1, stdout=-1, stderr=-1)
        yield child
        child.kill()
        await child.wait()

    async def main(state):
        async for kept in state():
            await asyncio.sleep(0.03)
            before = loop.stats()["turns"]
            await asyncio.sleep(0.05)
            print(state.__name__, loop.stats()["turns"] - before)

    warnings.simplefilter("ignore")
    for state in states:
        loop = new_loop()
        loop.set_exception_handler(lambda *args: None)
        loop.run_until_complete(main(state))
        loop.close()
"""


@pytest.mark.tidewire   # counts the turns
@pytest.mark.parametrize("poller", POLLERS)
def test_idle_states(script, poller):
    out = dict(line.split() for line in script(STATES, env={"TIDEWIRE_POLLER": poller}))
    assert len(out) == 19
    assert {name: n for name, n in out.items() if int(n) > 10} == {}
