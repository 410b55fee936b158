"""Loops in many threads at once, also under fork(); `make tsan` runs the same under ThreadSanitizer."""
import pathlib
import subprocess
import sys

import pytest
import support

STRESS = pathlib.Path(__file__).with_name("stress.py")


@pytest.mark.timeout(120)
def test_loops_come_and_go_in_many_threads(request):
    name = request.config.getoption("--loop")
    done = subprocess.run(
        [sys.executable, str(STRESS), "--loop", name, "--threads", "24", "--rounds", "4",
         "--forks", "3"], capture_output=True, text=True, timeout=90 * support.SLOWER)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'loops': 96" in done.stdout, done.stdout
