"""Puts glibc's malloc into one of two defined states before a case begins.

A block above a threshold is mapped afresh by the kernel, and paid in page
faults, unless the heap has a hole for it. The threshold is 128 KiB and rises
when a larger mapped block is freed, as importing does: the more names a
program interns, the larger the tables that are freed. So it is an accident of
imports on which side of 256 KiB it comes to lie, and that is worth a factor of
three to a loop that reads into new buffers of 256 KiB.

fresh: below 256 KiB, no hole in the heap; it may rise by what the loop does.
What a small program sees: asyncio and few other modules.
settled: at 4 MiB. What a large program sees, or one that has freed much before.
natural: as it comes.
"""
import ctypes

READ = 256 * 1024           # what asyncio asks of recv()
M_MMAP_THRESHOLD = -3
MMAPPED = 2                 # the flag in a chunk's size field
BALLAST = 256               # blocks that fill the holes; never touched, so not resident


def _is_mapped(block):
    field = ctypes.c_size_t.from_address(block - ctypes.sizeof(ctypes.c_size_t))
    return bool(field.value & MMAPPED)


def prepare(state):
    """True if the state is reached as a program reaches it."""
    if state == "settled":
        bytes(4 << 20)
    if state != "fresh":
        return True
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    for _ in range(BALLAST):
        libc.malloc(READ // 2 - 1024)
    # this one is never freed: that would raise the threshold
    if _is_mapped(libc.malloc(READ + 64)):
        return True
    libc.mallopt(M_MMAP_THRESHOLD, READ // 2)
    return False
