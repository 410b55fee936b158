"""Compiles the load generator and the floors when they are older than their sources."""
import shutil
import subprocess

from . import BENCHMARKS, BUILD

FLAGS = ["-O2", "-std=gnu11", "-Wall", "-Wextra"]
PROGRAMS = {
    "load": (["load/main.c", "load/stats.c", "load/link.c", "load/stream.c", "load/udp.c"],
             ["load/load.h"], ["libssl", "libcrypto"]),
    "floor-echo": (["floors/echo.c"], [], ["libuv"]),
    "floor-tls": (["floors/tls.c"], [], ["libssl", "libcrypto"]),
}


class Unbuildable(Exception):
    """A compiler or a library is missing."""


def _pkg_config(libraries):
    try:
        return subprocess.check_output(
            ["pkg-config", "--cflags", "--libs", *libraries], text=True,
            stderr=subprocess.PIPE).split()
    except (OSError, subprocess.CalledProcessError) as exc:
        why = getattr(exc, "stderr", None) or exc
        raise Unbuildable(f"pkg-config {' '.join(libraries)}: {why}") from None


def program(name):
    """The path of a program of ours, compiled if need be."""
    sources, headers, libraries = PROGRAMS[name]
    sources = [BENCHMARKS / s for s in sources]
    target = BUILD / name
    newest = max(f.stat().st_mtime for f in [*sources, *(BENCHMARKS / h for h in headers)])
    if target.exists() and target.stat().st_mtime >= newest:
        return target
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Unbuildable("no C compiler (cc) found")
    BUILD.mkdir(exist_ok=True)
    done = subprocess.run([compiler, *FLAGS, *map(str, sources), "-o", str(target),
                           *_pkg_config(libraries)], text=True, capture_output=True)
    if done.returncode:
        raise Unbuildable(f"{name}: {done.stderr}")
    return target


def preloaded(name):
    """The path of a library for LD_PRELOAD, compiled if need be."""
    source, target = BENCHMARKS / f"load/{name}.c", BUILD / f"{name}.so"
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(exist_ok=True)
        subprocess.run(["cc", *FLAGS, "-shared", "-fPIC", str(source), "-o", str(target)],
                       check=True)
    return target


def certificate():
    """(certificate, key): self-signed, P-256, made once."""
    cert, key = BUILD / "cert.pem", BUILD / "key.pem"
    if not (cert.exists() and key.exists()):
        BUILD.mkdir(exist_ok=True)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650", "-subj",
             "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", str(key), "-out", str(cert)],
            check=True, capture_output=True)
    return cert, key
