"""Servers and frameworks: what to write so that each of them runs on tidewire.

test_servers.py runs each row of this table and asserts which loop ran.  docs/servers.rst is made
from it::

    python tests/ecosystem/servers.py          compare the page with the table
    python tests/ecosystem/servers.py --record write the page
"""
import pathlib
import sys
import textwrap
from dataclasses import dataclass, field

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "servers.rst"


@dataclass
class Row:
    """One way to run one program.

    It is a server if its arguments name a {port}: it then answers requests with the name of its
    loop.  Otherwise it prints that name, as often as `prints` says.
    """

    needs: str                      # distributions and their oldest versions, by blanks
    command: str                    # as it stands in the page
    args: str = ""                  # what the test adds to it
    shown: dict = field(default_factory=dict)       # files that the user writes
    files: dict = field(default_factory=dict)       # files that the test adds
    prints: int = 1
    note: str = ""
    python: tuple = (3, 11)         # the oldest Python
    env: dict = field(default_factory=dict)
    light: bool = False             # it is among the ordinary tests


NAME = """
import asyncio
def name():
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]
"""

ASGI = NAME + """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": name().encode()})
"""

FASTAPI = NAME + """
import fastapi
from fastapi.responses import PlainTextResponse
app = fastapi.FastAPI()
@app.get("/", response_class=PlainTextResponse)
async def root(): return name()
"""

STARLETTE = NAME + """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
async def root(request): return PlainTextResponse(name())
app = Starlette(routes=[Route("/", root)])
"""

LITESTAR = NAME + """
from litestar import Litestar, MediaType, get
@get("/", media_type=MediaType.TEXT)
async def root() -> str: return name()
app = Litestar([root])
"""

AIOHTTP = NAME + """
from aiohttp import web
async def root(request): return web.Response(text=name())
def make(argv=None):
    app = web.Application()
    app.router.add_get("/", root)
    return app
app = make()
"""

ASGI_FILES = {"app.py": ASGI}
PORT = "--port {port}"
BIND = "--bind 127.0.0.1:{port}"

UVICORN = [
    Row("uvicorn>=0.36", "uvicorn --loop tidewire:new_event_loop app:app", PORT, files=ASGI_FILES,
        light=True,
        note="Any factory can be named as ``module:function``."),
    Row("uvicorn>=0.36", "uvicorn --loop tidewire:new_event_loop --workers 2 app:app", PORT,
        files=ASGI_FILES, light=True),
    Row("uvicorn>=0.36", "uvicorn --loop tidewire:new_event_loop --reload app:app", PORT,
        files=ASGI_FILES),
    Row("uvicorn>=0.36", "python server.py", "{port}", files={
        **ASGI_FILES, "server.py": "import sys, uvicorn\nif __name__ == '__main__':\n"
        "    uvicorn.run('app:app', loop='tidewire:new_event_loop', port=int(sys.argv[1]))\n"},
        note="In a program, write ``uvicorn.run(\"app:app\", loop=\"tidewire:new_event_loop\")``:"),
    Row("uvicorn>=0.36", "python -m tidewire -m uvicorn --loop asyncio app:app", PORT,
        files=ASGI_FILES, light=True,
        note="Without ``--loop``, uvicorn takes uvloop if it is installed. Then write:"),
    Row("uvicorn>=0.36", "python -m tidewire --uvloop -m uvicorn app:app", PORT, files=ASGI_FILES),
    Row("uvicorn>=0.36", "python -m tidewire --uvloop -m uvicorn --workers 2 app:app", PORT,
        files=ASGI_FILES, light=True),
    Row("uvicorn>=0.36", "python -m tidewire -m uvicorn --loop asyncio --reload app:app", PORT,
        files=ASGI_FILES),
]

FRAMEWORKS = [
    Row("starlette uvicorn>=0.36", "uvicorn --loop tidewire:new_event_loop app:app", PORT,
        files={"app.py": STARLETTE}),
    Row("fastapi uvicorn>=0.36", "uvicorn --loop tidewire:new_event_loop app:app", PORT,
        files={"app.py": FASTAPI}),
    Row("litestar uvicorn>=0.36", "uvicorn --loop tidewire:new_event_loop app:app", PORT,
        files={"app.py": LITESTAR}),
]

GUNICORN = [
    Row("gunicorn uvicorn-worker", "gunicorn -k worker.TidewireWorker app:app", BIND,
        files=ASGI_FILES, light=True, note="with uvicorn's worker, and this class:",
        shown={"worker.py": """
            from uvicorn_worker import UvicornWorker

            class TidewireWorker(UvicornWorker):
                CONFIG_KWARGS = {"loop": "tidewire:new_event_loop"}
            """}),
    Row("gunicorn uvicorn-worker",
        "python -m tidewire --uvloop -m gunicorn -k uvicorn_worker.UvicornWorker app:app", BIND,
        files=ASGI_FILES, note="with uvicorn's worker as it is"),
    Row("gunicorn>=24", "python -m tidewire --uvloop -m gunicorn -k asgi app:app", BIND,
        files=ASGI_FILES, note="with gunicorn's own ASGI worker"),
    Row("gunicorn",
        "python -m tidewire -m gunicorn -k asgi --asgi-loop asyncio --workers 2 app:app", BIND,
        files=ASGI_FILES, note="the same without standing in for uvloop"),
    Row("gunicorn aiohttp", "python -m tidewire -m gunicorn -k aiohttp.GunicornWebWorker app:app",
        BIND, files={"app.py": AIOHTTP}, note="with aiohttp's worker"),
]

HYPERCORN = [
    Row("hypercorn", "python -m tidewire -m hypercorn app:app", BIND, files=ASGI_FILES,
        light=True),
    Row("hypercorn", "python -m tidewire -m hypercorn --workers 2 app:app", BIND,
        files=ASGI_FILES),
    Row("hypercorn", "python -m tidewire --uvloop -m hypercorn -k uvloop app:app", BIND,
        files=ASGI_FILES),
]

GRANIAN = [
    Row("granian", "python -m tidewire -m granian --interface asgi --loop asyncio app:app", PORT,
        files=ASGI_FILES),
    Row("granian", "python -m tidewire --uvloop -m granian --interface asgi app:app", PORT,
        files=ASGI_FILES, note="where granian chooses uvloop by itself"),
    Row("granian",
        "python -m tidewire --uvloop -m granian --interface asgi --workers 2 app:app", PORT,
        files=ASGI_FILES),
]

SANIC_APP = NAME + """
from sanic import Sanic
from sanic.response import text
app = Sanic("example")
@app.get("/")
async def root(request): return text(name())
"""

SANIC = [
    Row("sanic", "python -m tidewire --uvloop -m sanic app:app", PORT,
        files={"app.py": SANIC_APP}),
    Row("sanic", "python -m tidewire --uvloop -m sanic --workers 2 app:app", PORT,
        files={"app.py": SANIC_APP}),
]

TWISTED = [
    Row("daphne", "python -m tidewire -m daphne app:app", PORT, files=ASGI_FILES,
        note="Twisted is below daphne, and runs on asyncio's default loop"),
    Row("twisted", "python program.py",
        note="any program on Twisted: put these two lines first",
        shown={"program.py": """
            import tidewire
            from twisted.internet import asyncioreactor

            asyncioreactor.install(tidewire.new_event_loop())
            """},
        files={"program.py": """
            from twisted.internet import reactor
            def main():
                print(type(reactor._asyncioEventloop).__module__)
                reactor.stop()
            reactor.callWhenRunning(main)
            reactor.run()
            """}),
]

AIOHTTP_ROWS = [
    Row("aiohttp", "python app.py", "{port}", light=True,
        shown={"app.py": """
            from aiohttp import web
            import tidewire

            app = web.Application()
            if __name__ == "__main__":
                web.run_app(app, loop=tidewire.new_event_loop())
            """},
        files={"app.py": AIOHTTP + """
import sys, tidewire
if __name__ == "__main__":
    web.run_app(app, loop=tidewire.new_event_loop(), host="127.0.0.1", port=int(sys.argv[1]))
"""}),
    Row("aiohttp", "python -m tidewire app.py", "{port}",
        note="where the program calls ``web.run_app(app)``",
        files={"app.py": AIOHTTP + """
import sys
if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]))
"""}),
    Row("aiohttp", "python -m tidewire -m aiohttp.web app:make", "-H 127.0.0.1 -P {port}",
        files={"app.py": AIOHTTP}),
]

TORNADO = [
    Row("tornado", "python app.py", "{port}",
        shown={"app.py": """
            import asyncio
            import tidewire
            import tornado.web

            async def main():
                app = tornado.web.Application([("/", Root)])
                app.listen(8000)
                await asyncio.Event().wait()

            tidewire.run(main())
            """},
        files={"app.py": NAME + """
import sys, tidewire, tornado.web
class Root(tornado.web.RequestHandler):
    async def get(self): self.write(name())
async def main():
    app = tornado.web.Application([("/", Root)])
    app.listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()
tidewire.run(main())
"""}),
    Row("tornado", "python -m tidewire app.py", "{port}",
        note="where the program calls ``asyncio.run(main())`` or ``IOLoop.current().start()``",
        files={"app.py": NAME + """
import sys, tornado.ioloop, tornado.web
class Root(tornado.web.RequestHandler):
    async def get(self): self.write(name())
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
async def main():
    tornado.web.Application([("/", Root)]).listen(int(sys.argv[1]), "127.0.0.1")
loop.run_until_complete(main())
tornado.ioloop.IOLoop.current().start()
"""}),
]

ROBYN = [
    Row("robyn", "python -m tidewire --uvloop app.py", "{port}",
        note="Robyn always asks for uvloop: without ``--uvloop`` it does not run on tidewire.",
        files={"app.py": NAME + """
import sys
from robyn import Robyn
port = int(sys.argv.pop())
app = Robyn(__file__)
@app.get("/")
async def root(request): return name()
if __name__ == "__main__":
    app.start(host="127.0.0.1", port=port)
"""}),
]

INI = {"pytest.ini": "[pytest]\nasyncio_default_fixture_loop_scope = function\n"}
PYTEST_CASE = {**INI, "test_it.py": NAME + """
import pytest
@pytest.mark.asyncio
async def test_loop():
    print("\\n" + name())
"""}

TESTS = [
    Row("pytest-asyncio>=1.4", "python -m pytest", "-q -s -W error -p no:cacheprovider",
        note="With pytest-asyncio from 1.4 on, write a hook. (The fixture "
             "``event_loop_policy`` is deprecated.)",
        shown={"conftest.py": """
            import tidewire

            def pytest_asyncio_loop_factories(config, item):
                return {"tidewire": tidewire.new_event_loop}
            """}, files=PYTEST_CASE),
    Row("pytest-asyncio", "python -m tidewire -m pytest", "-q -s -p no:cacheprovider",
        files=PYTEST_CASE, note="With every plugin, and without a line in the tests"),
    Row("anyio>=4", "python -m pytest", "-q -s -W error -p no:cacheprovider",
        note="With anyio's plugin",
        shown={"conftest.py": """
            import pytest
            import tidewire

            @pytest.fixture
            def anyio_backend():
                return "asyncio", {"loop_factory": tidewire.new_event_loop}
            """},
        files={**INI, "test_it.py": NAME + """
import pytest
@pytest.mark.anyio
async def test_loop():
    print("\\n" + name())
"""}),
    Row("pytest-aiohttp pytest-asyncio>=1.4", "python -m pytest",
        "-q -s -p no:cacheprovider --asyncio-mode=auto",
        note="With pytest-aiohttp, write pytest-asyncio's hook",
        shown={"conftest.py": """
            import tidewire

            def pytest_asyncio_loop_factories(config, item):
                return {"tidewire": tidewire.new_event_loop}
            """},
        files={**INI, "app.py": AIOHTTP, "test_it.py": """
            import app
            async def test_loop(aiohttp_client):
                client = await aiohttp_client(app.make())
                print("\\n" + await (await client.get("/")).text())
            """}),
    Row("", "python -m unittest test_it.py", python=(3, 13), light=True,
        note="With ``unittest``, from Python 3.13 on; name the class: a function would become a "
             "method of the test",
        shown={"test_it.py": """
            import unittest
            import tidewire

            class Test(unittest.IsolatedAsyncioTestCase):
                loop_factory = tidewire.Loop
            """},
        files={"test_it.py": NAME + """
import unittest, tidewire
class Test(unittest.IsolatedAsyncioTestCase):
    loop_factory = tidewire.Loop
    async def test_loop(self): print(name())
"""}),
    Row("", "python -m tidewire -m unittest test_it.py", light=True,
        note="With ``unittest`` on every Python",
        files={"test_it.py": NAME + """
import unittest
class Test(unittest.IsolatedAsyncioTestCase):
    async def test_loop(self): print(name())
"""}),
]

ANYIO = [
    Row("anyio>=4", "python program.py", files={"program.py": NAME},
        shown={"program.py": """
            import anyio
            import tidewire

            async def main():
                print(name())

            anyio.run(main, backend_options={"loop_factory": tidewire.new_event_loop})
            """}),
]

NOTEBOOKS = [
    Row("ipython", "python -m tidewire -m IPython", "--colors=NoColor -c {code}",
        note="IPython's ``await`` runs on tidewire",
        env={"code": "import asyncio\nasync def f(): "
                     "return type(asyncio.get_running_loop()).__module__\nprint(await f())"}),
    Row("ipykernel jupyter_client", "python program.py",
        note="Jupyter, where a cell that runs a loop itself needs ``nest_asyncio.apply()`` first, as "
             "with asyncio: tidewire stands before ``ipykernel_launcher`` in the kernel's "
             "``kernel.json``",
        shown={"kernel.json": """
            {"display_name": "Python (tidewire)", "language": "python",
             "argv": ["python", "-m", "tidewire", "-m", "ipykernel_launcher",
                      "-f", "{connection_file}"]}
            """},
        files={"program.py": """
            import json, pathlib, sys
            from jupyter_client import KernelManager
            manager = KernelManager()
            spec = json.loads(pathlib.Path("kernel.json").read_text())
            manager.kernel_spec.argv = [sys.executable, *spec["argv"][1:]]
            manager.start_kernel()
            client = manager.client()
            client.start_channels()
            try:
                client.wait_for_ready(timeout=40)
                def show(message):
                    if message["header"]["msg_type"] == "stream":
                        print(message["content"]["text"], end="")
                client.execute_interactive(
                    "import asyncio\\nprint(type(asyncio.get_running_loop()).__module__)",
                    timeout=40, output_hook=show)
            finally:
                client.stop_channels()
                manager.shutdown_kernel(now=True)
            """}),
]

DASK_PROGRAM = NAME + """
import sys
from distributed import Client, LocalCluster
def on_worker(dask_worker):
    return type(dask_worker.loop.asyncio_loop).__module__.partition(".")[0]
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=PROCESSES,
                      dashboard_address=None) as cluster, Client(cluster) as client:
        print(type(client.loop.asyncio_loop).__module__)
        print(*client.run(on_worker).values())
"""

DASK = [
    Row("distributed", "python -m tidewire program.py", prints=2,
        note="with workers in threads (``processes=False``), and in processes",
        files={"program.py": DASK_PROGRAM.replace("PROCESSES", "False")}),
    Row("distributed", "python -m tidewire program.py", prints=2,
        files={"program.py": DASK_PROGRAM.replace("PROCESSES", "True")}),
    Row("distributed", "python -m tidewire --uvloop program.py", prints=2,
        note="where Dask's configuration has ``distributed.admin.event-loop: uvloop``",
        env={"DASK_DISTRIBUTED__ADMIN__EVENT_LOOP": "uvloop"},
        files={"program.py": DASK_PROGRAM.replace("PROCESSES", "True")}),
]

CELERY_PROGRAM = NAME + """
import sys, tempfile
from celery import Celery
from celery.contrib.testing.worker import start_worker
folder = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()
app = Celery("tasks", broker="memory://", backend="file://" + folder)
async def main():
    return name()
@app.task
def task():
    return asyncio.run(main())
if __name__ == "__main__":
    with start_worker(app, pool=POOL, concurrency=1, perform_ping_check=False,
                      loglevel="critical"):
        print(task.delay().get(timeout=40))
"""

CELERY = [
    Row("celery", "python -m tidewire program.py", "results",
        files={"program.py": CELERY_PROGRAM.replace("POOL", "'solo'"), "results/x": ""},
        note="Tasks that call ``asyncio.run()``, with the pools ``solo`` and ``prefork``; for a "
             "worker, write ``python -m tidewire -m celery -A tasks worker``."),
    Row("celery", "python -m tidewire program.py", "results",
        files={"program.py": CELERY_PROGRAM.replace("POOL", "'prefork'"), "results/x": ""}),
]

GRPC = [
    Row("grpcio", "python server.py",
        note="``grpc.aio`` runs on the loop that runs it. So write ``tidewire.run(main())`` in the "
             "program.",
        files={"server.py": NAME + """
import grpc, tidewire
async def answer(request, context):
    return name().encode()
async def main():
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(
        "Name", {"Ask": grpc.unary_unary_rpc_method_handler(answer)})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        print((await channel.unary_unary("/Name/Ask")(b"")).decode())
    await server.stop(None)
tidewire.run(main())
"""}),
]

MULTIPROCESSING_PROGRAM = NAME + """
import multiprocessing
async def main():
    return name()
def child(queue):
    queue.put(asyncio.run(main()))
if __name__ == "__main__":
    context = multiprocessing.get_context(METHOD)
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    print(queue.get())
    process.join()
"""

MULTIPROCESSING = [
    Row("", "python -m tidewire program.py",
        note="With each start method:" if method == "fork" else "",
        files={"program.py": MULTIPROCESSING_PROGRAM.replace("METHOD", repr(method))})
    for method in ("fork", "spawn", "forkserver")]

#: Title, what to know first, rows.
SECTIONS = [
    ("uvicorn", "", UVICORN),
    ("Starlette, FastAPI, Litestar and other ASGI frameworks",
     "The server chooses the loop, not the framework: the command is uvicorn's.", FRAMEWORKS),
    ("gunicorn", "", GUNICORN),
    ("hypercorn", "hypercorn starts its workers as processes of their own, also when there is one. "
     "They are reached by the environment.", HYPERCORN),
    ("granian", "", GRANIAN),
    ("Sanic", "Sanic takes uvloop if it is there.", SANIC),
    ("Twisted and daphne", "", TWISTED),
    ("aiohttp", "", AIOHTTP_ROWS),
    ("tornado", "", TORNADO),
    ("Robyn", "", ROBYN),
    ("anyio", "", ANYIO),
    ("pytest and unittest", "", TESTS),
    ("IPython and Jupyter", "", NOTEBOOKS),
    ("Dask", "", DASK),
    ("Celery", "", CELERY),
    ("gRPC", "", GRPC),
    ("multiprocessing", "", MULTIPROCESSING),
]

HEAD = """\
.. This page is made from the table in tests/ecosystem/servers.py:
   python tests/ecosystem/servers.py --record

======================
Servers and frameworks
======================

What to write so that a program runs on tidewire. There are two ways. Name tidewire's factory,
``tidewire.new_event_loop``, where the program lets you. Or put ``python -m tidewire`` before the
program: that changes asyncio's default loop, in worker processes too. Add ``--uvloop`` if the
program takes uvloop when it is there (:doc:`use`).

Each command on this page is a test, which runs the program and asserts that its loop is tidewire's:
``make test-ecosystem`` runs all of them, ``make test`` some. Each section names the versions that
are tested, and the oldest that has what the command uses where that is known.

PostgreSQL's clients asyncpg and psycopg, and Redis's client redis-py, need nothing: they run on the
loop that runs the program. They are tested with a real server each, over TCP, Unix sockets and TLS.
"""

TAIL = """\
What cannot work
================

* trio and curio have loops of their own: tidewire has no effect on them. A program that gevent or
  eventlet has patched can use tidewire for its asyncio part (``tests/ecosystem/test_gevent.py``), but
  its greenlets do not run on it.
* uvicorn refuses ``--loop tidewire``: it wants ``module:function``.
* gunicorn's workers ``sync`` and ``gthread`` have no event loop.
* Dask refuses ``distributed.admin.event-loop: tidewire``: write ``uvloop`` there, as above.
* Children that ignore the environment (``python -I``, ``-E`` or ``-S``) are not reached. They run
  as they would otherwise.
"""


def row_lines(row):
    note = row.note
    if note and not note.endswith((".", ":", ".)")):
        note += ":"
    yield note[:1].upper() + note[1:]
    yield ""
    for name, text in row.shown.items():
        language = "json" if name.endswith(".json") else "python"
        yield f".. code-block:: {language}"
        yield f"    :caption: {name}"
        yield ""
        yield from textwrap.indent(textwrap.dedent(text).strip(), "    ").splitlines()
        yield ""
    if row.command != "python program.py":
        yield ".. code-block:: console"
        yield ""
        yield f"    $ {row.command}"
        yield ""


def joined(lines, row):
    """A command without words of its own stands in the box of the one before it, once."""
    line = f"    $ {row.command}"
    at = len(lines) - 1
    while at >= 0 and not lines[at]:
        at -= 1
    if row.note or row.shown or at < 0 or not lines[at].startswith("    $ "):
        return False
    if lines[at] != line:
        lines.insert(at + 1, line)
    return True


def pins():
    """The versions that the tests run."""
    text = (PAGE.parents[1] / "tests" / "ecosystem" / "requirements.txt").read_text()
    return dict(line.replace("[binary]", "").split("==") for line in text.split()
                if line[0].isalpha() and "==" in line)


def versions(rows):
    """What a section's rows were tested with, and what they need, each distribution once."""
    oldest = {}
    for row in rows:
        for part in row.needs.split():
            name, _, version = part.partition(">=")
            oldest[name] = oldest.get(name) or version
    return ", ".join(f"{name} {pins()[name]}" + (f" ({version} or newer is needed)" if version else "")
                     for name, version in oldest.items())


def page():
    lines = [HEAD]
    for title, text, rows in SECTIONS:
        lines += [title, "=" * len(title), ""]
        if text:
            lines += [*textwrap.wrap(text, 120), ""]
        if needed := versions(rows):
            lines += [*textwrap.wrap(f"Tested with {needed}.", 100), ""]
        for row in rows:
            if joined(lines, row):
                continue
            for line in row_lines(row):
                lines += textwrap.wrap(line, 120) if line and line[0] not in " ." else [line]
        while lines[-1] == "":
            lines.pop()
        lines.append("")
    lines.append(TAIL)
    out = []
    for line in "\n".join(lines).splitlines():
        if line or not out or out[-1]:
            out.append(line)
    return "\n".join(out) + "\n"


def main(argv):
    if argv == ["--record"]:
        PAGE.write_text(page())
        return 0
    if PAGE.read_text() != page():
        print(f"{PAGE} differs from the table: python tests/ecosystem/servers.py --record")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
