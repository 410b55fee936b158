"""aiohttp and websockets over TLS, both ends on the loop."""
import pytest

pytest.importorskip("trustme")
pytestmark = pytest.mark.ecosystem

CONTEXTS = """
        import ssl
        import trustme
        authority = trustme.CA()
        inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(inside)
        outside = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(outside)
"""


@pytest.fixture(params=["direct", "memorybio"])
def engine(request, monkeypatch):
    if request.param == "memorybio":
        monkeypatch.setenv("TIDEWIRE_TLS", "memorybio")


def test_aiohttp(script, engine):
    pytest.importorskip("aiohttp")
    out = script(CONTEXTS + """
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "Sending a large body")
        from aiohttp import ClientSession, TCPConnector, web

        async def echo(request):
            assert request.transport.get_extra_info("ssl_object") is not None
            return web.Response(body=await request.read())

        async def main():
            app = web.Application(client_max_size=1 << 26)
            app.router.add_post("/echo", echo)
            runner = web.AppRunner(app)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=inside)
            await site.start()
            port = site._server.sockets[0].getsockname()[1]
            url = f"https://127.0.0.1:{port}/echo"
            async with ClientSession(
                    connector=TCPConnector(ssl=outside)) as session:
                async def ask(size):
                    data = os.urandom(size)
                    async with session.post(url, data=data) as answer:
                        assert await answer.read() == data
                await asyncio.gather(*(ask(100 * i) for i in range(1, 60)))
                await ask(3_000_000)
            await runner.cleanup()
            print("done")

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())
    """, timeout=50)
    assert out == ["done"]


def test_websockets(script, engine):
    pytest.importorskip("websockets.asyncio.server")
    out = script(CONTEXTS + """
        import websockets.asyncio.client as client
        import websockets.asyncio.server as server

        async def echo(ws):
            async for message in ws:
                await ws.send(message)

        async def main():
            async with server.serve(echo, "127.0.0.1", 0, ssl=inside,
                                    max_size=None) as serving:
                port = serving.sockets[0].getsockname()[1]
                uri = f"wss://127.0.0.1:{port}"

                async def talk(i):
                    async with client.connect(uri, ssl=outside,
                                              max_size=None) as ws:
                        for size in (1, 100, 20_000, 300_000):
                            data = os.urandom(size)
                            await ws.send(data)
                            assert await ws.recv() == data
                await asyncio.gather(*(talk(i) for i in range(8)))
            print("done")

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())
    """, timeout=50)
    assert out == ["done"]
