"""HTTP servers that are not ours, under wrk: uvicorn and aiohttp."""
import socket

from ..case import server

BODY = b"Hello, world!\n" * 8


async def application(scope, receive, send):
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-type", b"text/plain"),
                            (b"content-length", str(len(BODY)).encode())]})
    await send({"type": "http.response.body", "body": BODY})


def listener():
    sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
    return sock, {"port": sock.getsockname()[1]}


async def uvicorn_server(env):
    import uvicorn
    sock, where = listener()
    config = uvicorn.Config(application, log_level="warning", access_log=False, lifespan="off")
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


for _name, _body in (("uvicorn", uvicorn_server), ("aiohttp", aiohttp_server)):
    server(f"http/{_name}", f"HTTP, {_name} under wrk, 50 connections", _body,
           ("wrk", "-c50"), unit="request")
