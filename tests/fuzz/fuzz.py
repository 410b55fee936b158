#!/usr/bin/env python3
"""libFuzzer on the extension: what it did not reach yet, by inputs that it changes again and again.

    fuzz.py tls|addresses|arguments [CORPUS...] [-max_total_time=600] [-runs=N] [FILE: one input again]

`make fuzz-deep` builds the extension with clang, its counters and AddressSanitizer, and runs each
target. The options are libFuzzer's (atheris). An input is a program of the target:

tls         one end is a transport, the other an SSLObject. Between them records come in pieces, twice,
            in another order, with other bytes, or not at all, before, in and behind the handshake
addresses   sendto() and sock_sendto() with any address; datagrams from Unix sockets of any name
arguments   methods with arguments by place and name, right and wrong
"""
import asyncio
import contextlib
import ctypes
import fcntl
import os
import pathlib
import socket
import ssl
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tls")]

import atheris  # noqa: E402


class Wrong(Exception):
    """The loop did what it must not do."""


def alone():
    """A network of our own: nobody is asked for the names that come by chance."""
    clone_newuser, clone_newnet = 0x10000000, 0x40000000
    if ctypes.CDLL(None, use_errno=True).unshare(clone_newuser | clone_newnet):
        raise OSError(ctypes.get_errno(), "unshare()")
    with socket.socket() as sock:
        up = struct.pack("16sh14x", b"lo", 1)
        fcntl.ioctl(sock, 0x8914, up)       # SIOCSIFFLAGS


def new_loop(name="tidewire"):
    import support
    loop = support.factory(name)()
    loop.reports = []
    loop.set_exception_handler(lambda loop, context: loop.reports.append(context))
    return loop


# -- TLS ------------------------------------------------------------------------------

class Told(asyncio.Protocol):
    """Checks the order of what it is told, and that the bytes are those that were sealed."""

    def __init__(self, target):
        self.target, self.state, self.got = target, "new", 0

    def step(self, expected, state):
        if self.state not in expected:
            raise Wrong(f"{state} after {self.state}")
        self.state = state

    def connection_made(self, transport):
        self.step(("new",), "open")
        self.transport = transport

    def data_received(self, data):
        self.step(("open",), "open")
        if bytes(data) != self.target.sealed[self.got:self.got + len(data)]:
            raise Wrong("other bytes")
        self.got += len(data)

    def eof_received(self):
        self.step(("open",), "eof")

    def connection_lost(self, exc):
        self.step(("open", "eof"), "lost")
        if exc is not None and not isinstance(exc, OSError):
            raise Wrong(f"connection_lost({exc!r})")


class ToldBuffered(Told, asyncio.BufferedProtocol):
    memory = memoryview(bytearray(3000))
    data_received = None

    def get_buffer(self, hint):
        return self.memory

    def buffer_updated(self, n):
        Told.data_received(self, self.memory[:n])


def records(data):
    """Split at the borders of TLS records."""
    found = []
    while data:
        n = 5 + int.from_bytes(data[3:5], "big")
        found.append(data[:n])
        data = data[n:]
    return found


class TLS:
    def __init__(self):
        import tlskit
        self.loop = new_loop()
        self.kit = tlskit
        self.contexts = [(tlskit.client_context(v), tlskit.server_context(v)) for v in tlskit.VERSIONS]

    def one(self, data):
        self.loop.run_until_complete(self.play(atheris.FuzzedDataProvider(data)))

    def begin(self, chosen):
        client, server = self.contexts[chosen.ConsumeBool()]
        self.sealed, self.wire, self.shut = b"", [], False
        self.ours, self.theirs = socket.socketpair()
        for sock in self.ours, self.theirs:
            sock.setblocking(False)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.protocol = (Told, ToldBuffered)[chosen.ConsumeBool()](self)
        if chosen.ConsumeBool():
            self.peer = client.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
            return self.loop.connect_accepted_socket(lambda: self.protocol, self.ours, ssl=server)
        self.peer = server.wrap_bio(self.incoming, self.outgoing, server_side=True)
        return self.loop.create_connection(
            lambda: self.protocol, sock=self.ours, ssl=client, server_hostname="localhost")

    def drive(self):
        """The peer reads what came, and answers into `wire`."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while data := self.theirs.recv(1 << 18):
                self.incoming.write(data)
        with contextlib.suppress(ssl.SSLError, OSError):
            self.peer.do_handshake()
            while self.peer.read(1 << 16):
                pass
        self.wire += records(self.outgoing.read())

    def send(self, data):
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self.theirs.send(data)

    async def turns(self, n):
        for _ in range(n):
            await asyncio.sleep(0)

    async def play(self, chosen):
        making = asyncio.ensure_future(self.begin(chosen))
        for _ in range(chosen.ConsumeIntInRange(0, 12)):      # so much of an honest handshake
            await self.turns(2)
            self.drive()
            self.send(b"".join(self.wire))
            self.wire.clear()
        await self.turns(3)
        while chosen.remaining_bytes():
            self.change(chosen.ConsumeIntInRange(0, 17), chosen)
            if chosen.ConsumeIntInRange(0, 3) == 0:
                await self.turns(2)
                self.drive()
        await self.end(making)

    def change(self, what, chosen):
        wire, n = self.wire, chosen.ConsumeIntInRange(0, 40000)
        if what < 4:
            self.seal(n)
        elif what == 4:
            with contextlib.suppress(ssl.SSLError):
                self.peer.unwrap()
            self.drive()
        elif what == 5:
            self.send(chosen.ConsumeBytes(n % 100))
        elif what == 6:
            body = chosen.ConsumeBytes(n % 50)
            self.send(bytes([20 + n % 5, 3, n % 5]) + len(body).to_bytes(2, "big") + body)
        elif what == 7:
            self.theirs.shutdown(socket.SHUT_WR) if not self.shut else None
            self.shut = True
        elif what > 13:
            self.act(what - 14, n)
        elif wire:
            self.change_wire(what - 8, n)

    def seal(self, n):
        data = bytes([len(self.sealed) % 251]) * n
        with contextlib.suppress(ssl.SSLError):
            if data:
                self.peer.write(data)
                self.sealed += data
        self.wire += records(self.outgoing.read())

    def change_wire(self, what, n):
        """Send the first record, or a part of it; or put the records in another order."""
        wire = self.wire
        at = n % len(wire)
        if what == 0:
            self.send(wire.pop(0))
        elif what == 1:
            cut = n % len(wire[0]) + 1
            self.send(wire[0][:cut])
            wire[0] = wire[0][cut:]
            if not wire[0]:
                del wire[0]
        elif what == 2:
            changed = bytearray(wire[at])
            changed[n // 7 % len(changed)] ^= 1 << n % 8
            wire[at] = bytes(changed)
        elif what == 3:
            wire[0], wire[at] = wire[at], wire[0]
        elif what == 4:
            wire.insert(0, wire[at])
        else:
            del wire[at]

    def act(self, what, n):
        if self.protocol.state not in ("open", "eof"):
            return
        transport = self.protocol.transport
        if what == 0:
            transport.write(b"w" * n)
        elif what == 1:
            transport.pause_reading() if transport.is_reading() else transport.resume_reading()
        elif what == 2:
            transport.set_write_buffer_limits(n)
        elif n % 4 == 0:
            transport.close()
        elif n % 4 == 1:
            transport.abort()
        else:
            transport.writelines([b"x" * (n % 999), b"y"])

    async def end(self, making):
        for record in self.wire:
            self.send(record)
        await self.turns(3)
        self.theirs.close()
        await self.turns(2)
        if self.protocol.state in ("open", "eof"):
            self.protocol.transport.abort()
        await asyncio.wait([making], timeout=10)
        if not making.done():
            raise Wrong("the handshake never ends")
        if making.exception() and not isinstance(making.exception(), OSError):
            raise making.exception()
        await self.turns(3)
        if self.protocol.state not in ("new", "lost"):
            raise Wrong(f"not lost: {self.protocol.state}")
        for context in self.loop.reports:
            if not isinstance(context.get("exception"), OSError):
                raise Wrong(f"reported: {context}")
        self.loop.reports.clear()


# -- addresses -----------------------------------------------------------------------

LETTERS = "0123456789abcdefABCDEF:.%xlo/[]\0 "


def host(chosen):
    kind = chosen.ConsumeIntInRange(0, 3)
    if kind == 0:
        return chosen.ConsumeUnicode(chosen.ConsumeIntInRange(0, 60))
    if kind == 1:
        return chosen.ConsumeBytes(chosen.ConsumeIntInRange(0, 120))
    drawn = chosen.ConsumeBytes(chosen.ConsumeIntInRange(0, 50))
    return "".join(LETTERS[b % len(LETTERS)] for b in drawn)


def number(chosen):
    kind = chosen.ConsumeIntInRange(0, 6)
    if kind < 3:
        return chosen.ConsumeIntInRange(0, 65535)
    if kind < 5:
        return chosen.ConsumeInt(chosen.ConsumeIntInRange(1, 9))
    return (None, True, 1.5, "80", b"80", 2 ** 70, [])[chosen.ConsumeIntInRange(0, 6)]


def address(chosen):
    kind = chosen.ConsumeIntInRange(0, 9)
    if kind < 2:
        return host(chosen)
    if kind == 2:
        return (None, 5, [], {}, object(), bytearray(b"x"))[chosen.ConsumeIntInRange(0, 5)]
    parts = [host(chosen)] + [number(chosen) for _ in range(chosen.ConsumeIntInRange(0, 4))]
    return tuple(parts) if kind > 3 else parts


class Noting(asyncio.DatagramProtocol):
    def __init__(self):
        self.noted = []

    def datagram_received(self, data, addr):
        self.noted.append(("datagram", data, addr))

    def error_received(self, exc):
        self.noted.append(("error", type(exc), exc.errno))

    def connection_lost(self, exc):
        self.noted.append(("lost", exc))


class Side:
    """A loop with endpoints of each family."""

    def __init__(self, name):
        self.loop = new_loop(name)
        self.made = {}

    async def endpoint(self, family):
        made = self.made.get(family)
        if made is None or made[0].is_closing():
            sock = socket.socket(family, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.bind(b"" if family == socket.AF_UNIX else ("", 0))
            made = await self.loop.create_datagram_endpoint(Noting, sock=sock)
            self.made[family] = made
        made[1].noted.clear()
        return made

    async def turns(self):
        for _ in range(3):
            await asyncio.sleep(0)

    async def sendto(self, family, where):
        transport, protocol = await self.endpoint(family)
        try:
            transport.sendto(b"", where)
        except Exception as exc:
            return type(exc)
        await self.turns()
        reported = [type(c.get("exception")) for c in self.loop.reports]
        self.loop.reports.clear()
        return protocol.noted[:], reported

    async def sock_sendto(self, family, where):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            try:
                return await self.loop.sock_sendto(sock, b"", where)
            except Exception as exc:
                return type(exc), getattr(exc, "errno", None)

    async def received(self, name):
        """What is told of a sender with this name."""
        transport, protocol = await self.endpoint(socket.AF_UNIX)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            try:
                sock.bind(b"\0" + name)
            except OSError:
                return None
            sock.sendto(b"hello", transport.get_extra_info("socket").getsockname())
            await asyncio.sleep(0)
            await self.turns()
        return protocol.noted[:]


class Addresses:
    def __init__(self):
        alone()
        self.sides = [Side("stock"), Side("tidewire")]

    def one(self, data):
        chosen = atheris.FuzzedDataProvider(data)
        what = chosen.ConsumeIntInRange(0, 2)
        family = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)[chosen.ConsumeIntInRange(0, 2)]
        if what == 2:
            arguments = "received", chosen.ConsumeBytes(107)
        else:
            arguments = ("sendto", "sock_sendto")[what], family, address(chosen)
        got = [side.loop.run_until_complete(getattr(side, arguments[0])(*arguments[1:]))
               for side in self.sides]
        if got[0] != got[1]:
            raise Wrong(f"{arguments}: {got[0]} on asyncio, {got[1]} here")


# -- arguments ------------------------------------------------------------------------

METHODS = {
    "loop": {"call_soon": ("callback",), "call_soon_threadsafe": ("callback",),
             "call_later": ("delay", "callback"), "call_at": ("when", "callback"),
             "sock_recv": ("sock", "nbytes"), "sock_recv_into": ("sock", "buf"),
             "sock_recvfrom": ("sock", "bufsize"), "sock_recvfrom_into": ("sock", "buf", "nbytes"),
             "sock_sendall": ("sock", "data"), "sock_sendto": ("sock", "data", "address"),
             "sock_accept": ("sock",), "sock_connect": ("sock", "address"),
             "add_reader": ("fd", "callback"), "remove_reader": ("fd",), "set_debug": ("enabled",),
             "get_debug": (), "is_running": (), "time": (), "create_future": ()},
    "transport": {"write": ("data",), "writelines": ("list_of_data",),
                  "get_extra_info": ("name", "default"),
                  "set_write_buffer_limits": ("high", "low"), "get_write_buffer_size": (),
                  "get_write_buffer_limits": (), "pause_reading": (), "resume_reading": (),
                  "is_reading": (), "is_closing": (), "set_protocol": ("protocol",),
                  "can_write_eof": ()},
    "datagram": {"sendto": ("data", "addr"), "get_extra_info": ("name", "default")},
}


class Arguments:
    def __init__(self):
        self.calls, self.peers = 0, []
        self.loops = [new_loop("stock"), new_loop()]
        self.objects = [loop.run_until_complete(self.make(loop)) for loop in self.loops]
        self.methods = [(kind, name) for kind, names in METHODS.items() for name in names]

    async def make(self, loop):
        a, a_peer = socket.socketpair()
        b, b_peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.peers += a_peer, b_peer
        for sock in a, b:
            sock.setblocking(False)
        return {"loop": loop,
                "transport": (await loop.create_connection(asyncio.Protocol, sock=a))[0],
                "datagram": (await loop.create_datagram_endpoint(
                    asyncio.DatagramProtocol, sock=b))[0]}

    def value(self, chosen):
        return (None, 0, 1, -1, 70000, 2 ** 80, 0.5, "", "name", "socket", b"", bytearray(8),
                memoryview(b"z"), (), [], [b""], {}, int, float("nan"),
                True)[chosen.ConsumeIntInRange(0, 19)]

    def one(self, data):
        chosen = atheris.FuzzedDataProvider(data)
        kind, name = self.methods[chosen.ConsumeIntInRange(0, len(self.methods) - 1)]
        places = [self.value(chosen) for _ in range(chosen.ConsumeIntInRange(0, 5))]
        names = [*METHODS[kind][name], "context", "nobody", "", "callback", "data"]
        by_name = {names[chosen.ConsumeIntInRange(0, len(names) - 1)]: self.value(chosen)
                   for _ in range(chosen.ConsumeIntInRange(0, 4))}
        self.turn()
        if self.is_different(name, places, by_name):
            return
        got = [self.call(objects[kind], name, places, by_name) for objects in self.objects]
        if got[0] != got[1]:
            raise Wrong(f"{kind}.{name}(*{places}, **{by_name}): {got[0]} on asyncio, {got[1]} here")

    def is_different(self, name, places, by_name):
        """What docs/differences.rst names: times are real numbers, limits are rounded first."""
        if name in ("call_at", "call_later"):
            when = places[0] if places else by_name.get("delay", by_name.get("when"))
            return not isinstance(when, (int, float))
        return name == "set_write_buffer_limits" and any(
            isinstance(n, float) for n in (*places, *by_name.values()))

    def turn(self):
        """Cancelled timers have to go."""
        self.calls += 1
        if self.calls % 1000 == 0:
            for loop in self.loops:
                loop.run_until_complete(asyncio.sleep(0))
                loop.reports.clear()

    def call(self, thing, name, places, by_name):
        """Does it take these arguments? What it does with them tests/machine compares."""
        try:
            result = getattr(thing, name)(*places, **by_name)
        except TypeError:
            return "TypeError"
        except Exception:
            # limits that are no integers are refused for another reason
            return "TypeError" if name == "set_write_buffer_limits" else "taken"
        if asyncio.iscoroutine(result):
            with contextlib.suppress(BaseException):
                result.close()
        with contextlib.suppress(AttributeError):
            result.cancel()
        return "taken"


TARGETS = {"tls": TLS, "addresses": Addresses, "arguments": Arguments}


def main():
    import warnings
    warnings.simplefilter("ignore")
    target = TARGETS[sys.argv.pop(1)]()
    atheris.Setup(sys.argv, target.one)
    atheris.Fuzz()


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
    main()
