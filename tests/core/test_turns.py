"""How many turns it takes until the loop serves what has become ready: as many as with asyncio.

What a callback does (a write, a close, a signal) can make a descriptor ready at once, on the
same machine.  asyncio asks for that between any two generations of callbacks, and tests of
programs count on it: "write; await sleep(0) twice; look what came".
"""
import asyncio
import contextlib
import os
import signal
import socket

import pytest

WAYS = {}
# asyncio makes a task for each connection that it accepts.
SOONER = {"a_new_connection"}


def way(function):
    WAYS[function.__name__] = function
    return function


async def turns_until(came):
    """How often sleep(0) until it says yes."""
    n = 0
    while not came():
        await asyncio.sleep(0)
        n += 1
        assert n < 10_000
    return n


class Notes(asyncio.Protocol):
    def __init__(self):
        self.seen = []

    def connection_made(self, transport):
        self.transport = transport
        self.seen.append("made")

    def data_received(self, data):
        self.seen.append(data)

    def eof_received(self):
        self.seen.append("eof")

    def connection_lost(self, exc):
        self.seen.append("lost")


async def settle():
    """Nothing of the set-up is left to run."""
    for _ in range(50):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def pair(loop, factory=asyncio.Protocol):
    """A transport of the loop, and the protocol of another one that is its peer."""
    a, b = socket.socketpair()
    first, _ = await loop.create_connection(factory, sock=a)
    second, notes = await loop.create_connection(Notes, sock=b)
    await settle()
    notes.seen.clear()
    yield first, notes
    first.close()
    second.close()
    await settle()


@way
async def a_write(loop):
    async with pair(loop) as (first, notes):
        first.write(b"x")
        return await turns_until(lambda: notes.seen)


@way
async def a_write_behind_the_loops_back(loop):
    async with pair(loop) as (first, notes):
        os.write(first.get_extra_info("socket").fileno(), b"x")
        return await turns_until(lambda: notes.seen)


@way
async def an_answer(loop):
    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data)

    async with pair(loop, Echo) as (_, notes):
        notes.transport.write(b"x")
        return await turns_until(lambda: notes.seen)


@way
async def half_a_close(loop):
    async with pair(loop) as (first, notes):
        first.write_eof()
        return await turns_until(lambda: notes.seen)


@way
async def a_close(loop):
    async with pair(loop) as (first, notes):
        first.close()
        return await turns_until(lambda: "lost" in notes.seen)


@way
async def a_line_of_a_stream(loop):
    a, b = socket.socketpair()
    _, writer = await asyncio.open_connection(sock=a)
    reader, other = await asyncio.open_connection(sock=b)
    await settle()
    task = loop.create_task(reader.readline())
    await settle()
    writer.write(b"x\n")
    turns = await turns_until(task.done)
    writer.close()
    other.close()
    return turns


async def turns_of_a_pipe(loop, first, second):
    """Two steps on a pipe (its ends, a callback that reads), and the turns from the second on."""
    r, w = os.pipe()
    seen = []
    first(r, w, lambda: seen.append(os.read(r, 1)))
    await settle()
    second(r, w, lambda: seen.append(os.read(r, 1)))
    turns = await turns_until(lambda: seen)
    loop.remove_reader(r)
    os.close(r)
    os.close(w)
    return turns


@way
async def a_pipe_with_add_reader(loop):
    return await turns_of_a_pipe(loop, lambda r, w, read: loop.add_reader(r, read),
                                 lambda r, w, read: os.write(w, b"x"))


@way
async def a_reader_added_behind_the_write(loop):
    return await turns_of_a_pipe(loop, lambda r, w, read: os.write(w, b"x"),
                                 lambda r, w, read: loop.add_reader(r, read))


@way
async def a_datagram(loop):
    class Datagrams(asyncio.DatagramProtocol):
        def __init__(self):
            self.seen = []

        def datagram_received(self, data, addr):
            self.seen.append(data)

    transport, protocol = await loop.create_datagram_endpoint(
        Datagrams, local_addr=("127.0.0.1", 0))
    await settle()
    transport.sendto(b"x", transport.get_extra_info("sockname"))
    turns = await turns_until(lambda: protocol.seen)
    transport.close()
    return turns


@way
async def sock_recv(loop):
    a, b = socket.socketpair()
    with a, b:
        a.setblocking(False)
        b.setblocking(False)
        task = loop.create_task(loop.sock_recv(a, 10))
        await settle()
        b.send(b"x")
        return await turns_until(task.done)


@way
async def a_new_connection(loop):
    notes = Notes()
    server = await loop.create_server(lambda: notes, "127.0.0.1", 0)
    await settle()
    with socket.create_connection(server.sockets[0].getsockname()):
        turns = await turns_until(lambda: notes.seen)
    server.close()
    await turns_until(lambda: "lost" in notes.seen)
    return turns


@way
async def a_signal(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, True)
    await settle()
    os.kill(os.getpid(), signal.SIGUSR1)
    turns = await turns_until(lambda: seen)
    loop.remove_signal_handler(signal.SIGUSR1)
    return turns


@way
async def a_signal_of_the_same_turn(loop):
    seen = []
    await settle()
    loop.add_signal_handler(signal.SIGUSR1, seen.append, True)
    os.kill(os.getpid(), signal.SIGUSR1)
    turns = await turns_until(lambda: seen)
    loop.remove_signal_handler(signal.SIGUSR1)
    return turns


@pytest.mark.parametrize("name", WAYS)
def test_it_takes_as_many_turns_as_with_asyncio(name, loop, run):
    stock = asyncio.SelectorEventLoop()
    try:
        wanted = stock.run_until_complete(WAYS[name](stock))
    finally:
        stock.close()
    asyncio.set_event_loop(loop)
    turns = run(WAYS[name](loop))
    assert turns <= wanted if name in SOONER else turns == wanted
