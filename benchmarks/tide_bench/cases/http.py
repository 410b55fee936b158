"""HTTP by programs that are not ours: uvicorn and aiohttp under wrk, aiohttp's client."""
import asyncio
import socket
import sys

from .. import build
from ..case import process, server

BODY = b"Hello, world!\n" * 8
LARGE = bytes(100 * 1024)


def application(body):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200,
                    "headers": [(b"content-type", b"text/plain"),
                                (b"content-length", str(len(body)).encode())]})
        await send({"type": "http.response.body", "body": body})
    return app


def listener():
    sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
    return sock, {"port": sock.getsockname()[1]}


async def uvicorn_server(env):
    import uvicorn
    sock, where = listener()
    config = uvicorn.Config(application(env.args.get("body", BODY)), log_level="warning",
                            access_log=False, lifespan="off")
    if env.args.get("over") == "tls":
        config.ssl_certfile, config.ssl_keyfile = map(str, build.certificate())
        where["scheme"] = "https"
    running = uvicorn.Server(config)
    env.task = env.loop.create_task(running.serve(sockets=[sock]))
    return where


async def aiohttp_server(env):
    from aiohttp import web

    async def hello(request):
        return web.Response(body=BODY, content_type="text/plain")

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    sock, where = listener()
    await web.SockSite(runner, sock).start()
    return where


HELLO = (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
         b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY))


def aiohttp_client(env):
    """GET by aiohttp's client, 10 at once, from a server that has one answer."""
    import aiohttp
    responder = env.beside([sys.executable, "-c", RESPONDER, repr(HELLO)])
    url = f"http://127.0.0.1:{responder.stdout.readline().strip()}/"

    async def batch(n):
        async with aiohttp.ClientSession() as session:
            async def some():
                for _ in range(n // 10):
                    async with session.get(url) as answer:
                        await answer.read()
            await asyncio.gather(*[some() for _ in range(10)])

    return env.measure(batch, 500)


# Threads: one for each connection, so that it depends on no loop.
RESPONDER = """
import ast, socket, sys, threading
answer = ast.literal_eval(sys.argv[1])
def serve(conn):
    while conn.recv(65536):
        conn.sendall(answer)
listener = socket.create_server(("127.0.0.1", 0), backlog=64)
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
"""

for _name, _title, _body, _args, _target in (
        ("uvicorn", "uvicorn", uvicorn_server, {}, 1.25),
        ("uvicorn/100KiB", "uvicorn, 100 KiB", uvicorn_server, {"body": LARGE}, 1.2),
        ("uvicorn/tls", "uvicorn over TLS", uvicorn_server, {"over": "tls"}, 1.5),
        ("aiohttp", "aiohttp", aiohttp_server, {}, 1.2)):
    server(f"http/{_name}", f"HTTP, {_title} under wrk, 50 connections", _body,
           ("wrk", "-c50"), unit="request", args=_args, target=_target)
process("http/aiohttp/client", "HTTP, aiohttp's client, 10 at once", aiohttp_client,
        unit="request", target=1.15)
