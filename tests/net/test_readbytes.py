"""What a program was given stays as it is while the program has it.

The bytes object of a read is filled again if nobody has it any more (csrc/core/readbytes.h).
"""
import asyncio
import os
import random
import socket

import pytest

import support
from net import pipekit
from net.readkit import Keeper


async def over_stream(kind, make):
    loop = asyncio.get_running_loop()
    one, two = support.socketpair(kind)
    sender = support.Recorder()
    await loop.create_connection(lambda: sender, sock=one)
    _, keeper = await loop.create_connection(make, sock=two)
    return keeper, sender.transport.write, sender.transport.close


async def over_pipe(make):
    loop = asyncio.get_running_loop()
    r, w = pipekit.files()
    _, keeper = await loop.connect_read_pipe(make, r)
    transport, _ = await loop.connect_write_pipe(pipekit.Writer, w)
    return keeper, transport.write, transport.close


async def over_udp(make):
    loop = asyncio.get_running_loop()
    transport, keeper = await loop.create_datagram_endpoint(make, local_addr=("127.0.0.1", 0))
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect(transport.get_extra_info("sockname"))

    def close():
        sender.close()
        transport.close()

    return keeper, sender.send, close


def over(kind, make):
    return {"udp": over_udp, "pipe": over_pipe}[kind](make) if kind in ("udp", "pipe") \
        else over_stream(kind, make)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind, most", [
    ("tcp", 2000), ("tcp", 300_000), ("unix", 300_000), ("pipe", 100_000), ("udp", 60_000)])
def test_what_is_kept_stays(run, kind, most, seed):
    async def main():
        keeper, send, close = await over(kind, lambda: Keeper(random.Random(seed)))
        await keeper.is_sent_many(send, most)
        close()
        await keeper.lost.wait()
        keeper.check()
        assert keeper.checked > 100

    run(main())


@pytest.mark.parametrize("kind", ["tcp", "unix", "pipe", "udp"])
def test_shorter_message_ends_where_it_ends(run, kind):
    """int() goes by the byte behind the last one."""
    seen = []

    class Numbers(Keeper):
        def data_received(self, data):
            seen.append(int(data))
            super().data_received(data)

    class Never(random.Random):
        def random(self):
            return 1.0

    async def main():
        keeper, send, close = await over(kind, lambda: Numbers(Never()))
        for digits in range(60, 0, -1):
            await keeper.is_sent(send, b"7" * digits)
        close()
        await keeper.lost.wait()

    run(main())
    assert seen == [int("7" * digits) for digits in range(60, 0, -1)]


def test_given_back_to_the_transport(run):
    """Data that waits in a full write buffer is not read over."""
    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data)

    async def main():
        loop = asyncio.get_running_loop()
        one, two = support.socketpair("unix")
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        await loop.create_connection(Echo, sock=one)
        with two:
            data = os.urandom(1_000_000)
            sending = asyncio.ensure_future(loop.sock_sendall(two, data))
            got = bytearray()
            while len(got) < len(data):
                got += await loop.sock_recv(two, 10_000)
            await sending
            assert support.same(got, data)

    run(main())
