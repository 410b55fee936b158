"""The preloaded library, by ctypes; and how a Python is started with it."""
import ctypes
import os
import pathlib
import shlex
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "fault"

EXTENSION, LIBUV, OTHERS = 1, 2, 4
SOURCES = {"fault.so": ("choose.c", "calls.c"), "nomalloc.so": ("memory.c",)}
INSIDE = "TIDEWIRE_FAULT_INSIDE"


def build(name, where=BUILD):
    """The library, compiled if a source is newer."""
    out = pathlib.Path(where) / name
    sources = [HERE / "shim" / source for source in SOURCES[name]]
    newest = max(p.stat().st_mtime for p in (HERE / "shim").iterdir())
    if not out.exists() or out.stat().st_mtime < newest:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_suffix(f".{os.getpid()}")
        subprocess.run(
            [*shlex.split(os.environ.get("CC") or "cc"), "-O2", "-g", "-Wall", "-Wextra",
             "-fvisibility=hidden", "-shared", "-fPIC", "-o", part, *sources, "-ldl"], check=True)
        part.replace(out)
    return str(out)


def environment(libraries=("fault.so",), where=BUILD):
    """For a child: the libraries stand before what is preloaded already (a sanitizer)."""
    env = dict(os.environ)
    preload = [build(name, where) for name in libraries] + env.get("LD_PRELOAD", "").split()
    options = [o for o in (env.get("ASAN_OPTIONS"), "verify_asan_link_order=0") if o]
    return {**env, INSIDE: "1", "LD_PRELOAD": " ".join(preload), "ASAN_OPTIONS": ":".join(options)}


def start_again(libraries):
    """Run this program again, with the libraries."""
    os.execve(sys.executable, [sys.executable, *sys.argv], environment(libraries))


class Shim:
    """The library of this process; without it nothing fails."""

    def __init__(self):
        lib = ctypes.CDLL(None)
        self.lib = lib if hasattr(lib, "shim_scan") else None
        self.memory = lib if hasattr(lib, "nomalloc_arm") else None
        if self.lib:
            lib.shim_arm.argtypes = [ctypes.c_int, *[ctypes.c_long] * 2, ctypes.c_int,
                                     *[ctypes.c_long] * 2, ctypes.c_int]
            lib.shim_chance.argtypes = [ctypes.c_ulong, ctypes.c_uint, ctypes.c_int]
            lib.shim_short.argtypes = [ctypes.c_long, ctypes.c_int]
            lib.shim_fired.restype = lib.shim_count.restype = lib.shim_notes.restype = ctypes.c_long
            lib.shim_notes.argtypes = [ctypes.c_char_p, ctypes.c_long]
            lib.shim_is_quarantined.restype = ctypes.c_bool
        if self.memory:
            lib.nomalloc_arm.argtypes = [ctypes.c_long, ctypes.c_long]
            lib.nomalloc_fired.restype = lib.nomalloc_seen.restype = ctypes.c_long

    def scan(self):
        if self.lib:
            self.lib.shim_scan()

    def number(self, call):
        n = self.lib.shim_call(call.encode())
        assert n >= 0, call
        return n

    def arm(self, call, first, last, *, error=0, cut=0, wait=0.0, who=EXTENSION):
        """The first to the last of these calls fail, or are short, or late by `wait` seconds."""
        self.lib.shim_arm(self.number(call), first, last, error, cut, int(wait * 1e6), who)

    def chance(self, seed, permille, errors, who=EXTENSION):
        """Each call fails by chance, with one of its errors."""
        for call, numbers in errors.items():
            for number in numbers:
                self.lib.shim_add_error(self.number(call), number)
        self.lib.shim_chance(seed, permille, who)

    def short(self, n, who=EXTENSION):
        """Each read and write moves n bytes at most."""
        self.lib.shim_short(n, who)

    def disarm(self):
        if self.lib:
            self.lib.shim_disarm()
        if self.memory:
            self.memory.nomalloc_disarm()

    def reset(self):
        if self.lib:
            self.lib.shim_reset()

    def start_quarantine(self):
        if self.lib:
            self.lib.shim_start_quarantine()

    def is_quarantined(self, fd):
        return self.lib is not None and self.lib.shim_is_quarantined(fd)

    def fired(self):
        n = self.lib.shim_fired() if self.lib else 0
        return n + (self.memory.nomalloc_fired() if self.memory else 0)

    def count(self, call, who):
        return self.lib.shim_count(self.number(call), who)

    def notes(self):
        """Descriptors that were closed twice, or used after they were closed."""
        if not self.lib:
            return []
        buffer = ctypes.create_string_buffer(16384)
        n = self.lib.shim_notes(buffer, len(buffer))
        return buffer.raw[:n].decode(errors="replace").splitlines()
