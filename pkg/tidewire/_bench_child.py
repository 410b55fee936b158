"""One loop's process in ``python -m tidewire bench``: takes commands, measures, serves.

A command is a line of JSON on stdin, an answer a line of JSON on stdout:
``{"measure": CASE, "seconds": S}`` gives operations and CPU seconds;
``{"serve": CASE}`` listens and gives the port, and from then on ``mark`` gives
the CPU seconds so far, until ``stop``.
"""

import asyncio
import importlib
import json
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

Loop = asyncio.AbstractEventLoop
Batch = Callable[[Loop, int], Awaitable[None]]


def nothing() -> None:
    pass


async def call_soon(loop: Loop, n: int) -> None:
    done = loop.create_future()
    left = n

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            done.set_result(None)

    loop.call_soon(step)
    await done


async def call_later(loop: Loop, n: int) -> None:
    for _ in range(n):
        loop.call_later(60, nothing).cancel()


async def threadsafe(loop: Loop, n: int) -> None:
    done = loop.create_future()
    for _ in range(n - 1):
        loop.call_soon_threadsafe(nothing)
    loop.call_soon_threadsafe(done.set_result, None)
    await done


async def sleep_zero(loop: Loop, n: int) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def tasks(loop: Loop, n: int) -> None:
    async def coroutine() -> None:
        pass

    await asyncio.gather(*[coroutine() for _ in range(n)])


BODY = b"Hello, world!\n" * 8

BATCHES: dict[str, Batch] = {
    "call_soon": call_soon, "call_later": call_later, "threadsafe": threadsafe,
    "sleep0": sleep_zero, "tasks": tasks,
}


class Echo(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class SplitEcho(Echo):
    """Answers in three writes, as a program does that writes head, body and end."""

    def data_received(self, data: bytes) -> None:
        third = len(data) // 3
        self.transport.write(data[:third])
        self.transport.write(data[third:2 * third])
        self.transport.write(data[2 * third:])


class DatagramEcho(asyncio.DatagramProtocol):
    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


async def stream_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            writer.write(await reader.readexactly(1024))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def serve_uvicorn(loop: Loop) -> tuple[int, Callable[[], None]]:
    import uvicorn

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200,
                    "headers": [(b"content-length", b"%d" % len(BODY))]})
        await send({"type": "http.response.body", "body": BODY})

    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False,
                                           lifespan="off", timeout_keep_alive=600))
    server.install_signal_handlers = nothing    # type: ignore[attr-defined]
    task = loop.create_task(server.serve(sockets=[listener]))
    return listener.getsockname()[1], task.cancel  # type: ignore[return-value]


async def serve_aiohttp(loop: Loop) -> tuple[int, Callable[[], None]]:
    from aiohttp import web

    async def hello(request: Any) -> Any:
        return web.Response(body=BODY)

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=600)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    await web.SockSite(runner, listener).start()
    return listener.getsockname()[1], lambda: loop.run_until_complete(runner.cleanup())


async def serve(loop: Loop, case: str, certificate: str) -> tuple[int, Callable[[], None]]:
    """Start the case's server; returns its port, and a function that stops it."""
    where: tuple[str, int] = ("127.0.0.1", 0)
    if case.startswith("udp"):
        transport, _ = await loop.create_datagram_endpoint(DatagramEcho, local_addr=where)
        return int(transport.get_extra_info("sockname")[1]), transport.abort
    if case == "uvicorn":
        return await serve_uvicorn(loop)
    if case == "aiohttp":
        return await serve_aiohttp(loop)
    if case.startswith("streams"):
        server = await asyncio.start_server(stream_echo, *where)
    else:
        context = None
        if case.startswith("tls"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
        factory = SplitEcho if case.startswith("split") else Echo
        server = await loop.create_server(factory, *where, ssl=context)
    return int(server.sockets[0].getsockname()[1]), server.close


def say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


def measure(loop: Loop, case: str, seconds: float) -> None:
    batch, n = BATCHES[case], 1000

    async def main() -> None:
        await batch(loop, n)
        operations, began, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - began < seconds:
            await batch(loop, n)
            operations += n
        say(operations=operations, cpu=time.process_time() - cpu)

    loop.run_until_complete(main())


def attend(loop: Loop) -> None:
    """In a thread of its own: answer marks until the stop."""
    for line in sys.stdin:
        if line.strip() == "mark":
            say(cpu=time.process_time())
        else:
            break
    loop.call_soon_threadsafe(loop.stop)


def serve_until_stopped(loop: Loop, case: str, certificate: str) -> None:
    port, end = loop.run_until_complete(serve(loop, case, certificate))
    thread = threading.Thread(target=attend, args=[loop])
    thread.start()
    say(port=port)
    loop.run_forever()
    thread.join()
    end()
    for task in asyncio.all_tasks(loop):
        task.cancel()
        loop.run_until_complete(asyncio.wait([task]))


def obey(factory: Callable[[], Loop], command: dict[str, Any]) -> None:
    loop = factory()
    try:
        if "serve" in command:
            serve_until_stopped(loop, command["serve"], command["certificate"])
        else:
            measure(loop, command["measure"], command["seconds"])
    finally:
        loop.close()


def main(factory: str, core: str) -> None:
    module, _, name = factory.partition(":")
    make: Callable[[], Loop] = getattr(importlib.import_module(module), name)
    if core:
        os.sched_setaffinity(0, {int(core)})
    bytes(4 << 20)  # freed at once: from here on malloc is as in a service that runs for long
    say(version=getattr(sys.modules[module], "__version__", ""))
    for line in sys.stdin:
        try:
            obey(make, json.loads(line))
        except Exception as exc:
            say(error=f"{type(exc).__name__}: {exc}"[:200])


if __name__ == "__main__":
    main(*sys.argv[1:])
