"""TCP: a server and ten clients, by Transport and Protocol.

The server sends back what it gets; each client sends a thousand numbered
lines, checks the answers, and half-closes.
"""

import asyncio

CLIENTS, LINES = 10, 1000


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def eof_received(self):
        return False        # the transport flushes and closes


class Client(asyncio.Protocol):
    def __init__(self, number):
        self.sent = b"".join(b"client %d line %d\n" % (number, i) for i in range(LINES))
        self.received = bytearray()
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        transport.write(self.sent)
        transport.write_eof()

    def data_received(self, data):
        self.received += data

    def connection_lost(self, exc):
        if exc:
            self.done.set_exception(exc)
        else:
            self.done.set_result(self.received == self.sent)


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server:
        clients = []
        for number in range(CLIENTS):
            _, client = await loop.create_connection(lambda n=number: Client(n), host, port)
            clients.append(client)
        results = await asyncio.gather(*(client.done for client in clients))
    assert results == [True] * CLIENTS
    print(f"{CLIENTS} clients got their {LINES} lines back from port {port}")


asyncio.run(main())
