"""Streams: echoes over TCP and Unix sockets, bulk both ways, churn."""
import asyncio
import json
import os
import select
import socket

from .. import build
from ..case import SIZES, SWEEP, process, server


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    def connection_made(self, transport):
        self.transport = transport
        self.buffer = bytearray(256 * 1024)
        self.view = memoryview(self.buffer)

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.transport.write(bytes(self.view[:nbytes]))


class ViewEcho(BufferedEcho):
    """asyncio's own TLS loses bytes where get_buffer() returns a bytearray (cpython 156275)."""

    def get_buffer(self, sizehint):
        return self.view


class TwoWrites(Echo):
    def data_received(self, data):
        self.transport.write(data[:200])
        self.transport.write(data[200:])


class ThreeWrites(Echo):
    def data_received(self, data):
        third = len(data) // 3
        self.transport.write(data[:third])
        self.transport.write(data[third:2 * third])
        self.transport.write(data[2 * third:])


class TenWrites(Echo):
    def data_received(self, data):
        tenth = len(data) // 10
        for at in range(0, 10 * tenth, tenth):
            self.transport.write(data[at:at + tenth])
        self.transport.write(data[10 * tenth:])


class WriteLines(Echo):
    def data_received(self, data):
        third = len(data) // 3
        self.transport.writelines([data[:third], data[third:2 * third], data[2 * third:]])


class Sink(asyncio.Protocol):
    def data_received(self, data):
        pass


class BufferedSink(asyncio.BufferedProtocol):
    def __init__(self):
        self.buffer = bytearray(64 * 1024)

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        pass


class Source(asyncio.Protocol):
    chunk = bytes(64 * 1024)
    paused = False

    def connection_made(self, transport):
        self.transport = transport
        asyncio.get_running_loop().call_soon(self.pump)

    def pump(self):
        while not self.paused:
            self.transport.write(self.chunk)

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        self.pump()


class RelayEnd(asyncio.Protocol):
    """One side of a proxy: what comes goes to the other side, which may pause us."""

    def __init__(self, other=None, where=None):
        self.other, self.where, self.early = other, where, []

    def connection_made(self, transport):
        self.transport = transport
        if self.other:
            self.other.other = self
            transport.writelines(self.other.early)
        else:
            loop = asyncio.get_running_loop()
            self.task = loop.create_task(
                loop.create_connection(lambda: RelayEnd(self), *self.where))

    def data_received(self, data):
        if self.other:
            self.other.transport.write(data)
        else:
            self.early.append(data)

    def pause_writing(self):
        self.other.transport.pause_reading()

    def resume_writing(self):
        self.other.transport.resume_reading()

    def connection_lost(self, exc):
        if self.other:
            self.other.transport.close()


async def relay(env):
    """In front of the floor's echo server, which runs beside the load."""
    backend = env.beside([build.program("floor-echo"), "tcp"])
    port = json.loads(backend.stdout.readline())["port"]
    return await env.listen(lambda: RelayEnd(where=("127.0.0.1", port)))


async def protocol(env):
    return await env.listen(env.args.get("protocol", Echo))


async def streams(env):
    size = env.args["size"]

    async def handle(reader, writer):
        try:
            while True:
                writer.write(await reader.readexactly(size))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def factory():
        reader = asyncio.StreamReader(loop=env.loop, limit=max(2 * size, 2 ** 16))
        return asyncio.StreamReaderProtocol(reader, handle, loop=env.loop)

    return await env.listen(factory)


async def receive_stream(env):
    async def handle(reader, writer):
        while await reader.read(64 * 1024):
            pass
        writer.close()

    return await env.listen(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=env.loop), handle,
                                             loop=env.loop))


async def sock_calls(env):
    loop = env.loop
    if env.args.get("over") == "unix":
        path = os.path.join(env.directory, "sock.sock")
        listener, where = socket.socket(socket.AF_UNIX), {"unix": path}
        listener.bind(path)
    else:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        where = {"port": listener.getsockname()[1]}
    listener.listen(1024)
    listener.setblocking(False)

    async def handle(conn):
        if conn.family == socket.AF_INET:
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with conn:
            while data := await loop.sock_recv(conn, 64 * 1024):
                await loop.sock_sendall(conn, data)

    async def accept():
        tasks = set()
        while True:
            conn, _ = await loop.sock_accept(listener)
            task = loop.create_task(handle(conn))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    env.acceptor = loop.create_task(accept())
    return where


FLAVOURS = {
    "protocol": ("Protocol", protocol, Echo),
    "buffered": ("BufferedProtocol", protocol, BufferedEcho),
    "streams": ("streams", streams, None),
    "sock": ("sock_recv + sock_sendall", sock_calls, None),
}
def receive_rounds(socks, size, told):
    """A child's work: read from all; a byte to `told` whenever each got so much."""
    poll, got = select.epoll(), 0
    by_number = {sock.fileno(): sock for sock in socks}
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    while True:
        for number, _ in poll.poll():
            data = by_number[number].recv(65536)
            if not data:
                return
            got += len(data)
        if got >= size * len(socks):
            got -= size * len(socks)
            told.send(b"x")


def socket_pairs(over, n):
    if over == "unix":
        return [socket.socketpair() for _ in range(n)]
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        return [(socket.create_connection(listener.getsockname()), listener.accept()[0])
                for _ in range(n)]


def broadcast(env):
    """100 bytes to each connection in one callback; a child has the other ends."""
    loop, size = env.loop, 100
    socks = socket_pairs(env.args["over"], env.args["conns"])
    told, tells = socket.socketpair()
    if os.fork() == 0:
        for ours, _ in socks:
            ours.close()
        told.close()
        try:
            receive_rounds([theirs for _, theirs in socks], size, tells)
        finally:
            os._exit(0)
    tells.close()
    told.setblocking(False)

    async def connected():
        made = []
        for ours, theirs in socks:
            theirs.close()
            ours.setblocking(False)
            made.append((await loop.connect_accepted_socket(asyncio.Protocol, ours))[0])
        return made

    transports = loop.run_until_complete(connected())
    data = bytes(size)

    async def batch(n):
        for transport in transports:
            transport.write(data)
        await loop.sock_recv(told, 1)

    return env.measure(batch, len(transports))


OVER = {"tcp": "TCP", "unix": "Unix"}
FLOORS = {"tcp": ("floor-echo", "tcp"), "unix": ("floor-echo", "unix", "PATH")}

# (over, flavour, size): at least so many times uvloop
TARGETS = {
    ("tcp", "protocol", "1KiB"): 1.17, ("tcp", "protocol", "10KiB"): 1.15,
    ("tcp", "protocol", "100KiB"): 1.12, ("tcp", "protocol", "1MiB"): 1.05,
    ("tcp", "buffered", "1KiB"): 1.2, ("tcp", "buffered", "100KiB"): 1.1,
    ("tcp", "streams", "1KiB"): 1.25, ("tcp", "streams", "100KiB"): 1.3,
    ("tcp", "sock", "1KiB"): 2.0, ("unix", "protocol", "1KiB"): 1.1,
}


def named(name, title, conns, depth):
    """With what is not usual about the load."""
    if conns != 10:
        name = f"{name}/c{conns}"
        title = f"{title}, {conns:,} connection{'s' if conns > 1 else ''}"
    if depth != 1:
        name, title = f"{name}/x{depth}", f"{title}, {depth} in flight"
    return name, title


def echo(over, flavour, size, conns=10, depth=1, **kw):
    label, body, cls = FLAVOURS[flavour]
    name, title = named(f"{over}/{flavour}/{size}", f"{OVER[over]} echo {size}, {label}",
                        conns, depth)
    kw.setdefault("target", TARGETS.get((over, flavour, size)))
    server(name, title, body,
           ("echo", "--size", SIZES[size], "--conns", conns, "--depth", depth),
           args={"over": over, "size": SIZES[size], "protocol": cls},
           floor=FLOORS[over], **kw)


for _over in OVER:
    for _flavour in FLAVOURS:
        for _size in SIZES:
            echo(_over, _flavour, _size,
                 main=(_over, _flavour, _size) in TARGETS)

for _conns in SWEEP["tcp"]:
    if _conns != 10:
        echo("tcp", "protocol", "1KiB", conns=_conns, main=_conns in (1, 500, 5000),
             target=1.12 if _conns == 500 else None)
echo("unix", "protocol", "1KiB", conns=500, main=False)
echo("tcp", "protocol", "1KiB", depth=16, target=1.05)
echo("tcp", "streams", "1KiB", depth=16, target=1.8)

for _name, _title, _cls, _target in (
        ("two-writes", "answer in two writes", TwoWrites, 1.6),
        ("three-writes", "answer in three writes", ThreeWrites, 2.2),
        ("ten-writes", "answer in ten writes", TenWrites, 4),
        ("writelines", "answer by writelines of three", WriteLines, None)):
    server(f"tcp/{_name}", f"TCP 1KiB, {_title}", protocol,
           ("echo", "--size", 1023, "--conns", 10), args={"protocol": _cls},
           floor=FLOORS["tcp"], target=_target)

for _name, _title, _cls, _target in (
        ("protocol", "Protocol", Sink, 1.1),
        ("buffered", "BufferedProtocol", BufferedSink, 1.05)):
    server(f"tcp/receive/{_name}", f"TCP receive 64KiB chunks, {_title}", protocol,
           ("send", "--size", 64 * 1024, "--conns", 4), args={"protocol": _cls},
           floor=("floor-echo", "sink"), unit="64 KiB", target=_target)

server("tcp/receive/streams", "TCP receive 64KiB chunks, streams", receive_stream,
       ("send", "--size", 64 * 1024, "--conns", 4), floor=("floor-echo", "sink"), unit="64 KiB",
       target=1.3)
server("unix/receive/protocol", "Unix receive 64KiB chunks, Protocol", protocol,
       ("send", "--size", 64 * 1024, "--conns", 4), args={"over": "unix", "protocol": Sink},
       unit="64 KiB", main=False)
for _over in OVER:
    server(f"{_over}/send", f"{OVER[_over]} send 64KiB chunks", protocol,
           ("recv", "--size", 64 * 1024, "--conns", 1),
           args={"over": _over, "protocol": Source}, unit="64 KiB", main=_over == "tcp")
server("tcp/churn", "TCP connect, one message, close", protocol,
       ("churn", "--size", 1024, "--conns", 10), args={"protocol": Echo},
       floor=FLOORS["tcp"], unit="connection", target=1.12)
server("unix/churn", "Unix connect, one message, close", protocol,
       ("churn", "--size", 1024, "--conns", 10), args={"over": "unix", "protocol": Echo},
       floor=FLOORS["unix"], unit="connection", target=1.5)
# Half of what uvloop answers at its busiest on the machines of the tables: every loop gets the
# same load, which does not wait for it.
for _name, _title, _over, _conns, _rate in (
        ("tcp/latency/c1", "TCP 1KiB, 10,000/s on one connection", "tcp", 1, 10_000),
        ("tcp/latency", "TCP 1KiB, 50,000/s on 50 connections", "tcp", 50, 50_000),
        ("tls/latency", "TLS 1KiB, 20,000/s on 50 connections", "tls", 50, 20_000)):
    server(_name, f"{_title}, p99 of the latency", protocol,
           ("echo", "--size", 1024, "--conns", _conns, "--depth", 64, "--rate", _rate,
            *(["--tls"] if _over == "tls" else [])),
           args={"over": _over, "protocol": Echo}, clock="p99_us", unit="message", target=1.0)
for _size in ("1KiB", "100KiB"):
    server(f"tcp/relay/{_size}", f"TCP relay {_size}", relay,
           ("echo", "--size", SIZES[_size], "--conns", 10), target=1.0)
for _over in OVER:
    for _conns in (100, 1000, 8000):
        process(f"{_over}/broadcast/{_conns}",
                f"{OVER[_over]} 100 B to each of {_conns:,} connections in one callback", broadcast,
                args={"over": _over, "conns": _conns}, unit="write", main=False)
