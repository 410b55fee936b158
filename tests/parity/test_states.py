"""What transports, servers and operations show of themselves in each of their states, as asyncio's."""
import asyncio
import contextlib
import os
import re
import socket

import pytest

from support import socketpair


def plain(value):
    text = repr(value)
    text = re.sub(r"fd=\d+|bufsize=[1-9]\d*|0x[0-9a-f]+", lambda m: m[0].split("=")[0] + "=N",
                  text)
    return re.sub(r"(_Selector|_Unix)(\w+Transport)", r"\2", text)


@pytest.fixture
def both(make_loop):
    """both(coroutine function of a loop): what it noted on asyncio's loop, and on ours."""
    def both(function):
        results = []
        for loop in asyncio.SelectorEventLoop(), make_loop():
            with contextlib.closing(loop):
                results.append(loop.run_until_complete(asyncio.wait_for(function(loop), 10)))
        return results
    return both


class Protocol(asyncio.Protocol):
    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc):
        self.lost.set_result(exc)


# The first 3.11s have no is_reading() of pipes and of datagrams.
WITHOUT_IS_READING = tuple(
    name for name, cls in [("ReadPipe", asyncio.unix_events._UnixReadPipeTransport),
                           ("Datagram", asyncio.selector_events._SelectorDatagramTransport)]
    if cls.is_reading is asyncio.ReadTransport.is_reading)


def shown(transport):
    out = [plain(transport), transport.is_closing()]
    for name in "is_reading", "get_write_buffer_size", "get_write_buffer_limits", "can_write_eof":
        method = getattr(transport, name, None)
        if name == "is_reading" and any(kind in type(transport).__name__
                                        for kind in WITHOUT_IS_READING):
            method = None
        value = "absent"
        if method is not None:
            try:
                value = method()
            except Exception as exc:
                value = repr(exc)
        out.append(value if name != "get_write_buffer_size" else bool(value))
    return out


async def stream_states(loop):
    notes = []
    ours, other = socketpair()
    other.setblocking(False)
    transport, protocol = await loop.create_connection(Protocol, sock=ours)
    with other:
        notes.append(shown(transport))
        transport.pause_reading()
        notes.append(shown(transport))
        transport.pause_reading()
        notes.append(shown(transport))
        transport.resume_reading()
        transport.resume_reading()
        notes.append(shown(transport))
        transport.write(bytes(4 << 20))         # more than the socket takes
        notes.append(shown(transport))
        transport.pause_reading()
        notes.append(shown(transport))
        transport.resume_reading()
        transport.close()
        notes.append(shown(transport))
        left = 4 << 20
        while left:
            left -= len(await loop.sock_recv(other, 1 << 20))
        await protocol.lost
        notes.append(shown(transport))
    return notes


async def eof_states(loop):
    notes = []
    ours, other = socketpair()
    transport, protocol = await loop.create_connection(Protocol, sock=ours)
    with other:
        transport.write_eof()
        notes.append(shown(transport))
        transport.abort()
        notes.append(shown(transport))
        await protocol.lost
        notes.append(shown(transport))
        transport.close()
        transport.abort()
        notes.append(shown(transport))
    return notes


async def pipe_states(loop):
    notes = []
    r, w = os.pipe()
    read, reads = await loop.connect_read_pipe(Protocol, os.fdopen(r, "rb", 0))
    write, writes = await loop.connect_write_pipe(Protocol, os.fdopen(w, "wb", 0))
    notes += [shown(read), shown(write)]
    read.pause_reading()
    notes.append(shown(read))
    write.write(bytes(1 << 20))
    notes.append(shown(write))
    write.write_eof()
    notes.append(shown(write))
    read.resume_reading()
    notes.append(shown(read))
    await writes.lost
    notes.append(shown(write))
    await reads.lost
    notes.append(shown(read))
    return notes


async def closed_pipe_states(loop):
    notes = []
    r, w = os.pipe()
    read, reads = await loop.connect_read_pipe(Protocol, os.fdopen(r, "rb", 0))
    write, writes = await loop.connect_write_pipe(Protocol, os.fdopen(w, "wb", 0))
    read.close()
    notes += [shown(read), shown(write)]
    await reads.lost
    notes.append(shown(read))
    await writes.lost           # by EPIPE
    return [*notes, shown(write), repr(await writes.lost)]


async def datagram_states(loop):
    notes = []
    for where in {"local_addr": ("127.0.0.1", 0)}, {"remote_addr": ("127.0.0.1", 9)}:
        transport, protocol = await loop.create_datagram_endpoint(Protocol, **where)
        notes.append(shown(transport))
        transport.close()
        notes.append(shown(transport))
        await protocol.lost
        notes.append(shown(transport))
    return notes


async def server_states(loop):
    notes = []
    server = await loop.create_server(Protocol, "127.0.0.1", 0, start_serving=False)

    def note():
        notes.append((re.sub(r"\d{4,}", "N", plain(server)), server.is_serving(), len(server.sockets)))

    note()
    await server.start_serving()
    note()
    server.close()
    note()
    await server.wait_closed()
    note()
    server.close()
    note()
    try:
        await server.start_serving()
    except Exception as exc:
        notes.append(repr(exc))
    return notes


STATES = [stream_states, eof_states, pipe_states, closed_pipe_states, datagram_states, server_states]


@pytest.mark.parametrize("states", STATES, ids=lambda f: f.__name__)
def test_states(both, states, logs):
    stock, ours = both(states)
    logs.take()
    assert ours == stock


async def operation_states(loop):
    """cr_await, cr_running and the names of a socket operation."""
    notes = []

    class Asks(socket.socket):
        def recv(self, n):
            notes.append((coro.cr_running, coro.cr_await is None))
            return super().recv(n)

    a, other = socketpair()
    with a, other, Asks(fileno=a.detach()) as ours:
        ours.setblocking(False)
        coro = loop.sock_recv(ours, 10)
        notes.append((coro.__name__, coro.__qualname__.split(".")[-1], coro.cr_running, coro.cr_await,
                      coro.cr_origin, asyncio.iscoroutine(coro)))
        future = coro.send(None)
        notes.append((coro.cr_running, coro.cr_await is not None, future.done(),
                      future._asyncio_future_blocking))
        other.send(b"data")
        while not future.done():
            await asyncio.sleep(0)
        try:
            coro.send(None)
        except StopIteration as exc:
            notes.append(exc.value)
        notes.append((coro.cr_running, coro.cr_await))
    return notes


def test_an_operation(both):
    stock, ours = both(operation_states)
    assert ours == stock
