"""The demonstration programs of docs/examples, as a user runs them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_example(path, request):
    """It ends by itself, with status 0, a result, and not a word on stderr."""
    ours = request.config.getoption("--loop") == "tidewire"
    command = [sys.executable, "-W", "error", *(["-m", "tidewire"] if ours else []), path]
    # Debug mode would tell of callbacks that are slow on a busy machine.
    process = subprocess.run(command, capture_output=True, text=True, timeout=60,
                             env={**os.environ, "PYTHONASYNCIODEBUG": "", "PYTHONDEVMODE": ""})
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.strip()


def test_make_demo_shows_all_of_them():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import demo
    finally:
        del sys.path[0]
    assert sorted(demo.ORDER) == [path.stem for path in EXAMPLES]
