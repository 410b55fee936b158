"""What is ready when it comes into the set is served in the order in which it was wanted."""
import asyncio
import socket

import support


def test_readers_and_writers(loop, run):
    async def main():
        pairs = [support.socketpair() for _ in range(6)]
        got = []

        def note(n, forget, sock):
            got.append(n)
            forget(sock)

        for n, (ours, peer) in enumerate(pairs):
            if n % 2:
                loop.add_writer(ours, note, n, loop.remove_writer, ours)
            else:
                peer.send(b"x")
                loop.add_reader(ours, note, n, loop.remove_reader, ours)
        # One that is given up in between changes nothing for the rest.
        loop.remove_writer(pairs[1][0])
        while len(got) < 5:
            await asyncio.sleep(0)
        for pair in pairs:
            for sock in pair:
                sock.close()
        return got

    assert run(main()) == [0, 2, 3, 4, 5]


class Noting(asyncio.Protocol):
    def __init__(self, got):
        self.got = got

    def data_received(self, data):
        self.got.append(data)


async def until(check):
    while not check():
        await asyncio.sleep(0)


def test_transports(loop, run):
    async def main():
        pairs = [support.socketpair() for _ in range(6)]
        got = []
        transports = []
        for n, (ours, peer) in enumerate(pairs):
            transports.append((await loop.create_connection(lambda: Noting(got), sock=ours))[0])
        await asyncio.sleep(0)
        for transport in transports:
            transport.pause_reading()
        for n, (_, peer) in enumerate(pairs):
            peer.send(b"%d" % n)
        for transport in transports:
            transport.resume_reading()
        await until(lambda: len(got) == 6)
        for transport in transports:
            transport.close()
        for _, peer in pairs:
            peer.close()
        return got

    assert run(main()) == [b"%d" % n for n in range(6)]


def test_burst_of_clients(loop, run):
    """First come, first served."""
    async def main():
        got = []
        server = await loop.create_server(lambda: Noting(got), "127.0.0.1", 0)
        clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(6)]
        for n, client in enumerate(clients):
            client.send(b"%d" % n)
        await until(lambda: len(got) == 6)
        for client in clients:
            client.close()
        server.close()
        return got

    assert run(main()) == [b"%d" % n for n in range(6)]
