"""Pipes with a transport at one end, or both."""
import asyncio
import contextlib
import io
import os


from support import Memory, Recorder


class Writer(Memory, asyncio.BaseProtocol):
    """The protocol of a writing end."""


class CountedFile(io.FileIO):
    """A file that counts how often it is closed."""
    closes = 0

    def close(self):
        self.closes += 1
        super().close()


def files(reading="rb", writing="wb"):
    r, w = os.pipe()
    return CountedFile(r, reading), CountedFile(w, writing)


async def reader(pipe, hooks=None):
    loop = asyncio.get_running_loop()
    _, protocol = await loop.connect_read_pipe(lambda: Recorder(hooks), pipe)
    return protocol


async def writer(pipe, hooks=None):
    loop = asyncio.get_running_loop()
    _, protocol = await loop.connect_write_pipe(lambda: Writer(hooks), pipe)
    return protocol


async def pipe_pair():
    r, w = files()
    return await reader(r), await writer(w)


def fill(fd):
    """Write until the descriptor takes no more; returns the bytes."""
    os.set_blocking(fd, False)
    total = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            total += os.write(fd, b"f" * 65536)
    with contextlib.suppress(BlockingIOError):
        while True:
            total += os.write(fd, b"f")
    return total


async def read_some(fd, size):
    """Exactly size bytes, from a descriptor that nobody else watches."""
    loop = asyncio.get_running_loop()
    os.set_blocking(fd, False)
    out, done = bytearray(), loop.create_future()

    def ready():
        out.extend(os.read(fd, min(65536, size - len(out))))
        if len(out) == size:
            loop.remove_reader(fd)
            done.set_result(None)

    loop.add_reader(fd, ready)
    await done
    return bytes(out)
