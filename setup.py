"""Build of the C extension ``tidewire._core``; the metadata is in pyproject.toml.

Environment:
    TIDEWIRE_DEBUG=1                       -O0 -g3, assertions and debug counters on
    TIDEWIRE_SANITIZE=address,undefined    sanitizers
    TIDEWIRE_COVERAGE=1                    -O0, counters of lines, branches and (gcc 14) conditions
    TIDEWIRE_WERROR=1                      warnings are errors
    TIDEWIRE_PORTABLE=1                    no system call that POSIX lacks, but for the poller's
    CC, CFLAGS, LDFLAGS, PKG_CONFIG, PKG_CONFIG_PATH      as everywhere
    LIBUV_CFLAGS, LIBUV_LIBS, OPENSSL_CFLAGS              instead of pkg-config
    TIDEWIRE_WITHOUT_LIBUV=1               epoll only, also where libuv is found

Linux needs no libuv: its poller is epoll, libuv is a second one.  Elsewhere libuv is the poller.
"""

import glob
import hashlib
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from multiprocessing.pool import ThreadPool

if sys.implementation.name != "cpython" or sys.version_info < (3, 11):
    import platform

    raise SystemExit("tidewire needs CPython 3.11 or newer, and this is %s %s (%s)." % (
        platform.python_implementation(), platform.python_version(), sys.executable))
if os.name != "posix":
    raise SystemExit("tidewire runs on Linux and other Unixes.")

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("TIDEWIRE_DEBUG", "0") not in ("", "0")
WERROR = os.environ.get("TIDEWIRE_WERROR", "0") not in ("", "0")
COVERAGE = os.environ.get("TIDEWIRE_COVERAGE", "0") not in ("", "0")
PORTABLE = os.environ.get("TIDEWIRE_PORTABLE", "0") not in ("", "0")
SANITIZE = os.environ.get("TIDEWIRE_SANITIZE", "")
WITHOUT_LIBUV = os.environ.get("TIDEWIRE_WITHOUT_LIBUV", "0") not in ("", "0")
EPOLL = sys.platform == "linux"

WARNINGS = shlex.split("""
    -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -Wshadow -Wundef
    -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wwrite-strings
    -Wpointer-arith -Wcast-align -Wformat=2 -Wvla -Wimplicit-fallthrough
    -Wduplicated-cond -Wlogical-op -Wnull-dereference
""")

PREFIXES = [sys.prefix, sys.base_prefix, "/usr/local", "/opt/homebrew", "/opt/local"]

# What is missing: the packages that bring it, on apt, dnf, apk and brew.
PACKAGES = {
    "a C compiler": ("gcc libc6-dev", "gcc glibc-devel", "gcc musl-dev", "gcc"),
    "Python.h": ("python3-dev", "python3-devel", "python3-dev", "python"),
    "libuv (uv.h and the library)": ("libuv1-dev", "libuv-devel", "libuv-dev", "libuv"),
    "OpenSSL's headers": ("libssl-dev", "openssl-devel", "openssl-dev", "openssl"),
}
INSTALL = ("apt-get install", "dnf install", "apk add", "brew install")


def missing_message(missing):
    lines = ["", "tidewire cannot be built here, since this is missing:", ""]
    lines += [f"    {what}" for what in missing]
    lines += ["", "Install it with the one of these lines that fits your system:", ""]
    for column, command in enumerate(INSTALL):
        names = " ".join(PACKAGES[what][column] for what in missing)
        lines.append(f"    {command} {names}")
    return "\n".join([*lines, ""])


def pkg_config(package, what):
    """The flags that pkg-config knows, or None."""
    command = [os.environ.get("PKG_CONFIG", "pkg-config"), what, package]
    try:
        return shlex.split(subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True))
    except (OSError, subprocess.CalledProcessError):
        return None


def candidates(package, prefix):
    """Ways to compile and link with a library, best first: (cflags, libs) pairs."""
    variables = [os.environ.get(f"{prefix}_{kind}") for kind in ("CFLAGS", "LIBS")]
    if any(variables):
        yield tuple(shlex.split(value or "") for value in variables)
        return
    cflags, libs = pkg_config(package, "--cflags"), pkg_config(package, "--libs")
    if cflags is not None and libs is not None:
        yield cflags, libs
    library = {"libuv": "-luv", "openssl": "-lssl"}[package]
    yield [], [library]
    for root in PREFIXES:
        for where in (root, os.path.join(root, "opt", package)):
            if os.path.isdir(os.path.join(where, "include")):
                lib = os.path.join(where, "lib")
                yield [f"-I{where}/include"], [f"-L{lib}", f"-Wl,-rpath,{lib}", library]


def missing_files():
    """What is missing besides the compiler, which would know better."""
    folders = [sysconfig.get_path("include"), "/usr/include",
               *(os.path.join(root, "include") for root in PREFIXES)]
    for package in ("libuv", "openssl"):
        folders += [flag[2:] for flag in pkg_config(package, "--cflags-only-I") or []]
    headers = {"Python.h": "Python.h", "OpenSSL's headers": "openssl/ssl.h"}
    if not EPOLL:
        headers["libuv (uv.h and the library)"] = "uv.h"
    return [what for what, header in headers.items()
            if not any(os.path.exists(os.path.join(folder, header)) for folder in folders)]


class BuildExt(build_ext):
    """Finds what the extension needs, says what is missing, compiles in parallel."""

    def finalize_options(self):
        super().finalize_options()
        self.force = True           # the cache of objects below decides, it knows the flags
        self.parallel = None

    def build_extensions(self):
        self.check_and_find()
        for extension in self.extensions:
            self.set_flags(extension)
        flags = repr([self.compiler.compiler_so, [vars(e) for e in self.extensions]])
        self.build_temp = os.path.join(
            self.build_temp, hashlib.sha256(flags.encode()).hexdigest()[:12])
        self.compiler.compile = self.compile_parallel
        super().build_extensions()

    # What the machine has

    def probe(self, source, cflags=(), libs=None):
        """Does this compile and, with libs, link into a shared object?"""
        includes = [f"-I{path}" for path in self.compiler.include_dirs]
        with tempfile.TemporaryDirectory() as folder:
            c, o, so = (os.path.join(folder, "probe" + end) for end in (".c", ".o", ".so"))
            with open(c, "w") as file:
                file.write(source + "\nint tw_probe(void);\nint tw_probe(void) { return 0; }\n")
            commands = [[*self.compiler.compiler_so, *includes, *cflags, "-c", c, "-o", o]]
            if libs is not None:
                commands.append([*self.compiler.linker_so, o, "-o", so, *libs])
            try:
                return all(subprocess.run(command, capture_output=True).returncode == 0
                           for command in commands)
            except OSError:
                return False

    def find(self, package, prefix, source, link):
        for cflags, libs in candidates(package, prefix):
            if self.probe(source, cflags, libs if link else None):
                return cflags, libs
        return None

    def check_and_find(self):
        if not self.probe("#include <stddef.h>", libs=[]):
            raise SystemExit(missing_message(["a C compiler", *missing_files()]))
        self.libuv = None if WITHOUT_LIBUV else self.find(
            "libuv", "LIBUV", "#include <uv.h>\nunsigned tw_uv(void) { return uv_version(); }",
            link=True)
        # OpenSSL is never linked: only its declarations are used.
        self.openssl = self.find("openssl", "OPENSSL", "#include <openssl/ssl.h>", link=False)
        missing = {
            "Python.h": not self.probe("#include <Python.h>"),
            "libuv (uv.h and the library)": self.libuv is None and not EPOLL,
            "OpenSSL's headers": self.openssl is None,
        }
        if any(missing.values()):
            raise SystemExit(missing_message([what for what in missing if missing[what]]))
        if self.libuv is None:
            print("tidewire: built without libuv: epoll is the only poller")

    # Flags

    def accepted(self, flags, both=False):
        """Those of the flags that this compiler and Python.h take (and, with both, the linker)."""
        return [flag for flag in flags
                if self.probe("#include <Python.h>", ["-std=gnu11", "-Werror", flag],
                              [flag] if both else None)]

    def set_flags(self, extension):
        cflags, ldflags = ["-std=gnu11", "-D_GNU_SOURCE", "-fvisibility=hidden"], []
        if PORTABLE:
            cflags += ["-DTW_PORTABLE=1"]
        if DEBUG:
            cflags += ["-O0", "-g3", "-UNDEBUG", "-DTW_DEBUG=1"]
        elif SANITIZE:
            cflags += ["-O1", "-g", "-UNDEBUG"]
        elif COVERAGE:
            cflags += ["-O0", "-g", "-DNDEBUG", "--coverage",
                       *self.accepted(["-fcondition-coverage"])]
            ldflags += ["--coverage"]
        else:
            cflags += ["-O3", *self.accepted(["-fno-plt"])]
            lto = self.accepted(["-flto=auto", "-flto"], both=True)[:1]
            cflags += lto
            ldflags += [*lto, "-O3"] if lto else []
        if SANITIZE:
            flag = f"-fsanitize={SANITIZE}"
            if not self.probe("", [flag], [flag]):
                raise SystemExit(f"tidewire: this compiler cannot build with {flag}")
            cflags += [flag, "-fno-omit-frame-pointer"]
            ldflags += [flag]
        cflags += self.accepted(WARNINGS) if DEBUG or WERROR else []
        cflags += ["-Werror"] if WERROR else []
        cflags_uv, libs_uv = self.libuv or ([], [])
        left_out = ([] if EPOLL else ["poller_epoll.c"]) + (
            [] if self.libuv else ["poller_uv.c", "uv_loop.c"])
        extension.sources = [path for path in extension.sources
                             if os.path.basename(path) not in left_out]
        extension.define_macros = [
            ("TW_HAVE_EPOLL", str(int(EPOLL))),
            ("TW_HAVE_UV", str(int(self.libuv is not None))),
            ("TW_BUILD_FLAGS", f'"{" ".join(f for f in cflags if not f.startswith("-W"))}"'),
        ]
        # Other people's headers are not ours to warn about.
        system = [flag.replace("-I", "-isystem", 1) for flag in cflags_uv + self.openssl[0]]
        extension.extra_compile_args = cflags + system
        extension.extra_link_args = ldflags + libs_uv

    # Compiling

    def compile_parallel(self, sources, output_dir=None, macros=None, include_dirs=None,
                         debug=0, extra_preargs=None, extra_postargs=None, depends=None):
        """CCompiler.compile(), in threads, and only what changed."""
        compiler = self.compiler
        macros, objects, extra_postargs, pp_opts, build = compiler._setup_compile(
            output_dir, macros, include_dirs, sources, depends, extra_postargs)
        cc_args = compiler._get_cc_args(pp_opts, debug, extra_preargs)
        headers = max(map(os.path.getmtime, [__file__, *(depends or [])]))

        def compile_one(obj):
            src, ext = build[obj]
            newest = max(headers, os.path.getmtime(src))
            if not os.path.exists(obj) or os.path.getmtime(obj) <= newest:
                compiler._compile(obj, src, ext, cc_args, extra_postargs, pp_opts)

        with ThreadPool(os.cpu_count() or 1) as pool:
            pool.map(compile_one, [obj for obj in objects if obj in build], chunksize=1)
        return objects


def readme():
    """README.rst for PyPI, where relative paths mean nothing: no pictures, links to the home."""
    with open("README.rst", encoding="utf-8") as file:
        text = file.read()
    with open("pyproject.toml", encoding="utf-8") as file:
        home = re.search(r'^Source = "(.+)"', file.read(), re.MULTILINE)[1]
    text = re.sub(r"^\.\. (image|figure)::.*\n(?:[ \t]+.*\n)*", "", text, flags=re.MULTILINE)
    return re.sub(r"<(?!https?:)([\w./-]+\.rst)>`_", rf"<{home}/blob/main/\1>`_", text)


setup(
    long_description=readme(),
    long_description_content_type="text/x-rst",
    ext_modules=[Extension(
        "tidewire._core",
        sorted(glob.glob("csrc/**/*.c", recursive=True)),
        include_dirs=["csrc"],
        depends=sorted(glob.glob("csrc/**/*.h", recursive=True)))],
    cmdclass={"build_ext": BuildExt},
)
