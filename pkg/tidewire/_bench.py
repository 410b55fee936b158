"""``python -m tidewire bench``: a short comparison of event loops on this machine.

Each loop lives in a process of its own, on one core; the load, in Python, is
this process, on another. In each round every loop does every case once. What
is shown is CPU time of the loop's process per operation, the median of the
rounds. The project's own suite (``benchmarks/`` in its sources) has many more
cases and a load generator in C.
"""

import argparse
import json
import os
import platform
import select
import selectors
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from typing import IO, Any

LOOPS = {"stock": "asyncio:SelectorEventLoop", "uvloop": "uvloop:new_event_loop",
         "tidewire": "tidewire:new_event_loop"}
CASES = {
    "tcp-1k": "TCP echo, 1 KiB", "tcp-64k": "TCP echo, 64 KiB",
    "split-1k": "TCP echo, 1 KiB in three writes", "streams-1k": "TCP echo by streams, 1 KiB",
    "udp-1k": "UDP echo, 1 KiB", "tls-1k": "TLS echo, 1 KiB",
    "call_soon": "call_soon", "call_later": "call_later and cancel",
    "threadsafe": "call_soon_threadsafe", "sleep0": "sleep(0)", "tasks": "tasks by gather",
}
QUICK = ["tcp-1k", "split-1k", "streams-1k", "udp-1k", "tls-1k", "call_soon", "call_later",
         "tasks"]
IN_PROCESS = {"call_soon", "call_later", "threadsafe", "sleep0", "tasks"}
SIZES = {"1k": 1024, "64k": 64 * 1024}
PEERS = 8
PATIENCE = 10.0     # seconds until a loop that answers nothing is given up

Samples = dict[str, dict[str, list[float]]]     # case -> loop -> microseconds


class Failed(Exception):
    """A loop cannot do a case; the text says why."""


class Child:
    """A loop's process."""

    def __init__(self, factory: str, core: int | None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tidewire._bench_child", factory,
             "" if core is None else str(core)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.version = str(self.answer()["version"])

    def pipe(self, which: str) -> IO[str]:
        end: IO[str] = getattr(self.process, which)
        return end

    def answer(self, seconds: float = 0) -> dict[str, Any]:
        """What it says, after a measurement of so many seconds at most."""
        out = self.pipe("stdout")
        if not select.select([out], [], [], PATIENCE + 10 * seconds)[0]:
            self.process.kill()     # it would answer this to the next question
            raise Failed("no answer")
        line = out.readline()
        if not line:
            raise Failed("its process has ended")
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            raise Failed(said["error"])
        return said

    def ask(self, what: str | dict[str, Any], seconds: float = 0) -> dict[str, Any]:
        self.tell(what)
        return self.answer(seconds)

    def tell(self, what: str | dict[str, Any]) -> None:
        text = what if isinstance(what, str) else json.dumps(what)
        try:
            self.pipe("stdin").write(text + "\n")
            self.pipe("stdin").flush()
        except BrokenPipeError:
            raise Failed("its process has ended") from None

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def connect(case: str, port: int) -> socket.socket:
    kind = socket.SOCK_DGRAM if case.startswith("udp") else socket.SOCK_STREAM
    peer = socket.socket(socket.AF_INET, kind)
    peer.settimeout(PATIENCE)
    peer.connect(("127.0.0.1", port))
    if kind == socket.SOCK_STREAM:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if case.startswith("tls"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(peer)
    return peer


def exchange(peers: list[socket.socket], message: bytes, seconds: float) -> int:
    """One message at a time on each peer; how many were answered."""
    answered, due = 0, dict.fromkeys(peers, len(message))
    buffer = bytearray(256 * 1024)
    with selectors.DefaultSelector() as selector:
        for peer in peers:
            selector.register(peer, selectors.EVENT_READ)
            peer.sendall(message)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            ready = selector.select(PATIENCE)
            if not ready:
                raise Failed("no answer")
            for key, _ in ready:
                peer = key.fileobj      # type: ignore[assignment]
                due[peer] -= peer.recv_into(buffer)
                if due[peer] <= 0:
                    due[peer] = len(message)
                    answered += 1
                    peer.sendall(message)
    return answered


def echo_cost(child: Child, case: str, seconds: float, certificate: str) -> float:
    message = bytes(SIZES[case.rpartition("-")[2]])
    port = child.ask({"serve": case, "certificate": certificate})["port"]
    peers: list[socket.socket] = []
    try:
        peers += [connect(case, port) for _ in range(PEERS)]
        before = child.ask("mark")["cpu"]
        answered = exchange(peers, message, seconds)
        spent = float(child.ask("mark")["cpu"] - before)
    except OSError as exc:
        raise Failed(str(exc)) from None
    finally:
        for peer in peers:
            peer.close()
        child.tell("stop")
    return spent / max(answered, 1) * 1e6


def cost(child: Child, case: str, seconds: float, certificate: str) -> float:
    """Microseconds of the loop's CPU time per operation."""
    if case not in IN_PROCESS:
        return echo_cost(child, case, seconds, certificate)
    got = child.ask({"measure": case, "seconds": seconds}, seconds)
    return float(got["cpu"] / got["operations"] * 1e6)


def make_certificate(directory: str) -> str:
    """A self-signed certificate with its key, in one file; "" without openssl."""
    path = os.path.join(directory, "certificate.pem")
    if not shutil.which("openssl"):
        return ""
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost", "-keyout", path,
         "-out", path + ".crt"], capture_output=True)
    if made.returncode:
        return ""
    with open(path, "ab") as whole, open(path + ".crt", "rb") as part:
        whole.write(part.read())
    return path


class Progress:
    """One line, rewritten, if stderr is a terminal."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()

    def show(self, text: str) -> None:
        if self.live:
            print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        self.show("")
        print(text, file=sys.stderr, flush=True)


def in_turn(names: list[str], turn: int) -> list[str]:
    """Each before each other as often as after it, in any two rounds; all places in turn."""
    first = turn // 2 % len(names)
    order = names[first:] + names[:first]
    return order[::-1] if turn % 2 else order


def run(children: dict[str, Child], cases: list[str], options: argparse.Namespace,
        certificate: str, progress: Progress) -> Samples:
    samples: Samples = {case: {name: [] for name in children} for case in cases}
    failed: set[tuple[str, str]] = set()
    names = list(children)
    for turn in range(options.rounds):
        order = in_turn(names, turn)
        for case in cases:
            for name in order:
                if (case, name) in failed:
                    continue
                progress.show(f"round {turn + 1} of {options.rounds}: {CASES[case]}, {name}")
                try:
                    took = cost(children[name], case, options.seconds, certificate)
                    samples[case][name].append(took)
                except Failed as exc:
                    failed.add((case, name))
                    progress.note(f"{CASES[case]} on {name}: {exc}")
    progress.show("")
    return samples


def table(samples: Samples, names: list[str]) -> str:
    """Microseconds of each loop; then how many times faster tidewire is."""
    others = [name for name in names if name != "tidewire"]
    rows = [["CPU time per operation, us", *names, *[f"vs {name}" for name in others]]]
    for case, by_loop in samples.items():
        middle = {name: statistics.median(got) for name, got in by_loop.items() if got}
        row = [CASES[case]]
        row += [f"{middle[name]:.2f}" if name in middle else "-" for name in names]
        for name in others:
            both = name in middle and "tidewire" in middle
            row.append(f"{middle[name] / middle['tidewire']:.2f}x" if both else "-")
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        row[0].ljust(widths[0]) + "".join(
            "  " + cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tidewire bench", description=(
        "Compare event loops on this machine: stock asyncio, uvloop if it is installed, "
        "tidewire."))
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds")
    parser.add_argument("--cases", help=f"comma-separated, of: {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, help="default: 4; quick: 2")
    parser.add_argument("--seconds", type=float, default=0.12, help="of each measurement")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(argv)
    options.rounds = max(options.rounds or (2 if options.quick else 4), 1)
    chosen = options.cases.split(",") if options.cases else QUICK if options.quick else [*CASES]
    unknown = [case for case in chosen if case not in CASES]
    if unknown:
        parser.error(f"unknown case: {', '.join(unknown)}")
    options.cases = chosen
    return options


def start(cores: list[int], progress: Progress) -> dict[str, Child]:
    children = {}
    for name, factory in LOOPS.items():
        try:
            children[name] = Child(factory, cores[0] if len(cores) > 1 else None)
        except Failed:
            progress.note(f"without {name}: it is not installed")
    return children


def main(argv: list[str]) -> int:
    """Run the comparison; 0 if tidewire took part in all of it."""
    options, progress = parse(argv), Progress()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    children = start(cores, progress)
    try:
        if len(cores) > 1:
            os.sched_setaffinity(0, {cores[-1]})
        with tempfile.TemporaryDirectory() as directory:
            certificate = make_certificate(directory)
            cases = [c for c in options.cases if certificate or not c.startswith("tls")]
            samples = run(children, cases, options, certificate, progress)
    finally:
        if len(cores) > 1:
            os.sched_setaffinity(0, cores)
        for child in children.values():
            child.end()
    if options.json:
        print(json.dumps({
            "python": platform.python_version(), "machine": platform.machine(),
            "loops": {name: child.version for name, child in children.items()},
            "microseconds": samples}, indent=1))
    else:
        print(table(samples, list(children)))
    return 0 if all(by_loop.get("tidewire") for by_loop in samples.values()) else 1
