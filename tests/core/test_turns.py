"""How many turns it takes until the loop serves what has become ready: as many as with asyncio.

What a callback does (a write, a close, a signal) can make a descriptor ready at once, on the
same machine.  asyncio asks for that between any two generations of callbacks, and tests of
programs count on it: "write; await sleep(0) twice; look what came".
"""
import asyncio
import contextlib
import contextvars
import functools
import os
import signal
import socket
import subprocess

import pytest
import support

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


SETTLE = contextvars.ContextVar("SETTLE", default=50)


async def settle():
    """Nothing of the set-up is left to run."""
    for _ in range(SETTLE.get()):
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


# A long chain of quick callbacks runs without a poll between them.
@pytest.mark.parametrize("before", [50, 1000])
@pytest.mark.parametrize("name", WAYS)
def test_it_takes_as_many_turns_as_with_asyncio(name, before, loop, run):
    SETTLE.set(before)
    stock = asyncio.SelectorEventLoop()
    try:
        wanted = stock.run_until_complete(WAYS[name](stock))
    finally:
        stock.close()
    asyncio.set_event_loop(loop)
    turns = run(WAYS[name](loop))
    assert turns <= wanted if name in SOONER else turns == wanted


def turns_of_a_chain(loop, act, came):
    """The same for a chain of call_soon(), whose callbacks are far quicker than a task's step."""
    left, turns = 1000, 0

    def step():
        nonlocal left, turns
        if left > 0:
            left -= 1
            loop.call_soon(act if left == 0 else step)
            if left == 0:
                loop.call_soon(step)
        elif came():
            loop.stop()
        else:
            turns += 1
            loop.call_soon(step)

    loop.call_soon(step)
    loop.run_forever()
    return turns


def chain_with_a_pipe(loop):
    r, w = os.pipe()
    seen = []
    loop.add_reader(r, lambda: seen.append(os.read(r, 1)))
    turns = turns_of_a_chain(loop, functools.partial(os.write, w, b"x"), lambda: seen)
    loop.remove_reader(r)
    os.close(r)
    os.close(w)
    return turns


def chain_with_a_socket(loop):
    a, b = socket.socketpair()
    with a, b:
        seen = []
        loop.add_reader(a, lambda: seen.append(a.recv(1)))
        turns = turns_of_a_chain(loop, functools.partial(b.send, b"x"), lambda: seen)
        loop.remove_reader(a)
    return turns


def chain_with_a_close(loop):
    a, b = socket.socketpair()
    with a:
        seen = []
        loop.add_reader(a, lambda: seen.append(a.recv(1)))
        turns = turns_of_a_chain(loop, b.close, lambda: seen)
        loop.remove_reader(a)
    return turns


def chain_with_room_to_write(loop):
    a, b = socket.socketpair()
    with a, b:
        a.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                a.send(bytes(65536))
        seen = []
        loop.add_writer(a, lambda: seen.append(loop.remove_writer(a)))
        turns = turns_of_a_chain(loop, functools.partial(b.recv, 1 << 24), lambda: seen)
    return turns


def chain_with_a_signal(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, True)
    turns = turns_of_a_chain(loop, functools.partial(signal.raise_signal, signal.SIGUSR1),
                             lambda: seen)
    loop.remove_signal_handler(signal.SIGUSR1)
    return turns


@pytest.mark.parametrize("chain", [chain_with_a_pipe, chain_with_a_socket, chain_with_a_close,
                                   chain_with_room_to_write, chain_with_a_signal])
def test_a_chain_sees_it_as_soon_as_with_asyncio(chain, loop):
    stock = asyncio.SelectorEventLoop()
    try:
        wanted = chain(stock)
    finally:
        stock.close()
    asyncio.set_event_loop(loop)
    assert chain(loop) == wanted


@pytest.mark.tidewire
@pytest.mark.skipif(support.is_sanitized(), reason="no generation is quick then")
def test_a_long_chain_polls_less_often_than_it_runs_callbacks(loop):
    def chain(n):
        if n:
            loop.call_soon(chain, n - 1)
        else:
            loop.stop()

    loop.set_debug(False)  # its callbacks are slow
    r, w = os.pipe()
    loop.add_reader(r, print)
    before = loop.stats()["turns"]
    loop.call_soon(chain, 20_000)
    loop.run_forever()
    assert loop.stats()["turns"] - before < 20_000
    loop.remove_reader(r)
    os.close(r)
    os.close(w)


def test_what_another_process_sends_is_seen_within_a_chain(loop, run):
    """The chain goes on until the bytes are there: nothing but a poll can bring them."""
    async def main():
        r, w = os.pipe()
        seen = []
        loop.add_reader(r, lambda: seen.append(os.read(r, 1)))
        child = subprocess.Popen(["sh", "-c", "echo"], stdout=w)
        while not seen:
            await asyncio.sleep(0)
        child.wait()
        loop.remove_reader(r)
        os.close(r)
        os.close(w)

    run(main())


# -- a generation that only feeds StreamReaders --------------------------------

async def connected(protocol, here):
    loop = asyncio.get_running_loop()
    return (await loop.create_connection(lambda: protocol, sock=here))[0]


def reader_protocol():
    reader = asyncio.StreamReader()
    return reader, asyncio.StreamReaderProtocol(reader)


@pytest.mark.tidewire
def test_no_poll_between_a_reader_and_its_task(run):
    """Nothing that the process does can make a descriptor ready there."""
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_debug(False)   # Python feeds the reader there
        here, there = socket.socketpair()
        reader, protocol = reader_protocol()
        transport = await connected(protocol, here)
        with there:
            before = loop.stats()["turns"]
            for _ in range(100):
                there.send(b"x")
                assert await reader.read(10) == b"x"
            turns = loop.stats()["turns"] - before
            transport.close()
            await asyncio.sleep(0)
        return turns
    if run(main()) > 120:
        pytest.fail("a poll for the bytes and another one for the task")


@pytest.mark.parametrize("with_protocol", [False, True])
def test_order_after_a_reader_is_fed(run, with_protocol):
    """What a protocol sends meanwhile is read before what the reader's task schedules."""
    async def main():
        loop = asyncio.get_running_loop()
        log = []
        pairs = [socket.socketpair() for _ in range(3)]

        class Sender(asyncio.Protocol):
            def data_received(self, data):
                log.append("protocol")
                pairs[2][1].send(b"x")

        class Last(asyncio.Protocol):
            def data_received(self, data):
                log.append("last")

        async def read():
            await reader.read(10)
            log.append("reader")
            loop.call_soon(log.append, "scheduled by the reader")
            loop.call_soon(loop.call_soon, log.append, "and again")

        reader, protocol = reader_protocol()
        transports = [await connected(p, here) for p, (here, _) in
                      zip((protocol, Sender(), Last()), pairs)]
        task = asyncio.ensure_future(read())
        await asyncio.sleep(0)
        if with_protocol:
            pairs[1][1].send(b"x")
        pairs[0][1].send(b"x")
        await task
        for _ in range(5):
            await asyncio.sleep(0)
        for transport in transports:
            transport.close()
        await asyncio.sleep(0)
        for _, there in pairs:
            there.close()
        return log

    end = ["scheduled by the reader", "and again"]
    assert run(main()) == (["protocol", "reader", "last", *end] if with_protocol
                           else ["reader", *end])
