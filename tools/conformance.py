"""The conformance oracle on every CPython found, each with its own build; one table at the end.

The oracle is a pair of scripts beside this repository (``../shared/oracle``, or ORACLE=folder):
CPython's own asyncio tests, and the examples of asyncio's page on transports and protocols.
"""

import argparse
import glob
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ORACLE = Path(os.environ.get("ORACLE", ROOT.parent / "shared" / "oracle")).resolve()
TARGET = "tidewire:new_event_loop"
QUICK = "buffered_proto,events,server,sock_lowlevel,streams,unix_events"
BAD = ("failed", "error", "crash", "hang")


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


def build(version: str, path: str) -> Path:
    """The version's environment with tidewire in it."""
    venv = ROOT / f".venv-{version}"
    env = {**os.environ, "PYTHON": path, "VENV": str(venv)}
    subprocess.run([ROOT / "tools" / "setup.sh", "demo"], check=True, env=env)
    return venv / "bin" / "python"


def run(python: Path, script: str, *options: str) -> dict:
    """One script of the oracle; its JSON, or {} when it gave none."""
    out = ROOT / "build" / f"{script}-{os.getpid()}.json"
    out.parent.mkdir(exist_ok=True)
    out.unlink(missing_ok=True)
    subprocess.run([python, ORACLE / f"{script}.py", TARGET, "--json", out, *options], cwd=ROOT)
    try:
        return json.loads(out.read_text())
    except OSError:
        return {}
    finally:
        out.unlink(missing_ok=True)


def measure(version: str, path: str, only: str) -> tuple[list[str], bool]:
    """One row of the table, and whether all is well."""
    try:
        python = build(version, path)
    except subprocess.CalledProcessError:
        return [version, "does not build", "", ""], False
    options = ["--only", only] if only else []
    totals = run(python, "cpython_oracle", "-v", *options).get("totals", {})
    spec = str(ORACLE.parent / "spec")
    groups = run(python, "examples_oracle", "--doc", spec).get("results", {})
    bad = {kind: totals[kind] for kind in BAD if totals.get(kind)}
    passed = totals.get("passed", 0)
    good_groups = sum(1 for failure in groups.values() if not failure)
    row = [version, f"{passed}/{passed + sum(bad.values())}",
           ", ".join(f"{count} {kind}" for kind, count in bad.items()) or "-",
           f"{good_groups}/{len(groups)}"]
    return row, passed > 0 and not bad and 0 < len(groups) == good_groups


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"one Python, only {QUICK}")
    parser.add_argument("--only", default="", help="modules of the oracle, comma-separated")
    parser.add_argument("--python", default="", help="versions, comma-separated: 3.11,3.13")
    args = parser.parse_args()
    if not (ORACLE / "cpython_oracle.py").exists():
        print(f"conformance: skipped, there is no oracle in {ORACLE} (ORACLE=folder names one)")
        return 0
    found = pythons()
    wanted = args.python.split(",") if args.python else sorted(found, key=lambda v: int(v[2:]))
    if args.quick and not args.python:
        wanted = wanted[:1]
    rows = [["Python", "asyncio's tests", "other than passed", "examples"]]
    fine = bool(wanted)
    for version in wanted:
        if version not in found:
            row, good = [version, "not found", "", ""], False
        else:
            row, good = measure(version, found[version], args.only or (QUICK * args.quick))
        rows.append(row)
        fine = fine and good
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for row in rows:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
