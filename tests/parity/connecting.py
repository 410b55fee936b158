"""Connections, servers, and asyncio's streams over them."""
import asyncio
import functools
import gc
import socket
import tempfile

import support
from parity.registry import PROGRAMS, programs

# -- connecting -------------------------------------------------------------

@programs("refused", "unix missing", "bad host", "bad port", "no arguments",
          "sock and host", "udp sock", "closed sock", "bad family",
          "factory fails", "server_hostname", "handshake timeout",
          "bad local_addr", "unix no path", "unix path and sock",
          "unix too long", "tls to nothing")
async def connecting(t, what):
    loop = t.loop
    port = support_refused()

    def proto():
        return t.protocol("p")

    if what == "refused":
        coro = loop.create_connection(proto, "127.0.0.1", port)
    elif what == "unix missing":
        coro = loop.create_unix_connection(proto, "/nonexistent/socket")
    elif what == "bad host":
        coro = loop.create_connection(proto, "256.256.256.256.", 80,
                                      flags=socket.AI_NUMERICHOST)
    elif what == "bad port":
        coro = loop.create_connection(proto, "127.0.0.1", 99999)
    elif what == "no arguments":
        coro = loop.create_connection(proto)
    elif what == "sock and host":
        sock = t.end_with(socket.socket())
        coro = loop.create_connection(proto, "127.0.0.1", 1, sock=sock)
    elif what == "udp sock":
        sock = t.end_with(socket.socket(type=socket.SOCK_DGRAM))
        coro = loop.create_connection(proto, sock=sock)
    elif what == "closed sock":
        sock = socket.socket()
        sock.close()
        coro = loop.create_connection(proto, sock=sock)
    elif what == "bad family":
        coro = loop.create_connection(proto, "::1", 1, family=socket.AF_INET)
    elif what == "factory fails":
        a, b = support.socketpair()
        t.end_with(a), t.end_with(b)
        coro = loop.create_unix_connection(lambda: 1 / 0, sock=a)
    elif what == "server_hostname":
        coro = loop.create_connection(proto, "127.0.0.1", 1,
                                      server_hostname="x")
    elif what == "handshake timeout":
        coro = loop.create_connection(proto, "127.0.0.1", 1,
                                      ssl_handshake_timeout=1)
    elif what == "bad local_addr":
        coro = loop.create_connection(proto, "127.0.0.1", port,
                                      local_addr=("192.0.2.1", 1))
    elif what == "unix no path":
        coro = loop.create_unix_connection(proto)
    elif what == "unix path and sock":
        a, b = support.socketpair()
        t.end_with(a), t.end_with(b)
        coro = loop.create_unix_connection(proto, "/x", sock=a)
    elif what == "unix too long":
        coro = loop.create_unix_connection(proto, "/" + "x" * 200)
    elif what == "tls to nothing":
        coro = loop.create_connection(proto, "127.0.0.1", port, ssl=True)
    await t.wait("c", "connect", coro)
    await t.settle()


def support_refused():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@programs("twice", "start_serving False", "serve_forever cancelled",
          "closed while connecting", "several hosts", "in use",
          "unix", "unix stale", "unix other file", "close in made",
          "factory fails")
async def serving(t, what):
    loop = t.loop

    def proto(hooks=None):
        return lambda: t.protocol("server", hooks)

    with tempfile.TemporaryDirectory(prefix="tw-") as folder:
        path = folder + "/s"
        if what == "twice":
            server = await loop.create_server(proto(), "127.0.0.1", 0)
            await server.start_serving()
            await server.start_serving()
        elif what == "start_serving False":
            server = await loop.create_server(proto(), "127.0.0.1", 0,
                                              start_serving=False)
            t.note("s", server.is_serving())
        elif what == "serve_forever cancelled":
            server = await loop.create_server(proto(), "127.0.0.1", 0)
            task = asyncio.ensure_future(server.serve_forever())
            await asyncio.sleep(0)
            await t.wait("s", "second", server.serve_forever())
            task.cancel()
            await t.wait("s", "forever", task)
            t.note("s", server.is_serving())
        elif what == "closed while connecting":
            server = await loop.create_server(proto(), "127.0.0.1", 0)
            client = t.end_with(socket.create_connection(
                server.sockets[0].getsockname()))
            server.close()
        elif what == "several hosts":
            server = await loop.create_server(
                proto(), ["127.0.0.1", "127.0.0.2"], 0)
            t.note("s", len(server.sockets))
        elif what == "in use":
            server = await loop.create_server(proto(), "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            try:
                await loop.create_server(proto(), "127.0.0.1", port)
            except OSError as exc:
                t.note("s", exc.errno, str(exc).replace(str(port), "PORT"))
        elif what == "unix":
            server = await loop.create_unix_server(proto(), path)
            transport, _ = await loop.create_unix_connection(
                lambda: t.protocol("client"), path)
            await t.settle()
            transport.close()
        elif what == "unix stale":
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(path)
            server = await loop.create_unix_server(proto(), path)
        elif what == "unix other file":
            with open(path, "w"):
                pass
            try:
                server = await loop.create_unix_server(proto(), path)
            except OSError as exc:
                t.note("s", exc.errno)
                return
        elif what in ("close in made", "factory fails"):
            factory = proto({"made": lambda p: p.transport.close()})
            if what == "factory fails":
                def factory():
                    raise LookupError
            server = await loop.create_server(factory, "127.0.0.1", 0)
            client = t.end_with(socket.create_connection(
                server.sockets[0].getsockname()))
            client.setblocking(False)
            await t.settle()
            # In debug mode asyncio's frame that failed holds the connection,
            # and its exception's traceback the frame.
            gc.collect()
            t.note("client", await loop.sock_recv(client, 10))
        await t.settle()
        server.close()
        await t.settle()
        t.note("s", server.is_serving(), len(server.sockets))


# -- streams ----------------------------------------------------------------

STREAMS = {
    "readline": lambda r, w: r.readline(),
    "read": lambda r, w: r.read(3),
    "read all": lambda r, w: r.read(),
    "readexactly": lambda r, w: r.readexactly(4),
    "readexactly much": lambda r, w: r.readexactly(400),
    "readuntil": lambda r, w: r.readuntil(b"two"),
    "readuntil never": lambda r, w: r.readuntil(b"never"),
    "read nothing": lambda r, w: r.read(0),
    "negative": lambda r, w: r.readexactly(-1),
}


async def streaming(t, method, ending):
    a, b = support.socketpair("unix")
    t.end_with(b)
    reader, writer = await asyncio.open_unix_connection(sock=a, limit=100)
    t.end_with(writer.transport)
    b.send(b"one\ntwo\nthree")
    await t.settle()
    if ending == "eof":
        b.shutdown(socket.SHUT_WR)
    elif ending == "closed":
        b.close()
    elif ending == "feed_eof":
        reader.feed_eof()
    elif ending == "exception":
        reader.set_exception(LookupError("planned"))
    await t.settle()
    await t.wait("r", "first", STREAMS[method](reader, writer), 0.2)
    await t.wait("r", "second", STREAMS[method](reader, writer), 0.02)
    t.note("r", "at_eof", reader.at_eof())
    writer.write(b"x")
    await t.wait("r", "drain", writer.drain())
    await t.settle()
    writer.close()
    t.note("r", "closing", writer.is_closing())
    await t.wait("r", "wait_closed", writer.wait_closed())
    await t.settle()


for _method in STREAMS:
    for _ending in ("eof", "closed", "feed_eof", "exception"):
        PROGRAMS[f"stream {_method}, {_ending}"] = functools.partial(
            streaming, method=_method, ending=_ending)
