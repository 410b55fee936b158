"""TLS: a server with a certificate, a client that verifies it, and an upgrade with start_tls().

localhost.pem is a key and a certificate for demonstrations: it is public, so it protects nothing.
"""

import asyncio
import pathlib
import ssl

PEM = pathlib.Path(__file__).with_name("localhost.pem")


def contexts():
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(PEM)
    client = ssl.create_default_context(cafile=PEM)
    return server, client


async def talk(reader, writer):
    writer.write(b"hello\n")
    answer = await reader.readline()
    cipher = writer.get_extra_info("ssl_object").cipher()
    writer.close()
    await writer.wait_closed()
    assert answer == b"HELLO\n"
    return cipher


async def main():
    server_context, client_context = contexts()

    async def shout(reader, writer):
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()

    async def upgrade_then_shout(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go ahead\n")
        await writer.start_tls(server_context)
        await shout(reader, writer)

    async with await asyncio.start_server(shout, "127.0.0.1", 0, ssl=server_context) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context)
        print("TLS from the start:", *await talk(reader, writer))

    async with await asyncio.start_server(upgrade_then_shout, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go ahead\n"
        await writer.start_tls(client_context, server_hostname="localhost")
        print("TLS by start_tls():", *await talk(reader, writer))

    async with await asyncio.start_server(shout, "127.0.0.1", 0, ssl=server_context) as server:
        port = server.sockets[0].getsockname()[1]
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        try:
            await asyncio.open_connection("127.0.0.1", port, ssl=ssl.create_default_context())
        except ssl.SSLCertVerificationError as exc:
            print("a client that does not know the certificate:", exc.verify_message)
        else:
            raise AssertionError("an unknown certificate was accepted")


asyncio.run(main())
