"""Datagrams: echoes, one and many in flight."""
import asyncio

from ..case import KIB, process, server

BULK = 1200     # what QUIC sends
TRAIN = 32


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)


async def endpoint(env):
    transport, _ = await env.loop.create_datagram_endpoint(
        Echo, local_addr=("127.0.0.1", 0))
    return {"port": transport.get_extra_info("sockname")[1]}


def echo(name, title, conns, depth, target, main=True, size=KIB):
    server(f"udp/{name}", f"UDP echo {title}", endpoint,
           ("echo", "--udp", "--size", size, "--conns", conns, "--depth", depth),
           floor=("floor-echo", "udp"), unit="datagram", target=target, main=main)


class Counter(asyncio.DatagramProtocol):
    """Counts datagrams; a future has its result when all have come."""

    def __init__(self, loop):
        self.loop, self.left, self.done = loop, 0, None

    def expect(self, n):
        self.left, self.done = n, self.loop.create_future()
        return self.done

    def datagram_received(self, data, addr):
        self.left -= 1
        if not self.left:
            self.done.set_result(None)


def bulk(env):
    """A sender and a receiver in one loop: 32 datagrams in a callback, then their receipt."""
    loop = env.loop

    async def endpoints():
        where, counter = await loop.create_datagram_endpoint(
            lambda: Counter(loop), local_addr=("127.0.0.1", 0))
        sender, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=where.get_extra_info("sockname"))
        env.kept.append(where)
        return sender, counter

    sender, counter = loop.run_until_complete(endpoints())
    payload = bytes(BULK)

    async def batch(n):
        for _ in range(n // TRAIN):
            received = counter.expect(TRAIN)
            for _ in range(TRAIN):
                sender.sendto(payload)
            await received

    return env.measure(batch, 4 * TRAIN)


process("udp/bulk", "UDP 1,200 bytes, 32 in a callback, both ends", bulk, unit="datagram",
        target=4)
echo("1KiB", "1KiB", 10, 1, 1.5)
echo("1KiB/x16", "1KiB, 16 in flight", 4, 16, 2.2)    # 64 fit the receive buffer
echo("64B", "64B", 10, 1, None, main=False, size=64)
