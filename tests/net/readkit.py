"""A protocol that holds on to some of what it is given, in many ways."""
import asyncio


def as_it_is(data):
    return lambda: data


def as_key(data):
    table = {data: True}
    return lambda: next(iter(table))


def as_view(data):
    view = memoryview(data)[:]
    return lambda: bytes(view)


def in_generator(data):
    def rest(data):
        while True:
            yield data

    generator = rest(data)
    return lambda: next(generator)


def in_traceback(data):
    def fail(data):
        raise ValueError

    try:
        fail(data)
    except ValueError as exc:
        traceback = exc.__traceback__
        return lambda: traceback.tb_next.tb_frame.f_locals["data"]


WAYS = as_it_is, as_key, as_view, in_generator, in_traceback


class Keeper(asyncio.Protocol, asyncio.DatagramProtocol):
    """Half of what comes is held, each in some way, for some time."""

    def __init__(self, rng):
        self.rng = rng
        self.held = []
        self.checked = 0
        self.missing = 0
        self.complete = asyncio.Event()
        self.lost = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        copy = bytes(bytearray(data))
        assert data == copy and hash(data) == hash(copy)
        if self.rng.random() < 0.5:
            self.held.append((self.rng.choice(WAYS)(data), copy))
        if self.rng.random() < 0.1:
            self.check()
            self.held = [kept for kept in self.held if self.rng.random() < 0.5]
        self.missing -= len(data)
        if self.missing <= 0:
            self.complete.set()

    def datagram_received(self, data, addr):
        self.data_received(data)

    def connection_lost(self, exc):
        self.lost.set()

    async def is_sent(self, send, data):
        """`send` sends it; returns when all of it is here."""
        self.missing += len(data)
        self.complete.clear()
        send(data)
        await self.complete.wait()

    async def is_sent_many(self, send, most, times=300):
        """Messages of up to `most` bytes, many of about the size of the one before."""
        size = most // 2
        for n in range(times):
            if self.rng.random() < 0.3:
                size = int(2 ** self.rng.uniform(0, most.bit_length() - 1))
            size = max(1, min(most, size + self.rng.randint(-20, 20)))
            await self.is_sent(send, bytes([n % 256]) * size)

    def check(self):
        for held, copy in self.held:
            assert held() == copy
            self.checked += 1
