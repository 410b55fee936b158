"""Servers for one test."""




async def served(loop, factory, **kwargs):
    server = await loop.create_server(factory, "127.0.0.1", 0, **kwargs)
    return server, server.sockets[0].getsockname()[1]


async def end(server):
    server.close()
    await server.wait_closed()
