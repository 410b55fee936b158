"""A typed server and its client, for the type checkers; it also runs."""

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import assert_type

import tidewire


class Echo(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)


class Names(asyncio.DatagramProtocol):
    def __init__(self, name: str) -> None:
        self.name = name


class MyLoop(tidewire.Loop):
    """A loop of the program's own."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def time(self) -> float:
        return super().time()


def length(text: str) -> int:
    return len(text)


def factory() -> asyncio.AbstractEventLoop:
    return tidewire.new_event_loop()


async def with_any_loop(loop: asyncio.AbstractEventLoop) -> int:
    """As typeshed types the methods of asyncio's loops, also once it is known which loop it is."""
    if not isinstance(loop, tidewire.Loop):
        raise TypeError(loop)
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    assert_type(server, asyncio.Server)
    port: int = server.sockets[0].getsockname()[1]

    transport, protocol = await loop.create_connection(Echo, "127.0.0.1", port)
    assert_type(transport, asyncio.Transport)
    assert_type(protocol, Echo)
    transport.write(b"x")

    endpoint, names = await loop.create_datagram_endpoint(
        lambda: Names("one"), local_addr=("127.0.0.1", 0))
    assert_type(endpoint, asyncio.DatagramTransport)
    assert_type(names, Names)
    endpoint.close()

    assert_type(await loop.run_in_executor(None, length, "text"), int)
    assert_type(loop.time(), float)
    assert_type(loop.call_soon(print, "soon"), asyncio.Handle)
    handle = loop.call_later(5, print, "late")
    assert_type(handle, asyncio.TimerHandle)
    handle.cancel()
    task = loop.create_task(asyncio.sleep(0, "slept"), name="a task")
    assert_type(task, asyncio.Task[str])
    assert_type(await task, str)

    found = await loop.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)
    family: socket.AddressFamily = found[0][0]
    one, two = socket.socketpair()
    assert family == socket.AF_INET
    for sock in (one, two):
        sock.setblocking(False)
    loop.add_reader(one, print, "readable")
    assert_type(loop.remove_reader(one), bool)
    await loop.sock_sendall(one, b"data")
    data = await loop.sock_recv(two, 100)
    assert_type(data, bytes)
    assert_type(await loop.sock_recv_into(two, bytearray()), int)
    assert_type(await asyncio.wait_for(loop.sock_recv_into(one, bytearray()), 1), int)
    one.close()
    two.close()

    loop.add_signal_handler(signal.SIGTERM, print, "terminated")
    assert_type(loop.remove_signal_handler(signal.SIGTERM), bool)
    with ThreadPoolExecutor() as pool:
        assert_type(await loop.run_in_executor(pool, len, b"four"), int)

    with tidewire.watch(loop, 0.1, lambda report: assert_type(report.line, int | None)) as watch:
        assert_type(watch, tidewire.Watch)
    stats = loop.stats()
    assert_type(stats["turns"], int)
    assert_type(stats["transports"]["tcp"]["bytes_in"], int)
    assert_type(stats["histograms"]["lag"]["counts"], tuple[int, ...])
    transport.close()
    server.close()
    return int(loop.stats()["callbacks"])


async def not_run(loop: tidewire.Loop, transport: asyncio.Transport) -> None:
    context = ssl.create_default_context()
    assert_type(await loop.start_tls(transport, Echo(), context), asyncio.Transport | None)
    assert_type((await loop.create_unix_connection(Echo, "/run/x", ssl=context))[1], Echo)
    assert_type(await loop.create_unix_server(Echo, "/run/x"), asyncio.Server)
    child, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, "true")
    assert_type(child, asyncio.SubprocessTransport)


async def main() -> str:
    loop = asyncio.get_running_loop()
    count = await with_any_loop(loop)
    logging.getLogger(__name__).info("%d callbacks", count)
    return type(loop).__name__


if __name__ == "__main__":
    assert_type(tidewire.new_event_loop(), tidewire.Loop)
    assert_type(tidewire.Loop(), tidewire.Loop)
    with contextlib.closing(MyLoop("mine")) as mine:
        assert_type(mine, MyLoop)
        assert_type(mine.run_until_complete(main()), str)
    assert_type(tidewire.run(main()), str)
    assert_type(tidewire.run(main(), debug=True, loop_factory=factory), str)
    with asyncio.Runner(loop_factory=tidewire.new_event_loop) as runner:
        assert_type(runner.run(main()), str)
        assert_type(runner.get_loop(), asyncio.AbstractEventLoop)
    with asyncio.Runner(loop_factory=tidewire.Loop) as runner:
        print(runner.run(main()))
