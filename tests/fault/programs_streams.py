"""Programs with connections: TCP, Unix, TLS, streams, accepting, sendfile."""
import asyncio
import contextlib
import os
import resource
import socket
import tempfile

from fault.programs import address_of, program
from fault.protocols import (
    DATA, BufferedClient, BufferedEcho, Checked, Client, Corrupt, Echo, Sink, abort_all, ended,
)
from parity import certificates


def contexts():
    return certificates.contexts()


# -- an echo --------------------------------------------------------------------------

async def echo(client, server=Echo, *, unix=False, server_ssl=None, **options):
    """A client sends DATA, by each method, and wants it back."""
    loop = asyncio.get_running_loop()
    served = []

    def made():
        protocol = server()
        served.append(protocol)
        return protocol

    with contextlib.ExitStack() as stack:
        if unix:
            path = stack.enter_context(tempfile.TemporaryDirectory()) + "/s"
            listener = await loop.create_unix_server(made, path, ssl=server_ssl)
        else:
            listener = await loop.create_server(made, "127.0.0.1", 0, ssl=server_ssl)
        stack.callback(listener.close)
        stack.callback(abort_all, served)
        if unix:
            transport, protocol = await loop.create_unix_connection(client, path, **options)
        else:
            transport, protocol = await loop.create_connection(client, *address_of(listener), **options)
        stack.callback(transport.abort)
        for name in "socket", "sockname", "peername":
            transport.get_extra_info(name)
        await protocol.lost
        stack.close()
        await ended(protocol, *served)
    if protocol.exc is not None:
        raise protocol.exc
    if bytes(protocol.got) != DATA:
        raise ConnectionError(f"lost after {len(protocol.got)} bytes")


async def tls_echo(client, server=Echo, **options):
    server_ssl, client_ssl = contexts()
    await echo(client, server, ssl=client_ssl, server_hostname="localhost", server_ssl=server_ssl,
               **options)


@contextlib.contextmanager
def memorybio():
    """TLS by the other engine: over the ssl module's MemoryBIO."""
    os.environ["TIDEWIRE_TLS"] = "memorybio"
    try:
        yield
    finally:
        del os.environ["TIDEWIRE_TLS"]


@program
async def tcp(ctx):
    await echo(Client)


@program
async def buffered(ctx):
    await echo(BufferedClient, BufferedEcho)


@program
async def unix(ctx):
    await echo(Client, unix=True)


@program
async def tls(ctx):
    await tls_echo(Client)


@program
async def tls_buffered(ctx):
    await tls_echo(BufferedClient, BufferedEcho)


@program
async def tls_unix(ctx):
    await tls_echo(Client, unix=True)


@program
async def tls_memorybio(ctx):
    with memorybio():
        await tls_echo(Client)


# -- streams --------------------------------------------------------------------------

async def close_writer(writer):
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@program
async def streams(ctx):
    async def handle(reader, writer):
        try:
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    writer = None
    try:
        reader, writer = await asyncio.open_connection(*address_of(server))
        for line in b"one" * 100 + b"\n", b"two" * 10000 + b"\n":
            writer.write(line)
            await writer.drain()
            got = await reader.readline()
            if got != line:
                if not line.startswith(got):
                    raise Corrupt("a line is another")
                raise ConnectionError("end in a line")
        writer.write(b"last\n")
        writer.write_eof()
        rest = await reader.read()
        if not b"last\n".startswith(rest):
            raise Corrupt("the rest")
        if rest != b"last\n":
            raise ConnectionError("end before the rest")
    finally:
        if writer is not None:
            await close_writer(writer)
        server.close()


async def upgraded():
    server_ssl, client_ssl = contexts()

    async def handle(reader, writer):
        try:
            await reader.readline()
            writer.write(b"ready\n")
            await writer.drain()
            await writer.start_tls(server_ssl)
            while data := await reader.read(1000):
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    writer = None
    try:
        reader, writer = await asyncio.open_connection(*address_of(server))
        writer.write(b"STARTTLS\n")
        if await reader.readline() != b"ready\n":
            raise ConnectionError("no answer")
        await writer.start_tls(client_ssl, server_hostname="localhost")
        writer.write(DATA[:20000])
        try:
            got = await reader.readexactly(20000)
        except asyncio.IncompleteReadError as exc:
            if not DATA.startswith(exc.partial):
                raise Corrupt("behind start_tls") from None
            raise ConnectionError("ended") from None
        if got != DATA[:20000]:
            raise Corrupt("behind start_tls")
    finally:
        if writer is not None:
            writer.transport.abort()
        server.close()
    await asyncio.sleep(0)


@program
async def start_tls(ctx):
    await upgraded()


@program
async def start_tls_memorybio(ctx):
    with memorybio():
        await upgraded()


# -- accepting ------------------------------------------------------------------------

class Greeter(Checked, asyncio.Protocol):
    def connection_made(self, transport):
        super().connection_made(transport)
        transport.write(b"hello")
        transport.close()


def connecting_socket(address):
    sock = socket.socket()
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError, InterruptedError):
        sock.connect(address)
    return sock


async def answers_of(clients):
    """What each client reads; the loop's servers rest for a second when descriptors lack."""
    loop = asyncio.get_running_loop()
    answers = {}
    done = loop.create_future()

    def readable(sock):
        try:
            answers[sock] = sock.recv(100)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            answers[sock] = type(exc).__name__.encode()
        loop.remove_reader(sock)
        if len(answers) == len(clients):
            done.set_result(None)

    for sock in clients:
        loop.add_reader(sock, readable, sock)
    await asyncio.wait_for(done, 3)
    return list(answers.values())


@program
async def accept(ctx):
    """Twenty connections wait when the server looks; each gets its answer or is closed."""
    loop = asyncio.get_running_loop()
    served, clients = [], []

    def made():
        served.append(Greeter("server"))
        return served[-1]

    server = await loop.create_server(made, "127.0.0.1", 0)
    try:
        for _ in range(20):
            clients.append(connecting_socket(address_of(server)))
        answers = await answers_of(clients)
        for answer in answers:
            if answer not in (b"hello", b"", b"ConnectionResetError"):
                raise Corrupt(repr(answer))
        if answers.count(b"hello") != 20:
            raise ConnectionError(f"{answers.count(b'hello')} answers")
    finally:
        for sock in clients:
            loop.remove_reader(sock)
            sock.close()
        server.close()
        abort_all(served)
        await ended(*served)


@program
async def accept_emfile(ctx):
    """The descriptors end while connections wait; when there are some again, all are served."""
    loop = asyncio.get_running_loop()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    served, clients = [], []

    def made():
        served.append(Greeter("server"))
        return served[-1]

    server = await loop.create_server(made, "127.0.0.1", 0)
    try:
        for _ in range(3):
            clients.append(connecting_socket(address_of(server)))
        highest = max(sock.fileno() for sock in clients)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        fillers = []
        try:
            with contextlib.suppress(OSError):
                while True:
                    fillers.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            for _ in range(3):
                await asyncio.sleep(0.001)
        finally:
            for fd in fillers:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        answers = await answers_of(clients)
        if answers.count(b"hello") != 3:
            raise ConnectionError(f"answers: {answers}")
    finally:
        for sock in clients:
            loop.remove_reader(sock)
            sock.close()
        server.close()
        abort_all(served)
        await ended(*served)


# -- sendfile -------------------------------------------------------------------------

async def transport_sends_file(file):
    loop = asyncio.get_running_loop()
    received = []

    def made():
        received.append(Sink("server"))
        return received[-1]

    with contextlib.ExitStack() as stack:
        server = await loop.create_server(made, "127.0.0.1", 0)
        stack.callback(server.close)
        transport, protocol = await loop.create_connection(lambda: Sink("client"), *address_of(server))
        stack.callback(transport.abort)
        transport.write(b"head")
        n = await loop.sendfile(transport, file, 10, 300000)
        if n != 300000:
            raise Corrupt(f"sendfile() says {n}")
        transport.write(b"tail")
        transport.close()
        await protocol.lost
        while not received:
            await asyncio.sleep(0.001)
        await received[0].lost
    whole = b"head" + (DATA * 5)[10:300010] + b"tail"
    if not whole.startswith(bytes(received[0].got)):
        raise Corrupt("sendfile")
    if len(received[0].got) != len(whole):
        raise received[0].exc or protocol.exc or ConnectionError("sendfile() ended early")


async def socket_sends_file(file):
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        here, there = socket.socketpair()
        stack.enter_context(here)
        stack.enter_context(there)
        here.setblocking(False)
        there.setblocking(False)
        sending = loop.create_task(loop.sock_sendfile(here, file, 0, len(DATA) * 5))
        stack.callback(sending.cancel)
        got = b""
        while len(got) < len(DATA) * 5:
            if sending.done():
                sending.result()
            got += await asyncio.wait_for(loop.sock_recv(there, 50000), 1)
        if await sending != len(DATA) * 5 or got != DATA * 5:
            raise Corrupt("sock_sendfile")


@program
async def sendfile(ctx):
    with tempfile.TemporaryFile() as file:
        file.write(DATA * 5)
        file.flush()
        await transport_sends_file(file)
        await socket_sends_file(file)
