"""What PyPI shows: the metadata, and the names of the repository's home in the tree."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tidewire

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HOME = PROJECT["urls"]["Source"]
pytestmark = [pytest.mark.tidewire, pytest.mark.packaging]


@pytest.fixture(scope="module")
def metadata(tmp_path_factory):
    """METADATA, as a build writes it."""
    folder = tmp_path_factory.mktemp("metadata")
    name = subprocess.run(
        [sys.executable, "-c",
         "import sys, setuptools.build_meta as backend\n"
         "print(backend.prepare_metadata_for_build_wheel(sys.argv[1]))", folder],
        cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    return (folder / name / "METADATA").read_text()


def test_urls(metadata):
    assert set(PROJECT["urls"]) == {"Documentation", "Source", "Changes", "Issues"}
    for name, url in PROJECT["urls"].items():
        assert url.startswith(HOME)
        assert f"Project-URL: {name}, {url}\n" in metadata


def test_the_readme_has_no_relative_path_there(metadata):
    """A relative path means nothing on PyPI.  The rest is README.rst as it is."""
    head, _, text = metadata.partition("\n\n")
    assert "Description-Content-Type: text/x-rst\n" in head + "\n"
    assert not re.search(r"^\.\. (image|figure)::", text, re.MULTILINE)
    lines = (ROOT / "README.rst").read_text().splitlines()
    home = f"{HOME}/blob/main/"
    here = text.replace(home, "").splitlines()
    assert set(here) <= set(lines)
    lost = [line for line in lines if line not in set(here)]
    assert all(re.match(r"\.\. (image|figure)::|\s+\S", line) for line in lost)
    links = re.findall(r"<([^<>`]+)>`_", text)
    assert links and all(link.startswith(home) for link in links)
    assert all((ROOT / link.removeprefix(home)).exists() for link in links)


def test_one_name_of_the_home():
    """Wherever a file names the home, it is the one of pyproject.toml."""
    url = "https?://[a-z.]*git[a-z]+[.][a-z]+/tidewire[^ >`\"')]*"
    names = subprocess.run(["git", "grep", "-nIoE", url], cwd=ROOT, capture_output=True, text=True)
    if names.returncode > 1:
        pytest.skip("not a git repository")
    found = [line.split(":", 2)[2] for line in names.stdout.splitlines()]
    assert found and all(re.match(re.escape(HOME) + r"($|[/,.#])", url) for url in found)


def test_the_same_version_and_names_everywhere():
    assert (ROOT / "CHANGES.rst").read_text().count(f"\n{tidewire.__version__} (") == 1
    holder = PROJECT["authors"][0]["name"]
    assert holder in (ROOT / "LICENSE").read_text()
    assert holder in (ROOT / "docs" / "conf.py").read_text()


def test_the_readme_is_short():
    """500 words, without the links' targets and what is not shown."""
    text = (ROOT / "README.rst").read_text()
    text = re.sub(r"^\.\. .*\n([ \t]+:.*\n)*", "", text, flags=re.MULTILINE)
    text = re.sub(r"<[^<>`]+>`_", "", text)
    assert len([word for word in text.split() if re.search(r"\w", word)]) <= 500


def test_readme_and_documentation_begin_with_the_same_figure():
    def bold(path):
        return " ".join(re.search(r"\*\*(.+?)\*\*", (ROOT / path).read_text(), re.DOTALL)[1].split())

    assert re.search(r"[0-9]", bold("README.rst"))
    assert bold("docs/index.rst") == bold("README.rst")
