"""Write docs/api-table.rst: each method and argument, here, in asyncio and in uvloop.

    python tools/api_table.py --record    note what this Python's asyncio, tidewire and uvloop have
    python tools/api_table.py             write the page from the notes
    python tools/api_table.py --check     fail if the page or this Python's notes are not up to date

The notes, docs/api-table.json, name the exact versions; what is not installed is not noted, so
that building the documentation needs neither several Pythons nor uvloop.
"""

import importlib
import inspect
import json
import platform
import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
NOTES, PAGE = DOCS / "api-table.json", DOCS / "api-table.rst"

#: Heading: the class in asyncio, in tidewire, in uvloop.
CLASSES = {
    "The loop": (
        "asyncio.SelectorEventLoop", "tidewire.Loop", "uvloop.Loop"),
    "Handle": (
        "asyncio.Handle", "tidewire._core.Handle", "uvloop.loop.Handle"),
    "TimerHandle": (
        "asyncio.TimerHandle", "tidewire._core.TimerHandle", "uvloop.loop.TimerHandle"),
    "Server": (
        # tidewire's servers are asyncio's own.
        "asyncio.Server", "asyncio.Server", "uvloop.loop.Server"),
    "Transport of a TCP or Unix connection": (
        "asyncio.selector_events._SelectorSocketTransport", "tidewire._core.SocketTransport",
        "uvloop.loop.TCPTransport"),
    "Transport of a TLS connection": (
        "asyncio.sslproto._SSLProtocolTransport", "tidewire._core.SSLTransport",
        "uvloop.loop._SSLProtocolTransport"),
    "Transport of datagrams": (
        "asyncio.selector_events._SelectorDatagramTransport", "tidewire._core.DatagramTransport",
        "uvloop.loop.UDPTransport"),
    "Transport of the reading end of a pipe": (
        "asyncio.unix_events._UnixReadPipeTransport", "tidewire._core.ReadPipeTransport",
        "uvloop.loop.ReadUnixTransport"),
    "Transport of the writing end of a pipe": (
        "asyncio.unix_events._UnixWritePipeTransport", "tidewire._core.WritePipeTransport",
        "uvloop.loop.WriteUnixTransport"),
    "Transport of a subprocess": (
        "asyncio.unix_events._UnixSubprocessTransport", "tidewire._process.SubprocessTransport",
        "uvloop.loop.UVProcessTransport"),
}
NAMES = ("asyncio", "tidewire", "uvloop")

#: Methods that exist in order to say no: called with None, they raise NotImplementedError.
MAY_SAY_NO = {"sendfile": 2, "sock_sendfile": 2}

HEAD = """\
.. Written by tools/api_table.py; do not edit.

=============
The whole API
=============

Each public method of the loop, of its handles, servers and transports, with the arguments: here, in
asyncio, in uvloop. *Yes* means the method with all of asyncio's arguments; what is missing, or has
another name, is named. An argument with ``=`` may be left out.

This compares names; how the methods behave is compared by the tests, and :doc:`differences` tells
where they differ from asyncio's. {noted}
"""


# -- looking -----------------------------------------------------------------

def find(path):
    """The object of a dotted path."""
    parts = path.split(".")
    for i in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:i]))
        except ModuleNotFoundError:
            continue
        for name in parts[i:]:
            found = getattr(found, name)
        return found
    raise ModuleNotFoundError(path)


def arguments(method):
    """The names after self: "*args" and "**kwargs" so, an optional one with "="."""
    mark = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return [mark.get(p.kind, "") + p.name + ("" if p.default is p.empty else "=")
            for p in list(inspect.signature(method).parameters.values())[1:]]


def says_no(kind, name):
    """Whether the method is there only to raise NotImplementedError."""
    async def call(loop):
        await getattr(loop, name)(*[None] * MAY_SAY_NO[name])

    loop = kind()
    try:
        loop.run_until_complete(call(loop))
    except NotImplementedError as exc:
        # sendfile() of a transport that cannot says so in another class.
        return type(exc) is NotImplementedError
    except Exception:
        return False
    finally:
        loop.close()


def methods(kind):
    """name -> arguments of each public method of a class."""
    return {name: arguments(getattr(kind, name)) for name in sorted(dir(kind))
            if not name.startswith("_") and inspect.isroutine(inspect.getattr_static(kind, name))
            and not (name in MAY_SAY_NO and says_no(kind, name))}


def look():
    """What can be seen from here: {"asyncio 3.11": {"version", "classes"}, ...}."""
    python = ".".join(map(str, sys.version_info[:2]))
    notes = {}
    for i, name in enumerate(NAMES):
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        seen = {heading: methods(find(paths[i])) for heading, paths in CLASSES.items()}
        if name == "uvloop":
            notes[name] = {"version": module.__version__, "classes": seen}
        else:
            notes[f"{name} {python}"] = {"version": platform.python_version(), "classes": seen}
    return notes


# -- comparing ---------------------------------------------------------------

def plain(argument):
    return argument.strip("*=")


def compare(theirs, asyncio_s):
    """What is missing of asyncio's arguments, in words; "" if nothing is."""
    if theirs is None:
        return "no"
    if any(a.startswith("**") for a in theirs):
        return ""
    have, other = {plain(a) for a in theirs}, []
    for i, argument in enumerate(asyncio_s):
        name = plain(argument)
        if argument.startswith("**") or name in have:
            continue
        here = plain(theirs[i]) if i < len(theirs) else ""
        if here and here not in {plain(a) for a in asyncio_s} and "=" not in argument:
            other.append(f"``{name}`` is called ``{here}``")
        else:
            other.append(f"without ``{name}``")
    return ", ".join(other)


def versions(notes, name):
    """The Pythons that were noted, in order: [(version, classes)]."""
    found = [(key.split()[1], note["classes"]) for key, note in notes.items()
             if key.startswith(name + " ")]
    return sorted(found, key=lambda pair: [int(n) for n in pair[0].split(".")])


def span(having, pythons):
    """"" for all, else "from 3.12" or "until 3.13"."""
    if len(having) == len(pythons):
        return ""
    return f"from {having[0]}" if having[-1] == pythons[-1] else f"until {having[-1]}"


def asyncio_column(name, seen):
    """Since when asyncio has the method and its arguments."""
    pythons = [python for python, _ in seen]
    having = [python for python, known in seen if name in known]
    if not having:
        return "no"
    since = span(having, pythons)
    notes = [since] if since else []
    for argument in dict.fromkeys(a for _, known in seen for a in known.get(name, [])
                                  if not a.startswith("**")):
        with_it = [python for python, known in seen if any(
            a == argument or a.startswith("**") for a in known.get(name, []))]
        if len(with_it) < len(having):
            notes.append(f"``{plain(argument)}`` {span(with_it, having)}")
    return ", ".join(notes) or "yes"


def our_column(name, ours, seen):
    """tidewire against the asyncio of each Python."""
    found = {}
    for (python, known), (_, here) in zip(seen, ours, strict=True):
        missing = compare(here.get(name), known[name]) if name in known else ""
        if missing:
            found.setdefault(missing, []).append(python)
    if not any(name in known for _, known in seen):
        return "yes"
    return ", ".join(f"{missing} ({', '.join(where)})" for missing, where in found.items()) or "yes"


def row(name, ours, seen, uvloop):
    newest = next((known[name] for _, known in reversed(seen) if name in known), None)
    mine = next((here[name] for _, here in reversed(ours) if name in here), None)
    shown = newest or mine or uvloop.get(name) or []
    theirs = uvloop.get(name)
    if newest is None:
        newest = mine or theirs
    return [f"``{name}({', '.join(shown)})``",
            "no" if mine is None else our_column(name, ours, seen),
            asyncio_column(name, seen),
            compare(theirs, newest) or "yes"]


# -- writing -----------------------------------------------------------------

def page(notes):
    pythons = [note["version"] for key, note in notes.items() if key.startswith("asyncio ")]
    noted = (f"Seen in asyncio and tidewire on CPython {', '.join(sorted(pythons))}, "
             f"and in uvloop {notes['uvloop']['version']}.")
    lines = [HEAD.format(noted=noted)]
    for heading in CLASSES:
        seen = [(python, known[heading]) for python, known in versions(notes, "asyncio")]
        ours = [(python, known[heading]) for python, known in versions(notes, "tidewire")]
        uvloop = notes["uvloop"]["classes"][heading]
        names = sorted({n for _, known in seen + ours for n in known} | set(uvloop))
        lines += [heading, "=" * len(heading), "", ".. list-table::", "    :header-rows: 1",
                  "    :widths: 40 15 25 20", "    :class: signatures", ""]
        for cells in [["method", "tidewire", "asyncio", "uvloop"],
                      *(row(name, ours, seen, uvloop) for name in names)]:
            lines += [f"    {'* ' if not i else '  '}- {cell}" for i, cell in enumerate(cells)]
        lines.append("")
    return "\n".join(lines)


def stale(notes):
    """What is not up to date, in words.  Other versions than the noted ones are not judged."""
    if PAGE.read_text() != page(notes):
        yield f"{PAGE.name} is not what the notes say: run tools/api_table.py"
    for key, note in look().items():
        known = notes.get(key)
        if known and known["version"] == note["version"] and known != note:
            yield f"{key} is not as noted: run tools/api_table.py --record, then without it"


def main():
    notes = json.loads(NOTES.read_text()) if NOTES.exists() else {}
    if "--check" in sys.argv:
        sys.exit("\n".join(stale(notes)) or 0)
    if "--record" in sys.argv:
        notes.update(look())
        text = json.dumps(dict(sorted(notes.items())), indent=1)
        # A method to a line.
        NOTES.write_text(re.sub(r"\[[^][]*\]", lambda m: " ".join(m[0].split()), text) + "\n")
    else:
        PAGE.write_text(page(notes))


if __name__ == "__main__":
    main()
