"""Bulk transfer by aioquic: the loop measured is the client's; the server has the load's core.

``python -m tide_bench.cases.quic CERTIFICATE KEY`` is the server: it prints its port.
"""
import asyncio
import sys

from .. import build
from ..case import KIB, process

PIECE = KIB * KIB


def settings(client):
    import ssl

    from aioquic.quic.configuration import QuicConfiguration
    made = QuicConfiguration(alpn_protocols=["bulk"], is_client=client,
                             max_data=64 * PIECE, max_stream_data=8 * PIECE)
    if client:
        made.verify_mode = ssl.CERT_NONE
    else:
        made.load_cert_chain(*build.certificate())
    return made


async def answer(reader, writer):
    """A stream that begins with "g" gets a piece; of others, the bytes are counted."""
    got = 0
    first = await reader.read(1)
    while data := await reader.read(256 * KIB):
        got += len(data)
    writer.write(bytes(PIECE) if first == b"g" else str(got + 1).encode())
    writer.write_eof()


async def serve():
    from aioquic.asyncio import serve as listen
    tasks = set()

    def stream(reader, writer):
        task = asyncio.create_task(answer(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await listen("127.0.0.1", 0, configuration=settings(False), stream_handler=stream)
    print(server._transport.get_extra_info("sockname")[1], flush=True)
    await asyncio.Event().wait()


async def receive(client):
    reader, writer = await client.create_stream()
    writer.write(b"g")
    writer.write_eof()
    if len(await reader.read()) != PIECE:
        raise RuntimeError("not the whole piece came")


async def send(client):
    reader, writer = await client.create_stream()
    writer.write(b"s" + bytes(PIECE - 1))
    writer.write_eof()
    if await reader.read() != str(PIECE).encode():
        raise RuntimeError("not the whole piece arrived")


def bulk(one):
    def body(env):
        from aioquic.asyncio import connect
        server = env.beside([sys.executable, "-m", "tide_bench.cases.quic"])
        port = int(server.stdout.readline())

        async def connected():
            context = connect("127.0.0.1", port, configuration=settings(True))
            env.kept.append(context)
            return await context.__aenter__()

        client = env.loop.run_until_complete(connected())

        async def batch(n):
            for _ in range(n):
                await one(client)

        return env.measure(batch, 1)
    return body


if __name__ == "__main__":
    asyncio.run(serve())
else:
    process("quic/receive", "aioquic, receive 1 MiB", bulk(receive), unit="MiB", target=1.3)
    process("quic/send", "aioquic, send 1 MiB", bulk(send), unit="MiB", target=1.3)
