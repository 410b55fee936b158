"""The wheels for PyPI: every CPython whose headers can be had, glibc and musl, x86_64 and aarch64.

    make wheels                                      all of them, into dist/wheels, and checked
    make wheels ARGS="--python 3.14 --target musl"   some of them
    make wheels ARGS=--again                         built once more elsewhere, and compared

One machine builds them all: zig's C compiler knows each libc, and of a Python only the headers are
needed.  They come from Debian's packages, or else from a Python that is installed here, and so do
OpenSSL's (only its declarations are used).  libuv is compiled in; its source is Debian's source
package.  apt-get checks Debian's signatures, and this file the digest of libuv's source.

A wheel depends on this tree, the compiler and the headers alone: SOURCE_DATE_EPOCH (the time of the
last commit) is the time of its files, and no path of this machine is in it.
"""

import argparse
import base64
import csv
import glob
import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
import uuid
import zipfile
from multiprocessing.pool import ThreadPool
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "wheels"
DIST = ROOT / "dist" / "wheels"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIRROR = os.environ.get("MIRROR", "http://deb.debian.org/debian")
VERSION = re.search(r'^__version__ = "(.+)"', (ROOT / "pkg/tidewire/_version.py").read_text(), re.M)[1]
LIMIT = 300_000                 # bytes of a wheel

# What is compiled for: the name in a wheel's tag, and in the file name of the extension.
TARGETS = {
    "x86_64-linux-gnu.2.28": ("manylinux_2_28_x86_64", "x86_64-linux-gnu"),
    "aarch64-linux-gnu.2.28": ("manylinux_2_28_aarch64", "aarch64-linux-gnu"),
    "x86_64-linux-musl": ("musllinux_1_2_x86_64", "x86_64-linux-musl"),
    "aarch64-linux-musl": ("musllinux_1_2_aarch64", "aarch64-linux-musl"),
}
# The suite of Debian that has a Python.  The headers of x86_64 serve aarch64, too: where they
# differ (which assembler there is, the vector units), nothing that an extension sees depends on it.
PYTHONS = {"3.11": "bookworm", "3.12": None, "3.13": "trixie", "3.14": "sid", "3.15": "sid"}

LIBUV = {
    "version": "1.50.0",
    "suite": "trixie",
    "file": "libuv1_1.50.0.orig.tar.gz",
    "sha256": "ec9de6ecf2a780fd2afb3b007947d2cd57c3bb17f3b9e721a66774980d35cd4d",
}
# As its CMakeLists.txt lists them for Linux.
LIBUV_FILES = """
    fs-poll idna inet random strscpy strtok thread-common threadpool timer uv-common
    uv-data-getter-setters version unix/async unix/core unix/dl unix/fs unix/getaddrinfo
    unix/getnameinfo unix/linux unix/loop unix/loop-watcher unix/pipe unix/poll unix/process
    unix/procfs-exepath unix/proctitle unix/random-devurandom unix/random-getrandom
    unix/random-sysctl-linux unix/signal unix/stream unix/tcp unix/thread unix/tty unix/udp
""".split()

CFLAGS = """
    -O3 -g0 -DNDEBUG -fPIC -fvisibility=hidden -ffunction-sections -fdata-sections
    -fstack-protector-strong -D_GNU_SOURCE
""".split()
OURS = ["-std=gnu11", "-fno-plt", "-fwrapv", "-DTW_HAVE_EPOLL=1", "-DTW_HAVE_UV=1"]
LDFLAGS = ["-shared", "-s", "-Wl,--gc-sections", "-Wl,-z,relro", "-Wl,-z,now"]


def say(text):
    print(f"wheels: {text}", flush=True)


class Failed(Exception):
    """A command failed.  (A SystemExit would be lost in a thread of the pool.)"""


def run(command, **kwargs):
    process = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                             **kwargs)
    if process.returncode:
        raise Failed(f"wheels: this failed: {' '.join(map(str, command))}\n"
                     f"{process.stdout}{process.stderr}")
    return process.stdout


# -- what comes from Debian -----------------------------------------------------


def apt(suite, *args, cwd=None):
    """apt-get for a suite of Debian, in folders of its own: nothing of this machine's is touched."""
    folder = BUILD / "apt" / suite
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    sources = folder / "sources.list"
    sources.write_text("".join(f"{kind} [signed-by={KEYRING}] {MIRROR} {suite} main\n"
                               for kind in ("deb", "deb-src")))
    options = {"Dir::Etc::sourcelist": sources, "Dir::Etc::sourceparts": "/dev/null",
               "Dir::State::lists": folder / "lists", "Dir::Cache": folder / "cache",
               "Dir::State::status": "/dev/null", "APT::Architecture": "amd64",
               "APT::Sandbox::User": ""}
    command = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items())]
    if not any((folder / "lists").glob("*Sources*")):
        run([*command, "update"])
    return run([*command, *args], cwd=cwd)


def debian_package(suite, name):
    """The folder with what is in a package."""
    folder = BUILD / "debian" / suite / name
    if not (folder / "usr").is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        apt(suite, "download", name, cwd=folder)
        run(["dpkg-deb", "-x", *folder.glob("*.deb"), folder])
    return folder


def python_headers(version):
    """The -I flags for a Python, or nothing if its headers are not to be had."""
    suite = PYTHONS[version]
    if suite:
        include = debian_package(suite, f"libpython{version}-dev") / "usr" / "include"
        if not (include / "aarch64-linux-gnu").exists():
            (include / "aarch64-linux-gnu").symlink_to("x86_64-linux-gnu")
        return [f"-I{include}/python{version}", f"-I{include}"]
    here = glob.glob(os.path.expanduser(f"~/.pyenv/versions/{version}.*/include/python{version}"))
    for include in [f"/usr/local/include/python{version}", *sorted(here)]:
        if os.path.exists(f"{include}/Python.h"):
            return [f"-I{include}"]
    return []


def openssl_headers():
    """A folder with OpenSSL's headers and nothing else."""
    folder = BUILD / "openssl"
    if not folder.exists():
        package = debian_package("trixie", "libssl-dev") / "usr" / "include"
        for source in (package, package / "x86_64-linux-gnu"):
            shutil.copytree(source / "openssl", folder / "openssl", dirs_exist_ok=True)
    return folder


def libuv_source():
    """The folder with libuv's source, whose archive is the one that LIBUV names."""
    folder = BUILD / "libuv"
    archive = folder / LIBUV["file"]
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        apt(LIBUV["suite"], "source", "--download-only", "libuv1", cwd=folder)
    if not archive.exists():
        raise SystemExit(f"wheels: Debian {LIBUV['suite']} has no {LIBUV['file']} any more")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != LIBUV["sha256"]:
        raise SystemExit(f"wheels: {archive} is not the file that is known: sha256 {digest}")
    with tarfile.open(archive) as tar:
        name = tar.getnames()[0].split("/")[0]
        if not (folder / name).is_dir():
            tar.extractall(folder, filter="data")
    return folder / name


# -- compiling ------------------------------------------------------------------


def zig_program():
    """The program itself: its Python wrapper would start Python for each file."""
    return Path(importlib.util.find_spec("ziglang").origin).parent / "zig"


class Builder:
    """Compiles a copy of the tree, for one target and Python after the other."""

    def __init__(self, source, work):
        self.source, self.work = source, work
        work.mkdir(parents=True, exist_ok=True)
        self.env = {**os.environ, "ZIG_LOCAL_CACHE_DIR": str(work / "zig"),
                    "ZIG_GLOBAL_CACHE_DIR": str(work / "zig")}
        (work / "exports").write_text("{ global: PyInit__core; local: *; };\n")
        self.libuv = libuv_source()

    def zig(self, target, *args):
        return run([zig_program(), "cc", "-target", target, *args],
                   env=self.env, cwd=self.source)

    def compile(self, target, folder, flags, files):
        """The objects of some files."""
        folder.mkdir(parents=True, exist_ok=True)
        maps = [f"-ffile-prefix-map={path}=/" for path in (self.source, BUILD, self.work)]

        def one(file):
            obj = folder / (re.sub(r"\W", "_", os.path.relpath(file, "/")) + ".o")
            self.zig(target, *CFLAGS, *maps, *flags, "-c", file, "-o", obj)
            return obj

        with ThreadPool(os.cpu_count() or 1) as pool:
            return pool.map(one, files, chunksize=1)

    def extension(self, target, python):
        """tidewire._core for a target and a Python."""
        folder = self.work / target / python
        include = self.libuv / "include"
        # Nothing is in the names of the objects that depends on where the tree is.
        libuv = self.compile(
            target, self.work / target / "libuv", [f"-I{include}", f"-I{self.libuv}/src", "-w"],
            [self.libuv / "src" / f"{name}.c" for name in LIBUV_FILES])
        sources = sorted((self.source / "csrc").rglob("*.c"))
        flags = [*CFLAGS, *OURS]
        ours = self.compile(target, folder, [
            *OURS, f'-DTW_BUILD_FLAGS="{" ".join(flags)}"',
            "-w", "-Icsrc", *(f.replace("-I", "-isystem", 1) for f in python_headers(python)),
            f"-isystem{include}", f"-isystem{openssl_headers()}"], sources)
        link = [*LDFLAGS, f"-Wl,--version-script={self.work}/exports", *ours, *libuv,
                "-lpthread", "-ldl", "-lrt"]
        out = folder / "_core.so"
        self.zig(target, *link, "-o", out)
        self.check_symbols(target, folder, link, out)
        return out.read_bytes()

    def check_symbols(self, target, folder, link, out):
        """Nothing is undefined but what Python has: linked once more with only that."""
        from elftools.elf.elffile import ELFFile

        with open(out, "rb") as file:
            names = [s.name for s in ELFFile(file).get_section_by_name(".dynsym").iter_symbols()
                     if s["st_shndx"] == "SHN_UNDEF" and re.match("_?Py", s.name)]
        python = self.stand_in(target, folder, names)
        self.zig(target, *link, "-Wl,-z,defs", python, "-o", folder / "whole.so")
        if target == "x86_64-linux-musl" and os.uname().machine == "x86_64":
            self.load_by_musl(target, folder, out)

    def stand_in(self, target, folder, names):
        """A library that has these names, as Python does."""
        source, library = folder / "python.c", folder / "libpython.so"
        source.write_text("".join(f"char {name};\n" for name in sorted(names)))
        # Without optimisation zig would compile its sanitizer's library for this.
        self.zig(target, *CFLAGS, "-fvisibility=default", "-shared", source, "-o", library)
        return library

    def load_by_musl(self, target, folder, out):
        """Debian has musl, but no Python for it: musl's own linker loads the extension at least."""
        program = folder / "load.c"
        program.write_text("""
            #include <dlfcn.h>
            #include <stdio.h>
            int main(int argc, char **argv)
            {
                while (*++argv)
                    if (!dlopen(*argv, RTLD_NOW | RTLD_GLOBAL))
                        return puts(dlerror()), 1;
                return dlsym(RTLD_DEFAULT, "PyInit__core") == NULL;
            }""")
        self.zig(target, "-dynamic", program, "-o", folder / "load")
        linker = debian_package("trixie", "musl") / "usr/lib/x86_64-linux-musl/libc.so"
        run([linker, folder / "load", folder / "libpython.so", out])


# -- the wheel ------------------------------------------------------------------


def copy_tree(folder):
    """A copy of this tree, without what git ignores."""
    shutil.rmtree(folder, ignore_errors=True)
    names = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT)
    for name in names.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def metadata(source):
    """METADATA, as setuptools writes it, with the licence of libuv, which is in the wheel."""
    folder = source / "build" / "metadata"
    folder.mkdir(parents=True)
    name = run([sys.executable, "-c",
                "import sys, setuptools.build_meta as backend\n"
                "print(backend.prepare_metadata_for_build_wheel(sys.argv[1]))", folder],
               cwd=source).splitlines()[-1]
    text = (folder / name / "METADATA").read_text()
    return text.replace("License-File: LICENSE\n",
                        "License-File: LICENSE\nLicense-File: LICENSE.libuv\n", 1)


def package_files(source):
    """What setuptools installs of the packages, and their contents."""
    with open(source / "pyproject.toml", "rb") as file:
        settings = tomllib.load(file)["tool"]["setuptools"]
    pkg = source / "pkg"
    patterns = [f"{package.replace('.', '/')}/{pattern}" for package in settings["packages"]
                for pattern in ["*.py", *settings["package-data"].get(package, [])]]
    return {path.relative_to(pkg).as_posix(): path.read_bytes()
            for pattern in patterns for path in pkg.glob(pattern)}


def sbom(version, target, when):
    """What is in the wheel, as CycloneDX 1.6."""
    zig = run([zig_program(), "version"]).strip()
    purl = f"pkg:pypi/tidewire@{version}"
    uv = f"pkg:generic/libuv@{LIBUV['version']}"
    content = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, purl + target)}",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when)),
            "tools": {"components": [
                {"type": "application", "name": "zig", "version": zig,
                 "description": f"the C compiler, for {target}"}]},
            "component": {"type": "library", "bom-ref": purl, "name": "tidewire",
                          "version": version, "purl": purl,
                          "licenses": [{"license": {"id": "MIT"}}]},
        },
        "components": [{
            "type": "library", "bom-ref": uv, "name": "libuv", "version": LIBUV["version"],
            "purl": uv, "scope": "required",
            "description": f"linked statically; the source is {LIBUV['file']} of Debian's source "
                           f"package libuv1 ({LIBUV['suite']}), without Debian's changes",
            "licenses": [{"license": {"id": "MIT"}}],
            "externalReferences": [{
                "type": "source-distribution",
                "url": f"https://deb.debian.org/debian/pool/main/libu/libuv1/{LIBUV['file']}",
                "hashes": [{"alg": "SHA-256", "content": LIBUV["sha256"]}]}],
        }],
        "dependencies": [{"ref": purl, "dependsOn": [uv]}, {"ref": uv}],
    }
    return json.dumps(content, indent=2) + "\n"


def write_wheel(folder, builder, target, python, text, when):
    """The wheel of an extension; the files in the order of their names, RECORD last."""
    platform, triplet = TARGETS[target]
    cp = "cp" + python.replace(".", "")
    info = f"tidewire-{VERSION}.dist-info"
    tag = f"{cp}-{cp}-{platform}"
    files = package_files(builder.source)
    files[f"tidewire/_core.cpython-{cp[2:]}-{triplet}.so"] = builder.extension(target, python)
    files[f"{info}/METADATA"] = text.encode()
    files[f"{info}/WHEEL"] = (f"Wheel-Version: 1.0\nGenerator: tidewire tools/wheels.py\n"
                              f"Root-Is-Purelib: false\nTag: {tag}\n").encode()
    files[f"{info}/licenses/LICENSE"] = (builder.source / "LICENSE").read_bytes()
    files[f"{info}/licenses/LICENSE.libuv"] = b"\n".join(
        (builder.libuv / name).read_bytes() for name in ("LICENSE", "LICENSE-extra"))
    files[f"{info}/sboms/tidewire.cdx.json"] = sbom(VERSION, target, when).encode()
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    for name in sorted(files):
        digest = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest())
        rows.writerow([name, f"sha256={digest.rstrip(b'=').decode()}", len(files[name])])
    rows.writerow([f"{info}/RECORD", "", ""])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"tidewire-{VERSION}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in [*sorted(files.items()), (f"{info}/RECORD", record.getvalue())]:
            entry = zipfile.ZipInfo(name, time.gmtime(max(when, 315532800))[:6])
            entry.external_attr = (0o100755 if name.endswith(".so") else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            archive.writestr(entry, data)
    return path


def check(path):
    """auditwheel agrees with the tag, and the wheel is small."""
    platform = path.stem.split("-")[-1]
    said = re.sub(r"\s+", " ", run([sys.executable, "-m", "auditwheel", "show", path]))
    said = re.sub(r" ?This constrains.*", "", said)
    # An older glibc than the one named will do, too.
    tags = re.findall(r'(?:many|musl)linux_\d+_\d+_\w+', said)
    version = re.findall(r"\d+", platform.split("linux_")[1])[:2]
    if platform not in tags and not any(
            tag.startswith("manylinux") and tag.split("_", 3)[3] == platform.split("_", 3)[3]
            and [int(n) for n in tag.split("_")[1:3]] <= [int(n) for n in version] for tag in tags):
        raise SystemExit(f"wheels: auditwheel does not agree with {path.name}: {said}")
    size = path.stat().st_size
    if size > LIMIT:
        raise SystemExit(f"wheels: {path.name} has {size} bytes, more than {LIMIT}")
    return size, tags[:1]


def build(folder, work, wanted, when):
    """The wheels, in folder; work holds the copy of the tree and what the compiler makes."""
    source = work / "source"
    copy_tree(source)
    text = metadata(source)
    builder = Builder(source, work)
    made = []
    for target, python in wanted:
        if not python_headers(python):
            say(f"without {python}: its headers are not to be had here")
            continue
        start = time.monotonic()
        made.append(write_wheel(folder, builder, target, python, text, when))
        size, tags = check(made[-1])
        say(f"{made[-1].name}  {size:,} bytes  auditwheel: {', '.join(tags)}  "
            f"({time.monotonic() - start:.0f} s)")
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--python", default="", help="some of the Pythons: 3.11,3.14")
    parser.add_argument("--target", default="", help="targets with this in their names: musl, x86_64")
    parser.add_argument("--again", action="store_true",
                        help="build them once more, elsewhere, and compare")
    options = parser.parse_args()
    pythons = options.python.split(",") if options.python else PYTHONS
    wanted = [(target, python) for target in TARGETS for python in PYTHONS
              if options.target in target and python in pythons]
    when = int(os.environ.get("SOURCE_DATE_EPOCH")
               or run(["git", "log", "-1", "--format=%ct"], cwd=ROOT))
    os.environ["SOURCE_DATE_EPOCH"] = str(when)
    for old in DIST.glob("tidewire-*.whl"):
        if f"-{VERSION}-" not in old.name:
            old.unlink()
    made = build(DIST, BUILD / "one", wanted, when)
    if not made:
        raise SystemExit("wheels: nothing was built")
    print(run([sys.executable, "-m", "twine", "check", "--strict", *made]), end="")
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in made}
    if options.again:
        work = BUILD / "another place"
        shutil.rmtree(work, ignore_errors=True)
        for path in build(work / "dist", work, wanted, when):
            if hashlib.sha256(path.read_bytes()).hexdigest() != sums[path.name]:
                raise SystemExit(f"wheels: {path.name} is another one when built again: {path}")
        say(f"built again, with an empty cache in another folder: {len(made)} of {len(made)} "
            "are the same, byte for byte")
        shutil.rmtree(work)
    (DIST / "SHA256SUMS").write_text("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(str(error))
