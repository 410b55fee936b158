"""The end of a run says why tests were skipped, in a few lines."""
import os
import platform
import subprocess
import sys

import skips

REASONS = (["new in 3.14"] * 30 + ["later releases of this asyncio differ from it"] * 20
           + ["asked for by --conformance"] * 9 + ["about tidewire only"] * 8
           + ["not a debug build of Python"] * 7
           + ["no curl", "nginx is not installed", "no PostgreSQL here (Debian: postgresql)",
              "could not import 'aiohttp': No module named 'aiohttp'"]
           + ["a type in C"])


def test_reasons_are_grouped():
    shown = skips.lines(REASONS)
    assert [line.split()[0] for line in shown] == ["50", "9", "8", "7", "5"]
    assert f"another version of Python (this is {platform.python_version()})" in shown[0]
    assert "make conformance" in shown[1]
    assert "pytest -rs" in shown[-1]


def test_what_is_missing_is_named_once():
    shown = skips.lines(["no curl", "no curl", "nginx is not installed", "no cc here"])
    assert shown == ["    4 not on this machine: curl, nginx, cc"]
    many = skips.lines([f"no thing{n} here" for n in range(20)])
    assert many[0].endswith("thing6, thing7 and 12 more")


def test_a_reason_of_no_kind_is_counted_and_none_is_lost():
    assert skips.lines(["a type in C"]) == [f"    1 {skips.OTHER}"]
    assert sum(int(line.split()[0]) for line in skips.lines(REASONS)) == len(REASONS)
    assert not skips.lines([])


def test_the_end_of_a_run(tmp_path):
    file = tmp_path / "test_made_up.py"
    file.write_text("import pytest\n"
                    "def test_passes(): pass\n"
                    "def test_skips(): pytest.skip('no curl')\n"
                    "@pytest.mark.skipif(True, reason='new in 3.99')\n"
                    "def test_is_young(): pass\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider",
         "-c", "/dev/null", "--rootdir", tmp_path, file],
        cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": skips.__file__.rpartition("/")[0]})
    *_, title, first, second, last = filter(None, done.stdout.splitlines())
    assert "2 skipped" in title
    assert {first.split()[0], second.split()[0]} == {"1"}
    assert "curl" in first + second and "another version of Python" in first + second
    assert "1 passed, 2 skipped" in last
