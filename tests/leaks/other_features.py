"""Datagrams, pipes, subprocesses, TLS and servers, again and again."""
import asyncio
import os
import socket
import ssl
import tempfile

from features import feature
import support
from support import Recorder


# -- the rest of the family -------------------------------------------------

class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.received = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, address):
        if not self.received.done():
            self.received.set_result((data, address))


@feature(20)
async def datagrams():
    loop = asyncio.get_running_loop()
    one, first = await loop.create_datagram_endpoint(
        Datagrams, local_addr=("127.0.0.1", 0))
    two, second = await loop.create_datagram_endpoint(
        Datagrams, remote_addr=one.get_extra_info("sockname"))
    two.sendto(b"x")
    data, address = await first.received
    one.sendto(data, address)
    await second.received
    one.close()
    two.close()
    await support.turns(2)


class Pausing(asyncio.DatagramProtocol):
    """Pauses after each datagram; notes all, and errors."""

    def __init__(self):
        self.count = self.errors = 0

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.count += 1
        self.transport.pause_reading()

    def error_received(self, exc):
        self.errors += 1


@feature(20)
async def datagrams_in_batches():
    loop = asyncio.get_running_loop()
    one, first = await loop.create_datagram_endpoint(
        Pausing, local_addr=("127.0.0.1", 0))
    two, second = await loop.create_datagram_endpoint(
        Pausing, remote_addr=one.get_extra_info("sockname"))
    for size in 10, 10, 5, 20, 30000, 1:
        two.sendto(b"x" * size)
        two.sendto(bytearray(size))
    while first.count < 12:
        one.resume_reading()
        await asyncio.sleep(0)
    two.sendto(b"x" * 70000)        # too long
    two.sendto(b"x")
    assert second.errors == 1
    one.abort()
    two.sendto(b"dropped")
    two.abort()
    two.sendto(b"lost")
    await support.turns(2)


@feature(20)
async def datagrams_that_fail():
    loop = asyncio.get_running_loop()
    one, first = await loop.create_datagram_endpoint(
        Pausing, local_addr=("127.0.0.1", 0))
    for data, address in (
            (b"x", ("255.255.255.255", 9)), (b"y", ("localhost", 9)),
            (b"z", ("127.0.0.1", 9)), ("str", None)):
        try:
            one.sendto(data, address)
        except TypeError:
            pass
    while first.errors < 1:
        await asyncio.sleep(0)
    one.close()
    await support.turns(2)


@feature(20)
async def datagrams_that_wait():
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reader:
        reader.bind("")             # the kernel gives it a name
        address = reader.getsockname()
        one, first = await loop.create_datagram_endpoint(
            Pausing, family=socket.AF_UNIX)
        for _ in range(600):
            one.sendto(b"x" * 10, address)
            if one.get_write_buffer_size():
                break
        one.sendto(b"more", address)
        one.abort()
        await support.turns(2)


@feature(10)
async def pipes():
    loop = asyncio.get_running_loop()
    r, w = os.pipe()
    reader, protocol = await loop.connect_read_pipe(
        Recorder, os.fdopen(r, "rb", 0))
    writer, other = await loop.connect_write_pipe(
        Recorder, os.fdopen(w, "wb", 0))
    writer.write(b"x")
    await protocol.got(b"x")
    writer.close()
    await protocol.saw("lost")
    await other.saw("lost")


@feature(5)
async def subprocesses():
    process = await asyncio.create_subprocess_exec(
        "/bin/cat", stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate(b"hello")
    assert out == b"hello"


@feature(20)
async def pipes_ended_badly():
    loop = asyncio.get_running_loop()
    for end in "abort", "close", "peer":
        r, w = os.pipe()
        _, one = await loop.connect_read_pipe(Recorder, os.fdopen(r, "rb", 0))
        writer, two = await loop.connect_write_pipe(
            Recorder, os.fdopen(w, "wb", 0))
        writer.write(b"x")
        writer.write(b"q" * 200000)
        if end != "peer":
            getattr(writer, end)()
        one.transport.close()
        await one.saw("lost")
        await two.saw("lost")
        for _ in range(7):
            two.transport.write(b"late")


@feature(10)
async def subprocesses_killed():
    loop = asyncio.get_running_loop()
    for how in "", "thread":
        os.environ["TIDEWIRE_CHILD_WATCHER"] = how
        process = await asyncio.create_subprocess_exec(
            "/bin/sleep", "100", stdin=asyncio.subprocess.PIPE)
        process.kill()
        await process.wait()
        process._transport.close()
    del os.environ["TIDEWIRE_CHILD_WATCHER"]
    try:
        await loop.subprocess_exec(Recorder, "/no/such/program")
    except FileNotFoundError:
        pass


@feature(10)
async def sendfile():
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 100_000)
        file.seek(0)
        one, two = await support.pair("unix")
        await loop.sendfile(one.transport, file)
        await two.got(100_000)
        await support.close(one, two)


CERTIFICATES = {}


def certificates():
    if not CERTIFICATES:
        import trustme
        authority = trustme.CA()
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(server)
        client = ssl.create_default_context()
        authority.configure_trust(client)
        CERTIFICATES.update(server=server, client=client)
    return CERTIFICATES["server"], CERTIFICATES["client"]


class PausingAtOnce(asyncio.Protocol):
    """It stops reading at the first data, with more of it decrypted or at hand."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.pause_reading()


@feature(6)
async def tls_aborted_with_unread_bytes():
    server_context, client_context = certificates()
    loop = asyncio.get_running_loop()
    a, b = support.socketpair()
    (ours, _), (theirs, _) = await asyncio.gather(
        loop.create_connection(PausingAtOnce, sock=a, ssl=client_context, server_hostname="localhost"),
        loop.connect_accepted_socket(asyncio.Protocol, b, ssl=server_context))
    theirs.write(bytes(500_000))
    await support.io_turns(3)
    ours.abort()
    theirs.abort()
    await support.io_turns(2)


@feature(8)
async def tls():
    server_context, client_context = certificates()

    async def handle(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0,
                                        ssl=server_context)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=client_context, server_hostname="localhost")
    writer.write(b"hello\n")
    assert await reader.readline() == b"hello\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    await support.io_turns(2)
