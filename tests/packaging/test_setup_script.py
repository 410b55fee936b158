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


def run(machine, level="demo", **env):
    env = {"PATH": str(machine / "bin"), "HOME": str(machine), "LC_ALL": "C", **env}
    return subprocess.run(["sh", machine / "source" / "tools" / "setup.sh", level], env=env,
                          capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


def test_one_message_where_nothing_may_be_installed(machine):
    process = run(machine)
    assert process.returncode == 1
    message = process.stderr
    missing = next(line for line in message.splitlines() if "are missing" in line)
    for package in ("gcc", "pkg-config", "libssl-dev", "python3-dev", "python3-venv"):
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
    # What is there is not upgraded.
    assert log[1].startswith("install -y -qq --no-install-recommends --no-upgrade ")
    assert set(log[1].split()[5:]) == {
        "gcc", "libc6-dev", "pkg-config", "libssl-dev",
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
    """The compiler and Python are here; OpenSSL's header is not, nor libuv's, which Linux needs not."""
    program(machine, "cc", """
        case $(cat) in *uv.h*|*openssl*) exit 1 ;; esac
    """)
    program(machine, "pkg-config", "exit 1")
    os.symlink(sys.executable, machine / "bin" / "python3")
    process = run(machine)
    assert process.returncode == 1
    missing = next(line for line in process.stderr.splitlines() if "are missing" in line)
    assert missing.split(": ")[1].split() == ["libssl-dev"]


def test_a_systems_python_that_is_too_old(machine):
    program(machine, "python3", "exit 1")
    process = run(machine)
    assert process.returncode == 1
    assert "CPython 3.11 or newer" in process.stderr


OLD = """
    case $2 in *platform*) echo "%s" ;; *) exit 1 ;; esac
"""


@pytest.mark.parametrize("name, what", [("python3.10", "CPython 3.10.13"), ("pypy3", "PyPy 3.11.13")])
@pytest.mark.parametrize("level", ["demo", "dev"])
def test_a_chosen_python_that_will_not_do(machine, name, what, level):
    """One sentence, which is true, and nothing is installed."""
    program(machine, "id", "echo 0")
    program(machine, "apt-get", f'echo "$@" >> {machine}/log')
    program(machine, name, OLD % what)
    process = run(machine, level, PYTHON=name)
    assert process.returncode == 1
    assert process.stderr == f"tidewire: {name} is {what}; tidewire needs CPython 3.11 or newer\n"
    assert not (machine / "log").exists()


def test_a_chosen_python_that_is_not_there(machine):
    program(machine, "id", "echo 0")
    program(machine, "apt-get", f'echo "$@" >> {machine}/log')
    process = run(machine, PYTHON="pypy3")
    assert process.returncode == 1 and process.stderr.startswith("tidewire: there is no pypy3 here")
    assert not (machine / "log").exists()
    # One of Debian's names is a package.
    run(machine, PYTHON="python3.14")
    assert {"python3.14", "python3.14-dev", "python3.14-venv"} <= set(
        (machine / "log").read_text().splitlines()[1].split())


@pytest.fixture
def ready(machine):
    """All is there to build with; the environment is made, and its pip and builds succeed."""
    for name in ("cc", "pkg-config"):
        program(machine, name, "cat >/dev/null; exit 0")
    os.symlink(sys.executable, machine / "bin" / "python3")
    program(machine, "python", 'case "$*" in *"print(sys.base"*) echo same ;; esac')
    (machine / "source" / ".venv" / "bin").mkdir(parents=True)
    (machine / "bin" / "python").rename(machine / "source" / ".venv" / "bin" / "python")
    (machine / "source" / "tools" / "requirements-dev.txt").touch()
    (machine / "source" / "tools" / "requirements-demo.txt").touch()
    for name in ("mkdir", "grep"):
        (machine / "bin" / name).symlink_to(shutil.which(name))
    return machine


def test_the_programs_that_the_tests_use(ready):
    """dev installs those that are missing; nginx, whose package starts a server, is unpacked."""
    program(ready, "id", "echo 0")
    program(ready, "apt-get", f'echo "$@" >> {ready}/log')
    program(ready, "curl", "exit 0")
    process = run(ready, "dev")
    log = (ready / "log").read_text().splitlines()
    assert process.returncode == 0, process.stderr
    installed = set(log[1].split()[5:])
    assert log[0] == "update -qq" and log[2] == "download -qq nginx" and len(log) == 3
    assert {"wrk", "bind9-dnsutils"} <= installed
    assert not installed & {"curl", "nginx"}
    # Some of it was not to be had: the tests skip, and one line says which.
    line = next(line for line in process.stderr.splitlines() if "will skip" in line)
    assert "wrk" in line.split("apt-get install ")[1].split()


def test_the_programs_are_named_where_nothing_may_be_installed(ready):
    program(ready, "id", "echo 1000")
    process = run(ready, "dev")
    assert process.returncode == 0
    line = next(line for line in process.stderr.splitlines() if "will skip" in line)
    assert {"curl", "bind9-dnsutils", "wrk"} <= set(line.split("install ")[1].split())


def test_a_demo_needs_none_of_them(ready):
    program(ready, "id", "echo 0")
    program(ready, "apt-get", f'echo "$@" >> {ready}/log')
    assert run(ready, "demo").returncode == 0
    assert not (ready / "log").exists()


def test_a_demo_compares_with_what_can_be_had(ready):
    """uvloop and uvicorn are installed from wheels, one by one; what has none is named."""
    (ready / "source" / "tools" / "requirements-dev.txt").write_text(
        "# Build\nsetuptools==1\n# Others\nuvicorn==2.0\nuvicorn-worker==3\nuvloop==4.0\n")
    program(ready, "id", "echo 1000")
    python = ready / "source" / ".venv" / "bin" / "python"
    python.write_text(python.read_text() + f'\necho "$@" >> {ready}/log\n'
                      'case "$*" in *uvloop*) echo "no such wheel" >&2; exit 1 ;; esac\n')
    process = run(ready, "demo")
    assert process.returncode == 0
    assert [line for line in process.stderr.splitlines() if "demonstration" in line] == [
        "tidewire: the demonstration goes without uvloop==4.0"]
    log = (ready / "log").read_text().splitlines()
    peers = [line.split()[-1] for line in log if "--only-binary :all:" in line]
    assert peers == ["uvicorn==2.0", "uvloop==4.0"]
