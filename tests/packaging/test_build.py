"""The build: messages instead of a compiler's wall, flags, the source distribution."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest

import tidewire

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.tidewire, pytest.mark.packaging]

# A compiler for which a header, or a library, does not exist.
LIMITED_CC = """\
#!/bin/sh
for argument; do
    case $argument in
        *.c) ! grep -q "$WITHOUT_HEADER" "$argument" || exit 1 ;;
        -l*) [ "$argument" != "$WITHOUT_LIBRARY" ] || exit 1 ;;
    esac
done
exec cc "$@"
"""


@pytest.fixture
def limited_cc(tmp_path):
    path = tmp_path / "limited-cc"
    path.write_text(LIMITED_CC)
    path.chmod(0o755)
    return str(path)


def build(tmp_path, **env):
    env = {**os.environ, "WITHOUT_HEADER": "^$", "WITHOUT_LIBRARY": "", **env}
    return subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", tmp_path / "lib",
         "--build-temp", tmp_path / "temp"],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)


def says(process, *packages):
    """One message, with a line for each package manager, and nothing else."""
    assert process.returncode == 1
    assert process.stderr.count("tidewire cannot be built here") == 1
    assert "error:" not in process.stderr and "Traceback" not in process.stderr
    commands = re.findall(r"^    (apt-get install|dnf install|apk add|brew install) (.+)$",
                          process.stderr, re.MULTILINE)
    assert [names for _, names in commands] == list(packages)
    assert len(process.stderr.splitlines()) < 20


def test_without_a_compiler(tmp_path):
    says(build(tmp_path, CC="no-such-compiler"),
         "gcc libc6-dev", "gcc glibc-devel", "gcc musl-dev", "gcc")


def run_setup(before, *args, cwd=ROOT, **env):
    """setup.py, after some lines that change what it finds."""
    program = f"import os, runpy, sys, sysconfig\n{before}\nsys.argv[:] = ['setup.py', *{args}]\n" \
              "runpy.run_path('setup.py', run_name='__main__')"
    return subprocess.run([sys.executable, "-c", program], cwd=cwd, capture_output=True,
                          text=True, timeout=300, env={**os.environ, **env})


def test_without_anything(tmp_path):
    """What is missing besides the compiler is in the same message."""
    process = run_setup(
        "there = os.path.exists\n"
        "os.path.exists = lambda path: (not str(path).endswith('.h') and there(path))",
        "-q", "build_ext", "--build-lib", str(tmp_path), "--build-temp", str(tmp_path),
        CC="no-such-compiler")
    says(process, "gcc libc6-dev python3-dev libssl-dev",
         "gcc glibc-devel python3-devel openssl-devel",
         "gcc musl-dev python3-dev openssl-dev", "gcc python openssl")


@pytest.mark.parametrize("before", [
    "sys.implementation.name = 'pypy'", "sys.version_info = (3, 10, 13)"])
def test_a_python_that_will_not_do(before):
    """One sentence, before anything is compiled."""
    process = run_setup(before, "-q", "build_ext")
    assert process.returncode == 1
    assert process.stderr.startswith("tidewire needs CPython 3.11 or newer, and this is ")
    assert len(process.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_without_libuv(tmp_path, limited_cc):
    """Linux does without it: one line says so, and epoll is the only poller."""
    process = build(tmp_path, CC=limited_cc, TIDEWIRE_DEBUG="1", WITHOUT_HEADER="uv[.]h")
    assert process.returncode == 0, process.stderr[-4000:]
    assert process.stdout.splitlines() == [
        "tidewire: built without libuv: epoll is the only poller"]
    shutil.copytree(ROOT / "pkg" / "tidewire", tmp_path / "lib" / "tidewire", dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    code = ("import asyncio, tidewire; print(tidewire._core.build_info()['pollers'])\n"
            "print(tidewire.run(asyncio.sleep(0, 'ran')))\n"
            "try: tidewire.new_event_loop(poller='libuv')\n"
            "except ValueError as exc: print(exc)")
    env = {name: value for name, value in os.environ.items() if name != "TIDEWIRE_POLLER"}
    out = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path / "lib", text=True,
                                  env={**env, "PYTHONPATH": str(tmp_path / "lib")})
    assert out.splitlines() == [
        "epoll", "ran", "this build of tidewire has no poller 'libuv' (it has: epoll)"]


def test_without_python_and_openssl(tmp_path, limited_cc):
    says(build(tmp_path, CC=limited_cc, WITHOUT_HEADER="Python[.]h\\|openssl"),
         "python3-dev libssl-dev", "python3-devel openssl-devel", "python3-dev openssl-dev",
         "python openssl")


def test_with_a_sanitizer_that_does_not_exist(tmp_path):
    process = build(tmp_path, TIDEWIRE_SANITIZE="nonsense")
    assert process.returncode == 1
    assert process.stderr.strip() == (
        "tidewire: this compiler cannot build with -fsanitize=nonsense")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_debug_build_without_warnings(tmp_path):
    """Every warning of the developers' list, as errors."""
    process = build(tmp_path, TIDEWIRE_DEBUG="1", TIDEWIRE_WERROR="1")
    assert process.returncode == 0, process.stderr[-4000:]
    assert "warning:" not in process.stderr


def test_versions():
    assert re.fullmatch(r"\d+\.\d+\.\d+([ab]\d+)?", tidewire.__version__)
    try:
        assert importlib.metadata.version("tidewire") == tidewire.__version__
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("tidewire runs here from its source folder")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The source distribution, made from a copy: the build must not touch the source."""
    folder = tmp_path_factory.mktemp("sdist")
    code = "import setuptools.build_meta as b, sys; print(b.build_sdist(sys.argv[1]))"
    process = subprocess.run([sys.executable, "-c", code, folder], cwd=ROOT,
                             capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    return folder / process.stdout.split()[-1]


def tracked():
    process = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if process.returncode:
        pytest.skip("not a git repository")
    return {name for name in process.stdout.splitlines() if (ROOT / name).is_file()}


def test_sdist_is_complete(sdist):
    """Whatever is in the repository, except git's and CI's own files; and nothing built."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {name for name in tracked() if not name.startswith(".")}
    assert wanted <= names, sorted(wanted - names)
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc"))]


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(600)
@pytest.mark.parametrize("source", ["archive", "folder"])
def test_install_in_a_clean_environment(sdist, tmp_path, source):
    """pip install tidewire-*.tar.gz, and pip install . in the unpacked folder."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    env = {name: value for name, value in os.environ.items()
           if name not in ("PYTHONPATH", "LD_PRELOAD", "PYTHONMALLOC")}
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    reach = subprocess.run([*pip, "download", "-q", "--no-deps", "-d", tmp_path, "setuptools"],
                           env=env, capture_output=True)
    if reach.returncode:
        pytest.skip("no package index within reach")
    where = sdist
    if source == "folder":
        with tarfile.open(sdist) as archive:
            if hasattr(tarfile, "data_filter"):     # 3.11.4
                archive.extraction_filter = tarfile.data_filter
            archive.extractall(tmp_path)
        where = tmp_path / sdist.name.removesuffix(".tar.gz")
        env["TIDEWIRE_DEBUG"] = "1"     # the same, and quickly compiled
    process = subprocess.run([*pip, "install", "-q", where], env=env,
                             capture_output=True, text=True, cwd=tmp_path)
    assert process.returncode == 0, process.stdout + process.stderr
    code = """if True:
        import asyncio, importlib.resources, tidewire
        async def main():
            server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert await reader.read() == b""
            writer.close()
            server.close()
            return type(asyncio.get_running_loop())
        assert tidewire.run(main()) is tidewire.Loop
        files = {f.name for f in importlib.resources.files("tidewire").iterdir()}
        assert {"py.typed", "_core.pyi"} <= files, files
        print(tidewire.__file__, tidewire.__version__)
    """
    process = subprocess.run([python, "-I", "-c", code], env=env, cwd=tmp_path,
                             capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr
    file, version = process.stdout.split()
    assert file.startswith(str(tmp_path)) and version == tidewire.__version__
