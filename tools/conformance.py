"""asyncio's own tests and the examples of its documentation, on every CPython found.

Each Python gets a build of its own; two are measured at a time; one table at the end.

The tests are run by a pair of scripts beside this repository (``../shared/oracle``, or
ORACLE=folder).  What does not pass is run once more, in the same surroundings, on the stock loop
of the same Python: a test that ends there in the same way (the same kind of result with the same
exception) says nothing about tidewire.  It stands in the table as "as stock", by name, and is not
counted; everything else that does not pass fails the run.
"""

import argparse
import concurrent.futures
import fnmatch
import glob
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ORACLE = Path(os.environ.get("ORACLE", ROOT.parent / "shared" / "oracle")).resolve()
OURS, STOCK = "tidewire:new_event_loop", "asyncio:SelectorEventLoop"
QUICK = "buffered_proto,events,server,sock_lowlevel,streams,unix_events"
BAD = ("failed", "error", "crash", "hang")
BUDGET = 900    # seconds for one run of the tests: they take one minute, alone
WHOLE = ".<module>"     # the end of a failure's name, if a module did not get through

# Tests of the insides of asyncio's own classes, in place of which tidewire has others, and which
# the scripts do not leave out by themselves: pattern -> reason.
PRIVATE = {
    "test_ssl.*.test_remote_shutdown_receives_trailing_data_on_slow_socket":
        "calls transport._test__append_write_backlog(), a helper of asyncio's _SSLProtocolTransport",
    "test_sslproto.*.test_create_connection_ssl_failed_certificate_no_cycles":
        "patches asyncio.sslproto.SSLProtocol, and waits for calls of what it put there",
}

one_at_a_time = threading.Lock()


def pythons() -> dict[str, str]:
    """The interpreters found: version -> path; a PATH entry before pyenv's."""
    found: dict[str, str] = {}
    home = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    for minor in range(11, 16):
        name = f"python3.{minor}"
        candidates = [os.path.join(folder, name) for folder in os.get_exec_path()]
        candidates += sorted(glob.glob(f"{home}/versions/3.{minor}.*/bin/{name}"))
        for path in filter(os.path.exists, candidates):
            # A Python without its own test suite (Debian's) is of no use here.
            check = "import sys, test.test_asyncio; print('%d.%d' % sys.version_info[:2])"
            process = subprocess.run([path, "-c", check], capture_output=True, text=True)
            if process.returncode == 0 and process.stdout.strip() == f"3.{minor}":
                found[f"3.{minor}"] = path
                break
    return found


def kind(failure: dict) -> tuple[str, str]:
    """How a test ended: failed, error, hang or crash, and with which exception or signal."""
    text = failure.get("text", "")
    if failure["outcome"] == "hang":
        return "hang", ""
    if failure["outcome"] == "crash":
        return "crash", text.partition("\n")[0]
    names = re.findall(r"^([A-Za-z_][\w.]*)(?::|$)", text, re.MULTILINE)
    return failure["outcome"], next((name for name in reversed(names) if name != "sys"), "")


class Measurement:
    """One Python: its environment, what was printed, and its row of the table."""

    def __init__(self, version: str, path: str, options: argparse.Namespace) -> None:
        self.version, self.path, self.options = version, path, options
        self.python = ROOT / f".venv-{version}" / "bin" / "python"
        self.printed: list[str] = []
        self.passed = 0
        self.failures: list[dict] = []
        self.as_stock: list[dict] = []
        self.private: list[dict] = []
        self.groups: dict[str, str | None] = {}
        self.seconds = 0.0

    # -- running things ------------------------------------------------------

    def command(self, *command: object, **env: str) -> int:
        """Run it; what it prints is kept for later, so that two Pythons do not mix theirs."""
        process = subprocess.run(
            [str(word) for word in command], cwd=ROOT, env={**os.environ, **env},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace")
        self.printed.append(process.stdout)
        return process.returncode

    def script(self, name: str, target: str, *words: str) -> dict:
        """One of the scripts; its JSON, or {} when it gave none."""
        out = ROOT / "build" / f"conformance-{self.version}-{os.getpid()}.json"
        out.parent.mkdir(exist_ok=True)
        try:
            self.command(self.python, ORACLE / f"{name}.py", target, "--json", out, *words)
            return json.loads(out.read_text())
        except OSError:
            return {}
        finally:
            out.unlink(missing_ok=True)

    def tests(self, target: str, modules: str, match: str = "") -> dict[str, dict]:
        """asyncio's tests: the results of each module (of all of them, if none is named)."""
        words = ["-v", "--budget", str(BUDGET), "--scale", "3", "--jobs", str(self.options.jobs)]
        if modules:
            words += ["--only", modules]
        if match:
            words += ["--match", match]
        result = self.script("cpython_oracle", target, *words)
        return {module["module"]: module for module in result.get("modules", [])}

    # -- what is measured ----------------------------------------------------

    def measure(self) -> None:
        start = time.monotonic()
        # Builds share a source folder, and the examples have ports that are fixed.
        with one_at_a_time:
            status = self.command("tools/setup.sh", "demo", PYTHON=self.path,
                                  VENV=str(self.python.parent.parent))
        if status:
            self.failures = [{"id": "the build", "outcome": "error"}]
            return
        self.judge(self.tests(OURS, self.options.only))
        with one_at_a_time:
            self.groups = self.script("examples_oracle", OURS, "--doc",
                                      str(ORACLE.parent / "spec")).get("results", {})
        self.seconds = time.monotonic() - start

    def judge(self, ours: dict[str, dict], match: str = "") -> None:
        """Take over what these modules gave: passed, failures, and what they are on stock."""
        doubtful = [name for name, module in ours.items() if self.not_private(module["failures"])]
        stock = self.tests(STOCK, ",".join(doubtful), match) if doubtful else {}
        for name, module in ours.items():
            theirs = stock.get(name, {"failures": [], "counts": {}})
            known = {failure["id"]: kind(failure) for failure in theirs["failures"]}
            if module["counts"].get("passed", 0) < theirs["counts"].get("passed", 0):
                known.pop(name + WHOLE, None)   # it broke off, but not at the same place
            whole = [failure for failure in module["failures"]
                     if failure["id"].endswith(WHOLE) and known.get(failure["id"]) == kind(failure)]
            if whole and not match:
                self.by_class(name)     # it gets through nowhere: what there is of it
                continue
            self.passed += module["counts"].get("passed", 0)
            for failure in module["failures"]:
                if known.get(failure["id"]) == kind(failure):
                    self.as_stock.append({**failure, "id": failure["id"].replace(
                        WHOLE, f".{match.split('.')[1]}" if match else WHOLE)})
                elif self.not_private([failure]):
                    self.failures.append(failure)
                else:
                    self.private.append(failure)

    def by_class(self, name: str) -> None:
        """Each class of a module that does not get through as a whole, on the stock loop either."""
        code = ("import sys, unittest, importlib; m = importlib.import_module(sys.argv[1]); "
                "print(*[n for n, c in vars(m).items() if isinstance(c, type) "
                "and issubclass(c, unittest.TestCase) "
                "and unittest.defaultTestLoader.getTestCaseNames(c)])")
        process = subprocess.run([self.python, "-c", code, f"test.test_asyncio.{name}"],
                                 capture_output=True, text=True)
        if process.returncode:
            self.failures.append({"id": name + WHOLE, "outcome": "error"})
        for title in process.stdout.split():
            self.judge(self.tests(OURS, name, f"{name}.{title}."), f"{name}.{title}.")

    @staticmethod
    def not_private(failures: list[dict]) -> list[dict]:
        return [failure for failure in failures
                if not any(fnmatch.fnmatchcase(failure["id"], pattern) for pattern in PRIVATE)]

    # -- the table -----------------------------------------------------------

    @property
    def fine(self) -> bool:
        return bool(self.passed and not self.failures and self.groups
                    and not any(self.groups.values()))

    def row(self) -> list[str]:
        bad = [sum(failure["outcome"] == name for failure in self.failures) for name in BAD]
        counts = ", ".join(f"{n} {name}" for n, name in zip(bad, BAD, strict=True) if n)
        good_groups = sum(1 for failure in self.groups.values() if not failure)
        return [self.version, f"{self.passed}/{self.passed + len(self.failures)}", counts or "-",
                str(len(self.as_stock) or "-"), str(len(self.private) or "-"),
                f"{good_groups}/{len(self.groups)}", f"{self.seconds:.0f}"]

    def names(self) -> list[str]:
        lines = [f"{failure['outcome'].upper()}: {failure['id']}" for failure in self.failures]
        lines += [f"FAILED: the example {name!r}" for name, bad in self.groups.items() if bad]
        lines += [f"as stock: {failure['id']} ({' '.join(kind(failure)).strip()})"
                  for failure in self.as_stock]
        for failure in self.private:
            reason = next(reason for pattern, reason in PRIVATE.items()
                          if fnmatch.fnmatchcase(failure["id"], pattern))
            lines.append(f"private: {failure['id']}: {reason}")
        return [f"  {self.version}  {line}" for line in lines]


HEAD = ["Python", "asyncio's tests", "other than passed", "as stock", "private", "examples",
        "seconds"]


def print_table(measurements: list[Measurement]) -> None:
    rows = [HEAD, *(measurement.row() for measurement in measurements)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print("\n== conformance")
    for line in (line for measurement in measurements for line in measurement.names()):
        print(line)
    for row in rows:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def wanted(argument: str, found: dict[str, str]) -> list[str]:
    """The versions of --python; "default" is the one that python3 is."""
    if not argument:
        return sorted(found, key=lambda version: int(version[2:]))
    if "default" in argument.split(","):    # a Debian may have no python3, but python3.15
        default = subprocess.run(
            ["python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True, text=True).stdout.strip()
        argument = argument.replace("default", default)
    return list(dict.fromkeys(argument.split(",")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"one Python, only {QUICK}")
    parser.add_argument("--only", default="", help="modules of test.test_asyncio, comma-separated")
    parser.add_argument("--python", default="", help='versions, comma-separated: 3.11,3.13,default')
    options = parser.parse_args()
    if not (ORACLE / "cpython_oracle.py").exists():
        print(f"conformance: skipped, there is no oracle in {ORACLE} (ORACLE=folder names one)")
        return 0
    found = pythons()
    versions = wanted(options.python, found)
    if options.quick:
        options.only = options.only or QUICK
        versions = versions if options.python else versions[:1]
    options.jobs = 2 if len(versions) == 1 else 1       # processes at a time, for each Python
    measurements = [Measurement(version, found.get(version, ""), options) for version in versions]

    def run(measurement: Measurement) -> Measurement:
        if measurement.path:
            print(f"conformance: {measurement.version} begins ({measurement.path})", flush=True)
            measurement.measure()
        else:
            measurement.failures = [{"id": "this Python is not here", "outcome": "error"}]
        return measurement

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for done in concurrent.futures.as_completed([pool.submit(run, m) for m in measurements]):
            measurement = done.result()
            print(f"\n== Python {measurement.version}", *measurement.printed, sep="\n", flush=True)
    print_table(measurements)
    return 0 if measurements and all(measurement.fine for measurement in measurements) else 1


if __name__ == "__main__":
    sys.exit(main())
