"""Protocols that check what a loop promises: the order of callbacks, and the bytes."""
import asyncio

DATA = bytes(range(256)) * 300

# Every protocol of this process: the judge asks each whether it was lost.
MADE = []


class Corrupt(Exception):
    """Bytes were lost in the middle, changed, reordered or doubled."""


class Broken(Exception):
    """Something else that a loop must never do."""


class Checked:
    """connection_made(), then data, eof_received() once at most, connection_lost(), then nothing."""

    def __init__(self, name="protocol"):
        self.name, self.state, self.got = name, "new", bytearray()
        self.is_paused = False
        self.exc = None
        self.lost = asyncio.get_running_loop().create_future()
        MADE.append(self)

    def must_be(self, *states):
        if self.state not in states:
            raise Broken(f"{self.name}: a callback in state {self.state}")

    def connection_made(self, transport):
        self.must_be("new")
        self.state = "open"
        self.transport = transport

    def connection_lost(self, exc):
        self.must_be("open", "eof")
        self.state = "lost"
        self.exc = exc
        self.lost.done() or self.lost.set_result(exc)

    def eof_received(self):
        self.must_be("open")
        self.state = "eof"

    def pause_writing(self):
        self.must_be("open", "eof")
        if self.is_paused:
            raise Broken(f"{self.name} is paused twice")
        self.is_paused = True

    def resume_writing(self):
        self.must_be("open", "eof")
        if not self.is_paused:
            raise Broken(f"{self.name} is resumed, and was not paused")
        self.is_paused = False


class Sink(Checked, asyncio.Protocol):
    def data_received(self, data):
        self.must_be("open")
        self.got += data


class Echo(Checked, asyncio.Protocol):
    def data_received(self, data):
        self.must_be("open")
        self.got += data
        self.transport.write(data)


class BufferedEcho(Checked, asyncio.BufferedProtocol):
    def __init__(self):
        super().__init__("server")
        self.buffer = bytearray(3000)

    def get_buffer(self, hint):
        self.must_be("open")
        return memoryview(self.buffer)

    def buffer_updated(self, n):
        self.must_be("open")
        self.transport.write(bytes(self.buffer[:n]))


class Sending(Checked):
    """Sends its data by every method, and closes when all of it came back."""

    def __init__(self, data=DATA):
        super().__init__("client")
        self.data = data

    def connection_made(self, transport):
        super().connection_made(transport)
        step = max(1, len(self.data) // 4)
        transport.write(self.data[:100])
        transport.write(self.data[100:200])
        transport.writelines([self.data[200:step], self.data[step:2 * step]])
        transport.write(bytearray(self.data[2 * step:3 * step]))
        transport.write(memoryview(self.data)[3 * step:])

    def came(self, data):
        self.must_be("open")
        self.got += data
        if not self.data.startswith(bytes(self.got)):
            raise Corrupt(f"{len(self.got)} bytes are no beginning of what was sent")
        if len(self.got) == len(self.data):
            self.transport.close()


class Client(Sending, asyncio.Protocol):
    def data_received(self, data):
        self.came(data)


class BufferedClient(Sending, asyncio.BufferedProtocol):
    def __init__(self, data=DATA):
        super().__init__(data)
        self.buffer = bytearray(5000)

    def get_buffer(self, hint):
        self.must_be("open")
        return memoryview(self.buffer)      # asyncio's TLS does not accept a bytearray

    def buffer_updated(self, n):
        self.came(self.buffer[:n])


class Datagrams(Checked, asyncio.DatagramProtocol):
    def __init__(self, echoes):
        super().__init__("datagrams")
        self.echoes, self.got, self.errors = echoes, [], []
        self.news = asyncio.Event()

    def datagram_received(self, data, addr):
        self.must_be("open")
        self.got.append(data)
        if self.echoes:
            self.transport.sendto(data, addr)
        self.news.set()

    def error_received(self, exc):
        self.must_be("open")
        self.errors.append(exc)
        self.news.set()

    def connection_lost(self, exc):
        super().connection_lost(exc)
        self.news.set()


async def ended(*protocols):
    """Wait until each that was connected is lost."""
    for protocol in protocols:
        if protocol.state != "new":
            await protocol.lost


def abort_all(protocols):
    for protocol in protocols:
        if protocol.state in ("open", "eof"):
            protocol.transport.abort()
