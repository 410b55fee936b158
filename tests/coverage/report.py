"""Coverage of csrc/ by the tests: lines, branches, and, by gcc 14, conditions.

    python tests/coverage/report.py [--missing] [FILE-PREFIX...]

It reads what a build with TIDEWIRE_COVERAGE=1 counted in build/coverage; GCOV= names the gcov of that
compiler.  Branches within Python's own macros are not counted.  --missing lists what did not run.
reasons.txt, beside this file, has the reasons for what no test reaches: a file, the text of a line,
and why.
"""
import argparse
import collections
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "coverage"


# Their conditions are in the headers of Python and of libc: "if (x != NULL)", "if (visit() != 0)", "is
# the chain too long?", "is there room for a header?".  What these headers have as functions (Py_DECREF,
# PyObject_TypeCheck, PyDict_GET_SIZE...) is not inlined in this build, and so belongs to them.
MACROS = re.compile(r"^\s*Py_(VISIT|CLEAR|SETREF|XSETREF|TRASHCAN_BEGIN|TRASHCAN_END)\b"
                    r"|^[^(]*= CMSG_FIRSTHDR\(")


def without_macros(file, lines):
    """No branches in a line that is one of these macros."""
    text = (ROOT / file).read_text().splitlines()
    for number, line in lines.items():
        if number <= len(text) and MACROS.match(text[number - 1]):
            line[1].clear()
            line[2].clear()


def read():
    """{file: {line: [count, {branch: count}, {condition: how many of its values}]}}."""
    gcov = shlex.split(os.environ.get("GCOV") or "gcov")
    objects = sorted(str(path) for path in (BUILD / "temp").resolve().rglob("*.gcno"))
    conditions = "--conditions" in subprocess.run(
        [*gcov, "--help"], capture_output=True, text=True).stdout
    out = subprocess.run(
        [*gcov, "--json-format", "--stdout", "--branch-probabilities",
         *["--conditions"] * conditions, *objects], capture_output=True, text=True, check=True).stdout
    files = collections.defaultdict(dict)
    for document in out.splitlines():
        for file in json.loads(document)["files"] if document.strip() else []:
            if file["file"].startswith("csrc/"):
                for line in file["lines"]:
                    merge(files[file["file"]], line)
    for name, lines in files.items():
        without_macros(name, lines)
    return files


def merge(lines, line):
    """A line of a header is counted in each file that includes it."""
    known = lines.setdefault(line["line_number"], [0, {}, {}])
    known[0] += line["count"]
    for number, branch in enumerate(line["branches"]):
        known[1][number] = known[1].get(number, 0) + branch["count"]
    for number, condition in enumerate(line.get("conditions", [])):
        covered, of = known[2].get(number, (0, condition["count"]))
        known[2][number] = (max(covered, condition["covered"]), condition["count"])


def figures(lines):
    """(ran, of) for lines, branches and conditions."""
    counts = [line[0] for line in lines.values()]
    branches = [n for line in lines.values() for n in line[1].values()]
    conditions = [c for line in lines.values() for c in line[2].values()]
    return [(sum(n > 0 for n in counts), len(counts)),
            (sum(n > 0 for n in branches), len(branches)),
            (sum(c[0] for c in conditions), sum(c[1] for c in conditions))]


# The condition in front of a line that did not run.
ERROR = re.compile(
    r"< 0\b|== NULL|!= NULL|== -1|PyErr_|err\b|status\b|!tw_|!\w+_\w+\(|ok\b|FAILED|errno")


def kind_of(name, text, number, lines):
    """What a line that did not run, or not to both sides, is for."""
    if name.endswith(("poller_uv.c", "uv_loop.c")):
        return "libuv"
    if name.endswith("nest.c"):
        return "a loop inside its own run"
    if lines[number][0]:    # it ran, but not to both sides
        return "the way out after an error" if ERROR.search(text[number - 1]) else "other"
    before = max((n for n in lines if n < number and lines[n][0]), default=number)
    # The nearest line that ran, with the lines of its condition.
    condition = " ".join(text[max(0, before - 3):number - 1])
    return "the way out after an error" if ERROR.search(condition) else "other"


def share(ran, of):
    return f"{ran:6} of {of:6} {100 * ran / of if of else 100:5.1f} %"


def reasons():
    """{(file, text of a line): why}."""
    found, why = {}, ""
    path = HERE / "reasons.txt"
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.startswith("== "):
            why = line[3:]
        elif line and not line.startswith("#"):
            file, text = line.split(": ", 1)
            found[file, text] = why
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--missing", action="store_true", help="the lines that did not run")
    parser.add_argument("--branches", action="store_true", help="and those with a branch less")
    parser.add_argument("--least", nargs=2, type=float, metavar=("LINES", "BRANCHES"),
                        help="fail below these percentages")
    parser.add_argument("files", nargs="*")
    args = parser.parse_args()
    files = {name: lines for name, lines in sorted(read().items())
             if not args.files or name.startswith(tuple(args.files))}
    known, kinds, sides = reasons(), collections.Counter(), collections.Counter()
    rooms = collections.defaultdict(dict)
    for name, lines in files.items():
        text = (ROOT / name).read_text().splitlines()
        for number, line in sorted(lines.items()):
            rooms[name.split("/")[1]][name, number] = line
            rooms["all"][name, number] = line
            said = text[number - 1].strip() if number <= len(text) else ""
            why = known.get((name, said))
            missed = sum(n == 0 for n in line[1].values())
            if line[0] == 0 or missed:
                kind = why or kind_of(name, text, number, lines)
                kinds[kind] += line[0] == 0
                sides[kind] += missed
            if args.missing and (line[0] == 0 or (args.branches and 0 in line[1].values())):
                print(f"{name}:{number}: {said}" + (f"    [{why}]" if why else ""))
    for name, lines in files.items():
        if args.missing:
            print(f"{name:28}", "   ".join(share(*pair) for pair in figures(lines)))
    print(f"{'':10} {'lines':25}  {'branches':25}  conditions")
    rooms["all"] = rooms.pop("all")
    for room, lines in rooms.items():
        print(f"{room:8}", "   ".join(share(*pair) for pair in figures(lines)))
    for what, counts in ("lines did not run", kinds), ("branches were not taken", sides):
        print(f"{sum(counts.values())} {what}:")
        for kind, count in counts.most_common():
            if count:
                print(f"{count:6} {kind}")
    total = figures(rooms["all"])
    low = args.least and any(100 * ran / of < least for (ran, of), least in zip(total, args.least))
    return int(bool(low))


if __name__ == "__main__":
    sys.exit(main())
