"""sendfile: 16 MiB from a file into a connection without passing through Python."""

import asyncio
import hashlib
import os
import tempfile

SIZE = 16 * 1024 * 1024


async def main():
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryFile() as file:
        data = os.urandom(SIZE)
        file.write(data)

        async def serve(reader, writer):
            offset = int(await reader.readline())
            await loop.sendfile(writer.transport, file, offset)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            for offset in (0, SIZE - 1000):
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.write(b"%d\n" % offset)
                received = await reader.read()
                writer.close()
                await writer.wait_closed()
                assert received == data[offset:]
                print(f"from byte {offset}: {len(received)} bytes, sha256",
                      hashlib.sha256(received).hexdigest()[:16])


asyncio.run(main())
