"""No call ends the process, whatever its arguments: private methods and half-made objects included."""
import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.tidewire


@pytest.mark.parametrize("engine", ["direct", "memorybio"])
def test_garbage(tmp_path, engine):
    program = pathlib.Path(__file__).with_name("garbage.py")
    log = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, program, log], capture_output=True, timeout=120, check=False, cwd=tmp_path,
        env=dict(os.environ, TIDEWIRE_TLS=engine))
    where = log.read_text(errors="replace")
    assert (done.returncode, done.stdout.split(b"\n")[-2:]) == (0, [b"went well", b""]), where
