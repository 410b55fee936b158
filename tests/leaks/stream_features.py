"""Streams of bytes, again and again."""
import asyncio
import socket
import tempfile

from features import fail, feature
import support
from support import BufferedRecorder, Recorder


# -- streams of bytes -------------------------------------------------------

async def echo_over(kind, make=Recorder, size=1000):
    one, two = await support.pair(kind, make, lambda: Recorder(
        {"data": lambda p, d: p.transport.write(d)}))
    for i in range(1, 4):
        one.transport.write(b"x" * size)
        await one.got(i * size)
    one.transport.get_extra_info("socket")
    one.transport.get_extra_info("peername")
    one.transport.get_extra_info("nonsense", object())
    repr(one.transport)
    one.transport.close()
    await one.saw("lost")
    await two.saw("lost")


for _kind in support.KINDS:
    feature(20, f"echo_{_kind}")(lambda kind=_kind: echo_over(kind))
    feature(10, f"echo_big_{_kind}")(
        lambda kind=_kind: echo_over(kind, size=300_000))
    feature(20, f"echo_buffered_{_kind}")(
        lambda kind=_kind: echo_over(kind, BufferedRecorder))


@feature(20)
async def server_and_connections():
    loop = asyncio.get_running_loop()
    made = []

    def factory():
        made.append(Recorder({"data": lambda p, d: p.transport.write(d)}))
        return made[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for _ in range(3):
        transport, protocol = await loop.create_connection(
            Recorder, "127.0.0.1", port)
        transport.write(b"x")
        await protocol.got(b"x")
        transport.close()
        await protocol.saw("lost")
    for protocol in made:
        await protocol.saw("lost")
    server.close()
    await server.wait_closed()


@feature(20)
async def unix_server():
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory(prefix="tw-") as folder:
        server = await loop.create_unix_server(Recorder, folder + "/s")
        transport, protocol = await loop.create_unix_connection(
            Recorder, folder + "/s")
        await support.close(protocol)
        await support.io_turns(1)
        server.close()
        await server.wait_closed()


@feature(20)
async def refused_and_cancelled():
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    try:
        await loop.create_connection(Recorder, "127.0.0.1", port)
    except OSError:
        pass
    for steps in range(3):
        task = asyncio.ensure_future(
            loop.create_connection(Recorder, "127.0.0.1", port))
        await support.turns(steps)
        task.cancel()
        try:
            await task
        except (asyncio.CancelledError, OSError):
            pass
    try:
        await loop.create_connection(Recorder, sock=5)
    except Exception:
        pass


@feature(20)
async def bad_factories():
    loop = asyncio.get_running_loop()
    a, b = support.socketpair()
    try:
        await loop.create_unix_connection(fail, sock=a)
    except ZeroDivisionError:
        pass
    a.close()
    b.close()
    server = await loop.create_server(fail, "127.0.0.1", 0)
    client = socket.create_connection(server.sockets[0].getsockname())
    await support.io_turns(2)
    client.close()
    server.close()
    await support.io_turns(1)


@feature(20)
async def flow_control():
    one, two = await support.pair("unix")
    two.transport.pause_reading()
    size = support.fill(one.transport)
    one.transport.write(bytearray(100_000))
    one.transport.write(memoryview(b"x" * 1000))
    one.transport.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
    two.transport.resume_reading()
    await two.got(size + 101_003)
    await one.saw("resume")
    one.transport.set_write_buffer_limits(5, 1)
    one.transport.write_eof()
    await two.saw("eof")
    await support.close(one, two)


@feature(20)
async def aborted_with_a_queue():
    one, two = await support.pair("unix")
    two.transport.pause_reading()
    support.fill(one.transport)
    one.transport.write(bytearray(100_000))
    one.transport.writelines([b"x" * 1000] * 100)
    await support.close(one, two)


@feature(20)
async def half_closed():
    one, two = await support.pair(
        "tcp", lambda: Recorder({"eof": lambda p: True}))
    two.transport.write(b"x")
    two.transport.write_eof()
    await one.saw("eof")
    one.transport.write(b"x")
    await two.got(b"x")
    one.transport.close()
    await one.saw("lost")
    await two.saw("lost")


@feature(20)
async def resets():
    for _ in range(3):
        transport, protocol, peer = await support.connected("tcp")
        support.reset(peer)
        await protocol.saw("lost")
        transport.write(b"late")


@feature(20)
async def switched_protocols():
    transport, first, peer = await support.connected("unix")
    for make in (BufferedRecorder, Recorder) * 3:
        protocol = make()
        protocol.transport = transport
        transport.set_protocol(protocol)
        peer.send(b"x")
        await protocol.got(b"x")
    await support.close(protocol)
    peer.close()


def raising(place):
    async def body():
        make = BufferedRecorder if "buffer" in place else Recorder
        transport, protocol, peer = await support.connected(
            "unix", lambda: make({place: fail}))
        if place in ("pause", "resume"):
            total = support.fill(transport)
            transport.write(b"x" * 100_000)
            if place == "resume":
                await support.recv_exactly(peer, total + 100_000)
        else:
            peer.send(b"x")
        peer.close()
        await support.io_turns(2)
        transport.abort()
        await support.turns(3)
    return body


for _place in ("made", "data", "eof", "lost", "pause", "resume",
               "get_buffer", "buffer_updated"):
    feature(20, f"raising_{_place}")(raising(_place))


@feature(20)
async def transports_dropped():
    """Paused, in a cycle with their protocol, never closed."""
    transport, protocol, peer = await support.connected("unix")
    transport.pause_reading()
    await support.turns(2)
    peer.close()


@feature(20)
async def closed_in_callbacks():
    for place in ("made", "data", "eof"):
        for how in ("close", "abort"):
            transport, protocol, peer = await support.connected(
                "unix", lambda: Recorder(
                    {place: lambda p, *a: getattr(p.transport, how)()}))
            try:
                peer.send(b"x")
            except OSError:
                pass
            peer.close()
            await protocol.saw("lost")


@feature(20)
async def wrong_writes():
    one, two = await support.pair("unix")
    for data in ("text", None, 5):
        for method in (one.transport.write, one.transport.writelines):
            try:
                method(data)
            except TypeError:
                pass
    try:
        one.transport.writelines([b"x", "text"])
    except TypeError:
        pass
    one.transport.write_eof()
    try:
        one.transport.write(b"x")
    except RuntimeError:
        pass
    await support.close(one, two)


@feature(20)
async def streams():
    async def handle(reader, writer):
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello\n")
    assert await reader.read() == b"HELLO\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    await support.io_turns(1)
