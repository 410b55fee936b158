"""What ``make demo`` shows: a program for each transport on tidewire, then a short comparison."""

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "docs" / "examples"
ORDER = ["tcp_echo", "unix_echo", "streams", "buffered", "timers", "sockets", "tls", "udp",
         "pipes", "subprocesses", "sendfile"]
CASES = ["uvicorn", "tcp-1k", "streams-1k", "tls-1k", "udp-1k", "call_soon", "tasks"]
ROUNDS = 5
TIDEWIRE = [sys.executable, "-m", "tidewire"]


def show(name: str) -> bool:
    """Run one example; the first line of its documentation says what it does."""
    path = EXAMPLES / f"{name}.py"
    start = time.monotonic()
    process = subprocess.run([*TIDEWIRE, path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             text=True, timeout=60)
    took = time.monotonic() - start
    what = path.read_text().splitlines()[0].strip('"').rstrip(".")
    word = "ok" if process.returncode == 0 else "FAILED"
    print(f"  {word:6} {took:5.2f} s  {what}", flush=True)
    if process.returncode:
        print(f"{process.stdout}    exit status {process.returncode} of {path}", flush=True)
    return process.returncode == 0


def compare() -> bool:
    """The table of ``python -m tidewire bench``, uvicorn first if it is installed."""
    cases = [case for case in CASES
             if case != "uvicorn" or importlib.util.find_spec("uvicorn")]
    print(f"\nThe same loads on each loop, {ROUNDS} rounds in turn (half a minute):\n", flush=True)
    return subprocess.run([*TIDEWIRE, "bench", "--rounds", str(ROUNDS),
                           "--cases", ",".join(cases)]).returncode == 0


def main() -> int:
    subprocess.run([*TIDEWIRE, "info"], check=True)
    print("\nEach transport on tidewire (docs/examples):\n", flush=True)
    failed = [name for name in ORDER if not show(name)]
    compared = compare()
    print(f"\n{len(ORDER) - len(failed)} of {len(ORDER)} demonstrations succeeded"
          + (f"; failed: {', '.join(failed)}" if failed else ""))
    if failed or not compared:
        return 1
    print(f"Next, where your program is installed:  pip install {ROOT}  &&  "
          "uvicorn --loop tidewire:new_event_loop app:app")
    return 0


if __name__ == "__main__":
    sys.exit(main())
