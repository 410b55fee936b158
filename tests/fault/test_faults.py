"""A sample of the faults that `make faults` injects, and the judge itself."""
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import support
from tidewire import _core

HERE = pathlib.Path(__file__).resolve().parent

pytestmark = [
    pytest.mark.tidewire,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="LD_PRELOAD of Linux"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="no compiler for the shim"),
]

# Each of these was a defect once.
ONCE_WRONG = [
    "lifecycle once epoll_ctl #2 EPERM",        # is it ours? then close it
    "lifecycle once fstat #2 EIO",              # so with the other end of the wake-up pipe
    "lifecycle always fstat #1 ENOMEM",
    "making always eventfd #1 EMFILE",
    "making once epoll_ctl #1 EPERM",
    "making once epoll_ctl #2 ENOSPC",
    "accept once accept4 #1 ENOSYS",            # accept(2) is there
    "subprocess always pidfd_open #1 EPERM",    # a thread waits for the child
    "tls once recv #2 ECONNRESET",
]


def run(*arguments, timeout, **env):
    return subprocess.run(
        [sys.executable, str(HERE / "run.py"), *arguments], capture_output=True, text=True,
        timeout=timeout * support.SLOWER, env={**os.environ, **env})


def verdicts(*cases, loop="tidewire", **env):
    """What is wrong with each."""
    words = [word for case in cases for word in ("--case", case)]
    done = run("--loop", loop, *words, timeout=60, **env)
    return {case: result["wrong"] for case, result in json.loads(done.stdout).items()}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("poller", _core.build_info()["pollers"].split(", "))
def test_once_wrong(poller):
    assert verdicts(*ONCE_WRONG, TIDEWIRE_POLLER=poller) == {case: [] for case in ONCE_WRONG}


@pytest.mark.timeout(400)
def test_a_sample_of_all_faults():
    done = run("--sample", "330", "--jobs", "2", timeout=300)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert " faults injected, 0 findings" in done.stdout


@pytest.mark.parametrize("name, wrong", [
    ("Leaking", "leaked socket"),
    ("ClosingTwice", "double-close close"),
    ("Hanging", "stalled: it waits"),
    ("Masking", "odd RuntimeError"),
    ("Crashing", "crash: signal 6"),
])
def test_a_planted_defect_is_found(name, wrong):
    case = "tcp once connect #1 ECONNREFUSED"
    lines = verdicts(case, loop=f"fault.defective:{name}")[case]
    assert any(line.startswith(wrong) for line in lines), lines
