"""Pipes as transports; both ends are this loop's."""
import asyncio
import os

from ..case import KIB, process


class Reader(asyncio.Protocol):
    """Counts what arrives, and hands each piece on."""

    def __init__(self, got):
        self.got = got

    def data_received(self, data):
        self.got(data)


class Writer(asyncio.Protocol):
    paused = False
    resumed = None      # called then

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        if self.resumed:
            self.resumed()


async def connect(loop, got):
    """A pipe: its writing end's transport and protocol; what it brings goes to ``got``."""
    reading, writing = os.pipe()
    await loop.connect_read_pipe(lambda: Reader(got), os.fdopen(reading, "rb", 0))
    return await loop.connect_write_pipe(Writer, os.fdopen(writing, "wb", 0))


def echo(env):
    """1 KiB through one pipe and back through another."""
    loop = env.loop
    message = bytes(KIB)
    left, done = 0, None

    def ask(data=message):
        nonlocal left
        left -= 1
        if left < 0:
            done.set_result(None)
        else:
            there.write(message)

    there, _ = loop.run_until_complete(connect(loop, lambda data: back.write(data)))
    back, _ = loop.run_until_complete(connect(loop, ask))

    async def batch(n):
        nonlocal left, done
        left, done = n, loop.create_future()
        ask()
        await done

    return env.measure(batch, 1000)


def bulk(env):
    """64 KiB pieces through one pipe, as fast as it takes them."""
    loop = env.loop
    chunk = bytes(64 * KIB)
    unsent = due = 0
    done = None

    def feed():
        nonlocal unsent
        while unsent and not protocol.paused:
            unsent -= 1
            transport.write(chunk)

    def got(data):
        nonlocal due
        due -= len(data)
        if due == 0:
            done.set_result(None)

    transport, protocol = loop.run_until_complete(connect(loop, got))
    protocol.resumed = feed

    async def batch(n):
        nonlocal unsent, due, done
        unsent, due, done = n, n * len(chunk), loop.create_future()
        feed()
        await done

    return env.measure(batch, 100)


process("pipes/echo", "1KiB through a pipe and back through another", echo, unit="message")
process("pipes/bulk", "64KiB pieces through a pipe", bulk, unit="64 KiB")
