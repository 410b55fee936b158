"""uvicorn with a small ASGI app, asked by curl and wrk."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

import support

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.ecosystem

APP = """
import asyncio, json

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if scope["path"] == "/loop":
        body = type(asyncio.get_running_loop()).__module__.encode()
    elif scope["path"] == "/json":
        body = json.dumps({"method": scope["method"]}).encode()
    elif scope["path"] == "/big":
        body = b"x" * 5_000_000
    elif scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200,
                    "headers": []})
        for i in range(100):
            await send({"type": "http.response.body", "body": b"%03d" % i,
                        "more_body": True})
        await send({"type": "http.response.body"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [
        (b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""

MAIN = """
import asyncio, socket, sys
sys.path[:0] = {path!r}
import support, uvicorn
from app import app

sock = socket.socket()
sock.bind(("127.0.0.1", 0))
print(sock.getsockname()[1], flush=True)
server = uvicorn.Server(uvicorn.Config(
    app, http={http!r}, log_level="warning", lifespan="on"))
with asyncio.Runner(loop_factory=support.factory({loop!r})) as runner:
    runner.run(server.serve(sockets=[sock]))
"""


@pytest.fixture(params=["h11", "httptools"])
def server(request, tmp_path, loop_name):
    """The port of a running server; ended with SIGTERM, it exits well."""
    pytest.importorskip(request.param)
    (tmp_path / "app.py").write_text(APP)
    path = [str(tmp_path), os.path.dirname(support.__file__),
            *(p for p in sys.path if p)]
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN.format(
            path=path, http=request.param, loop=loop_name)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        port = int(process.stdout.readline() or 0)
        assert port, process.communicate()[1]
        deadline = time.monotonic() + 20
        while subprocess.run(
                ["curl", "-s", "-o", os.devnull,
                 f"http://127.0.0.1:{port}/"]).returncode:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
        yield port
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=15)
        assert "Traceback" not in err, err
        # uvicorn raises the signal again when it has shut down.
        assert process.returncode in (0, -signal.SIGTERM), err
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def curl(*args, data=None):
    return subprocess.run(["curl", "-sS", "--max-time", "20", *args],
                          input=data, capture_output=True, check=True).stdout


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
def test_curl(server, loop_factory):
    base = f"http://127.0.0.1:{server}"
    made = loop_factory()
    module = type(made).__module__
    made.close()
    assert curl(base + "/loop").decode() == module
    assert json.loads(curl(base + "/json")) == {"method": "GET"}
    assert curl("-d", "hello", base + "/") == b"hello"
    assert len(curl(base + "/big")) == 5_000_000
    assert curl(base + "/stream") == b"".join(b"%03d" % i for i in range(100))
    big = b"y" * 3_000_000
    assert support.same(curl("--data-binary", "@-", base + "/", data=big),
                        big)
    # Several requests over one connection.
    urls = [base + "/json"] * 20
    assert curl(*urls) == b'{"method": "GET"}' * 20


@pytest.mark.skipif(not shutil.which("wrk"), reason="no wrk")
@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
def test_wrk(server):
    """A second of load: every answer is right."""
    out = subprocess.run(
        ["wrk", "-t1", "-c20", "-d1s", f"http://127.0.0.1:{server}/json"],
        capture_output=True, text=True, check=True, timeout=30).stdout
    assert "Non-2xx" not in out and "Socket errors" not in out, out
    (requests,) = [int(line.split()[0]) for line in out.splitlines()
                   if "requests in" in line]
    assert requests > 50
