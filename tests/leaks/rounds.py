"""Do one thing again and again, and see what stays behind.

    python rounds.py FEATURE [--loop NAME] [--rounds N] [--list]

Prints JSON: for each of several blocks of N rounds, how many references
(debug builds only), objects, allocated blocks, bytes of malloc and open
descriptors there are more than before the block.
"""
import argparse
import asyncio
import ctypes
import gc
import json
import os
import pathlib
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import support  # noqa: E402
from support import BufferedRecorder, Recorder  # noqa: E402

BLOCKS = 5
FEATURES = {}           # name: (function, rounds in a block)
LOOP = {}               # "make": the factory


def feature(rounds=40, name=None):
    """A coroutine function: one round, on a loop that stays the same."""
    def register(function):
        FEATURES[name or function.__name__] = function, rounds, False
        return function
    return register


def outside(rounds=10):
    """A plain function: one round, with loops of its own."""
    def register(function):
        FEATURES[function.__name__] = function, rounds, True
        return function
    return register


def ignore(*args):
    pass


def fail(*args):
    raise ZeroDivisionError


# -- time and callbacks -----------------------------------------------------

@feature(200)
async def call_soon():
    loop = asyncio.get_running_loop()
    for i in range(10):
        loop.call_soon(ignore, i, object())
        loop.call_soon(ignore).cancel()
    await asyncio.sleep(0)


@feature(100)
async def timers():
    loop = asyncio.get_running_loop()
    for i in range(10):
        loop.call_later(1000, ignore, object()).cancel()
        loop.call_later(0, ignore, object())
        loop.call_at(-1, ignore)
    await asyncio.sleep(0.0001)


@feature(100)
async def handles_asked():
    loop = asyncio.get_running_loop()
    handle = loop.call_soon(ignore)
    timer = loop.call_later(5, ignore)
    repr(handle), repr(timer), timer.when(), hash(timer), timer == timer
    timer.cancel()
    await asyncio.sleep(0)


@feature(100)
async def threadsafe():
    loop = asyncio.get_running_loop()
    for i in range(10):
        loop.call_soon_threadsafe(ignore, object())
        loop.call_soon_threadsafe(ignore, object()).cancel()
    await asyncio.sleep(0)


@feature(20)
async def threadsafe_from_a_thread():
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def work():
        for i in range(10):
            loop.call_soon_threadsafe(ignore, object())
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=work)
    thread.start()
    await done
    thread.join()


@feature(100)
async def tasks():
    async def child():
        await asyncio.sleep(0)
        return object()

    await asyncio.gather(*(child() for _ in range(5)))
    task = asyncio.create_task(asyncio.sleep(100))
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    await asyncio.wait_for(asyncio.sleep(0), 5)


@feature(50)
async def task_factory():
    loop = asyncio.get_running_loop()
    loop.set_task_factory(
        lambda loop, coro, **kw: asyncio.Task(coro, loop=loop, **kw))
    await asyncio.create_task(asyncio.sleep(0))
    loop.set_task_factory(None)


@feature(100)
async def exceptions_in_callbacks():
    loop = asyncio.get_running_loop()
    loop.call_soon(fail, object())
    loop.call_later(0, fail, object())
    loop.call_soon_threadsafe(fail)
    if not loop.get_debug():    # there it is refused
        loop.call_soon(17)
    await asyncio.sleep(0.0001)


@feature(100)
async def debug_mode():
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    try:
        loop.call_soon(ignore, object())
        loop.call_later(0, fail)
        loop.call_later(10, ignore).cancel()
        await asyncio.sleep(0.0001)
    finally:
        loop.set_debug(False)


@feature(100)
async def wrong_arguments():
    loop = asyncio.get_running_loop()
    for call in (lambda: loop.call_soon(), lambda: loop.call_later("x", print),
                 lambda: loop.call_at(None, print),
                 lambda: loop.add_reader("x", print),
                 lambda: loop.add_reader(10 ** 6, print),
                 lambda: loop.remove_reader(-1),
                 lambda: loop.set_exception_handler(5),
                 lambda: loop.call_soon(print, nonsense=1),
                 lambda: loop.add_signal_handler(0, print),
                 lambda: loop.run_forever()):
        try:
            call()
        except Exception:
            pass


@feature(30)
async def executor():
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, ignore, object())
    try:
        await loop.run_in_executor(None, fail)
    except ZeroDivisionError:
        pass


@feature(30)
async def lookups():
    loop = asyncio.get_running_loop()
    await loop.getaddrinfo("localhost", "http")
    await loop.getnameinfo(("127.0.0.1", 80))
    try:
        await loop.getaddrinfo("localhost", 80, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass
    tasks = [asyncio.create_task(loop.getaddrinfo("localhost", 80))
             for _ in range(40)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.wait(tasks)


@feature(50)
async def async_generators():
    async def numbers():
        for i in range(5):
            yield i

    async for i in numbers():
        if i == 2:
            break
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@feature(50)
async def signals():
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, done.set_result, object())
    os.kill(os.getpid(), signal.SIGUSR1)
    await done
    loop.remove_signal_handler(signal.SIGUSR1)


@outside(10)
def loops():
    loop = LOOP["make"]()
    loop.run_until_complete(asyncio.sleep(0))
    loop.call_soon(ignore, object())
    loop.call_later(5, ignore, object())
    loop.close()


@outside(10)
def loops_dropped():
    loop = LOOP["make"]()
    loop.call_soon(ignore, loop)
    loop.call_later(5, ignore, loop)
    loop.attribute = loop


@outside(10)
def interrupts():
    loop = LOOP["make"]()

    def interrupt():
        raise KeyboardInterrupt

    for _ in range(5):
        loop.call_soon(interrupt)
        loop.call_soon(ignore, object())
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            pass
    loop.close()


@outside(5)
def loops_closed_with_everything():
    loop = LOOP["make"]()

    async def main():
        one, two = await support.pair("unix")
        one.transport.pause_reading()
        support.fill(two.transport)
        a, b = support.socketpair()
        loop.add_reader(a, ignore, object())
        loop.add_writer(b, ignore, object())
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        return one, two, server, a, b

    keep = loop.run_until_complete(main())
    loop.remove_reader(keep[3])
    keep[2].close()
    loop.close()


@outside(10)
def loops_closed_with_lookups():
    """The threads go on for a moment, and free what they have."""
    loop = LOOP["make"]()

    async def main():
        tasks = [asyncio.create_task(loop.getaddrinfo("localhost", 80))
                 for _ in range(20)]
        await tasks[0]
        return tasks

    for task in loop.run_until_complete(main()):
        task._log_destroy_pending = False
    loop.close()
    time.sleep(0.01)


@outside(5)
def loops_in_threads():
    def work():
        loop = LOOP["make"]()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


# -- descriptors ------------------------------------------------------------

@feature(50)
async def readers_and_writers():
    loop = asyncio.get_running_loop()
    a, b = support.socketpair()
    done = loop.create_future()
    loop.add_reader(b, ignore, object())
    loop.add_reader(b, lambda: done.done() or done.set_result(b.recv(5)))
    loop.add_writer(b, ignore, object())
    a.send(b"x")
    await done
    loop.remove_writer(b)
    loop.remove_reader(b)
    loop.add_reader(a, ignore)
    loop.remove_reader(a)
    a.close()
    b.close()


@feature(30)
async def sock_operations():
    loop = asyncio.get_running_loop()
    a, b = support.socketpair()
    task = asyncio.ensure_future(loop.sock_recv(b, 100))
    await asyncio.sleep(0)
    await loop.sock_sendall(a, b"x")
    await task
    buffer = bytearray(10)
    task = asyncio.ensure_future(loop.sock_recv_into(b, buffer))
    await asyncio.sleep(0)
    await loop.sock_sendall(a, b"x")
    await task
    for coro in (loop.sock_recv(b, 10), loop.sock_recv_into(b, buffer),
                 loop.sock_sendall(a, b"x" * 3_000_000)):
        task = asyncio.ensure_future(coro)
        await support.turns(2)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
    await asyncio.sleep(0)
    a.close()
    b.close()


@feature(20)
async def sock_connect_and_accept():
    loop = asyncio.get_running_loop()
    with socket.socket() as listener, socket.socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        client.setblocking(False)
        accept = asyncio.ensure_future(loop.sock_accept(listener))
        await asyncio.sleep(0)
        await loop.sock_connect(client, listener.getsockname())
        conn, _ = await accept
        conn.close()
        address = listener.getsockname()
    with socket.socket() as client:
        client.setblocking(False)
        try:
            await loop.sock_connect(client, address)
        except ConnectionError:
            pass


@feature(30)
async def sock_datagrams():
    loop = asyncio.get_running_loop()
    with socket.socket(type=socket.SOCK_DGRAM) as a, \
            socket.socket(type=socket.SOCK_DGRAM) as b:
        for sock in a, b:
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
        buffer = bytearray(10)
        for receive in (lambda: loop.sock_recvfrom(a, 10),
                        lambda: loop.sock_recvfrom_into(a, buffer)):
            for cancel in False, True:
                task = asyncio.ensure_future(receive())
                await support.turns(2)
                if cancel:
                    task.cancel()
                else:
                    await loop.sock_sendto(b, b"x", a.getsockname())
                await asyncio.wait([task])
        for wrong in (loop.sock_recvfrom(a, -1),
                      loop.sock_recvfrom_into(a, b""),
                      loop.sock_sendto(a, "x", ("127.0.0.1", 9))):
            try:
                await wrong
            except (TypeError, ValueError):
                pass


@feature(30)
async def sock_coroutines():
    """Never awaited, closed, thrown into, replaced, dropped."""
    loop = asyncio.get_running_loop()
    a, b = support.socketpair()
    with a, b:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loop.sock_recv(a, 10)
        loop.sock_recv(a, 10).close()
        for how in "close", "throw", "drop":
            operation = loop.sock_recv(a, 10)
            operation.send(None)
            other = loop.sock_recv(a, 10)
            other.send(None)
            if how == "close":
                operation.close()
                other.close()
            elif how == "throw":
                try:
                    other.throw(KeyError("x"))
                except KeyError:
                    pass
            del operation, other
            loop.remove_reader(a)
        task = asyncio.ensure_future(
            loop.sock_connect(a, ("a.host.example", 1)))
        await asyncio.wait([task])
        task.exception()
        gc.collect()


@feature(20)
async def sock_sendfile():
    loop = asyncio.get_running_loop()
    a, b = support.socketpair()
    with a, b, tempfile.TemporaryFile() as file:
        file.truncate(3_000_000)
        await loop.sock_sendfile(a, file, 5, 1000)
        task = asyncio.ensure_future(loop.sock_sendfile(a, file))
        await support.turns(3)
        task.cancel()
        await asyncio.wait([task])
        task = asyncio.ensure_future(loop.sock_sendfile(a, file))
        await support.turns(2)
        b.close()
        await asyncio.wait([task])
        task.exception()


# -- streams of bytes -------------------------------------------------------

async def echo_over(kind, make=Recorder, size=1000):
    one, two = await support.pair(kind, make, lambda: Recorder(
        {"data": lambda p, d: p.transport.write(d)}))
    for i in range(1, 4):
        one.transport.write(b"x" * size)
        await one.got(i * size)
    one.transport.get_extra_info("socket")
    one.transport.get_extra_info("peername")
    one.transport.get_extra_info("nonsense", object())
    repr(one.transport)
    one.transport.close()
    await one.saw("lost")
    await two.saw("lost")


for _kind in support.KINDS:
    feature(20, f"echo_{_kind}")(lambda kind=_kind: echo_over(kind))
    feature(10, f"echo_big_{_kind}")(
        lambda kind=_kind: echo_over(kind, size=300_000))
    feature(20, f"echo_buffered_{_kind}")(
        lambda kind=_kind: echo_over(kind, BufferedRecorder))


@feature(20)
async def server_and_connections():
    loop = asyncio.get_running_loop()
    made = []

    def factory():
        made.append(Recorder({"data": lambda p, d: p.transport.write(d)}))
        return made[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for _ in range(3):
        transport, protocol = await loop.create_connection(
            Recorder, "127.0.0.1", port)
        transport.write(b"x")
        await protocol.got(b"x")
        transport.close()
        await protocol.saw("lost")
    for protocol in made:
        await protocol.saw("lost")
    server.close()
    await server.wait_closed()


@feature(20)
async def unix_server():
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory(prefix="tw-") as folder:
        server = await loop.create_unix_server(Recorder, folder + "/s")
        transport, protocol = await loop.create_unix_connection(
            Recorder, folder + "/s")
        await support.close(protocol)
        await support.io_turns(1)
        server.close()
        await server.wait_closed()


@feature(20)
async def refused_and_cancelled():
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    try:
        await loop.create_connection(Recorder, "127.0.0.1", port)
    except OSError:
        pass
    for steps in range(3):
        task = asyncio.ensure_future(
            loop.create_connection(Recorder, "127.0.0.1", port))
        await support.turns(steps)
        task.cancel()
        try:
            await task
        except (asyncio.CancelledError, OSError):
            pass
    try:
        await loop.create_connection(Recorder, sock=5)
    except Exception:
        pass


@feature(20)
async def bad_factories():
    loop = asyncio.get_running_loop()
    a, b = support.socketpair()
    try:
        await loop.create_unix_connection(fail, sock=a)
    except ZeroDivisionError:
        pass
    a.close()
    b.close()
    server = await loop.create_server(fail, "127.0.0.1", 0)
    client = socket.create_connection(server.sockets[0].getsockname())
    await support.io_turns(2)
    client.close()
    server.close()
    await support.io_turns(1)


@feature(20)
async def flow_control():
    one, two = await support.pair("unix")
    two.transport.pause_reading()
    size = support.fill(one.transport)
    one.transport.write(bytearray(100_000))
    one.transport.write(memoryview(b"x" * 1000))
    one.transport.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
    two.transport.resume_reading()
    await two.got(size + 101_003)
    await one.saw("resume")
    one.transport.set_write_buffer_limits(5, 1)
    one.transport.write_eof()
    await two.saw("eof")
    await support.close(one, two)


@feature(20)
async def aborted_with_a_queue():
    one, two = await support.pair("unix")
    two.transport.pause_reading()
    support.fill(one.transport)
    one.transport.write(bytearray(100_000))
    one.transport.writelines([b"x" * 1000] * 100)
    await support.close(one, two)


@feature(20)
async def half_closed():
    one, two = await support.pair(
        "tcp", lambda: Recorder({"eof": lambda p: True}))
    two.transport.write(b"x")
    two.transport.write_eof()
    await one.saw("eof")
    one.transport.write(b"x")
    await two.got(b"x")
    one.transport.close()
    await one.saw("lost")
    await two.saw("lost")


@feature(20)
async def resets():
    for _ in range(3):
        transport, protocol, peer = await support.connected("tcp")
        support.reset(peer)
        await protocol.saw("lost")
        transport.write(b"late")


@feature(20)
async def switched_protocols():
    transport, first, peer = await support.connected("unix")
    for make in (BufferedRecorder, Recorder) * 3:
        protocol = make()
        protocol.transport = transport
        transport.set_protocol(protocol)
        peer.send(b"x")
        await protocol.got(b"x")
    await support.close(protocol)
    peer.close()


def raising(place):
    async def body():
        make = BufferedRecorder if "buffer" in place else Recorder
        transport, protocol, peer = await support.connected(
            "unix", lambda: make({place: fail}))
        if place in ("pause", "resume"):
            total = support.fill(transport)
            transport.write(b"x" * 100_000)
            if place == "resume":
                await support.recv_exactly(peer, total + 100_000)
        else:
            peer.send(b"x")
        peer.close()
        await support.io_turns(2)
        transport.abort()
        await support.turns(3)
    return body


for _place in ("made", "data", "eof", "lost", "pause", "resume",
               "get_buffer", "buffer_updated"):
    feature(20, f"raising_{_place}")(raising(_place))


@feature(20)
async def transports_dropped():
    """Paused, in a cycle with their protocol, never closed."""
    transport, protocol, peer = await support.connected("unix")
    transport.pause_reading()
    await support.turns(2)
    peer.close()


@feature(20)
async def closed_in_callbacks():
    for place in ("made", "data", "eof"):
        for how in ("close", "abort"):
            transport, protocol, peer = await support.connected(
                "unix", lambda: Recorder(
                    {place: lambda p, *a: getattr(p.transport, how)()}))
            try:
                peer.send(b"x")
            except OSError:
                pass
            peer.close()
            await protocol.saw("lost")


@feature(20)
async def wrong_writes():
    one, two = await support.pair("unix")
    for data in ("text", None, 5):
        for method in (one.transport.write, one.transport.writelines):
            try:
                method(data)
            except TypeError:
                pass
    try:
        one.transport.writelines([b"x", "text"])
    except TypeError:
        pass
    one.transport.write_eof()
    try:
        one.transport.write(b"x")
    except RuntimeError:
        pass
    await support.close(one, two)


@feature(20)
async def streams():
    async def handle(reader, writer):
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello\n")
    assert await reader.read() == b"HELLO\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    await support.io_turns(1)


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


# -- counting ---------------------------------------------------------------

class Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks",
        "fsmblks", "uordblks", "fordblks", "keepcost")]


def malloc_bytes():
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return 0
    mallinfo2.restype = Mallinfo2
    info = mallinfo2()
    return info.uordblks + info.hblkhd


def count():
    for _ in range(3):
        gc.collect()
    if hasattr(sys, "_clear_internal_caches"):
        sys._clear_internal_caches()
    return {
        "references": getattr(sys, "gettotalrefcount", int)(),
        "objects": len(gc.get_objects()),
        "blocks": sys.getallocatedblocks(),
        "malloc": malloc_bytes(),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


async def let_all_end():
    """Give what was closed the turns it needs to be gone."""
    await support.io_turns(2)
    await support.turns(3)


def measure(name, loop_name, rounds=None):
    function, usual, is_outside = FEATURES[name]
    rounds = rounds or usual
    LOOP["make"] = support.factory(loop_name)
    warnings.simplefilter("ignore")
    if is_outside:
        def block():
            for _ in range(rounds):
                function()
    else:
        loop = LOOP["make"]()
        loop.set_exception_handler(ignore)

        async def body():
            for _ in range(rounds):
                await function()
            await let_all_end()

        def block():
            loop.run_until_complete(body())

    # What the interpreter and the libraries keep for good is made now.
    block()
    block()
    before = count()
    deltas = {key: [] for key in before}
    for _ in range(BLOCKS):
        block()
        now = count()
        for key in now:
            deltas[key].append(now[key] - before[key])
        before = now
    return {"feature": name, "rounds": rounds, "deltas": deltas}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("feature", nargs="?", choices=sorted(FEATURES))
    parser.add_argument("--loop", default="tidewire")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list or not options.feature:
        print("\n".join(FEATURES))
        return
    try:
        result = measure(options.feature, options.loop, options.rounds)
    except NotImplementedError as exc:
        result = {"feature": options.feature, "missing": str(exc)}
    print(json.dumps(result), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
