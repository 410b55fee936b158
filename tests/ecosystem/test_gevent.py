"""Programs that gevent or eventlet has patched: asyncio runs beside their greenlets."""
import importlib.util

import pytest

pytestmark = pytest.mark.ecosystem

PATCHES = {
    "gevent": "from gevent import monkey; monkey.patch_all()",
    "gevent, but not the sockets": "from gevent import monkey; monkey.patch_all(socket=False)",
    "gevent, after tidewire": "import tidewire; from gevent import monkey; monkey.patch_all()",
    "eventlet": "import eventlet; eventlet.monkey_patch()",
}


@pytest.mark.parametrize("how", PATCHES)
def test_patched(script, how):
    package, _, _ = how.partition(",")
    if importlib.util.find_spec(package) is None:   # to import eventlet changes this process
        pytest.skip(f"needs {package}")
    out = script(f"""
        import warnings
        warnings.simplefilter("ignore")
        {PATCHES[how]}
        import asyncio

        async def main():
            loop = asyncio.get_running_loop()
            print(await loop.run_in_executor(None, int, "5"))
            print(bool(await loop.getaddrinfo("localhost", 80)))
            print(await asyncio.to_thread(int, "6"))
            process = await asyncio.create_subprocess_exec("echo", "hi", stdout=-1)
            print((await process.communicate())[0])
            server = await asyncio.start_server(
                lambda r, w: (w.write(b"hello"), w.close()), "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            print(await reader.read())
            writer.close()
            server.close()

        loop = new_loop()
        loop.run_until_complete(asyncio.wait_for(main(), 20))
        loop.close()
    """)
    assert out == ["5", "True", "6", "b'hi\\n'", "b'hello'"]
