"""Subinterpreters and free-threaded builds: what works works, the rest is refused.

An interpreter that shares the GIL (the only kind before 3.12, a legacy one since) can have loops
of its own.  One with its own GIL cannot: the import says so.
"""
import sys
import sysconfig

import pytest

FIND = """
    try:
        import _interpreters as module
    except ImportError:
        import _xxsubinterpreters as module

    def make(isolated):
        if sys.version_info >= (3, 13):
            return module.create("isolated" if isolated else "legacy")
        return module.create(isolated=isolated)

    def run(interpreter, source):
        # 3.13 returns what went wrong, the others raise it.
        failure = module.run_string(interpreter, source)
        assert failure is None, failure

    inside = "import sys; sys.path[:] = " + repr(sys.path) + "\\n" + {inside!r}

    def end():
        sys.stdout.flush()
        # At its own end, 3.12 frees some of _asyncio's memory twice after
        # any subinterpreter in which a loop ran, also the stock one.
        if sys.version_info[:2] == (3, 12):
            os._exit(0)
"""

# TCP, TLS, timers, the executor, add_reader, a subprocess: then it ends.
INSIDE = """
import asyncio, os, socket, ssl, sys
import support
new_loop = support.factory({loop!r})

async def echo(reader, writer):
    while data := await reader.read(1000):
        writer.write(data)
    writer.close()

async def main():
    loop = asyncio.get_running_loop()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain({pem!r})
    client_context = ssl.create_default_context(cafile={pem!r})
    out = []
    for tls in (False, True):
        server = await asyncio.start_server(
            echo, "127.0.0.1", 0, ssl=server_context if tls else None)
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=client_context if tls else None,
            server_hostname="localhost" if tls else None)
        writer.write(b"hello" * 100)
        out.append(await reader.readexactly(500) == b"hello" * 100)
        writer.close()
        await writer.wait_closed()
        server.close()
    await asyncio.sleep(0.001)
    out.append(await asyncio.to_thread(lambda: "thread"))
    a, b = socket.socketpair()
    with a, b:
        future = loop.create_future()
        loop.add_reader(a, lambda: (loop.remove_reader(a), future.set_result(a.recv(5))))
        b.send(b"ready")
        out.append(await future)
    return out

loop = new_loop()
text = " ".join(map(str, loop.run_until_complete(main())))
sys.stdout.write(text + "\\n")       # at once: two interpreters may write
sys.stdout.flush()
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
"""
HANGS = "subinterpreters in threads hang there, on the stock loop too"
WORKED = "True True thread b'ready'"


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    """A certificate and its key in one file; it is its own authority, too."""
    import trustme
    authority = trustme.CA()
    cert = authority.issue_cert("localhost")
    path = tmp_path_factory.mktemp("pem") / "all.pem"
    path.write_bytes(cert.private_key_pem.bytes() + b"".join(
        blob.bytes() for blob in cert.cert_chain_pems) + authority.cert_pem.bytes())
    return str(path)


@pytest.fixture
def interpreters(script, loop_name, pem):
    """Run a program that has make(), run() and end(), and `inside`."""
    def interpreters(source, inside=INSIDE):
        inside = inside.format(loop=loop_name, pem=pem)
        return script(FIND.format(inside=inside).replace("\n    ", "\n") + source)
    return interpreters


def test_shared_gil(interpreters):
    """One after the other, before and after the main interpreter's own loop."""
    out = interpreters("""
for n in range(3):
    interpreter = make(isolated=False)
    run(interpreter, inside)
    run(interpreter, inside)
    module.destroy(interpreter)
    exec(inside)
end()
""")
    assert out == [WORKED] * 9


@pytest.mark.skipif(sys.version_info < (3, 12), reason=HANGS)
def test_shared_gil_with_a_loop_that_runs(interpreters):
    """While the main interpreter's loop has connections, another comes and goes."""
    out = interpreters("""
async def main():
    left, right = socket.socketpair()
    one = await asyncio.open_connection(sock=left)
    other = await asyncio.open_connection(sock=right)
    for n in range(2):
        one[1].write(b"ping")
        interpreter = make(isolated=False)
        # In a thread of its own: no loop runs there yet.
        await asyncio.to_thread(run, interpreter, inside)
        await asyncio.to_thread(module.destroy, interpreter)
        print(await other[0].readexactly(4), flush=True)
    one[1].close()
    other[1].close()

loop = new_loop()
loop.run_until_complete(main())
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
end()
""")
    assert out == [WORKED, "b'ping'"] * 2


@pytest.mark.skipif(sys.version_info < (3, 13), reason=HANGS)
def test_shared_gil_in_two_threads(interpreters):
    """Two interpreters whose loops run at the same time."""
    out = interpreters("""
interpreters = [make(isolated=False) for _ in range(2)]
threads = [threading.Thread(target=run, args=(interpreter, inside))
           for interpreter in interpreters]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for interpreter in interpreters:
    module.destroy(interpreter)
end()
""")
    assert out == [WORKED] * 2


def test_interpreter_ends_with_its_loop_open(interpreters):
    """Whatever an interpreter leaves behind, its end and the process's are orderly."""
    out = interpreters("""
for n in range(3):
    interpreter = make(isolated=False)
    run(interpreter, inside)
    module.destroy(interpreter)
exec(inside)
end()
""", inside="""
import asyncio, socket, support, warnings
warnings.simplefilter("ignore")
loop = support.factory({loop!r})()

async def main():
    global keep
    a, b = socket.socketpair()
    keep = await asyncio.open_connection(sock=a), await asyncio.open_connection(sock=b)
    keep[0][1].write(b"x" * 1000)
    loop.call_later(1000, print)
    task = loop.create_task(keep[0][0].read())
    keep += (task,)

loop.run_until_complete(main())
loop.call_soon(print, "never")
print("left", flush=True)
""")
    assert out == ["left"] * 4


REFUSED = """
for name in "tidewire", "tidewire", "tidewire._core":
    try:
        __import__(name)
    except ImportError as exc:
        print(exc, flush=True)
import asyncio
print(asyncio.run(asyncio.sleep(0, "asyncio works")), flush=True)
"""
REASON = "module tidewire._core does not support loading in subinterpreters"


@pytest.mark.tidewire
@pytest.mark.skipif(sys.version_info < (3, 12), reason="all share the GIL")
def test_own_gil_is_refused(interpreters):
    out = interpreters("""
for n in range(2):
    interpreter = make(isolated=True)
    run(interpreter, inside)
    module.destroy(interpreter)
import tidewire
tidewire.run(asyncio.sleep(0))
end()
""", inside=REFUSED)
    assert out == [REASON, REASON, REASON, "asyncio works"] * 2


@pytest.mark.tidewire
@pytest.mark.skipif(sys.version_info < (3, 14), reason="3.14's module")
def test_concurrent_interpreters(interpreters):
    """Python's own front door makes interpreters with a GIL of their own."""
    out = interpreters("""
from concurrent import interpreters
from concurrent.futures import InterpreterPoolExecutor
interpreter = interpreters.create()
interpreter.exec(inside)
interpreter.close()
with InterpreterPoolExecutor(1) as pool:
    error = pool.submit(__import__, "tidewire").exception()
    print(isinstance(error, ImportError), error)
""", inside=REFUSED)
    assert out == [REASON, REASON, REASON, "asyncio works", f"True {REASON}"]


@pytest.mark.tidewire
@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"),
                    reason="not a free-threaded build")
def test_free_threaded_build_turns_the_gil_on(script):
    out = script("""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            import tidewire
        print(sys._is_gil_enabled(), [w.category.__name__ for w in caught])
    """)
    assert out == ["True", "['RuntimeWarning']"] or out == ["True ['RuntimeWarning']"]
