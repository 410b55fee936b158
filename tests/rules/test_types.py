"""What type checkers say of programs on tidewire: nothing, in strict mode."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TYPED = sorted((Path(__file__).parent / "typed").glob("*.py"))
MAIN = "\nasync def main() -> None: ...\n"
#: This Python deprecates policies, which the README names.
VERSION = "3.14"
pytestmark = [pytest.mark.tidewire, pytest.mark.timeout(240)]


def code_blocks(path):
    """The blocks of Python code in a file, as programs; each is complete but for main()."""
    blocks = re.findall(r"^( *)\.\. code-block:: python\n((?:\1 +.*\n|\s*\n)+)",
                        path.read_text(), re.MULTILINE)
    for indent, block in blocks:
        lines = block.rstrip().splitlines()
        margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
        yield "\n".join(line[margin:] for line in lines) + "\n"


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The typed programs, and the snippets of the README."""
    folder = tmp_path_factory.mktemp("snippets")
    files = [str(path) for path in TYPED]
    for number, block in enumerate(code_blocks(ROOT / "README.rst")):
        path = folder / f"readme_{number}.py"
        path.write_text(block if "def main" in block else
                        block.replace("import tidewire\n", "import tidewire\n" + MAIN, 1))
        files.append(str(path))
    assert len(files) > len(TYPED), "README.rst has no code block"
    return files


@pytest.mark.parametrize("name", ["mypy", "pyright", "basedpyright"])
def test_checkers(programs, name, tmp_path):
    """They have one error, the mistake: so they look at the package's types."""
    pytest.importorskip(name)
    (tmp_path / "mistake.py").write_text("import tidewire\n\nloop: int = tidewire.new_event_loop()\n")
    command = [sys.executable, "-m", name, *programs, "mistake.py"]
    if name == "mypy":
        command += ["--strict", "--config-file=", "--python-version", VERSION,
                    "--python-executable", sys.executable]
    else:
        command += ["--level", "error", "--pythonversion", VERSION, "--pythonpath", sys.executable]
    # Elsewhere, so that none of them reads this repository's pyproject.toml.
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    errors = [line for line in process.stdout.splitlines() if re.search(r"\berror:", line)]
    assert len(errors) == 1 and re.search("mistake.py:3.*Loop", errors[0]), process.stdout
    assert process.returncode == 1 and process.stderr == ""


@pytest.mark.parametrize("path", TYPED, ids=lambda path: path.stem)
def test_the_programs_run(path):
    process = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stderr) == (0, "")
