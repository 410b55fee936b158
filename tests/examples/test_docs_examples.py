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


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    import demo
    return demo


def test_make_demo_shows_all_of_them(demo):
    assert sorted(demo.ORDER) == [path.stem for path in EXAMPLES]


@pytest.mark.tidewire
def test_make_demo_shows_what_failed(demo, monkeypatch, tmp_path, capfd):
    (tmp_path / "good.py").write_text('"""All is well."""\nprint("not shown")\n')
    (tmp_path / "bad.py").write_text('"""Not so well."""\nprint("why")\nraise SystemExit(3)\n')
    monkeypatch.setattr(demo, "EXAMPLES", tmp_path)
    assert demo.show("good") and not demo.show("bad")
    out = capfd.readouterr().out
    assert out.splitlines()[0].startswith("  ok ") and "All is well" in out
    assert "not shown" not in out
    assert "  FAILED" in out and "why" in out and "exit status 3" in out
