"""BufferedProtocol: 64 MiB received straight into one buffer of our own."""

import asyncio
import hashlib
import time

SIZE = 64 * 1024 * 1024


class Receiver(asyncio.BufferedProtocol):
    """The kernel writes into `memory`; no bytes object is made for a chunk."""

    def __init__(self, done):
        self.memory = bytearray(SIZE)
        self.view = memoryview(self.memory)
        self.filled = 0
        self.done = done

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, sizehint):
        return self.view[self.filled:]

    def buffer_updated(self, nbytes):
        self.filled += nbytes
        if self.filled == SIZE:
            self.transport.close()      # an empty buffer would be an error
            self.done.set_result(hashlib.sha256(self.memory).hexdigest())


class Sender(asyncio.Protocol):
    """Sends as fast as the other side takes it, and no faster."""

    def __init__(self, data):
        self.data = memoryview(data)
        self.position = 0
        self.paused = False

    def connection_made(self, transport):
        self.transport = transport
        self.send()

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        self.send()

    def send(self):
        while not self.paused and self.position < len(self.data):
            self.transport.write(self.data[self.position:self.position + 65536])
            self.position += 65536


async def main():
    loop = asyncio.get_running_loop()
    data = bytes(range(256)) * (SIZE // 256)
    done = loop.create_future()
    server = await loop.create_server(lambda: Receiver(done), "127.0.0.1", 0)
    start = time.perf_counter()
    async with server:
        await loop.create_connection(
            lambda: Sender(data), *server.sockets[0].getsockname())
        digest = await done
        seconds = time.perf_counter() - start
    assert digest == hashlib.sha256(data).hexdigest()
    print(f"{SIZE >> 20} MiB arrived intact, {SIZE / seconds / 1e6:.0f} MB/s")


asyncio.run(main())
