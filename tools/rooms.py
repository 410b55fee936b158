"""Write docs/internals/rooms.rst: each file of csrc/ with the first sentence of its essay.

    python tools/rooms.py            write the page
    python tools/rooms.py --check    fail if it is not up to date
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "internals" / "rooms.rst"
ROOMS = {
    "": "The top: the module and the loop's type",
    "base": "Room 0, base: things that would exist without asyncio",
    "core": "Room 1, core: time and callbacks",
    "net": "Room 2, net: bytes to and from a descriptor",
    "tls": "Room 3, tls: bytes through a cipher",
    "ops": "Room 4, ops: what a coroutine can await",
}
HEAD = """\
.. Written by tools/rooms.py from the comments at the top of the files; do not edit.

=========
The files
=========

A file of ``csrc/`` includes headers of its own room or of a room with a lower number.
"""


def sentence(path: Path) -> str:
    """The first sentence of the comment that opens the file, or nothing."""
    match = re.match(r"\s*/\*(.*?)\*/", path.read_text(), re.DOTALL)
    text = " ".join(match[1].split()) if match else ""
    return re.split(r"(?<=\.)(?: |$)", text, maxsplit=1)[0]


def files(room: str) -> dict[str, tuple[list[str], str]]:
    """stem -> (the files' names, what they are); the header's word counts first."""
    result: dict[str, tuple[list[str], str]] = {}
    found = [p for p in (ROOT / "csrc" / room).glob("*.[ch]")]
    for path in sorted(found, key=lambda p: (p.stem, p.suffix != ".h")):
        names, what = result.get(path.stem, ([], ""))
        result[path.stem] = ([*names, path.name], what or sentence(path))
    return result


def page() -> str:
    lines = [HEAD]
    for room, title in ROOMS.items():
        rows = files(room)
        if not rows:
            continue
        lines += [title, "=" * len(title), "", ".. list-table::", "   :widths: 25 75", ""]
        for names, what in rows.values():
            shown = ", ".join(f"``{name}``" for name in reversed(names))
            lines += [f"   * - {shown}", f"     - {what.replace('*', chr(92) + '*')}"]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    text = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text)
    elif not PAGE.exists() or PAGE.read_text() != text:
        sys.exit("docs/internals/rooms.rst is out of date: run python tools/rooms.py")
