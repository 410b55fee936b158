"""Names in the pages of docs/: links to Python's documentation where that has them."""
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.tidewire


@pytest.fixture(scope="module")
def conf():
    pytest.importorskip("sphinx")
    before = list(sys.path)
    try:
        yield runpy.run_path(str(ROOT / "docs" / "conf.py"))
    finally:
        sys.path[:] = before


@pytest.mark.parametrize("text, target", [
    ("asyncio.run()", "asyncio.run"),
    ("call_soon()", "asyncio.loop.call_soon"),
    ("StreamReader", "asyncio.StreamReader"),
    ("DeprecationWarning", "DeprecationWarning"),
    ("close()", None),          # of many classes
    ("transport", None),        # a word
    ("tidewire.Loop", None),
])
def test_a_name_and_its_link(conf, text, target):
    [node], messages = conf["name_role"]("name", f"`{text}`", text, 1, None)
    assert node.astext() == text and not messages
    assert node.get("reftarget") == target
