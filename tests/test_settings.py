"""The environment variables that tidewire reads, and what it does with values it does not know."""

import asyncio
import os
import subprocess
import sys

import pytest
import support

import tidewire
from tidewire import _settings

pytestmark = pytest.mark.tidewire


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    for name in _settings.SETTINGS:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", _settings.SETTINGS)
def test_unknown_value_warns(monkeypatch, name):
    monkeypatch.setenv(name, "nonsense")
    with pytest.warns(RuntimeWarning, match=f"{name}='nonsense' is not known and has no effect"):
        tidewire.new_event_loop().close()
    assert _settings.describe(name).startswith(_settings.SETTINGS[name].default)


@pytest.mark.parametrize("name, values", [
    ("TIDEWIRE_TLS", ["direct", "memorybio"]),
    ("TIDEWIRE_CHILD_WATCHER", ["thread", "pidfd"]),
    ("TIDEWIRE_CORK", ["0", "off", "NO", "False", "1", "on", "yes", "True"]),
    ("TIDEWIRE_AS_UVLOOP", ["1", "0"])])
def test_known_values_do_not_warn(monkeypatch, name, values):
    for value in ["", *values]:
        monkeypatch.setenv(name, value)
        tidewire.new_event_loop().close()       # warnings are errors here


@pytest.mark.parametrize("value, held", [
    ("off", False), ("no", False), ("false", False), ("0", False), ("OFF", False),
    ("on", True), ("1", True), ("", True), (None, True)])
def test_cork(monkeypatch, value, held):
    """Whether the first write of a habit (docs/differences.rst) waits for the second."""
    if value is not None:
        monkeypatch.setenv("TIDEWIRE_CORK", value)
    # A busy machine may make a program slow, which has no habit then.
    tries = 20 if held else 1
    assert any(tidewire.run(is_first_write_held()) for _ in range(tries)) is held


async def is_first_write_held():
    loop = asyncio.get_running_loop()
    transport, _, peer = await support.connected_by_name("unix", asyncio.Protocol)
    seen = []

    def write():
        transport.write(b"x")
        try:
            seen.append(peer.recv(1))
        except BlockingIOError:
            seen.append(b"")
        transport.write(b"y")

    with peer:
        for _ in range(20):
            loop.call_soon(write)
            await asyncio.sleep(0)
            peer.recv(100)
        transport.close()
        await asyncio.sleep(0)
    return seen[-1] == b""


def test_seen_by_the_user():
    """Once for a program, in words, on standard error."""
    process = subprocess.run(
        [sys.executable, "-c", "import tidewire\nfor i in range(3): tidewire.new_event_loop().close()"],
        env={**os.environ, "TIDEWIRE_CORK": "nonsense", "PYTHONWARNINGS": ""},
        capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr
    assert process.stderr.count("RuntimeWarning: TIDEWIRE_CORK='nonsense' is not known") == 1
