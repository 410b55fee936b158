"""UDP: a server and a client, and the answer of a port where nobody listens."""

import asyncio

DATAGRAMS = [b"x", b"1400 bytes".ljust(1400, b"."), *(b"number %d" % n for n in range(20))]


class Echo(asyncio.DatagramProtocol):
    def __init__(self):
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        self.closed.set_result(exc)

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)


class Client(asyncio.DatagramProtocol):
    def __init__(self):
        self.received = asyncio.Queue()
        self.refused = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, addr):
        self.received.put_nowait(data)

    def error_received(self, exc):
        self.refused.set_result(exc)


async def main():
    loop = asyncio.get_running_loop()
    server, echo = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    address = server.get_extra_info("sockname")
    transport, client = await loop.create_datagram_endpoint(Client, remote_addr=address)
    for datagram in DATAGRAMS:
        transport.sendto(datagram)
        assert await client.received.get() == datagram
    print(f"{len(DATAGRAMS)} datagrams came back")

    server.close()
    await echo.closed
    transport.sendto(b"is anybody there?")
    print("without the server:", repr(await client.refused))
    transport.close()


asyncio.run(main())
