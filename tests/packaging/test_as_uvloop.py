"""tidewire in the place of uvloop: programs that say uvloop by name run on it unchanged."""

import os
import subprocess
import sys
import textwrap

import pytest


pytestmark = [pytest.mark.tidewire, pytest.mark.packaging]

# The kinds of start that servers have; each prints the module of its loop's class.
PROGRAMS = {
    "run": """
        import asyncio, uvloop
        async def main():
            assert type(asyncio.get_running_loop()) is uvloop.Loop
            print(type(asyncio.get_running_loop()).__module__)
        if __name__ == "__main__":
            uvloop.run(main())
        """,
    "policy": """
        import asyncio, uvloop
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        async def main():
            print(type(asyncio.get_running_loop()).__module__)
        if __name__ == "__main__":
            asyncio.run(main())
        """,
    "install": """
        import asyncio, uvloop
        async def main():
            print(type(asyncio.get_running_loop()).__module__)
        if __name__ == "__main__":
            uvloop.install()
            asyncio.run(main(), debug=False)
        """,
    "runner": """
        import asyncio, uvloop
        async def main():
            print(type(asyncio.get_running_loop()).__module__)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
        """,
    # As Ray does it: only where it is installed, and only if nobody has chosen a policy.
    "if it is there": """
        import asyncio
        def try_install_uvloop():
            try:
                import uvloop
            except ImportError:
                return
            try:
                from uvloop import EventLoopPolicy
            except ImportError:
                uvloop.install()
            else:
                asyncio.set_event_loop_policy(EventLoopPolicy())
        try_install_uvloop()
        loop = asyncio.new_event_loop()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        print(type(loop).__module__)
        """,
    # As vLLM's API server starts: uvloop.run() of a coroutine that serves on a socket, which was
    # bound before, until it is told to stop.
    "serve": """
        import asyncio, signal, socket, uvloop
        async def answer(reader, writer):
            writer.write((await reader.readline()).upper())
            await writer.drain()
            writer.close()
        async def serve(sock):
            loop = asyncio.get_running_loop()
            stop = loop.create_future()
            loop.add_signal_handler(signal.SIGTERM, stop.set_result, None)
            server = await asyncio.start_server(answer, sock=sock)
            reader, writer = await asyncio.open_connection(*sock.getsockname())
            writer.write(b"tidewire\\n")
            assert await reader.read() == b"TIDEWIRE\\n"
            writer.close()
            signal.raise_signal(signal.SIGTERM)
            await stop
            server.close()
            await server.wait_closed()
            print(type(loop).__module__)
        if __name__ == "__main__":
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", 0))
            uvloop.run(serve(sock))
        """,
    # As SGLang starts: the policy at import, a spawned worker with a loop of its own, and
    # get_event_loop() or a new loop for what runs in the main process.
    "server with a worker": """
        import asyncio, multiprocessing, uvloop
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        def work(pipe):
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            async def main():
                pipe.send((type(loop).__module__, uvloop.__name__, uvloop.Loop is type(loop)))
            loop.run_until_complete(main())
            loop.close()
        if __name__ == "__main__":
            multiprocessing.set_start_method("spawn", force=True)
            ours, theirs = multiprocessing.Pipe()
            worker = multiprocessing.Process(target=work, args=(theirs,))
            worker.start()
            assert ours.recv() == ("tidewire", "uvloop", True)
            worker.join()
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            async def main():
                print(type(asyncio.get_running_loop()).__module__)
            loop.run_until_complete(main())
            loop.close()
        """,
}


def run(path, *options, env=None):
    return subprocess.run([sys.executable, *options, str(path)], capture_output=True, text=True,
                          timeout=60, env={**os.environ, "PYTHONWARNINGS": "", **(env or {})})


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(tmp_path, name):
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAMS[name]))
    process = run(path, "-m", "tidewire", "--uvloop")
    assert (process.returncode, process.stdout) == (0, "tidewire\n"), process.stderr
    process = run(path, "-m", "tidewire", env={"TIDEWIRE_AS_UVLOOP": "1"})
    assert (process.returncode, process.stdout) == (0, "tidewire\n"), process.stderr


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_with_the_name_replaced(tmp_path, name):
    """``sed s/uvloop/tidewire/``."""
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAMS[name]).replace("uvloop", "tidewire"))
    process = run(path)
    assert (process.returncode, process.stdout) == (0, "tidewire\n"), process.stderr


def test_module():
    code = """
        import asyncio, importlib, importlib.util, sys
        import tidewire
        tidewire.as_uvloop()
        tidewire.as_uvloop()            # a second time changes nothing
        assert "uvloop" not in sys.modules
        spec = importlib.util.find_spec("uvloop")
        assert spec is not None
        import uvloop
        from uvloop import *
        import uvloop.loop
        from uvloop.loop import Loop as Inner
        assert uvloop.Loop is uvloop.loop.Loop is Inner is tidewire.Loop
        assert new_event_loop is uvloop.new_event_loop is tidewire.new_event_loop
        assert uvloop.run is tidewire.run and uvloop.install is tidewire.install
        numbers = [int(part) for part in uvloop.__version__.split(".")]
        assert numbers >= [0, 18], numbers
        assert importlib.util.find_spec("uvloop").name == uvloop.__spec__.name == "uvloop"
        assert uvloop.__doc__.startswith("tidewire")
        assert importlib.reload(uvloop) is uvloop
        try:
            uvloop.nonsense
        except AttributeError as exc:
            assert str(exc) == "module 'uvloop' has no attribute 'nonsense'"
        else:
            assert False
        loop = uvloop.new_event_loop()
        assert isinstance(loop, uvloop.Loop)
        loop.close()
    """
    process = subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
                             capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr


def test_names_of_the_real_one():
    """What uvloop has in public, the stand-in has, too."""
    real = pytest.importorskip("uvloop")
    code = """
        import tidewire, warnings
        warnings.simplefilter("ignore")
        tidewire.as_uvloop()
        import uvloop
        print(*[name for name in %r if not hasattr(uvloop, name)])
    """ % ([*real.__all__, "__version__", "Loop", "install", "EventLoopPolicy"],)
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(code)],
                             capture_output=True, text=True, timeout=60)
    assert process.stdout == "\n", process.stderr


def test_too_late():
    """uvloop was imported before: later imports find tidewire, and a warning says what is lost."""
    pytest.importorskip("uvloop")
    code = """
        import sys, warnings
        import uvloop as real
        import tidewire
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            tidewire.as_uvloop()
        (warning,) = caught
        assert "uvloop was imported before tidewire.as_uvloop()" in str(warning.message)
        assert warning.filename == "<string>"
        import uvloop, uvloop.loop
        assert uvloop is not real and uvloop.Loop is uvloop.loop.Loop is tidewire.Loop
    """
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(code)],
                             capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr


def test_not_unless_asked_for(tmp_path):
    """Without --uvloop, uvloop is what is installed under this name, or nothing."""
    path = tmp_path / "program.py"
    path.write_text("try:\n    import uvloop\nexcept ImportError:\n    print('none')\n"
                    "else:\n    print(uvloop.Loop.__module__)\n")
    process = run(path, "-m", "tidewire", env={"TIDEWIRE_AS_UVLOOP": ""})
    assert process.stdout in ("none\n", "uvloop\n"), process.stderr
