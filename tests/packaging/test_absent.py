"""An extension that is missing, of another Python, or that does not load: one sentence."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import tidewire
from tidewire import _core

pytestmark = [pytest.mark.tidewire, pytest.mark.packaging]

SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


@pytest.fixture
def copy(tmp_path):
    """A copy of the package, in a folder of its own, without its extension."""
    shutil.copytree(Path(tidewire.__file__).parent, tmp_path / "tidewire",
                    ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return tmp_path


def python(copy, *args, **env):
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "PYTHONPATH": str(copy), **env}, cwd=copy)


def sentence(process):
    """The last line of the error: the only one that an ImportError has here."""
    assert process.returncode == 1
    line = process.stderr.splitlines()[-1]
    assert line.startswith(("ImportError: ", "tidewire: ")), process.stderr
    assert "circular" not in process.stderr and "During handling" not in process.stderr
    return line


def fails_everywhere(copy, *words):
    """The import, a program under the command, and ``info``, which tells it and survives."""
    for args in (["-c", "import tidewire"], ["-m", "tidewire", "nothing.py"]):
        line = sentence(python(copy, *args))
        for word in words:
            assert word in line
    assert "Traceback" not in python(copy, "-m", "tidewire", "nothing.py").stderr
    process = python(copy, "-m", "tidewire", "info", "--json")
    assert (process.returncode, process.stderr) == (0, "")
    info = json.loads(process.stdout)
    assert info["tidewire"] == tidewire.__version__ and "OpenSSL" in info["openssl"]
    for word in words:
        assert word in info["extension"]
    assert python(copy, "-m", "tidewire", "--version").stdout.strip().endswith(tidewire.__version__)


def test_missing(copy):
    fails_everywhere(copy, "is missing in", str(copy), SUFFIX, "pip install")


def test_missing_in_the_source_tree(tmp_path):
    """The place to build it is named."""
    shutil.copytree(Path(tidewire.__file__).parent, tmp_path / "pkg" / "tidewire",
                    ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    (tmp_path / "setup.py").touch()
    line = sentence(python(tmp_path / "pkg", "-c", "import tidewire"))
    assert line.endswith(f"pip install --editable {tmp_path}")


def test_of_another_python(copy):
    (copy / "tidewire" / "_core.cpython-39-x86_64-linux-gnu.so").touch()
    fails_everywhere(copy, "another Python", "cpython-39", SUFFIX, "pip install")


def broken(copy, source, *options):
    """An extension that the dynamic linker refuses."""
    (copy / "broken.c").write_text(source)
    subprocess.run([*sysconfig.get_config_var("LDSHARED").split(), "-fPIC", copy / "broken.c",
                    *options, "-o", copy / "tidewire" / f"_core{SUFFIX}"], check=True)


def test_libuv_is_missing(copy):
    subprocess.run([*sysconfig.get_config_var("LDSHARED").split(), "-fPIC", "-xc", os.devnull,
                    "-Wl,-soname,libuv.so.404", "-o", copy / "libuv.so"], check=True)
    broken(copy, "", "-Wl,--no-as-needed", str(copy / "libuv.so"))
    fails_everywhere(copy, "libuv.so.404", "apt-get install --reinstall libuv1", "wheel")


def test_libuv_is_not_whole(copy):
    broken(copy, "int uv_there_is_none(void); int (*address)(void) = uv_there_is_none;")
    fails_everywhere(copy, "uv_there_is_none", "apt-get install --reinstall libuv1")


def test_no_extension_at_all(copy):
    (copy / "tidewire" / f"_core{SUFFIX}").write_text("no machine code")
    fails_everywhere(copy, "cannot be loaded", "pip install")


def test_other_import_errors_stay_as_they_are(copy):
    """A file of the package that is missing is no matter of the extension."""
    shutil.copy(_core.__file__, copy / "tidewire")
    (copy / "tidewire" / "_dns.py").unlink()
    process = python(copy, "-c", "import tidewire")
    line = process.stderr.splitlines()[-1]
    assert process.returncode == 1 and "'_dns'" in line and "extension" not in line


def test_the_command_of_another_module_fails(copy):
    """Only ``python -m tidewire`` itself goes on without the extension."""
    (copy / "other").mkdir()
    (copy / "other" / "__init__.py").write_text("import tidewire")
    (copy / "other" / "__main__.py").write_text("print('here')")
    process = python(copy, "-m", "other", "info")
    assert process.stdout == "" and "tidewire's C extension is missing" in process.stderr


@pytest.mark.parametrize("version, name", [((3, 10, 13), "cpython"), ((3, 11, 9), "pypy")])
def test_another_kind_of_python(copy, version, name):
    line = sentence(python(copy, "-c", f"""if True:
        import sys
        sys.version_info = {version}
        sys.implementation.name = {name!r}
        import tidewire"""))
    assert "needs CPython 3.11 or newer" in line and sys.executable in line


def old_pythons():
    folder = Path.home() / ".pyenv" / "versions"
    return [path for minor in range(6, 11) for path in folder.glob(f"3.{minor}.*/bin/python")]


@pytest.mark.parametrize("path", old_pythons(), ids=lambda path: path.parts[-3])
def test_an_old_python(copy, path):
    process = subprocess.run([path, "-c", "import tidewire"], cwd=copy, capture_output=True,
                             text=True, timeout=60)
    assert "needs CPython 3.11 or newer, and this is CPython 3." in sentence(process)
    process = subprocess.run([path, "-m", "tidewire", "info"], cwd=copy, capture_output=True,
                             text=True, timeout=60)
    assert "needs CPython 3.11 or newer, and this is CPython 3." in process.stderr


@pytest.mark.parametrize("name", ["ssl", "_ssl"])
def test_info_without_ssl(copy, name):
    shutil.copy(_core.__file__, copy / "tidewire")
    (copy / "sitecustomize.py").write_text(f"import sys; sys.modules[{name!r}] = None")
    process = python(copy, "-m", "tidewire", "info", "--json")
    assert (process.returncode, process.stderr) == (0, "")
    info = json.loads(process.stdout)
    assert info["openssl"].startswith("none, since Python's ssl module is missing")
    assert info["tls"] == "memorybio: there is no ssl module"
