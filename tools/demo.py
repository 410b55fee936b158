"""What ``make demo`` shows: a program for each transport on tidewire, then a short comparison."""

import subprocess
import sys
import time
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "docs" / "examples"
ORDER = ["tcp_echo", "unix_echo", "streams", "buffered", "timers", "sockets", "tls", "udp",
         "pipes", "subprocesses", "sendfile"]
TIDEWIRE = [sys.executable, "-m", "tidewire"]


def show(path: Path) -> bool:
    """Run one example; its first line of documentation is the heading."""
    print(f"\n{path.name}: {path.read_text().splitlines()[0].strip(chr(34))}", flush=True)
    start = time.monotonic()
    process = subprocess.run([*TIDEWIRE, path], stdout=subprocess.PIPE, text=True, timeout=60)
    print("".join(f"    {line}\n" for line in process.stdout.splitlines()), end="")
    result = "ok" if process.returncode == 0 else f"FAILED, exit status {process.returncode}"
    print(f"    {result} ({time.monotonic() - start:.2f} s)", flush=True)
    return process.returncode == 0


def main() -> int:
    subprocess.run([*TIDEWIRE, "info"], check=True)
    failed = [name for name in ORDER if not show(EXAMPLES / f"{name}.py")]
    print("\nThe same loads on the stock loop and on tidewire:\n", flush=True)
    bench = subprocess.run([*TIDEWIRE, "bench", "--quick"])
    print(f"\n{len(ORDER) - len(failed)} of {len(ORDER)} demonstrations succeeded"
          + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed or bench.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
