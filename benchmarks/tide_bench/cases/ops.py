"""What a coroutine can await, and descriptors of one's own."""
import asyncio
import os
import socket
import subprocess
import sys
import time

from ..case import process, server

FILE_SIZE = 64 << 20


class Nothing(asyncio.Protocol):
    pass


def connect_literal(env):
    """Connects to a listener that nobody accepts from, and aborts."""
    loop = env.loop

    async def batch(n):
        with socket.create_server(("127.0.0.1", 0), backlog=n + 1) as listener:
            port = listener.getsockname()[1]
            for _ in range(n):
                transport, _ = await loop.create_connection(Nothing, "127.0.0.1", port)
                transport.abort()
            await asyncio.sleep(0)

    return env.measure(batch, 100)


def add_reader(env):
    """An echo over a socket pair with add_reader; both ends are ours."""
    loop = env.loop

    async def batch(n):
        here, there = socket.socketpair()
        here.setblocking(False)
        there.setblocking(False)
        done, left = loop.create_future(), n

        def answer():
            there.send(there.recv(4096))

        def ask():
            nonlocal left
            here.recv(4096)
            left -= 1
            if left:
                here.send(b"x" * 100)
            else:
                done.set_result(None)
        loop.add_reader(here, ask)
        loop.add_reader(there, answer)
        here.send(b"x" * 100)
        await done
        loop.remove_reader(here)
        loop.remove_reader(there)
        here.close()
        there.close()

    return env.measure(batch, 1000)


class Ping(asyncio.Protocol):
    def __init__(self, loop):
        self.left, self.done = 0, loop.create_future()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.left -= 1
        if self.left > 0:
            self.transport.write(data)
        elif not self.done.done():
            self.done.set_result(None)


class Pong(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


def ping_pong(env):
    """Two transports of one loop, 100 bytes back and forth."""
    loop = env.loop

    async def batch(n):
        here, there = socket.socketpair()
        await loop.create_connection(Pong, sock=there)
        transport, ping = await loop.create_connection(lambda: Ping(loop), sock=here)
        ping.left = n
        transport.write(b"x" * 100)
        await ping.done
        transport.close()
        await asyncio.sleep(0)

    return env.measure(batch, 1000)


def getaddrinfo(host):
    def body(env):
        async def batch(n):
            for _ in range(n):
                await env.loop.getaddrinfo(host, 80, type=socket.SOCK_STREAM)

        return env.measure(batch, 100)
    return body


class FileServer(asyncio.Protocol):
    def connection_made(self, transport):
        self.task = asyncio.get_running_loop().create_task(self.send(transport))

    async def send(self, transport):
        loop = asyncio.get_running_loop()
        with open(self.path, "rb") as file:
            while True:
                await loop.sendfile(transport, file, 0, FILE_SIZE, fallback=self.fallback)


async def sendfile(env):
    path = os.path.join(env.directory, "data")
    with open(path, "wb") as file:
        file.write(os.urandom(1 << 20) * (FILE_SIZE >> 20))
    FileServer.path, FileServer.fallback = path, env.args.get("fallback", False)

    def fatal(loop, context):
        print(repr(context.get("exception")), file=sys.stderr, flush=True)
        os._exit(1)     # a loop without sendfile

    env.loop.set_exception_handler(fatal)
    probe = await try_sendfile(env.loop, path)
    if probe:
        raise probe
    return await env.listen(FileServer)


async def try_sendfile(loop, path):
    """What a loop that has no sendfile raises; or None."""
    here, there = socket.socketpair()
    transport, _ = await loop.create_connection(Nothing, sock=here)
    try:
        with open(path, "rb") as file:
            await loop.sendfile(transport, file, 0, 100, fallback=False)
    except (NotImplementedError, RuntimeError) as exc:
        return exc
    finally:
        transport.abort()
        there.close()


IMPORTS = {"asyncio": "asyncio", "tide_bench": "aiofastnet, uvloop"}
TIMED = "import time; t = time.process_time(); import asyncio, {}; print(time.process_time() - t)"


def import_time(env):
    module = env.factory.partition(":")[0].partition(".")[0]
    command = [sys.executable, "-c", TIMED.format(IMPORTS.get(module, module))]
    # An installed package has its bytecode; a source tree gets it now.
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    subprocess.check_output(command, env=environ)
    ops, spent, began = 0, 0.0, time.perf_counter()
    while ops < 3 or time.perf_counter() - began < env.seconds:
        spent += float(subprocess.check_output(command, env=environ))
        ops += 1
    return {"ops": ops, "cpu": spent, "wall": time.perf_counter() - began}


process("ops/connect", "create_connection to a literal address", connect_literal, target=1.05)
process("ops/add_reader", "add_reader echo", add_reader, target=1.2)
process("ops/ping-pong", "two transports of one loop in ping-pong", ping_pong, target=1.15)
process("ops/getaddrinfo/literal", "getaddrinfo, a literal address", getaddrinfo("127.0.0.1"))
process("ops/getaddrinfo/name", "getaddrinfo, localhost", getaddrinfo("localhost"))
server("ops/sendfile", "sendfile 64MiB over TCP", sendfile,
       ("recv", "--size", FILE_SIZE, "--conns", 1), targets={"stock": 1.0}, unit="64 MiB")
# A loop comes on top of asyncio, which the stock one is: it may add a quarter.
process("import", "import asyncio and the loop", import_time, targets={"stock": 0.8})
