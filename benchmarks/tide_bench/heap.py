"""Puts glibc's malloc into one of two defined states before a case begins.

A block of 128 KiB or more is mapped by the kernel, and paid in page faults,
until the program first frees such a block (then the threshold rises) or has a
large enough hole in its heap. Which of both holds is an accident of imports,
and worth a factor of three to a loop that reads into fresh 256 KiB buffers.

fresh: no hole of that size, the threshold where a new process has it; it may
rise by what the loop itself does. What a small program sees.
settled: the threshold at 4 MiB. What a program sees that has freed much before.
"""
import ctypes

THRESHOLD = 128 * 1024
M_MMAP_THRESHOLD = -3
MMAPPED = 2         # the flag in a chunk's size field
BALLAST = 256       # blocks just under the threshold; never touched, so not resident


def _is_mapped(block):
    field = ctypes.c_size_t.from_address(block - ctypes.sizeof(ctypes.c_size_t))
    return bool(field.value & MMAPPED)


def prepare(state):
    if state == "settled":
        bytes(4 << 20)
        return
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    for _ in range(BALLAST):
        libc.malloc(THRESHOLD - 1024)
    # freeing this one would raise the threshold, so it stays
    if not _is_mapped(libc.malloc(THRESHOLD + 1024)):
        libc.mallopt(M_MMAP_THRESHOLD, THRESHOLD)
