"""Datagrams: echoes, one and many in flight."""
import asyncio

from ..case import KIB, server


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


echo("1KiB", "1KiB", 10, 1, 1.3)
echo("1KiB/x16", "1KiB, 16 in flight", 4, 16, 1.8)    # 64 fit the receive buffer
echo("64B", "64B", 10, 1, None, main=False, size=64)
