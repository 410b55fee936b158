#!/usr/bin/env python3
"""Writes docs/python.inv: where Python's documentation has the names that our pages use.

    tools/python_inventory.py OBJECTS.INV     Python's own: Debian's python3-doc has it

Sphinx reads the file (docs/conf.py), so that ``make docs`` needs no network.
"""
import pathlib
import re
import sys
import zlib

ROOT = pathlib.Path(__file__).parent.parent
NAME = re.compile(r"`((?:asyncio|ssl|socket|signal|subprocess|os|time|sys)\.[\w.]+)(?:\(\))?`")
HEAD = "# Sphinx inventory version 2\n# Project: Python\n# Version: 3\n"


def main(path):
    raw = pathlib.Path(path).read_bytes()
    entries = zlib.decompress(raw.split(b"\n", 4)[4]).decode().splitlines()
    pages = [page for page in (ROOT / "docs").rglob("*.rst")]
    used = {name for page in pages for name in NAME.findall(page.read_text())}
    kept = [line for line in entries
            if line.split(" ", 2)[1].startswith("py:") and line.split(" ", 1)[0] in used]
    with open(ROOT / "docs" / "python.inv", "wb") as out:
        out.write((HEAD + "# The remainder of this file is compressed using zlib.\n").encode())
        out.write(zlib.compress(("\n".join(kept) + "\n").encode(), 9))
    found = {line.split(" ", 1)[0] for line in kept}
    print(f"{len(kept)} names;", "without a page:", *sorted(used - found))


if __name__ == "__main__":
    main(*sys.argv[1:])
