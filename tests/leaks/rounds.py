"""Do one thing again and again, and see what stays behind.

    python rounds.py FEATURE [--loop NAME] [--rounds N] [--list]

Prints JSON: for each of several blocks of N rounds, how many references,
objects, allocated blocks, bytes of malloc and open descriptors there are more
than before the block.
"""
import argparse
import ctypes
import gc
import json
import os
import pathlib
import sys
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import loop_features  # noqa: E402, F401
import other_features  # noqa: E402, F401
import stream_features  # noqa: E402, F401
import support  # noqa: E402
from features import FEATURES, LOOP, ignore  # noqa: E402

BLOCKS = 5


class Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks",
        "fsmblks", "uordblks", "fordblks", "keepcost")]


def malloc_bytes():
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return 0
    mallinfo2.restype = Mallinfo2
    info = mallinfo2()
    return info.uordblks + info.hblkhd


def references():
    """Of all objects, by a debug build of Python; else of those that the collector knows, and of
    those that functions often return."""
    if hasattr(sys, "gettotalrefcount"):
        return sys.gettotalrefcount()
    known = [None, True, False, 0, 1, (), b"", *gc.get_objects()]
    return sum(map(sys.getrefcount, known))


def count():
    for _ in range(3):
        gc.collect()
    if hasattr(sys, "_clear_internal_caches"):
        sys._clear_internal_caches()
    return {
        "references": references(),
        "objects": len(gc.get_objects()),
        "blocks": sys.getallocatedblocks(),
        "malloc": malloc_bytes(),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


async def let_all_end():
    """Give what was closed the turns it needs to be gone."""
    await support.io_turns(2)
    await support.turns(3)


def measure(name, loop_name, rounds=None):
    function, usual, is_outside = FEATURES[name]
    rounds = rounds or usual
    LOOP["make"] = support.factory(loop_name)
    warnings.simplefilter("ignore")
    if is_outside:
        def block():
            for _ in range(rounds):
                function()
    else:
        loop = LOOP["make"]()
        loop.set_exception_handler(ignore)

        async def body():
            for _ in range(rounds):
                await function()
            await let_all_end()

        def block():
            loop.run_until_complete(body())

    # What the interpreter and the libraries keep for good is made now.
    block()
    block()
    before = count()
    deltas = {key: [] for key in before}
    for _ in range(BLOCKS):
        block()
        now = count()
        for key in now:
            deltas[key].append(now[key] - before[key])
        before = now
    return {"feature": name, "rounds": rounds, "deltas": deltas}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("feature", nargs="?", choices=sorted(FEATURES))
    parser.add_argument("--loop", default="tidewire")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list or not options.feature:
        print("\n".join(FEATURES))
        return
    try:
        result = measure(options.feature, options.loop, options.rounds)
    except NotImplementedError as exc:
        result = {"feature": options.feature, "missing": str(exc)}
    print(json.dumps(result), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
