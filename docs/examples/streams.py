"""Streams: open_connection() and start_server(), a small calculator with await."""

import asyncio


async def serve(reader, writer):
    while line := await reader.readline():
        left, right = line.split(b"+")
        writer.write(b"%d\n" % (int(left) + int(right)))
        await writer.drain()
    writer.close()


async def ask(port, left, right):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"%d + %d\n" % (left, right))
    writer.write_eof()
    answer = await reader.readline()
    assert await reader.read() == b""       # the server closed, too
    writer.close()
    await writer.wait_closed()
    return int(answer)


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        answers = await asyncio.gather(*(ask(port, n, n) for n in range(50)))
    assert answers == [2 * n for n in range(50)]
    print(f"50 sums asked at once: the last is {answers[-1]}")


asyncio.run(main())
