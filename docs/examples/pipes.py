"""Pipes: a write transport on one end, a read transport on the other, a million bytes between."""

import asyncio
import os

SIZE = 1_000_000


class Reader(asyncio.Protocol):
    def __init__(self):
        self.received = bytearray()
        self.done = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.received += data

    def connection_lost(self, exc):
        self.done.set_result(bytes(self.received))


class Writer(asyncio.BaseProtocol):
    pauses = 0

    def pause_writing(self):
        self.pauses += 1

    def resume_writing(self):
        pass


async def main():
    loop = asyncio.get_running_loop()
    read_end, write_end = os.pipe()
    data = os.urandom(SIZE)
    _, reader = await loop.connect_read_pipe(Reader, os.fdopen(read_end, "rb", 0))
    transport, writer = await loop.connect_write_pipe(Writer, os.fdopen(write_end, "wb", 0))
    transport.write(data)
    transport.write_eof()
    assert await reader.done == data
    print(f"{SIZE} bytes through a pipe of 64 KiB; writing was paused {writer.pauses} time(s)")


asyncio.run(main())
