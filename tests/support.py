"""Helpers that tests and their child processes share.

Nothing here waits by sleeping: a Recorder wakes those who wait for what it
has seen.
"""
import asyncio
import contextlib
import importlib
import os
import socket
import tempfile

# How much longer things may take: under a sanitizer, on a busy machine.
SLOWER = float(os.environ.get("TIDEWIRE_TEST_SLOWER") or 1)


def built_with(flag):
    """Is this part of a compiler's option in the build of tidewire?"""
    try:
        return flag in importlib.import_module("tidewire._core").build_info()["flags"]
    except ImportError:
        return False


def is_portable():
    """Was tidewire built with TIDEWIRE_PORTABLE=1: without pidfd, eventfd, sendmmsg...?"""
    return built_with("-DTW_PORTABLE=1")


def is_sanitized():
    """Under a sanitizer: memory is kept, a library is preloaded, all is slow."""
    return built_with("-fsanitize")


# -- loops ------------------------------------------------------------------

def factory_name(name):
    return {"stock": "asyncio:SelectorEventLoop",
            "tidewire": "tidewire:new_event_loop"}.get(name, name)


def factory(name):
    """The callable that makes loops of this name."""
    module, _, attribute = factory_name(name).partition(":")
    obj = importlib.import_module(module)
    for part in attribute.split("."):
        obj = getattr(obj, part)
    return obj


async def turns(n=3):
    """Let the loop go round n times."""
    for _ in range(n):
        await asyncio.sleep(0)


async def io_turns(n=3):
    """Let the loop poll n times: a timer in between makes it."""
    for _ in range(n):
        await asyncio.sleep(0.001)


def same(one, two):
    """Equal bytes; a short text about the difference if they are not."""
    if one == two:
        return True
    at = next((i for i, (a, b) in enumerate(zip(one, two)) if a != b),
              min(len(one), len(two)))
    raise AssertionError(
        f"{len(one)} and {len(two)} bytes, different from {at} on: "
        f"{bytes(one[at:at + 20])!r}, {bytes(two[at:at + 20])!r}")


# -- protocols that remember ------------------------------------------------

class Memory:
    """Events in order; data that follows data is joined to it.

    hooks: {event name: function(protocol, *arguments)}, called after the
    event was noted.
    """

    def __init__(self, hooks=None):
        self.events = []
        self.transport = None
        self.hooks = hooks or {}
        self._waiters = []

    def note(self, name, *args):
        if name == "data" and self.events and self.events[-1][0] == "data":
            self.events[-1] = ("data", self.events[-1][1] + args[0])
        else:
            self.events.append((name, *args))
        for predicate, future in self._waiters:
            if not future.done() and predicate():
                future.set_result(None)
        hook = self.hooks.get(name)
        if hook is not None:
            return hook(self, *args)

    async def until(self, predicate, timeout=8.0):
        """Return when predicate() is true after an event."""
        if predicate():
            return
        future = asyncio.get_running_loop().create_future()
        self._waiters.append((predicate, future))
        try:
            await asyncio.wait_for(future, timeout * SLOWER)
        except TimeoutError:
            raise AssertionError(f"waited in vain: {self.digest}") from None

    async def saw(self, name, count=1):
        await self.until(lambda: self.names.count(name) >= count)

    async def got(self, data):
        """Return when all of data, or as many bytes, has come."""
        size = data if isinstance(data, int) else len(data)
        await self.until(lambda: len(self.data) >= size)
        if not isinstance(data, int):
            assert same(self.data, data)
        return self.data

    @property
    def names(self):
        return [event[0] for event in self.events]

    @property
    def data(self):
        return b"".join(e[1] for e in self.events if e[0] == "data")

    @property
    def digest(self):
        """The events, with the length of the data instead of the data."""
        return [("data", len(e[1])) if e[0] == "data" and len(e[1]) > 100
                else e for e in self.events]

    @property
    def lost(self):
        """The argument of connection_lost; an error if it was not called."""
        (event,) = [e for e in self.events if e[0] == "lost"]
        return event[1]

    def connection_made(self, transport):
        self.transport = transport
        self.note("made")

    def connection_lost(self, exc):
        self.note("lost", exc)

    def pause_writing(self):
        self.note("pause")

    def resume_writing(self):
        self.note("resume")

    def eof_received(self):
        return self.note("eof")


class Recorder(Memory, asyncio.Protocol):
    def data_received(self, data):
        self.note("data", data)


class BufferedRecorder(Memory, asyncio.BufferedProtocol):
    """buffer: a size, or an object with the buffer interface."""

    def __init__(self, hooks=None, buffer=65536):
        super().__init__(hooks)
        self.buffer = bytearray(buffer) if isinstance(buffer, int) else buffer
        self.hints = []

    def get_buffer(self, sizehint):
        self.hints.append(sizehint)
        hook = self.hooks.get("get_buffer")
        if hook is not None:
            return hook(self, sizehint)
        return self.buffer

    def buffer_updated(self, nbytes):
        hook = self.hooks.get("buffer_updated")
        if hook is not None:
            hook(self, nbytes)
        self.note("data", bytes(memoryview(self.buffer)[:nbytes]))


# -- sockets and connections ------------------------------------------------

KINDS = ("tcp", "unix")


def socketpair(kind="unix"):
    """Two connected non-blocking stream sockets."""
    if kind == "unix":
        a, b = socket.socketpair()
    else:
        family = socket.AF_INET6 if kind == "tcp6" else socket.AF_INET
        with socket.socket(family) as listener:
            listener.bind(("::1" if kind == "tcp6" else "127.0.0.1", 0))
            listener.listen()
            a = socket.socket(family)
            a.connect(listener.getsockname())
            b, _ = listener.accept()
        for sock in a, b:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    a.setblocking(False)
    b.setblocking(False)
    return a, b


async def connect_sock(sock, factory):
    """A transport on a connected socket, whatever its family."""
    loop = asyncio.get_running_loop()
    if sock.family == socket.AF_UNIX:
        return await loop.create_unix_connection(factory, sock=sock)
    return await loop.create_connection(factory, sock=sock)


async def connected(kind="tcp", factory=Recorder):
    """transport, protocol, and the bare socket of the other end."""
    ours, peer = socketpair(kind)
    try:
        transport, protocol = await connect_sock(ours, factory)
    except BaseException:
        ours.close()
        peer.close()
        raise
    return transport, protocol, peer


async def connected_by_name(kind="tcp", factory=Recorder):
    """The same, of a socket that the loop made: the program never had its descriptor."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        if kind == "unix":
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tw-"))
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(f"{folder}/s")
            listener.listen()
            connecting = loop.create_unix_connection(factory, f"{folder}/s")
        else:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            connecting = loop.create_connection(factory, *listener.getsockname())
        transport, protocol = await connecting
        peer, _ = listener.accept()
    if kind != "unix":
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setblocking(False)
    return transport, protocol, peer


async def pair(kind="tcp", left=Recorder, right=Recorder):
    """Two protocols that talk to each other; each has its transport."""
    a, b = socketpair(kind)
    _, one = await connect_sock(a, left)
    _, two = await connect_sock(b, right)
    return one, two


async def close(*protocols):
    """Abort the transports of these protocols and see them end."""
    for protocol in protocols:
        protocol.transport.abort()
    for protocol in protocols:
        await protocol.saw("lost")


async def recv_exactly(sock, size):
    loop = asyncio.get_running_loop()
    out = bytearray()
    while len(out) < size:
        data = await loop.sock_recv(sock, min(262144, size - len(out)))
        if not data:
            break
        out += data
    return bytes(out)


async def recv_all(sock):
    """Everything up to the end of the stream."""
    return await recv_exactly(sock, 1 << 62)


def drain(sock):
    """What waits in a non-blocking socket now; None for a reset."""
    out = bytearray()
    while True:
        try:
            data = sock.recv(262144)
        except BlockingIOError:
            return bytes(out)
        except ConnectionError:
            return None
        if not data:
            return bytes(out)
        out += data


def fill(transport, chunk=65536, limit=64 << 20):
    """Write until the transport has to queue; returns the bytes written."""
    total = 0
    while transport.get_write_buffer_size() == 0:
        transport.write(b"x" * chunk)
        total += chunk
        assert total < limit
    return total


def reset(sock):
    """Close so that the peer gets ECONNRESET (TCP)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                    b"\x01\0\0\0\0\0\0\0")
    sock.close()
