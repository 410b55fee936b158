"""The environment variables that tidewire reads, and what it does with values it does not know."""

import os
import subprocess
import sys

import pytest

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
    """Whether a small write waits for the end of its callback."""
    import asyncio
    import socket

    if value is not None:
        monkeypatch.setenv("TIDEWIRE_CORK", value)

    async def main():
        ours, peer = socket.socketpair()
        peer.setblocking(False)
        with peer:
            transport, _ = await asyncio.get_running_loop().create_unix_connection(
                asyncio.Protocol, sock=ours)
            transport.write(b"x")
            try:
                seen = peer.recv(1)
            except BlockingIOError:
                seen = b""
            transport.close()
            await asyncio.sleep(0)
            return not seen

    assert tidewire.run(main()) is held


def test_seen_by_the_user():
    """Once for a program, in words, on standard error."""
    process = subprocess.run(
        [sys.executable, "-c", "import tidewire\nfor i in range(3): tidewire.new_event_loop().close()"],
        env={**os.environ, "TIDEWIRE_CORK": "nonsense", "PYTHONWARNINGS": ""},
        capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr
    assert process.stderr.count("RuntimeWarning: TIDEWIRE_CORK='nonsense' is not known") == 1
