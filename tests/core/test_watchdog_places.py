"""tidewire.watch(), and asyncio's debug mode: slow code is found wherever the loop calls it."""
import asyncio
import functools
import gc
import os
import re
import signal
import socket
import subprocess
import threading
import weakref
from pathlib import Path

import pytest
import tidewire
from parity import certificates

HERE = Path(__file__)
THRESHOLD = 0.02
PLACES = {}


def place(function):
    PLACES[function.__name__] = function
    return function


def run(loop, coro, seconds=50):
    return loop.run_until_complete(asyncio.wait_for(coro, seconds))


async def until(event):
    await asyncio.wait_for(event.wait(), 30)


class Protocol(asyncio.Protocol):
    """Calls `block` in the method of that name; `ended` when the connection is lost."""

    def __init__(self, slow, block):
        self.slow, self.block = slow, block
        self.made, self.done, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def __getattribute__(self, name):
        if name == object.__getattribute__(self, "slow") and name in METHODS:
            return object.__getattribute__(self, "_slow_one")
        return object.__getattribute__(self, name)

    def _slow_one(self, *args):
        result = getattr(type(self), self.slow)(self, *args)
        self.block()
        self.done.set()
        return result

    def connection_made(self, transport):
        self.transport = transport
        self.made.set()

    def connection_lost(self, exc):
        self.ended.set()

    def pipe_data_received(self, fd, data):
        pass

    def pipe_connection_lost(self, fd, exc):
        pass

    def process_exited(self):
        pass

    def datagram_received(self, data, address):
        pass

    def error_received(self, exc):
        pass


class Buffered(Protocol, asyncio.BufferedProtocol):
    data_received = property()

    def get_buffer(self, sizehint):
        return memoryview(bytearray(100))

    def buffer_updated(self, n):
        pass


contexts = functools.cache(certificates.contexts)
contexts()      # this takes long

METHODS = {name for kind in (asyncio.Protocol, asyncio.BufferedProtocol, asyncio.DatagramProtocol,
                             asyncio.SubprocessProtocol)
           for name in dir(kind) if not name.startswith("_")}


# -- callbacks ----------------------------------------------------------------

async def soon(loop, callback, *args):
    done = loop.create_future()
    loop.call_soon(callback, *args)
    loop.call_soon(done.set_result, None)
    del callback, args
    await done


@place
async def exit_of_context_manager(loop, block):
    class Manager:
        async def __aenter__(self):
            pass

        async def __aexit__(self, *exc):
            block()

    async with Manager():
        await asyncio.sleep(0)


@place
async def except_clause(loop, block):
    try:
        await asyncio.wait_for(loop.create_future(), 0.001)
    except TimeoutError:
        block()


class Finalized:
    def __init__(self, block):
        self.block = block

    def __del__(self):
        self.block()

    def use(self):
        pass


@place
async def finalizer(loop, block):
    await soon(loop, lambda: Finalized(block))


@place
async def finalizer_of_argument(loop, block):
    """The loop itself releases the last reference, after the callback."""
    await soon(loop, id, Finalized(block))
    await asyncio.sleep(0)


@place
async def finalizer_of_last_argument(loop, block):
    """No other callback follows before the loop waits."""
    loop.call_later(0.001, id, Finalized(block))
    await asyncio.sleep(0.01)


@place
async def weakref_callback(loop, block):
    made = Finalized(int)
    ref = weakref.ref(made, lambda _: block())
    await soon(loop, made.use)
    del made
    await asyncio.sleep(0)
    del ref


@place
async def collector(loop, block):
    made = Finalized(block)
    made.cycle = made
    del made
    await soon(loop, gc.collect)


@place
async def done_callback(loop, block):
    future = loop.create_future()
    future.add_done_callback(lambda _: block())
    future.set_result(None)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@place
async def executor_done_callback(loop, block):
    future = loop.run_in_executor(None, int)
    future.add_done_callback(lambda _: block())
    await future
    await asyncio.sleep(0)


@place
async def threadsafe(loop, block):
    done = loop.create_future()

    def work():
        block()
        done.set_result(None)

    await loop.run_in_executor(None, loop.call_soon_threadsafe, work)
    await done


@place
async def timer(loop, block):
    loop.call_later(0.001, block)
    await asyncio.sleep(0.002)
    await asyncio.sleep(0)


@place
async def asyncgen_finalizer(loop, block):
    async def generate():
        try:
            yield
        finally:
            block()

    made = generate()
    await anext(made)
    del made
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@place
async def task_factory(loop, block):
    def factory(loop, coro, **kwargs):
        block()
        return asyncio.Task(coro, loop=loop, **kwargs)

    loop.set_task_factory(factory)
    try:
        await loop.create_task(asyncio.sleep(0))
    finally:
        loop.set_task_factory(None)


if hasattr(asyncio, "eager_task_factory"):
    @place
    async def eager_task(loop, block):
        async def work():
            block()

        loop.set_task_factory(asyncio.eager_task_factory)
        try:
            await soon(loop, lambda: loop.create_task(work()))
        finally:
            loop.set_task_factory(None)


@place
async def exception_handler(loop, block):
    loop.set_exception_handler(lambda loop, context: block())
    await soon(loop, lambda: 1 / 0)
    loop.set_exception_handler(None)


@place
async def python_signal_handler(loop, block):
    """Of signal.signal(): between two callbacks."""
    done = threading.Event()

    def handler(*args):
        block()
        done.set()

    old = signal.signal(signal.SIGUSR2, handler)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR2))
    timer.start()
    while not done.is_set():
        await asyncio.sleep(0.5)
    timer.join()
    signal.signal(signal.SIGUSR2, old)


@place
async def loop_signal_handler(loop, block):
    done = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR2, lambda: (block(), done.set()))
    os.kill(os.getpid(), signal.SIGUSR2)
    await until(done)
    loop.remove_signal_handler(signal.SIGUSR2)


# -- descriptors --------------------------------------------------------------

@place
async def reader(loop, block):
    a, b = socket.socketpair()
    done = asyncio.Event()

    def ready():
        loop.remove_reader(a)
        block()
        done.set()

    loop.add_reader(a, ready)
    b.send(b"x")
    await until(done)
    a.close()
    b.close()


@place
async def writer(loop, block):
    a, b = socket.socketpair()
    done = asyncio.Event()

    def ready():
        loop.remove_writer(a)
        block()
        done.set()

    loop.add_writer(a, ready)
    await until(done)
    a.close()
    b.close()


async def connection(loop, slow, block, act, kind=Protocol):
    a, b = socket.socketpair()
    b.setblocking(False)
    transport, protocol = await loop.create_connection(lambda: kind(slow, block), sock=a)
    act(transport, b)
    await until(protocol.done)
    transport.abort()
    await until(protocol.ended)
    b.close()


@place
async def connection_made(loop, block):
    await connection(loop, "connection_made", block, lambda transport, peer: None)


@place
async def data_received(loop, block):
    await connection(loop, "data_received", block, lambda transport, peer: peer.send(b"x"))


@place
async def get_buffer(loop, block):
    await connection(loop, "get_buffer", block, lambda transport, peer: peer.send(b"x"), Buffered)


@place
async def buffer_updated(loop, block):
    await connection(loop, "buffer_updated", block, lambda transport, peer: peer.send(b"x"),
                     Buffered)


@place
async def eof_received(loop, block):
    await connection(loop, "eof_received", block,
                     lambda transport, peer: peer.shutdown(socket.SHUT_WR))


@place
async def connection_lost(loop, block):
    await connection(loop, "connection_lost", block, lambda transport, peer: transport.close())


@place
async def pause_writing(loop, block):
    await connection(loop, "pause_writing", block,
                     lambda transport, peer: loop.call_soon(transport.write, bytes(2 ** 23)))


@place
async def resume_writing(loop, block):
    def act(transport, peer):
        transport.write(bytes(2 ** 20))
        loop.add_reader(peer, peer.recv, 2 ** 21)

    a, b = socket.socketpair()
    b.setblocking(False)
    transport, protocol = await loop.create_connection(
        lambda: Protocol("resume_writing", block), sock=a)
    act(transport, b)
    await until(protocol.done)
    loop.remove_reader(b)
    transport.abort()
    await until(protocol.ended)
    b.close()


@place
async def protocol_factory(loop, block):
    made = asyncio.Queue()

    def factory():
        block()
        made.put_nowait(Protocol("", block))
        return made._queue[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()):
        protocol = await asyncio.wait_for(made.get(), 30)
        server.close()
    await until(protocol.ended)


@place
async def client_connected(loop, block):
    """A plain function as start_server()'s callback."""
    done = asyncio.Event()

    def connected(reader, writer):
        block()
        writer.close()
        done.set()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()):
        await until(done)
    server.close()


async def endpoint(loop, slow, block, **kwargs):
    return await loop.create_datagram_endpoint(lambda: Protocol(slow, block), **kwargs)


@place
async def datagram_received(loop, block):
    transport, protocol = await endpoint(loop, "datagram_received", block,
                                         local_addr=("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.sendto(b"x", transport.get_extra_info("sockname"))
        await until(protocol.done)
    transport.close()
    await until(protocol.ended)


@place
async def error_received(loop, block):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        address = peer.getsockname()
    transport, protocol = await endpoint(loop, "error_received", block, remote_addr=address)
    transport.sendto(b"x")      # refused: nobody has that port
    await until(protocol.done)
    transport.close()
    await until(protocol.ended)


@place
async def read_pipe(loop, block):
    r, w = os.pipe()
    transport, protocol = await loop.connect_read_pipe(
        lambda: Protocol("data_received", block), os.fdopen(r, "rb", 0))
    os.write(w, b"x")
    await until(protocol.done)
    os.close(w)
    await until(protocol.ended)


async def child(loop, slow, block):
    transport, protocol = await loop.subprocess_exec(
        lambda: Protocol(slow, block), "/bin/echo", "x", stderr=subprocess.DEVNULL)
    await until(protocol.done)
    await until(protocol.ended)
    transport.close()


@place
async def pipe_data_received(loop, block):
    await child(loop, "pipe_data_received", block)


@place
async def pipe_connection_lost(loop, block):
    await child(loop, "pipe_connection_lost", block)


@place
async def process_exited(loop, block):
    await child(loop, "process_exited", block)


# -- TLS ----------------------------------------------------------------------

async def tls(loop, slow, block, act=lambda client: client.write(b"x"), kind=Protocol,
              sni=None):
    server_context, client_context = contexts()
    server_context.sni_callback = sni
    made = asyncio.Queue()

    def factory():
        protocol = kind(slow, block)
        made.put_nowait(protocol)
        return protocol

    server = await loop.create_server(factory, "127.0.0.1", 0, ssl=server_context)
    client, other = await loop.create_connection(
        lambda: Protocol("", block), *server.sockets[0].getsockname(), ssl=client_context,
        server_hostname="localhost")
    protocol = await made.get()
    act(client)
    if slow:
        await until(protocol.done)
    client.close()
    await until(protocol.ended)
    await until(other.ended)
    server.close()


@place
async def tls_connection_made(loop, block):
    await tls(loop, "connection_made", block)


@place
async def tls_data_received(loop, block):
    await tls(loop, "data_received", block)


@place
async def tls_buffer_updated(loop, block):
    await tls(loop, "buffer_updated", block, kind=Buffered)


@place
async def tls_eof_received(loop, block):
    await tls(loop, "eof_received", block, lambda client: client.close())


@place
async def tls_connection_lost(loop, block):
    await tls(loop, "connection_lost", block, lambda client: client.close())


@place
async def sni_callback(loop, block):
    def callback(connection, name, context):
        block()

    await tls(loop, "", block, sni=callback)


# -- the tests ----------------------------------------------------------------

def found(reports, line, returned):
    return [report for report in reports if report.returned is returned
            and (report.file, report.line) == (str(HERE), line)]


@pytest.mark.tidewire
@pytest.mark.parametrize("name", PLACES)
def test_reported(loop, name):
    """Twice with the guilty line: while it blocks, and when it has returned."""
    reports, go_on = [], threading.Event()
    (line,) = [i for i, text in enumerate(HERE.read_text().splitlines(), 1)
               if text.endswith("# here: blocks")]

    def handler(report):
        reports.append(report)
        if not report.returned and report.function == "block":
            go_on.set()

    def block():
        assert go_on.wait(40)       # here: blocks

    with tidewire.watch(loop, THRESHOLD, handler, rate=1000):
        run(loop, PLACES[name](loop, block))
    assert found(reports, line, False), [str(report) for report in reports]
    assert found(reports, line, True), [str(report) for report in reports]


@pytest.mark.tidewire
def test_other_threads_are_not_reported(loop):
    """What a thread does keeps the loop from nothing."""
    reports = []

    async def main():
        await asyncio.to_thread(threading.Event().wait, 0.3)
        await loop.run_in_executor(None, threading.Event().wait, 0.3)

    with tidewire.watch(loop, 0.1, reports.append, rate=1000):
        run(loop, main())
    assert not [str(report) for report in reports if "wait" in str(report)]


# Where Python's code does not call it by a handle of its own; or the report has another text,
# because asyncio's class has another name, or the handle is cancelled by now.
OTHERWISE = {"protocol_factory", "pause_writing", "eof_received", "resume_writing",
             "tls_connection_lost", "connection_made", "client_connected"}


def in_debug_mode(loop, name, caplog):
    """What debug mode reports, without what differs from run to run."""
    caplog.clear()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.1
    try:
        run(loop, PLACES[name](loop, lambda: threading.Event().wait(0.15)))
        run(loop, asyncio.sleep(0.001))
    finally:
        loop.close()
    texts = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    # The type of threadsafe handles has a name of its own in asyncio from 3.14 on.
    found = [re.sub(r"0x\w+|\d[\d.]*|[\w./]*\.py:|(?<= )created at \S+|<Future finis\S+|_(?=Thread)",
                    "", text)
             for text in texts if text.startswith("Executing ")]
    return sorted(set(found))


@pytest.mark.tidewire
@pytest.mark.parametrize("name", sorted(PLACES.keys() - OTHERWISE))
def test_debug_mode(loop, name, caplog):
    """Its reports are those of asyncio's loop (on a busy machine there may be others)."""
    for make in (lambda: loop, *[tidewire.new_event_loop] * 3):
        ours = in_debug_mode(make(), name, caplog)
        theirs = in_debug_mode(asyncio.SelectorEventLoop(), name, caplog)
        if ours == theirs:
            break
    assert ours == theirs


@pytest.mark.tidewire
@pytest.mark.parametrize("name", sorted(OTHERWISE))
def test_debug_mode_reports(loop, name, caplog):
    assert in_debug_mode(loop, name, caplog)
