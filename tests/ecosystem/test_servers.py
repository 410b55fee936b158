"""Each row of servers.py is run as the page docs/servers.rst has it: which loop does it run on?

A few rows run among the ordinary tests; ``make test-ecosystem`` installs what the others need and
runs all of them.
"""
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request

import pytest
import support

pytestmark = [pytest.mark.tidewire, pytest.mark.ecosystem, pytest.mark.timeout(120)]

_spec = importlib.util.spec_from_file_location(
    "servers", pathlib.Path(__file__).with_name("servers.py"))
servers = importlib.util.module_from_spec(_spec)
sys.modules["servers"] = servers        # dataclasses look there
_spec.loader.exec_module(servers)

ROWS = [(title, row) for title, _, rows in servers.SECTIONS for row in rows]
ALL = bool(os.environ.get("TIDEWIRE_TEST_ECOSYSTEM"))
BIN = os.path.dirname(sys.executable)


def version(text):
    return [int(number) for number in re.findall(r"\d+", text)]


def skip_without(row):
    if not (ALL or row.light):
        pytest.skip("run by make test-ecosystem")
    if sys.version_info[:2] < row.python:
        pytest.skip("from Python %d.%d on" % row.python)
    for part in row.needs.split():
        name, _, oldest = part.partition(">=")
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{name} is not installed")
        if oldest and version(found) < version(oldest):
            pytest.skip(f"{name} {found} is older than {oldest}")


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def start(row, folder, port):
    # What the user is shown is part of what runs; the test's own lines come after it.
    for name in {**row.shown, **row.files}:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        whole = name in row.shown and name in row.files and row.args
        texts = [row.files.get(name, "")] if whole else [
            text.get(name, "") for text in (
                (row.files, row.shown) if row.files.get(name) == servers.NAME
                else (row.shown, row.files))]
        path.write_text("\n".join(textwrap.dedent(text) for text in texts).strip() + "\n")
    values = {"port": port, "code": shlex.quote(row.env.get("code", ""))}
    command = shlex.split(f"{row.command} {row.args.format(**values)}")
    command[0] = sys.executable if command[0] == "python" else os.path.join(BIN, command[0])
    paths = [str(folder), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    env = {**os.environ, **row.env, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "",
           "PYTHONUNBUFFERED": "1", "PYTHONASYNCIODEBUG": "", "PYTHONDEVMODE": "",
           "COLUMNS": "200", "NO_COLOR": "1", "HOME": str(folder)}
    return subprocess.Popen(command, cwd=folder, env=env, text=True, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            start_new_session=True)


def ask(process, port):
    """The server's answer, as soon as it gives one."""
    deadline = time.monotonic() + 60 * support.SLOWER
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, ConnectionError, TimeoutError) as exc:
            if process.poll() is not None or time.monotonic() > deadline:
                end(process)
                raise AssertionError(f"{exc}: {process.communicate()[0]}") from None
            time.sleep(0.02)


def end(process):
    """End the group of processes that the test has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


@pytest.mark.parametrize("title, row", ROWS, ids=[
    f"{title.split()[0].strip(',')}-{at}" for at, (title, _) in enumerate(ROWS)])
def test_row(title, row, tmp_path):
    skip_without(row)
    port = free_port()
    process = start(row, tmp_path, port)
    try:
        if "{port}" in row.args:
            assert [ask(process, port) for _ in range(4)] == ["tidewire"] * 4
            process.send_signal(signal.SIGINT)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                pass                    # not what is tested here
            return
        out, _ = process.communicate(timeout=100)
    finally:
        end(process)
        process.wait()
        process.stdout.close()
    names = [line for line in out.splitlines() if re.fullmatch(r"(tidewire|asyncio|uvloop)\S*", line)]
    assert names == ["tidewire"] * row.prints, out
    assert process.returncode == 0, out


def test_page():
    """docs/servers.rst is what the table says."""
    assert servers.PAGE.read_text() == servers.page(), (
        "python tests/ecosystem/servers.py --record")
