"""The state of glibc's malloc in which a case runs.

malloc serves a large block from the heap or maps it from the kernel. A mapped
block costs a page fault for every 4 KiB. The threshold between the two starts
at 128 KiB. It rises for good when a larger mapped block is freed. This decides
what a loop pays that reads into new buffers of 256 KiB, as asyncio does.

settled: a larger block was freed before, as in a service that has imported a
database driver, or has handled one large message.
fresh: nothing is done. A new, small program as it is.
"""
LARGE = 4 << 20


def prepare(state):
    if state == "settled":
        bytes(LARGE)        # made and freed: the threshold rises to its size
