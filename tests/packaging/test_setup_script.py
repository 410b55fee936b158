"""tools/setup.sh: what it installs, and what it says where it may not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.tidewire, pytest.mark.packaging]

TOOLS = ["sh", "dirname", "tr", "cat", "sed", "cksum", "rm", "touch", "env", "uname", "ls"]


@pytest.fixture
def machine(tmp_path):
    """A machine with nothing but a few tools, a copy of the script, and no package manager."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        (folder / name).symlink_to(shutil.which(name))
    (tmp_path / "source" / "tools").mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "setup.sh", tmp_path / "source" / "tools")
    return tmp_path


def program(machine, name, text):
    path = machine / "bin" / name
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)


def run(machine):
    env = {"PATH": str(machine / "bin"), "HOME": str(machine), "LC_ALL": "C"}
    return subprocess.run(["sh", machine / "source" / "tools" / "setup.sh", "demo"], env=env,
                          capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


def test_one_message_where_nothing_may_be_installed(machine):
    process = run(machine)
    assert process.returncode == 1
    message = process.stderr
    missing = next(line for line in message.splitlines() if "are missing" in line)
    for package in ("gcc", "pkg-config", "libuv1-dev", "libssl-dev", "python3-dev",
                    "python3-venv"):
        assert package in missing
    for line in ("apt-get install gcc", "dnf install gcc", "apk add gcc", "brew install"):
        assert f"\n    {line}" in message
    assert "Traceback" not in message and "not found" not in message


def test_apt_get_installs_what_is_missing(machine):
    """Once, as root or by sudo; when that does not help, the message."""
    program(machine, "id", "echo 0")
    program(machine, "apt-get", f'echo "$@" >> {machine}/log')
    process = run(machine)
    log = (machine / "log").read_text().splitlines()
    assert process.returncode == 1 and "dnf install" in process.stderr
    assert log[0] == "update -qq"
    assert log[1].startswith("install -y -qq --no-install-recommends ")
    assert set(log[1].split()[4:]) == {
        "gcc", "libc6-dev", "pkg-config", "libuv1-dev", "libssl-dev",
        "python3", "python3-dev", "python3-venv"}
    assert len(log) == 2


def test_a_newer_python_where_the_systems_is_too_old(machine):
    program(machine, "id", "echo 0")
    program(machine, "python3", "exit 1")
    program(machine, "apt-get", f'echo "$@" >> {machine}/log')
    program(machine, "apt-cache", 'test "$2" = python3.11-venv')
    run(machine)
    assert {"python3.11", "python3.11-dev", "python3.11-venv"} <= set(
        (machine / "log").read_text().splitlines()[1].split())


def test_sudo_only_where_it_asks_nothing(machine):
    program(machine, "id", "echo 1000")
    program(machine, "apt-get", f'echo "$@" >> {machine}/log')
    program(machine, "sudo", "exit 1")
    process = run(machine)
    assert process.returncode == 1 and "apt-get install" in process.stderr
    assert not (machine / "log").exists()


def test_only_what_is_missing(machine):
    """The compiler and Python are here; libuv's header is not."""
    program(machine, "cc", """
        case $(cat) in *uv.h*) exit 1 ;; esac
    """)
    program(machine, "pkg-config", "exit 1")
    os.symlink(sys.executable, machine / "bin" / "python3")
    process = run(machine)
    assert process.returncode == 1
    missing = next(line for line in process.stderr.splitlines() if "are missing" in line)
    assert missing.split(": ")[1].split() == ["libuv1-dev"]


def test_a_chosen_python_that_is_too_old(machine):
    program(machine, "python3", "exit 1")
    process = run(machine)
    assert process.returncode == 1
    assert "CPython 3.11 or newer" in process.stderr
