"""tools/wheels.py: what does not need its compiler."""

import ctypes
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tidewire

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.tidewire, pytest.mark.packaging]


@pytest.fixture(scope="module")
def wheels():
    spec = importlib.util.spec_from_file_location("tidewire_wheels", ROOT / "tools" / "wheels.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_files_are_those_of_setuptools(wheels, tmp_path):
    subprocess.run([sys.executable, "setup.py", "-q", "build_py", "--build-lib", tmp_path],
                   cwd=ROOT, check=True, capture_output=True)
    theirs = {path.relative_to(tmp_path).as_posix(): path.read_bytes()
              for path in tmp_path.rglob("*") if path.is_file()}
    assert wheels.package_files(ROOT) == theirs
    assert {"tidewire/__init__.py", "tidewire/py.typed", "tidewire/_core.pyi"} <= theirs.keys()


def test_a_wheel_is_made_of_its_contents_alone(wheels, monkeypatch, tmp_path):
    """Twice the same bytes; RECORD has each file's digest."""
    class Builder:
        source = ROOT
        libuv = tmp_path

        def extension(self, target, python):
            return b"extension"

    for name in ("LICENSE", "LICENSE-extra"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(wheels, "sbom", lambda *args: "{}")
    target = "aarch64-linux-musl"
    one, two = (wheels.write_wheel(tmp_path / folder, Builder(), target, "3.14", "Name: x\n", 10 ** 9)
                for folder in ("one", "two"))
    assert one.name == f"tidewire-{tidewire.__version__}-cp314-cp314-musllinux_1_2_aarch64.whl"
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as archive:
        names = archive.namelist()
        assert "tidewire/_core.cpython-314-aarch64-linux-musl.so" in names
        assert {entry.date_time for entry in archive.infolist()} == {(2001, 9, 9, 1, 46, 40)}
        info = f"tidewire-{tidewire.__version__}.dist-info"
        record = archive.read(f"{info}/RECORD").decode()
        assert len(record.splitlines()) == len(names)
        assert f"{info}/sboms/tidewire.cdx.json" in names and f"{info}/licenses/LICENSE.libuv" in names


def test_the_list_of_parts(wheels, monkeypatch):
    monkeypatch.setattr(wheels, "zig_program", lambda: "zig")
    monkeypatch.setattr(wheels, "run", lambda *args, **kwargs: "0.0\n")
    parts = json.loads(wheels.sbom("1.2.3", "x86_64-linux-musl", 0))
    assert parts["bomFormat"] == "CycloneDX"
    assert parts["metadata"]["component"]["purl"] == "pkg:pypi/tidewire@1.2.3"
    (libuv,) = parts["components"]
    assert libuv["version"] == wheels.LIBUV["version"]
    digest = libuv["externalReferences"][0]["hashes"][0]["content"]
    assert digest == wheels.LIBUV["sha256"]


def test_a_compiler_that_fails_ends_the_build(wheels, monkeypatch, tmp_path):
    """Its message comes out of the threads."""
    builder = object.__new__(wheels.Builder)
    builder.source = builder.work = tmp_path
    builder.zig = lambda *args: wheels.run(["sh", "-c", "echo no such header >&2; exit 1"])
    with pytest.raises(wheels.Failed, match="no such header"):
        builder.compile("x86_64-linux-musl", tmp_path / "objects", [], ["a.c", "b.c"])


def test_the_stand_in_for_python_has_its_names(wheels, tmp_path):
    """Whatever else is hidden: what a wheel needs of Python is looked up in it."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler here")
    builder = object.__new__(wheels.Builder)
    builder.zig = lambda target, *args: wheels.run(["cc", *args])
    library = builder.stand_in("x86_64-linux-musl", tmp_path, ["PyLong_Type", "_Py_Dealloc"])
    names = ctypes.CDLL(str(library))
    assert names.PyLong_Type and names._Py_Dealloc


def test_a_source_that_is_not_the_known_one_is_refused(wheels, monkeypatch, tmp_path):
    monkeypatch.setattr(wheels, "BUILD", tmp_path)
    archive = tmp_path / "libuv" / wheels.LIBUV["file"]
    archive.parent.mkdir()
    archive.write_bytes(b"another libuv")
    with pytest.raises(SystemExit, match=hashlib.sha256(b"another libuv").hexdigest()):
        wheels.libuv_source()
