"""Nothing stays behind: references, objects, memory, descriptors.

Each feature runs in a process of its own (``rounds.py``).  A leak shows in
every block of rounds, the rest is noise: so the smallest of the blocks
counts.  References are those of the objects that the collector knows, and of
None and its like; a debug build of Python (``python3-dbg``) with the extension
built for it counts all of them: ``make leaks``.
"""
import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import rounds  # noqa: E402

DEBUG = hasattr(sys, "gettotalrefcount")

# How much more per round, in every block, is a leak; and, in a second and
# longer look at what was suspicious, how much more per block is none.
LIMITS = {"references": 0.5, "objects": 0.25, "blocks": 0.4, "malloc": 12}
SLACK = {"references": 4, "objects": 4, "blocks": 60, "malloc": 6000}
LONGER = 10


def measure(name, loop_name, number=None):
    done = subprocess.run(
        [sys.executable, str(HERE / "rounds.py"), name, "--loop", loop_name]
        + (["--rounds", str(number)] if number else []),
        capture_output=True, text=True, timeout=200,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(
            p for p in sys.path if p)})
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    if "missing" in result:
        pytest.skip("not there yet: " + result["missing"])
    return result["deltas"], result["rounds"]


def leaks(deltas, number, slack):
    out = []
    for key, limit in LIMITS.items():
        allowed = limit * number + slack.get(key, 0)
        if min(deltas[key]) >= allowed:
            out.append(f"{key}: at least {min(deltas[key]) / number:.1f} "
                       f"more per round, blocks {deltas[key]}")
        # Without a debug build: CPython 3.11 itself loses some of None's.
        if key == "references" and DEBUG and max(deltas[key]) <= -allowed:
            out.append(f"references vanish: {deltas[key]}")
    if any(deltas["descriptors"]):
        out.append(f"descriptors: {deltas['descriptors']}")
    return out


@pytest.mark.parametrize("name", rounds.FEATURES)
def test_feature(name, loop_name):
    deltas, number = measure(name, loop_name)
    if leaks(deltas, number, {} if DEBUG else SLACK):
        deltas, number = measure(name, loop_name, LONGER * number)
        found = leaks(deltas, number, SLACK)
        assert not found, "\n".join(found)


@pytest.mark.parametrize("leaked", ["thing", "None", "rounds", "print"])
def test_reference_counts_are_counted(loop_name, leaked):
    """The measurement sees a planted leak of one reference per round."""
    if leaked == "None" and sys.version_info >= (3, 12):
        pytest.skip("it is immortal")
    source = """
import features, rounds, json
@features.feature(50, "planted")
async def planted():
    thing = []
    rounds.ctypes.pythonapi.Py_IncRef(rounds.ctypes.py_object(%s))
print(json.dumps(rounds.measure("planted", %r)))
""" % (leaked, loop_name)
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True,
        timeout=100, cwd=HERE, env={**os.environ, "PYTHONPATH":
                                    os.pathsep.join(p for p in sys.path if p)})
    assert done.returncode == 0, done.stderr
    deltas = json.loads(done.stdout.splitlines()[-1])["deltas"]
    assert min(deltas["references"]) >= 25, deltas
