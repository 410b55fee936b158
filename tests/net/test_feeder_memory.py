"""The memory of a StreamReader that is fed in C."""
import asyncio
import gc
import random
import socket
import sys

import pytest

import support
from net.feederkit import Streams, not_in_debug_mode  # noqa: F401


def test_collector_at_every_step(run):
    async def main():
        async with Streams(limit=1000) as s:
            for size in 10, 5000, 40_000, 100_000, 3:
                await s.echo(b"x" * size)

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        run(main())
    finally:
        gc.set_threshold(*threshold)


def test_memory_goes_back_to_where_it_is_from(script):
    """An emptied buffer gets another block: Python's debug allocator looks on."""
    out = script("""
        async def main():
            one, two = support.socketpair()
            reader, writer = await asyncio.open_connection(sock=one)
            for _ in range(10):
                await loop.sock_sendall(two, bytes(200_000))
                assert await reader.readexactly(200_000) == bytes(200_000)
            writer.close()
            two.close()

        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
        print("fine")
    """, env={"PYTHONMALLOC": "debug"})
    assert out == ["fine"]


@pytest.mark.parametrize("sizes", [
    (1_000_000, 10, 1_000_000), (200_000,) * 4, (40_000, 1_000_000, 300_000, 5, 2_000_000)])
def test_messages_of_several_reads(run, sizes):
    """The buffer gets as much memory as the last message needed, or more, or less."""
    async def main():
        async with Streams(limit=2 ** 22) as s:
            for n, size in enumerate(sizes):
                await s.echo(bytes([n]) * size)
                await s.echo(b"next")
    run(main())


def test_what_is_left_of_a_large_message(run):
    async def main():
        loop = asyncio.get_running_loop()
        async with Streams(limit=2 ** 22) as s:
            await s.echo(bytes(1_000_000))
            data = random.Random(1).randbytes(1_000_000)
            await loop.sock_sendall(s.peer, data)
            await s.buffered(len(data))
            got = bytearray()
            while len(got) < len(data):
                got += await s.reader.read(7_777)
            assert support.same(bytes(got), data)
            await s.echo(data)
    run(main())


@pytest.mark.parametrize("last", [b"small", b""], ids=["small", "end"])
def test_what_follows_a_large_message_does_not_keep_its_memory(run, last):
    async def main():
        async with Streams(limit=2 ** 22) as s:
            for _ in range(3):
                await s.echo(bytes(1_000_000))
            if last:
                await asyncio.get_running_loop().sock_sendall(s.peer, last)
                await s.buffered(len(last))
            else:
                s.peer.shutdown(socket.SHUT_WR)
                assert await s.reader.read() == b""
            assert sys.getsizeof(s.reader._buffer) < 10_000
            assert await s.reader.read(10) == last
    run(main())
