"""Unix sockets: a server that answers in upper case, and a client with a question."""

import asyncio
import os
import tempfile


class Shout(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data.upper())


class Client(asyncio.Protocol):
    def __init__(self, size):
        self.size = size
        self.received = b""
        self.done = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.received += data
        if len(self.received) == self.size:
            self.done.set_result(self.received)


async def main():
    loop = asyncio.get_running_loop()
    question = b"is anybody there?"
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "socket")
        async with await loop.create_unix_server(Shout, path):
            transport, client = await loop.create_unix_connection(
                lambda: Client(len(question)), path)
            transport.write(question)
            answer = await client.done
            print(f"{transport.get_extra_info('peername')} answers {answer.decode()}")
            transport.close()
    assert answer == question.upper()


asyncio.run(main())
