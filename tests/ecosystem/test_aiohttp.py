"""An aiohttp server and client on the loop."""
import pytest

pytest.importorskip("aiohttp")
pytestmark = pytest.mark.ecosystem


def test_server_and_client(script):
    out = script("""
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "Sending a large body")
        from aiohttp import ClientSession, web

        async def hello(request):
            return web.Response(text="hello " + request.query["name"])

        async def echo(request):
            return web.Response(body=await request.read())

        async def stream(request):
            response = web.StreamResponse()
            await response.prepare(request)
            for i in range(50):
                await response.write(b"%d\\n" % i * 1000)
            await response.write_eof()
            return response

        async def upload(request):
            size = 0
            async for chunk in request.content.iter_chunked(10000):
                size += len(chunk)
            return web.json_response({"size": size})

        async def socket_(request):
            ws = web.WebSocketResponse()
            await ws.prepare(request)
            async for message in ws:
                await ws.send_str(message.data.upper())
            return ws

        async def main():
            app = web.Application(client_max_size=1 << 26)
            app.router.add_get("/", hello)
            app.router.add_post("/echo", echo)
            app.router.add_get("/stream", stream)
            app.router.add_post("/upload", upload)
            app.router.add_get("/ws", socket_)
            runner = web.AppRunner(app)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = site._server.sockets[0].getsockname()[1]
            base = f"http://127.0.0.1:{port}"
            async with ClientSession() as session:
                async def ask(i):
                    async with session.get(base, params={"name": i}) as r:
                        return await r.text()
                texts = await asyncio.gather(*(ask(i) for i in range(100)))
                assert texts == [f"hello {i}" for i in range(100)]
                data = os.urandom(3_000_000)
                async with session.post(base + "/echo", data=data) as r:
                    assert await r.read() == data
                async with session.get(base + "/stream") as r:
                    lines = [line async for line in r.content]
                    assert lines == [b"%d\\n" % i for i in range(50)
                                     for _ in range(1000)]
                async def body():
                    for _ in range(100):
                        yield b"x" * 12345
                async with session.post(base + "/upload", data=body()) as r:
                    assert await r.json() == {"size": 1234500}
                async with session.ws_connect(base + "/ws") as ws:
                    for i in range(100):
                        await ws.send_str(f"word {i}")
                        assert (await ws.receive()).data == f"WORD {i}"
            await runner.cleanup()
            print("done")

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())
    """, timeout=50)
    assert out == ["done"]


def test_file_over_sendfile(script, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 20000)
    out = script(f"""
        from aiohttp import ClientSession, web

        async def main():
            app = web.Application()
            app.router.add_static("/", {str(tmp_path)!r})
            runner = web.AppRunner(app)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = site._server.sockets[0].getsockname()[1]
            async with ClientSession() as session:
                async with session.get(
                        f"http://127.0.0.1:{{port}}/file") as response:
                    data = await response.read()
            await runner.cleanup()
            with open({str(path)!r}, "rb") as file:
                assert data == file.read()
            print(len(data))

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())
    """, timeout=50)
    assert out == ["5120000"]


def test_unix_site_and_connector(script):
    out = script("""
        import tempfile
        from aiohttp import ClientSession, UnixConnector, web

        async def hello(request):
            return web.Response(text="over unix")

        async def main():
            with tempfile.TemporaryDirectory(prefix="tw-") as folder:
                path = folder + "/s"
                app = web.Application()
                app.router.add_get("/", hello)
                runner = web.AppRunner(app)
                await runner.setup()
                await web.UnixSite(runner, path).start()
                async with ClientSession(
                        connector=UnixConnector(path)) as session:
                    async with session.get("http://x/") as response:
                        print(await response.text())
                await runner.cleanup()

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())
    """, timeout=50)
    assert out == ["over unix"]
