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
        return {number for number in range(found.bit_length()) if found >> number & 1}

    def tests_of(self, file, line, seconds):
        """Names of tests for that many seconds: those of the file first, then those of its room; of
        equal ones the quickest first.  Last come its room's tests that are newer than the record."""
        found = set()
        for near in (line, line + 1, line + 2, line - 1, line - 2):
            found = self.tests_at(file, near)
            if found:
                break
        stem = "test_" + pathlib.PurePath(file).stem
        room = pathlib.PurePath(file).parts[1].replace("base", "core")  # base has no tests of its own

        def rank(number):
            name, took, _ = self.tests[number]
            own = pathlib.PurePath(name.split("::")[0])
            return (own.stem != stem, own.parts[1] != room, took)

        names, total = [], 0.0
        for number in sorted(found, key=rank):
            took = self.tests[number][1] + 0.02
            if total + took <= seconds:
                names.append(self.tests[number][0])
                total += took
        names += [name for name in self.newer
                  if pathlib.PurePath(name).parts[1] in (room, "hostile", "parity")]
        return names, total
