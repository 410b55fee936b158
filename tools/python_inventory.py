#!/usr/bin/env python3
"""Writes docs/python.inv: where Python's documentation has the names that our pages use.

    tools/python_inventory.py OBJECTS.INV     Python's own: Debian's python3-doc has it

Sphinx reads the file (docs/conf.py), so that ``make docs`` needs no network.

A page may write `call_soon()` for `asyncio.loop.call_soon()`: a short name is taken for the one
name of Python's builtins or of asyncio that ends in it. If there are several, it is no link.
"""
import pathlib
import re
import sys
import zlib

ROOT = pathlib.Path(__file__).parent.parent
NAME = re.compile(r"(?<![`:])`([A-Za-z_][\w.]*)(?:\(\))?`(?![`_])")
HEAD = "# Sphinx inventory version 2\n# Project: Python\n# Version: 3\n"


def read(path):
    """The names of an inventory, and the line of each."""
    raw = pathlib.Path(path).read_bytes()
    lines = zlib.decompress(raw.split(b"\n", 4)[4]).decode().splitlines()
    return {line.split(" ", 1)[0]: line for line in lines if line.split(" ", 2)[1].startswith("py:")}


def shortened(names):
    """The whole name for each name that a page may write."""
    found = {}
    for name in names:
        if name.startswith("asyncio."):
            found.setdefault(name.rpartition(".")[2], set()).add(name)
    # A builtin is what everybody means by its name.
    return {**{short: whole.pop() for short, whole in found.items() if len(whole) == 1},
            **{name: name for name in names}}


def main(path):
    entries = read(path)
    whole = shortened(entries)
    pages = (ROOT / "docs").rglob("*.rst")
    used = {name for page in pages for name in NAME.findall(page.read_text())}
    # All of asyncio's names are kept, so that the same short names are ambiguous.
    kept = {line for name, line in entries.items() if name.startswith("asyncio.")}
    kept |= {entries[whole[name]] for name in used if name in whole}
    with open(ROOT / "docs" / "python.inv", "wb") as out:
        out.write((HEAD + "# The remainder of this file is compressed using zlib.\n").encode())
        out.write(zlib.compress(("\n".join(sorted(kept)) + "\n").encode(), 9))
    print(f"{len(kept)} names; without a page:", *sorted(used - set(whole)))


if __name__ == "__main__":
    main(*sys.argv[1:])
