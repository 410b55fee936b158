"""Random programs over the transports, and what must hold of them whatever the kernel does.

A seed is a program: links between two ends in this process, and what each end does at which
time or in its nth callback.  The same seed decides what the kernel lies about (lying.c).
"""
import asyncio
import ctypes
import errno
import os
import random
import socket

PERIOD = 251 * 256
MOST = 1 << 20          # bytes that one end sends
PATTERN = bytes((i * 7 + i // 251) % 251 for i in range(PERIOD)) * (MOST // PERIOD + 2)
END, ABORT, DONE = 30.0, 400.0, 800.0   # seconds of the program's own clock
LIES = ("short", "again", "reset", "nobufs", "emfile", "delay", "jump")
FATAL = ("reset", "nobufs")
SOCKETS = ("unix", "server", "tcp")


def pattern(at, n):
    """The bytes from `at` on that every end sends."""
    start = at % PERIOD
    return PATTERN[start:start + n]


class Kernel:
    """The preloaded library; without it, an honest kernel."""

    def __init__(self):
        try:
            self._lib = ctypes.CDLL(None)
            self._lib.lie_begin
        except AttributeError:
            raise RuntimeError("lying.so is not preloaded") from None

    def begin(self, seed, chances):
        self._lib.lie_begin(ctypes.c_uint64(seed), (ctypes.c_uint * len(LIES))(*chances))

    def adopt(self, fd, dgram=False, pipe=False):
        self._lib.lie_adopt(fd, int(dgram), int(pipe))

    def end(self):
        counts = (ctypes.c_uint64 * (3 + len(LIES)))()
        self._lib.lie_end(counts)
        steps, *lies, bad_closes, stuck = counts
        return {"steps": steps, "bad_closes": bad_closes, "stuck": stuck,
                **dict(zip(LIES, lies, strict=True))}


class End:
    """One end of a link: what it did and saw, whatever protocol shows it."""

    def __init__(self, program, link, side):
        self.program, self.link, self.side = program, link, side
        self.name = f"link {link.number} ({link.kind}) end {side}"
        self.transport = None
        self.made = self.lost = self.callbacks = self.sent = self.got = 0
        self.eof = self.reading_paused = self.writing_paused = False
        self.said_eof = self.asked_end = self.aborted = False
        self.exc = None
        self.reactions = program.reactions.get((link.number, side), {})

    @property
    def peer(self):
        return self.link.ends[1 - self.side]

    def wrong(self, what):
        self.program.wrong.append(f"{self.name}: {what}")

    # -- what the loop calls ---------------------------------------------------

    def on_made(self, transport):
        self.made += 1
        if self.made > 1 or self.lost or self.got or self.eof:
            self.wrong("connection_made() out of order")
        self.transport = transport
        self.react()

    def on_data(self, data):
        n = len(data)
        if not self.made or self.lost or self.eof:
            self.wrong("data out of order")
        if self.reading_paused:
            self.wrong("data while reading is paused")
        if not n:
            self.wrong("no data")
        if bytes(data) != pattern(self.got, n):
            self.wrong(f"other bytes at {self.got}")
        self.got += n
        if self.got > self.peer.sent:
            self.wrong(f"{self.got} bytes came of {self.peer.sent}")
        self.react()

    def on_eof(self):
        if not self.made or self.lost or self.eof:
            self.wrong("eof_received() out of order")
        self.eof = True
        if not self.link.may_lose() and self.got != self.peer.sent:
            self.wrong(f"the end came after {self.got} bytes of {self.peer.sent}")
        self.react()
        return self.link.kind in SOCKETS and self.link.number % 2 == 0

    def on_lost(self, exc):
        self.lost += 1
        self.exc = exc
        if not self.made or self.lost > 1:
            self.wrong("connection_lost() out of order")
        if exc is not None and not isinstance(exc, OSError):
            self.wrong(f"connection_lost({exc!r})")
        if self.link.kind in SOCKETS and self.transport.get_write_buffer_size():
            self.wrong("a lost transport has bytes to write")
        self.react()

    def on_pause(self):
        if self.writing_paused or not self.made or self.lost:
            self.wrong("pause_writing() out of order")
        self.writing_paused = True
        self.react()

    def on_resume(self):
        if not self.writing_paused or self.lost:
            self.wrong("resume_writing() out of order")
        self.writing_paused = False
        self.react()

    def react(self):
        """Do what the program has for this callback."""
        self.callbacks += 1
        for op, arg in self.reactions.get(self.callbacks, ()):
            self.do(op, arg)

    # -- what the program does ---------------------------------------------------

    def do(self, op, arg):
        if self.transport is None:
            return
        try:
            getattr(self, "do_" + op)(arg)
        except Exception as exc:
            self.wrong(f"{op}({arg}) raised {exc!r}")

    def _may_write(self):
        writes = self.link.kind != "pipe" or self.side == 0
        return writes and not (self.said_eof or self.transport.is_closing() or self.lost)

    def _next(self, n):
        n = min(n, MOST - self.sent)
        data = pattern(self.sent, n)
        self.sent += n
        return data

    def do_write(self, n):
        if self._may_write() and n:
            data = self._next(n)
            self.transport.write((bytes, bytearray, memoryview)[n % 3](data))

    def do_writelines(self, n):
        if self._may_write() and n:
            data = self._next(n)
            cut = n // 3
            self.transport.writelines([data[:cut], data[cut:2 * cut], data[2 * cut:]])

    def do_eof(self, arg):
        if self._may_write() and self.transport.can_write_eof():
            self.said_eof = True
            try:
                self.transport.write_eof()
            except OSError as exc:      # as asyncio: the peer has reset the connection
                if exc.errno != errno.ENOTCONN:
                    raise

    def do_close(self, arg):
        self.asked_end = True
        self.transport.close()

    def do_abort(self, arg):
        self.asked_end = self.aborted = True
        # asyncio's pipes that are read have none
        getattr(self.transport, "abort", self.transport.close)()

    def do_pause(self, arg):
        if self.link.kind != "pipe" or self.side == 1:
            self.transport.pause_reading()
            self.reading_paused = not self.transport.is_closing()

    def do_resume(self, arg):
        if self.link.kind != "pipe" or self.side == 1:
            self.reading_paused = False
            self.transport.resume_reading()

    def do_limits(self, high):
        if self.link.kind != "pipe" or self.side == 0:
            self.transport.set_write_buffer_limits(high)

    def do_switch(self, arg):
        protocol = Buffered(self) if arg % 2 else Plain(self)
        if self.link.kind != "pipe":
            self.transport.set_protocol(protocol)

    def do_look(self, arg):
        if self.link.kind == "pipe" and self.side == 1:
            return
        if not 0 <= self.transport.get_write_buffer_size() <= self.sent + 65536:
            self.wrong("get_write_buffer_size() is impossible")
        self.transport.get_extra_info("peername")


class Plain(asyncio.Protocol):
    def __init__(self, end):
        self.end = end
        self.connection_made, self.connection_lost = end.on_made, end.on_lost
        self.data_received, self.eof_received = end.on_data, end.on_eof
        self.pause_writing, self.resume_writing = end.on_pause, end.on_resume


class Buffered(asyncio.BufferedProtocol):
    def __init__(self, end):
        self.end = end
        self.memory = memoryview(bytearray(100 + (end.sent + 4099 * end.link.number) % 70_000))
        self.connection_made, self.connection_lost = end.on_made, end.on_lost
        self.eof_received = end.on_eof
        self.pause_writing, self.resume_writing = end.on_pause, end.on_resume

    def get_buffer(self, hint):
        return self.memory

    def buffer_updated(self, n):
        self.end.on_data(self.memory[:n])


class Datagrams(asyncio.DatagramProtocol):
    """Datagrams come whole and in order; some may be missing after an error."""

    def __init__(self, end):
        self.end, self.last, self.counted = end, -1, 0
        self.connection_lost = end.on_lost
        self.pause_writing, self.resume_writing = end.on_pause, end.on_resume

    def connection_made(self, transport):
        self.end.on_made(transport)

    def datagram_received(self, data, addr):
        number = int.from_bytes(data[:4], "big")
        if self.end.lost or number <= self.last or data[4:] != pattern(number, len(data) - 4):
            self.end.wrong(f"datagram {number} after {self.last}")
        self.last = number
        self.counted += 1
        self.end.got = self.end.sent    # of no use here
        self.end.react()

    def error_received(self, exc):
        if not isinstance(exc, OSError):
            self.end.wrong(f"error_received({exc!r})")


class StreamEnd(End):
    """An end whose bytes a task reads and checks, with asyncio's streams."""

    reader = None

    def do_nothing(self, arg):
        pass

    do_pause = do_resume = do_switch = do_nothing

    async def consume(self, reader, writer):
        self.on_made(writer.transport)
        try:
            while data := await self.read(reader):
                self.on_data(data)
                if self.got % 3 == 0:
                    await writer.drain()
            if not self.asked_end:      # else the reader ends with its own transport
                self.on_eof()
            await writer.wait_closed()
        except OSError as exc:
            self.exc = exc
        # the program closes what it has not closed itself
        writer.close()
        self.lost = 1

    async def read(self, reader):
        n = 1 + self.got * 31 % 5000
        if n % 4:
            return await reader.read(n)
        try:
            return await reader.readexactly(n)
        except asyncio.IncompleteReadError as exc:
            return exc.partial


class DatagramEnd(End):
    number = 0

    def do_write(self, n):
        if self._may_write():
            number = self.number
            self.number += 1
            self.transport.sendto(number.to_bytes(4, "big") + pattern(number, n % 3000))

    do_writelines = do_write

    def do_nothing(self, arg):
        pass

    do_eof = do_pause = do_resume = do_switch = do_nothing


class Link:
    def __init__(self, program, number, kind):
        self.program, self.number, self.kind = program, number, kind
        self.ends = [self.end_of(side) for side in (0, 1)]
        self.tasks = []

    def end_of(self, side):
        if self.kind == "dgram":
            return DatagramEnd(self.program, self, side)
        if self.kind in SOCKETS and self.program.flavours[self.number][side] == 2:
            return StreamEnd(self.program, self, side)
        return End(self.program, self, side)

    def may_lose(self):
        """Whether bytes may be lost: the kernel said so, or an end was cut off."""
        fatal = any(self.program.chances[LIES.index(lie)] for lie in FATAL)
        return fatal or any(end.aborted or end.lost for end in self.ends)

    def protocol(self, side):
        end = self.ends[side]
        if self.kind == "dgram":
            return Datagrams(end)
        if isinstance(end, StreamEnd):
            reader = asyncio.StreamReader(limit=2000)
            return asyncio.StreamReaderProtocol(reader, end.consume)
        return Buffered(end) if self.program.flavours[self.number][side] else Plain(end)

    async def open(self, loop, kernel):
        await getattr(self, "open_" + self.kind)(loop, kernel)

    async def open_unix(self, loop, kernel, **tls):
        socks = socket.socketpair()
        for sock in socks:
            sock.setblocking(False)
            kernel.adopt(sock.fileno())
        client, server = {}, {}
        if tls:
            client = {"ssl": tls["client"], "server_hostname": "localhost"}
            server = {"ssl": tls["server"]}
        both = [asyncio.ensure_future(loop.create_connection(
                    lambda: self.protocol(0), sock=socks[0], **client)),
                asyncio.ensure_future(loop.connect_accepted_socket(
                    lambda: self.protocol(1), sock=socks[1], **server))]
        self.tasks += both
        if not tls:
            await asyncio.gather(*both)

    async def open_tls(self, loop, kernel):
        server, client = self.program.contexts
        await self.open_unix(loop, kernel, client=client, server=server)

    async def open_server(self, loop, kernel):
        path = os.path.join(self.program.directory, f"{self.program.seed}-{self.number}")
        await self.open_accepted(loop, kernel, socket.AF_UNIX, path)

    async def open_tcp(self, loop, kernel):
        await self.open_accepted(loop, kernel, socket.AF_INET, ("127.0.0.1", 0))

    async def open_accepted(self, loop, kernel, family, address):
        listening = socket.socket(family)
        listening.bind(address)
        listening.listen()
        sock = socket.socket(family)
        sock.connect(listening.getsockname())
        sock.setblocking(False)
        kernel.adopt(listening.fileno())
        kernel.adopt(sock.fileno())
        of_unix = family == socket.AF_UNIX
        serve = loop.create_unix_server if of_unix else loop.create_server
        connect = loop.create_unix_connection if of_unix else loop.create_connection
        self.server = await serve(lambda: self.protocol(1), sock=listening)
        await connect(lambda: self.protocol(0), sock=sock)

    async def open_pipe(self, loop, kernel):
        read, write = os.pipe()
        for fd in (read, write):
            kernel.adopt(fd, pipe=True)
        await loop.connect_write_pipe(lambda: self.protocol(0), open(write, "wb", 0))
        await loop.connect_read_pipe(lambda: Plain(self.ends[1]), open(read, "rb", 0))

    async def open_dgram(self, loop, kernel):
        socks = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for side, sock in enumerate(socks):
            sock.setblocking(False)
            kernel.adopt(sock.fileno(), dgram=True)
            await loop.create_datagram_endpoint(lambda: self.protocol(side), sock=sock)

    def check(self):
        """At the end: every end that was made is lost."""
        for end in self.ends:
            if end.made != end.lost:
                end.wrong(f"connection_made() {end.made} times, connection_lost() {end.lost}")
        for task in self.tasks:
            if not task.done():
                self.ends[0].wrong("opening the connection never ends")
            elif not task.cancelled() and task.exception():
                if not isinstance(task.exception(), OSError):
                    self.ends[0].wrong(f"opening the connection raised {task.exception()!r}")


OPS = ("write",) * 8 + ("writelines",) * 3 + (
    "eof", "close", "abort", "pause", "pause", "resume", "resume", "resume", "limits", "switch",
    "look")
SIZES = (1, 10, 1000, 20_000, 70_000, 300_000)


class Program:
    """What a seed stands for; `without` are numbers of operations to leave out."""

    def __init__(self, seed, contexts, without=()):
        rng = random.Random(seed)
        self.seed, self.contexts, self.wrong = seed, contexts, []
        scale = (0, 100, 1000, 4000)
        self.chances = [rng.choice(scale), rng.choice(scale), rng.choice((0, 0, 0, 30)),
                        rng.choice((0, 0, 0, 30)), rng.choice((0, 5000)), rng.choice(scale),
                        rng.choice((0, 0, 100))]
        kinds = [rng.choice(("unix", "unix", "server", "tcp", "tls", "pipe", "dgram"))
                 for _ in range(rng.randint(1, 4))]
        self.flavours = [(rng.randrange(3), rng.randrange(3)) for _ in kinds]
        self.ops = [op for n, op in enumerate(self._draw(rng, len(kinds))) if n not in without]
        self.reactions = {}
        for when, link, side, op, arg in self.ops:
            if isinstance(when, int):
                self.reactions.setdefault((link, side), {}).setdefault(when, []).append((op, arg))
        self.links = [Link(self, number, kind) for number, kind in enumerate(kinds)]

    @staticmethod
    def _draw(rng, links):
        """Operations: when (a time, or the number of a callback), link, end, what, argument."""
        for _ in range(rng.choice((5, 20, 60, 200))):
            when = rng.uniform(0, 20) if rng.random() < 0.6 else rng.randint(1, 12)
            op = rng.choice(OPS)
            arg = rng.choice(SIZES) + rng.randrange(7)
            yield when, rng.randrange(links), rng.randrange(2), op, arg

    def reported(self, loop, context):
        """The exception handler: what a kernel's error may be reported as, and nothing else."""
        exc = context.get("exception")
        if not isinstance(exc, OSError) or exc.errno in (errno.EBADF, errno.EINVAL):
            self.wrong.append(f"reported: {context['message']}: {exc!r}")

    def each_end(self, op, arg=0):
        for link in self.links:
            for end in link.ends:
                if end.made and not end.lost:
                    end.do(op, arg)

    async def main(self, kernel):
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self.reported)
        loop.slow_callback_duration = 1e9
        began = loop.time()
        for link in self.links:
            await link.open(loop, kernel)
        for when, link, side, op, arg in self.ops:
            if isinstance(when, float):
                loop.call_at(began + when, self.links[link].ends[side].do, op, arg)
        ended = loop.create_future()
        loop.call_at(began + END, self.each_end, "resume")
        loop.call_at(began + END, self.each_end, "close")
        loop.call_at(began + ABORT, self.each_end, "abort")
        loop.call_at(began + DONE, ended.set_result, None)
        await ended
        for link in self.links:
            if hasattr(link, "server"):
                link.server.close()
        # a jump of the clock may have brought everything at once
        for _ in range(200):
            await asyncio.sleep(1)
            self.each_end("abort")
        for link in self.links:
            link.check()

    def run(self, factory, kernel, directory):
        """Run it; what went wrong, and what the kernel counted."""
        before = len(os.listdir("/proc/self/fd"))
        self.directory = directory
        loop = factory()
        kernel.begin(self.seed, self.chances)
        try:
            loop.run_until_complete(self.main(kernel))
        finally:
            counts = kernel.end()
            loop.close()
        self.check(counts, len(os.listdir("/proc/self/fd")) - before)
        return counts

    def check(self, counts, descriptors):
        if descriptors:
            self.wrong.append(f"{descriptors} descriptors more than before")
        if counts["bad_closes"]:
            self.wrong.append("a descriptor was closed twice")
        if counts["stuck"]:
            self.wrong.append("the loop waits for nothing")

    def summary(self):
        """What another loop must show too, where nothing was lost or cut off."""
        return [None if link.may_lose() or link.kind == "tls" else
                [(end.made, end.lost, end.eof, end.sent, end.got) for end in link.ends]
                for link in self.links]
