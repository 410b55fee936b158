"""The load for HTTP: wrk, if it is here."""
import re
import shutil
import subprocess
import time

UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6}


def server_cpu(pid):
    """CPU seconds of another process, by its clock (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def _percentile(said, p):
    found = re.search(rf"^\s+{p}%\s+([\d.]+)(us|ms|s)$", said, re.M)
    return float(found[1]) * UNITS[found[2]] if found else 0.0


def available():
    return shutil.which("wrk") is not None


def command(where, seconds, arguments):
    """wrk counts in whole seconds."""
    return ["wrk", "-t1", f"-d{max(1, round(seconds))}s", "--latency", *map(str, arguments),
            f"{where.get('scheme', 'http')}://127.0.0.1:{where['port']}/"]


def run(command, pid, timeout):
    """As the load generator's answer; None if a request failed."""
    before = server_cpu(pid)
    said = subprocess.run(command, capture_output=True, text=True, timeout=timeout).stdout
    spent = server_cpu(pid) - before
    done = re.search(r"(\d+) requests in ([\d.]+)(ms|s)", said)
    if not done or "Non-2xx" in said or "Socket errors" in said:
        return None
    return {"messages": float(done[1]), "seconds": float(done[2]), "server_cpu": spent,
            "p50_us": _percentile(said, 50), "p99_us": _percentile(said, 99)}
