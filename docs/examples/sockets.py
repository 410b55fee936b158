"""Existing sockets: sock_* on a socket of one's own, add_reader, and adoption by a transport."""

import asyncio
import socket


async def echo_once(listener):
    loop = asyncio.get_running_loop()
    connection, _ = await loop.sock_accept(listener)
    with connection:
        await loop.sock_sendall(connection, await loop.sock_recv(connection, 1024))


async def main():
    loop = asyncio.get_running_loop()

    # Awaiting on plain sockets.
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        listener.setblocking(False)
        client.setblocking(False)
        server = asyncio.create_task(echo_once(listener))
        await loop.sock_connect(client, listener.getsockname())
        await loop.sock_sendall(client, b"by sock_sendall")
        print("sock_recv:", (await loop.sock_recv(client, 1024)).decode())
        await server

    # Being told when one can be read.
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ready = loop.create_future()
        loop.add_reader(ours, ready.set_result, None)
        theirs.send(b"by add_reader")
        await ready
        loop.remove_reader(ours)
        print("add_reader:", ours.recv(1024).decode())

    # Giving one to the loop: from then on the transport owns it.
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    with theirs:
        theirs.send(b"by a transport\n")
        print("open_connection(sock=):", (await reader.readline()).decode().strip())
    writer.close()
    await writer.wait_closed()
    assert ours.fileno() == -1


asyncio.run(main())
