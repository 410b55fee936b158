"""Each place of the extension that calls something that can fail: there it fails once.

    python tests/coverage/sites.py --wrappers FILE.S        what run.sh links in; prints ld's options
    python tests/coverage/sites.py [--programs tcp,tls] [--jobs 2]

A part of make coverage: it needs that build, on x86_64.  What can fail are functions of the C API,
allocations, and those functions of the extension that one file calls of another, by their type.  The
programs and the judge are those of tests/fault.  A first run of each program notes the places it
passes; then each of them that has not failed before fails, with a MemoryError, in a child of its own.
Crashes and hangs are printed, and make it fail.
"""
import argparse
import ctypes
import mmap
import multiprocessing
import os
import pathlib
import platform
import re
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

SITES = 65536
TWO = (1 << 42) - 1     # of a place: the call and the one that led to it
TRIED = HERE.parents[1] / "build" / "coverage" / "places.txt"

# What they return when they fail.  Without those that cannot fail as the extension calls
# them, and without those whose addresses it compares.
NULL = """
    PyByteArray_FromStringAndSize PyBytes_FromObject PyBytes_FromStringAndSize PyCMethod_New
    PyContext_Copy PyContext_CopyCurrent PyDescr_NewGetSet PyDict_New PyFloat_FromDouble
    PyImport_ImportModule PyList_New PyLong_FromLong PyLong_FromLongLong PyLong_FromSize_t
    PyLong_FromSsize_t PyLong_FromUnsignedLongLong PyMemoryView_FromMemory PyMemoryView_FromObject
    PyNumber_Add PyNumber_Long PyObject_Call PyObject_CallNoArgs PyObject_GenericGetDict
    PyObject_GetAttr PyObject_GetAttrString PyObject_Repr
    PyObject_Vectorcall PyObject_VectorcallMethod PySequence_Fast PySequence_GetSlice PySequence_List
    PyTuple_New PyTuple_Pack PyType_FromModuleAndSpec PyType_GetName PyUnicode_DecodeFSDefault
    PyUnicode_DecodeFSDefaultAndSize PyUnicode_FromFormat PyUnicode_FromString
    PyUnicode_InternFromString PyObject_CallFunction _PyObject_CallFunction_SizeT
    _PyObject_GC_New PyArg_ParseTuple _PyArg_ParseTuple_SizeT
    PyArg_ParseTupleAndKeywords _PyArg_ParseTupleAndKeywords_SizeT""".split()
MINUS_ONE = """
    PyByteArray_Resize PyContext_Enter PyDict_SetItem PyDict_SetItemString PyDict_Update
    PyErr_CheckSignals PyErr_ResourceWarning PyErr_WarnFormat PyList_Append PyLong_AsLong
    PyLong_AsLongLong PyLong_AsSize_t
    PyLong_AsSsize_t PyMapping_SetItemString PyModule_AddFunctions PyModule_AddType
    PyObject_AsFileDescriptor PyObject_GenericSetDict PyObject_GetBuffer
    PyObject_Hash PyObject_IsInstance PyObject_IsTrue PyObject_Not PyObject_RichCompareBool
    PyObject_SetAttr PyObject_SetAttrString PyObject_Size PySys_Audit""".split()
# These say no more than that.
WITHOUT_ERROR = {"PyMem_Calloc": 0, "PyMem_Malloc": 0, "PyMem_Realloc": 0, "PyMem_RawCalloc": 0,
                 "PyMem_RawMalloc": 0, "PyMem_RawRealloc": 0, "malloc": 0, "calloc": 0, "realloc": 0,
                 "PyThread_start_new_thread": -1}
WRAPPED = {**{name: (0, 1) for name in NULL}, **{name: (-1, 1) for name in MINUS_ONE},
           **{name: (value, 0) for name, value in WITHOUT_ERROR.items()}}
# tw_status is -1 and an object is NULL, with an exception set (base/common.h).
OWN = re.compile(r"^(?:TW_MUSTCHECK )?(tw_status|PyObject \*)\s*(tw_\w+)\(", re.MULTILINE)
ARGUMENTS = ["rax", "rdi", "rsi", "rdx", "rcx", "r8", "r9"]


def wrapper(name, value, has_error):
    """Asks, and goes on to the function with all registers as they were, or fails."""
    return "\n    ".join([
        f".globl __wrap_{name}\n.hidden __wrap_{name}\n.weak __real_{name}\n__wrap_{name}:",
        *(f"push %{register}" for register in ARGUMENTS), "sub $16, %rsp", "movsd %xmm0, (%rsp)",
        "mov 72(%rsp), %rdi", "mov %rbp, %rsi", f"mov ${has_error}, %edx", "call tw_site_check@PLT",
        "mov %eax, %r11d", "movsd (%rsp), %xmm0", "add $16, %rsp",
        *(f"pop %{register}" for register in reversed(ARGUMENTS)), "test %r11d, %r11d", "jnz 1f",
        f"jmp *__real_{name}@GOTPCREL(%rip)", f"1: mov ${value}, %rax", "ret\n"])


def own_functions():
    for header in sorted((HERE.parents[1] / "csrc").glob("**/*.h")):
        for kind, name in OWN.findall(header.read_text()):
            # Python calls methods, and the extension compares their addresses.
            if not re.search("_meth_|tw_(?!loop)[a-z]+_loop_", name):
                yield name, (-1 if kind == "tw_status" else 0, 1)


def write_wrappers(path):
    if platform.machine() != "x86_64":
        return
    wrapped = {**WRAPPED, **dict(own_functions())}
    with open(path, "w") as out:
        print(".text", file=out)
        for name, (value, has_error) in wrapped.items():
            print(wrapper(name, value, has_error), file=out)
        print('.section .note.GNU-stack,"",@progbits', file=out)
    print(" ".join(f"-Wl,--wrap={name}" for name in wrapped))


class Sites:
    """The extension's side of it."""

    def __init__(self, file):
        self.marks = mmap.mmap(file.fileno(), SITES * 8)
        from tidewire import _core
        self.lib = ctypes.CDLL(_core.__file__)
        self.lib.tw_site_arm.argtypes = [ctypes.c_uint64, ctypes.c_long]
        self.lib.tw_site_disarm.restype = ctypes.c_long

    def arm(self, site, nth=1):
        self.lib.tw_site_arm(site, nth)

    def seen(self):
        return {site for (site,) in struct.iter_unpack("Q", self.marks) if site}


def import_again(sites, case):
    """The extension's import, in a child."""
    import importlib.util

    from tidewire import _core
    spec = importlib.util.spec_from_file_location("tidewire._core", _core.__file__)
    sites.arm(case.nth)
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except (MemoryError, SystemError, ImportError):
        pass
    sites.lib.tw_site_disarm()


def run_case(case):
    from fault import judge
    if case.program != "import":
        return case, judge.run(case, "tidewire", worker_noise)
    pid = os.fork()
    if pid == 0:
        import_again(all_sites, case)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    return case, {"bad": [f"crash: {status}"] if status else [], "outcome": "ok"}


worker_noise = all_sites = None


def run(options):
    import tempfile

    from fault import judge, plan, programs
    global worker_noise, all_sites
    worker_noise = tempfile.TemporaryFile(mode="w+")
    file = tempfile.NamedTemporaryFile()
    file.truncate(SITES * 8)
    os.environ["TW_SITES"] = file.name
    from fault.run import prepare
    all_sites = Sites(file)
    judge.SHIM.lib = judge.SHIM.memory = None
    prepare("tidewire")

    def arm(case, target):
        all_sites.arm(case.nth)
        return all_sites.lib.tw_site_disarm
    judge.arm = arm

    names = [*programs.PROGRAMS, "making", "import"]
    if options.programs:
        names = options.programs.split(",")
    tried, failed = set(), 0
    for name in names:
        run_case(plan.Case(name, "nomem"))
        todo = sorted(all_sites.seen() - tried)
        tried |= set(todo)
        cases = [plan.Case(name, "nomem", nth=site) for site in todo]
        print(f"{name}: {len(cases)} places", flush=True)
        with multiprocessing.get_context("fork").Pool(options.jobs, own_noise) as pool:
            for case, result in pool.imap_unordered(run_case, cases):
                for line in result["bad"]:
                    failed += line.startswith(("crash", "hang"))
                    print(f"{name} {where(case.nth)}: {line[:500]} {result.get('text', '')[-600:]}",
                          flush=True)
    with open(TRIED, "w") as file:      # for places.py
        file.writelines(f"{place:x}\n" for place in {site & TWO for site in tried})
    print(f"{len(tried)} places failed once; {failed} crashes and hangs")
    return int(bool(failed))


def own_noise():
    import tempfile
    global worker_noise
    worker_noise = tempfile.TemporaryFile(mode="w+")


def where(site):
    import subprocess

    from tidewire import _core
    addresses = [hex((site >> 21 * i & 0x1fffff) - 1) for i in range(3) if site >> 21 * i]
    lines = subprocess.run(["addr2line", "-e", _core.__file__, *addresses], capture_output=True,
                           text=True).stdout.split("\n")
    return " < ".join(line.split("/csrc/")[-1] for line in lines if line)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wrappers", metavar="FILE")
    parser.add_argument("--programs", default="")
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1))
    options = parser.parse_args()
    if options.wrappers:
        return write_wrappers(options.wrappers)
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
