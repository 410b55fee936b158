"""expose(), and the commands that look into a process by it."""
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading

import pytest

import tidewire
from tidewire import _expose, _top

pytestmark = pytest.mark.tidewire

# A program with one connection; it prints a line when all is there, and runs until stdin ends.
PROGRAM = """
import asyncio, os, sys, tidewire
class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)
async def main():
    loop = asyncio.get_running_loop()
    loop.name = "shown"
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"x" * 1000)
    await reader.readexactly(1000)
    {expose}
    print("ready", flush=True)
    {wait}
tidewire.run(main())
"""
WAIT = "await loop.run_in_executor(None, sys.stdin.read)"


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    """A runtime directory of its own for this test's processes."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path / "tidewire"
    _expose.hide()


@pytest.fixture
def program(runtime):
    """Starts such a program; ends it afterwards."""
    started = []

    def start(expose="tidewire.expose()", wait=WAIT, **env):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(expose=expose, wait=wait)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ, **env))
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def command(*args, **kw):
    return subprocess.run([sys.executable, "-m", "tidewire", *map(str, args)],
                          capture_output=True, text=True, timeout=50, **kw)


def test_top_shows_the_loop(program):
    process = program()
    done = command("top", process.pid, "--count", 2, "--interval", 0.05)
    assert done.returncode == 0, done.stderr
    title, head, line = done.stdout.splitlines()[:3]
    assert f"process {process.pid}" in title and "tidewire" in title
    assert re.split(r"  +", head) == list(_top.COLUMNS)
    cells = dict(zip(_top.COLUMNS, re.split(r"  +", line), strict=True))
    assert cells["loop"] == "shown" and cells["state"] == "running" and cells["open"] == "2"


def test_json_is_what_stats_says(program):
    process = program()
    said = json.loads(command("top", process.pid, "--json").stdout)
    [loop] = said["loops"]
    assert said["pid"] == loop["pid"] == process.pid
    assert loop["transports"]["tcp"]["bytes_in"] == 2000


def test_the_only_process_is_found(program):
    process = program()
    assert f"process {process.pid}" in command("top", "--count", 1).stdout
    other = program()
    assert str(other.pid) in command("top", "--count", 1).stderr


def test_a_blocked_loop_is_shown(program):
    """The loop does nothing for a minute; the thread answers."""
    process = program(wait="import time; time.sleep(60)")
    said = json.loads(command("top", process.pid, "--json").stdout)
    assert said["loops"][0]["state"] == "running"


def test_the_slowest_callbacks_have_their_lines(program):
    process = program(TIDEWIRE_SLOW="0.05", wait="""
    import time
    def guilty():
        time.sleep(0.3)
    loop.call_soon(guilty)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    print("slept", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)""")
    assert process.stdout.readline() == "slept\n"
    text = command("top", process.pid, "--count", 1).stdout
    assert "slowest callbacks" in text and "guilty" in text.partition("slowest callbacks")[2]
    slow = json.loads(command("top", process.pid, "--json").stdout)["slow"]
    assert [0.3 <= one["seconds"] < 30 for one in slow if one["function"] == "guilty"] == [True]


def test_by_the_environment(program):
    process = program(expose="pass", TIDEWIRE_EXPOSE="1")
    assert f"process {process.pid}" in command("top", process.pid, "--count", 1).stdout


def test_without_expose(program):
    process = program(expose="pass")
    done = command("top", process.pid, "--count", 1)
    if hasattr(sys, "remote_exec") and done.returncode == 0:
        assert f"process {process.pid}" in done.stdout
    else:
        assert done.returncode == 1 and "tidewire.expose()" in done.stderr
        assert "Traceback" not in done.stderr


def test_no_such_process(runtime):
    done = command("top", 2 ** 22 + 1)
    assert done.returncode == 1 and "there is no process" in done.stderr
    done = command("top")
    assert done.returncode == 1 and "no process of this user is exposed" in done.stderr


def test_modes(runtime):
    path = tidewire.expose()
    assert path == tidewire.expose()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(runtime).st_mode) == 0o700
    _expose.hide()
    assert not os.path.exists(path)


def test_a_directory_of_others_is_refused(runtime):
    runtime.mkdir()
    runtime.chmod(0o755)
    with pytest.raises(OSError, match="not a directory of this user alone"):
        tidewire.expose()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_another_user_gets_nothing(runtime):
    path = tidewire.expose()
    for place in (runtime, runtime.parent, path):
        os.chmod(place, 0o777)
    while (place := place if isinstance(place, str) else str(place)) != "/":
        place = os.path.dirname(place)
        if place.startswith("/tmp/"):
            os.chmod(place, 0o755)
    asked = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent("""
            import os, socket, sys
            os.setuid(65534)
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(sys.argv[1])
            try:
                sock.sendall(b"stats\\n")
                sys.exit(len(sock.recv(100)))
            except (BrokenPipeError, ConnectionResetError):
                sys.exit(0)"""), path], timeout=20)
    assert asked.returncode == 0


def test_a_child_made_by_fork_is_exposed_too(program):
    process = program(wait="""
    if os.fork() == 0:
        new = tidewire.new_event_loop()
        new.name = "child"
        print(os.getpid(), flush=True)
        sys.stdin.read()
        os._exit(0)
    await loop.run_in_executor(None, sys.stdin.read)""")
    child = int(process.stdout.readline())
    names = [loop["name"] for loop in json.loads(command("top", child, "--json").stdout)["loops"]]
    assert "child" in names
    parent = json.loads(command("top", process.pid, "--json").stdout)
    assert [loop["name"] for loop in parent["loops"]] == ["shown"]


def test_a_child_made_by_fork_does_not_keep_the_connections(program):
    """The parent is killed while its child lives: the client sees the end."""
    process = program(wait="""
    sys.stdin.readline()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        sys.stdin.read()
        os._exit(0)
    sys.stdin.read()""")
    client = _expose.Client(process.pid)
    try:
        assert client.stats()["pid"] == process.pid
        process.stdin.write("fork\n")
        process.stdin.flush()
        child = int(process.stdout.readline())
        process.kill()
        process.wait()
        with pytest.raises(ConnectionError):
            client.stats()
        os.kill(child, signal.SIGKILL)
    finally:
        client.close()


def test_the_file_is_made_with_its_mode(runtime, monkeypatch):
    """At no moment may others connect."""
    modes = []

    class Socket(socket.socket):
        def bind(self, path):
            super().bind(path)
            modes.append(stat.S_IMODE(os.stat(path).st_mode))

    monkeypatch.setattr(_expose.socket, "socket", Socket)
    usual = os.umask(0)
    try:
        tidewire.expose()
    finally:
        os.umask(usual)
    assert modes == [0o600]


def test_a_process_with_another_environment_is_found(program):
    """A service has no $XDG_RUNTIME_DIR; the shell of its user has one."""
    process = program(XDG_RUNTIME_DIR="")
    assert process.pid in _expose.processes()
    assert f"process {process.pid}" in command("top", process.pid, "--count", 1).stdout
    process.kill()
    process.wait()
    assert process.pid not in _expose.processes()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_finds_a_process_of_another_user():
    """Whatever the user's directory is."""
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent("""
            import os, sys
            import tidewire, tidewire._expose
            os.environ.pop("XDG_RUNTIME_DIR", None)
            os.setuid(65534)
            print(tidewire.expose(), flush=True)
            sys.stdin.read()""")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as user:
        path = user.stdout.readline().strip()
        text = command("top", user.pid, "--count", 1).stdout
        user.communicate()
    os.rmdir(os.path.dirname(path))
    assert f"process {user.pid}" in text


def test_a_killed_process_leaves_nothing(program, runtime):
    process = program()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [p.name for p in runtime.iterdir()] == [f"{process.pid}.sock"]
    assert _expose.processes() == []
    assert list(runtime.iterdir()) == []


EXHAUSTED = """import errno, resource, tidewire._expose
    class Socket(tidewire._expose.socket.socket):
        def accept(self):
            try:
                return super().accept()
            except OSError as exc:
                if exc.errno == errno.EMFILE:
                    print("full", flush=True)
                raise
    tidewire._expose.socket.socket = Socket
    tidewire.expose()
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    held = []
    try:
        while True:
            held.append(os.dup(0))
    except OSError:
        pass"""


def test_without_descriptors(program):
    """It has no descriptor for a connection; when it has one again, it answers."""
    process = program(expose=EXHAUSTED, wait="""
    sys.stdin.readline()
    for fd in held:
        os.close(fd)
    sys.stdin.read()""")
    client = _expose.Client(process.pid)
    try:
        assert process.stdout.readline() == "full\n"
        process.stdin.write("go on\n")
        process.stdin.flush()
        assert client.stats()["pid"] == process.pid
    finally:
        client.close()


def test_without_threads(runtime, monkeypatch):
    """No thread can be started for a client: the next one gets an answer."""
    start = threading.Thread.start
    refused = threading.Event()

    def fail_once(thread):
        if thread.name == "tidewire-expose-client" and not refused.is_set():
            refused.set()
            raise RuntimeError("can't start new thread")
        start(thread)

    path = tidewire.expose()
    monkeypatch.setattr(threading.Thread, "start", fail_once)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        assert sock.recv(1) == b""
    assert refused.is_set()
    client = _expose.Client(os.getpid())
    assert client.stats()["pid"] == os.getpid()
    client.close()


def test_a_number_that_another_program_has_now(program, runtime):
    """A process was killed, and a program without tidewire got its number."""
    process = program()
    with subprocess.Popen(["sleep", "60"]) as other:
        process.kill()
        process.wait()
        path = runtime / f"{other.pid}.sock"
        (runtime / f"{process.pid}.sock").rename(path)
        assert _expose.find(other.pid) is None
        assert "is not exposed" in command("top", other.pid, "--count", 1).stderr
        assert _expose.processes() == []
        assert not path.exists()
        other.kill()


def test_metrics_of_several_processes(program):
    pytest.importorskip("prometheus_client")
    one, two = program(), program()
    text = command("metrics").stdout
    for process in (one, two):
        assert f'tidewire_received_bytes_total{{kind="tcp",loop="shown",pid="{process.pid}"}} 2000.0' \
            in text
    only = command("metrics", one.pid).stdout
    assert f'pid="{one.pid}"' in only and f'pid="{two.pid}"' not in only


def test_units():
    assert [_top.seconds(v) for v in (2, 0.0123, 4.5e-6, 0)] == ["2 s", "12.3 ms", "4.5 us", "0 us"]
    assert [_top.amount(v) for v in (5, 1500, 2.5e6, 3e9)] == ["5 B", "1.5 kB", "2.5 MB", "3 GB"]


def test_a_page_in_rich_has_the_same_cells(program):
    console = pytest.importorskip("rich.console")
    process = program()
    said = json.loads(command("top", process.pid, "--json").stdout)
    page = _top.View().page(said)
    drawn = console.Console(width=200, record=True, file=open(os.devnull, "w"))
    with drawn.file:
        drawn.print(_top._rich_table(*page))
    text = drawn.export_text()
    assert all(cell in text for cell in page[1][0]) and all(c in text for c in _top.COLUMNS)
