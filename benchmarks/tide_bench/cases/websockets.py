"""The websockets library: a client that echoes, and a broadcast, in one process each."""
import asyncio

from ..case import process

LISTENERS = 100
MESSAGE = "x" * 125


def echo(env):
    """A server and 10 clients of one loop; each client waits for its answer."""
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import serve

    async def handler(connection):
        async for message in connection:
            await connection.send(message)

    async def start():
        server = await serve(handler, "127.0.0.1", 0, compression=None)
        port = server.sockets[0].getsockname()[1]
        env.kept.append(server)
        return [await connect(f"ws://127.0.0.1:{port}", compression=None) for _ in range(10)]

    clients = env.loop.run_until_complete(start())

    async def exchange(client, n):
        for _ in range(n):
            await client.send(MESSAGE)
            await client.recv()

    async def batch(n):
        await asyncio.gather(*[exchange(client, n // len(clients)) for client in clients])

    return env.measure(batch, 500)


def broadcast(env):
    """One message to 100 clients of the same loop, until each has it."""
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import broadcast, serve

    async def handler(connection):
        await connection.wait_closed()

    async def start():
        server = await serve(handler, "127.0.0.1", 0, compression=None)
        port = server.sockets[0].getsockname()[1]
        clients = [await connect(f"ws://127.0.0.1:{port}", compression=None)
                   for _ in range(LISTENERS)]
        return server, clients

    server, clients = env.loop.run_until_complete(start())

    async def batch(n):
        for _ in range(n // LISTENERS):
            broadcast(server.connections, MESSAGE)
            await asyncio.gather(*[client.recv() for client in clients])

    return env.measure(batch, 10 * LISTENERS)


process("websockets/echo", "websockets echo, both ends", echo, unit="message", target=1.2)
process("websockets/broadcast", f"websockets broadcast to {LISTENERS}, both ends", broadcast,
        unit="message")
