"""Random programs on a kernel that lies; `make kernel` runs far more of them."""
import pathlib
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import programs  # noqa: E402

RUN = pathlib.Path(__file__).with_name("run.py")

pytestmark = [
    pytest.mark.tidewire,       # asyncio itself fails some
    pytest.mark.skipif(not sys.platform.startswith("linux") or not shutil.which("cc"),
                       reason="needs Linux and a C compiler"),
]


def run(*args):
    return subprocess.run([sys.executable, str(RUN), *args, "--jobs", "1"], cwd=RUN.parent,
                          capture_output=True, text=True, timeout=170)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, 1200, 400))
def test_programs(first):
    """A million system calls."""
    done = run("tidewire:new_event_loop", "--seeds", f"{first}-{first + 400}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "400 programs" in done.stdout


@pytest.mark.parametrize("seed", [
    452, 538, 1980, 2143])      # set_write_buffer_limits() of a lost TLS transport
def test_what_failed_once(seed):
    done = run("tidewire:new_event_loop", "--seeds", f"{seed}-{seed + 1}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_same_is_seen_as_on_asyncio():
    done = run("tidewire:new_event_loop", "--seeds", "400-450", "--with",
               "asyncio:SelectorEventLoop")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("defect, shown", [
    ("loses", "other bytes at"), ("ignores_pause", "data while reading is paused"),
    ("lost_twice", "connection_lost() out of order"), ("closes_twice", "closed twice")])
def test_a_defect_is_found(defect, shown):
    done = run(f"broken:{defect}", "--seeds", "0-60")
    assert done.returncode == 1 and shown in done.stdout, done.stdout + done.stderr


def test_a_seed_repeats_and_shrinks():
    found = run("broken:loses", "--seeds", "0-60").stdout.splitlines()
    seeds = [int(line.split()[1].rstrip(":")) for line in found if "other bytes at" in line]
    seed = min(seeds, key=lambda n: len(programs.Program(n, None).ops))     # the quickest
    again = run("broken:loses", "--seeds", f"{seed}-{seed + 1}").stdout.splitlines()
    assert again[:-1] == [line for line in found if line.startswith(f"seed {seed}:")]
    shrunk = run("broken:loses", "--seeds", f"{seed}-{seed + 1}", "--shrink").stdout
    assert shrunk.startswith(f"seed {seed}: operations [") and "other bytes at" in shrunk
    assert shrunk.count(",") < len(programs.Program(seed, None).ops)
