"""The websockets package on the loop."""
import pytest

pytest.importorskip("websockets.asyncio.server")
pytestmark = pytest.mark.ecosystem


def test_echo(script):
    out = script("""
        import websockets.asyncio.client as client
        import websockets.asyncio.server as server

        async def echo(ws):
            async for message in ws:
                await ws.send(message)

        async def main():
            async with server.serve(echo, "127.0.0.1", 0,
                                    max_size=None) as serving:
                port = serving.sockets[0].getsockname()[1]
                uri = f"ws://127.0.0.1:{port}"

                async def talk(i):
                    async with client.connect(uri) as ws:
                        for n in range(50):
                            await ws.send(f"{i} {n}")
                            assert await ws.recv() == f"{i} {n}"

                await asyncio.gather(*(talk(i) for i in range(20)))
                async with client.connect(uri, max_size=None) as ws:
                    data = os.urandom(2_000_000)
                    await ws.send(data)
                    assert await ws.recv() == data
                    await (await ws.ping())
            print("done")

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())
    """, timeout=50)
    assert out == ["done"]


def test_server_closes(script):
    out = script("""
        import websockets.asyncio.client as client
        import websockets.asyncio.server as server
        from websockets.exceptions import ConnectionClosed

        async def rude(ws):
            await ws.send("bye")
            await ws.close(4000, "enough")

        async def main():
            async with server.serve(rude, "127.0.0.1", 0) as serving:
                port = serving.sockets[0].getsockname()[1]
                async with client.connect(f"ws://127.0.0.1:{port}") as ws:
                    assert await ws.recv() == "bye"
                    try:
                        await ws.recv()
                    except ConnectionClosed as exc:
                        print(exc.rcvd.code, exc.rcvd.reason)

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())
    """, timeout=50)
    assert out == ["4000 enough"]
