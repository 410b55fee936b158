"""Which tests run a line, by the record of tests/coverage/trace.py."""
import bisect
import json
import pathlib
import re
import subprocess


class Chooser:
    """The record has the addresses of the basic blocks that each test ran; the extension that was
    traced has the lines of the addresses, and the beginnings of all blocks."""

    def __init__(self, root, record="trace.jsonl"):
        self.root = root
        build = root / "build" / "coverage"
        self.tests = [json.loads(line) for line in open(build / record)]
        known = {test[0].split("[")[0] for test in self.tests}
        self.newer = self.find_newer(root, known)
        # A name with an address in it is another one in the next run.
        self.tests = [test for test in self.tests if test[2] and "0x" not in test[0]]
        extension = next((build / "lib" / "tidewire").glob("_core*.so"))
        self.points = self.read_points(extension)
        self.lines = self.read_lines(extension)
        self.by_point = {}      # a bit for each test
        self.paths = {}
        for number, test in enumerate(self.tests):
            for point in test.pop():
                self.by_point[point] = self.by_point.get(point, 0) | 1 << number

    @staticmethod
    def find_newer(root, known):
        """Tests that the record does not know: what they run is unknown."""
        found = []
        for path in sorted(root.glob("tests/*/test_*.py")):
            file = str(path.relative_to(root))
            for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE):
                if f"{file}::{name}" not in known:
                    found.append(f"{file}::{name}")
        return found

    @staticmethod
    def read_points(extension):
        """The address behind each call of the tracer, in order."""
        points, called = [], False
        listing = subprocess.Popen(["objdump", "-d", "--no-show-raw-insn", str(extension)],
                                   stdout=subprocess.PIPE, text=True)
        for line in listing.stdout:
            match = re.match(r"\s+([0-9a-f]+):\s", line)
            if match and called:
                points.append(int(match[1], 16))
            called = "__sanitizer_cov_trace_pc" in line and "call" in line
        return sorted(points)

    @staticmethod
    def read_lines(extension):
        """(file, line): the ranges of its addresses."""
        found = {}
        listing = subprocess.Popen(["objdump", "--dwarf=decodedline", "-WN", str(extension)],
                                   stdout=subprocess.PIPE, text=True, errors="replace")
        rows = []
        for line in listing.stdout:
            match = re.match(r"(\S+\.[ch])\s+(\d+|-)\s+0x([0-9a-f]+)", line)
            if match:
                rows.append((int(match[3], 16), match[1],
                             0 if match[2] == "-" else int(match[2])))
        rows.sort()
        for (start, file, number), (end, _, _) in zip(rows, rows[1:]):
            found.setdefault((file, number), []).append((start, end))
        return found

    def tests_at(self, file, line):
        name = pathlib.PurePath(file).name
        found = 0
        for start, end in self.lines.get((name, line), []):
            at = bisect.bisect_right(self.points, start)
            found |= self.by_point.get(self.points[at - 1], 0) if at else 0
            while at < len(self.points) and self.points[at] <= end:
                found |= self.by_point.get(self.points[at], 0)
                at += 1
        return set(bits(found))

    def paths_of(self, file, first, last):
        """{test: which blocks of these lines it runs, as bits}."""
        name = pathlib.PurePath(file).name
        if (name, first, last) not in self.paths:
            points = set()
            for line in range(first, last + 1):
                for start, end in self.lines.get((name, line), []):
                    at = bisect.bisect_left(self.points, start)
                    while at < len(self.points) and self.points[at] <= end:
                        points.add(self.points[at])
                        at += 1
            found = self.paths[name, first, last] = {}
            for bit, point in enumerate(sorted(points)):
                for number in bits(self.by_point.get(point, 0)):
                    found[number] = found.get(number, 0) | 1 << bit
        return self.paths[name, first, last]

    def function_of(self, file, line):
        """Its first line and its last."""
        text = (self.root / file).read_text().splitlines()
        first = max((n for n in range(1, line + 1) if text[n - 1] == "{"), default=1)
        last = next((n for n in range(line, len(text) + 1) if text[n - 1] == "}"), len(text))
        return first, last

    def tests_of(self, file, line, seconds, releases=False):
        """Names of tests for that many seconds.

        Tests that take the same way through the function see much the same: so the first of each
        way come first, then the second of each, and so on.  Of one way, those come first that differ
        in what else of the file they run; then the tests of the file, those of its room, and
        the quickest.  What `releases` something is seen by tests/leaks before all others.  Last come
        its room's tests that are newer than the record."""
        found = set()
        for near in (line, line + 1, line + 2, line - 1, line - 2):
            found = self.tests_at(file, near)
            if found:
                break
        stem = "test_" + pathlib.PurePath(file).stem
        room = pathlib.PurePath(file).parts[1].replace("base", "core")  # base has no tests of its own
        rank = {}
        for number in found:
            own = pathlib.PurePath(self.tests[number][0].split("::")[0])
            rank[number] = (own.stem != stem, own.parts[1] != room, self.tests[number][1])
        for lines in ((1, 10000), self.function_of(file, line)):
            paths, met = self.paths_of(file, *lines), {}
            for number in sorted(found, key=rank.get):
                path = paths.get(number, 0)
                met[path] = met.get(path, 0) + 1
                rank[number] = (met[path], *rank[number])
        if releases:
            rank = {number: (not self.tests[number][0].startswith("tests/leaks/"), *key)
                    for number, key in rank.items()}
        names, total = [], 0.0
        for number in sorted(found, key=rank.get):
            took = self.tests[number][1] + 0.02
            if total + took <= seconds:
                names.append(self.tests[number][0])
                total += took
        names += [name for name in self.newer
                  if pathlib.PurePath(name).parts[1] in (room, "hostile", "parity")]
        return names, total


def bits(mask):
    """The numbers of the bits that are set."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
