"""``python -m tidewire bench``: a short comparison of event loops on this machine.

Each loop has a process of its own, on one core. The load is this process, on
another core. In each round every loop does every case once; the order changes
from round to round. The table shows the CPU time of the loop's process per
operation: the median of the rounds, and its spread.

The load is in Python and may be slower than the server. So it sends in
bursts: it prepares one message for each connection (over TLS it encrypts all
of them), then sends them right after one another. The server finds many
connections ready, as a busy one does, and does not sleep between messages.
The project's own suite (``benchmarks/`` in its sources) has many more cases
and a load generator in C.
"""

import argparse
import importlib.util
import json
import os
import platform
import select
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from typing import IO, Any

LOOPS = {"asyncio": "asyncio:SelectorEventLoop", "uvloop": "uvloop:new_event_loop",
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
HTTP = {"uvicorn": "HTTP, uvicorn", "aiohttp": "HTTP, aiohttp"}    # if they are installed
IN_PROCESS = {"call_soon", "call_later", "threadsafe", "sleep0", "tasks"}
SIZES = {"1k": 1024, "64k": 64 * 1024}
PEERS = 32
UDP_PEERS = 10      # datagrams share one queue: its length is what is compared
BUSY = 0.15         # a spread above this says that something else uses the machine
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
WARM = 0.05         # seconds of load before it is measured
PATIENCE = 10.0     # seconds until a loop that does not answer is skipped

Samples = dict[str, dict[str, list[float]]]     # case -> loop -> microseconds


class Failed(Exception):
    """A loop cannot do a case; the text says why."""


class Child:
    """A loop's process."""

    def __init__(self, factory: str, core: int | None, extra: str = "") -> None:
        """``extra``: a folder of packages that are not installed."""
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH", ""), extra]))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tidewire._bench_child", factory,
             "" if core is None else str(core)], env=dict(os.environ, PYTHONPATH=path),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.version = str(self.answer()["version"])

    def pipe(self, which: str) -> IO[str]:
        end: IO[str] = getattr(self.process, which)
        return end

    def answer(self, seconds: float = 0) -> dict[str, Any]:
        """Its answer, after a measurement of at most so many seconds."""
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


class Peer:
    """One connection of the load, which has at most one message in flight."""

    def __init__(self, case: str, port: int) -> None:
        kind = socket.SOCK_DGRAM if case.startswith("udp") else socket.SOCK_STREAM
        self.sock = socket.socket(socket.AF_INET, kind)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(("127.0.0.1", port))
        if kind == socket.SOCK_STREAM:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def prepare(self, message: bytes) -> bytes:
        """The bytes to send for the message."""
        return message

    def read(self, buffer: bytearray) -> int:
        """How many bytes of the answer were received."""
        return self.received(buffer)

    def received(self, buffer: bytearray) -> int:
        n = self.sock.recv_into(buffer)
        if not n:
            raise Failed("the server closed the connection")
        return n


class TLSPeer(Peer):
    """The same over TLS, in memory, so that a message can be encrypted ahead."""

    def __init__(self, case: str, port: int) -> None:
        super().__init__(case, port)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing)
        while True:
            try:
                self.tls.do_handshake()
                self.sock.sendall(self.outgoing.read())
                return
            except ssl.SSLWantReadError:
                self.sock.sendall(self.outgoing.read())
                self.incoming.write(self.sock.recv(65536))

    def prepare(self, message: bytes) -> bytes:
        self.tls.write(message)
        return self.outgoing.read()

    def read(self, buffer: bytearray) -> int:
        self.incoming.write(memoryview(buffer)[:self.received(buffer)])
        total = 0
        try:
            while n := self.tls.read(len(buffer), buffer):
                total += n      # type: ignore[operator]
        except ssl.SSLWantReadError:
            pass
        return total


class HTTPPeer(Peer):
    """An answer is as long as the first one."""

    def __init__(self, case: str, port: int) -> None:
        super().__init__(case, port)
        self.sock.sendall(REQUEST)
        answer = b""
        while not (ends := answer.find(b"\r\n\r\n") + 4) > 3:
            answer += self.some()
        said = answer[:ends].lower().partition(b"content-length:")[2].split()
        self.length = ends + (int(said[0]) if said else 0)
        while len(answer) < self.length:
            answer += self.some()

    def some(self) -> bytes:
        data = self.sock.recv(65536)
        if not data:
            raise Failed("the server closed the connection")
        return data


def connect(case: str, port: int) -> Peer:
    if case in HTTP:
        return HTTPPeer(case, port)
    return (TLSPeer if case.startswith("tls") else Peer)(case, port)


def burst(peers: list[Peer], poll: select.poll, message: bytes, buffer: bytearray) -> None:
    """One message on each peer, at once, until all are answered."""
    by_fd = {peer.sock.fileno(): peer for peer in peers}
    prepared = [(peer.sock, peer.prepare(message)) for peer in peers]
    due = {fd: getattr(peer, "length", len(message)) for fd, peer in by_fd.items()}
    for sock, data in prepared:
        sock.sendall(data)
    while due:
        ready = poll.poll(PATIENCE * 1000)
        if not ready:
            raise Failed("no answer")
        for fd, _ in ready:
            n = by_fd[fd].read(buffer)
            if fd not in due:
                raise Failed("the server answered twice")
            due[fd] -= n
            if due[fd] <= 0:
                del due[fd]


def exchange(peers: list[Peer], message: bytes, seconds: float) -> int:
    """Send bursts for so long; returns how many messages were answered."""
    answered, buffer = 0, bytearray(256 * 1024)
    poll = select.poll()
    for peer in peers:
        poll.register(peer.sock, select.POLLIN)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        burst(peers, poll, message, buffer)
        answered += len(peers)
    return answered


def echo_cost(child: Child, case: str, seconds: float, certificate: str) -> float:
    message = REQUEST if case in HTTP else bytes(SIZES[case.rpartition("-")[2]])
    port = child.ask({"serve": case, "certificate": certificate})["port"]
    peers: list[Peer] = []
    try:
        for _ in range(UDP_PEERS if case.startswith("udp") else PEERS):
            peers.append(connect(case, port))
        exchange(peers, message, max(seconds / 4, WARM))
        before = child.ask("mark")["cpu"]
        answered = exchange(peers, message, seconds)
        spent = float(child.ask("mark")["cpu"] - before)
    except OSError as exc:
        raise Failed(str(exc)) from None
    finally:
        for peer in peers:
            peer.sock.close()
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
                title = (CASES | HTTP)[case]
                progress.show(f"round {turn + 1} of {options.rounds}: {title}, {name}")
                try:
                    took = cost(children[name], case, options.seconds, certificate)
                    samples[case][name].append(took)
                except Failed as exc:
                    failed.add((case, name))
                    progress.note(f"{title} on {name}: {exc}")
    progress.show("")
    return samples


def ratios(by_loop: dict[str, list[float]], other: str) -> list[float]:
    """How many times faster tidewire was, round by round."""
    return [theirs / ours for theirs, ours in zip(
        by_loop.get(other, []), by_loop.get("tidewire", []), strict=False)]


def spread(values: list[float]) -> float:
    """Half the distance of the quartiles, as a share of the median."""
    if len(values) < 3:
        return 0.0
    quartiles = statistics.quantiles(values, n=4, method="inclusive")
    return (quartiles[2] - quartiles[0]) / 2 / statistics.median(values)


def table(samples: Samples, names: list[str]) -> str:
    """Microseconds of each loop; then how many times faster tidewire is."""
    others = [name for name in names if name != "tidewire"]
    rows = [["CPU time per operation, us", *names, *[f"vs {name}" for name in others], "spread"]]
    for case, by_loop in samples.items():
        row = [(CASES | HTTP)[case]]
        row += [f"{statistics.median(by_loop[name]):.2f}" if by_loop.get(name) else "-"
                for name in names]
        wide = 0.0
        for name in others:
            got = ratios(by_loop, name)
            row.append(f"{statistics.median(got):.2f}x" if got else "-")
            wide = max(wide, spread(got))
        row.append(f"{wide:.0%}" if wide else "-")
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        row[0].ljust(widths[0]) + "".join(
            "  " + cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows)


def busy(samples: Samples, load: float, cores: int) -> str:
    """Why something else seems to use the machine, or ""."""
    if load > 2 * cores:
        return f"load average {load:.0f} on {cores} cores"
    wide = [spread(ratios(by_loop, other)) for by_loop in samples.values()
            for other in by_loop if other != "tidewire"]
    return "the rounds differ much" if wide and statistics.median(wide) > BUSY else ""


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tidewire bench", description=(
        "Compare event loops on this machine: asyncio's own, uvloop if it is installed, "
        "tidewire."))
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds")
    parser.add_argument("--cases", help="comma-separated, of: "
                        f"{', '.join(CASES | HTTP)} (the last {len(HTTP)} if they are installed)")
    parser.add_argument("--with", dest="others", choices=["uvloop"], action="append", default=[],
                        help="install it by pip for this run alone, if it is not installed")
    parser.add_argument("--rounds", type=int, help="default: 7; quick: 3")
    parser.add_argument("--seconds", type=float, default=0.12, help="of each measurement")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(argv)
    options.rounds = max(options.rounds or (3 if options.quick else 7), 1)
    http = [name for name in HTTP if importlib.util.find_spec(name)]
    chosen = options.cases.split(",") if options.cases else [
        *(QUICK if options.quick else CASES), *http]
    unknown = [case for case in chosen if case not in CASES | HTTP]
    if unknown:
        parser.error(f"unknown case: {', '.join(unknown)}")
    options.cases = chosen
    return options


def fetch(names: list[str], directory: str, progress: Progress) -> str:
    """Install the named packages that are missing; the folder, or "" if none was installed."""
    wanted = [name for name in names if not importlib.util.find_spec(name)]
    if not wanted:
        return ""
    progress.show(f"installing {', '.join(wanted)} for this run")
    done = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", directory,
                           *wanted], capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["pip failed"]
        progress.note(f"without {', '.join(wanted)}: {lines[-1]}")
        return ""
    return directory


def start(cores: list[int], progress: Progress, extra: str) -> dict[str, Child]:
    children = {}
    for name, factory in LOOPS.items():
        try:
            children[name] = Child(factory, cores[0] if len(cores) > 1 else None, extra)
        except Failed:
            hint = " (--with uvloop installs it for this run)" if name == "uvloop" else ""
            progress.note(f"without {name}: it is not installed{hint}")
    return children


def versions(children: dict[str, Child]) -> str:
    loops = [f"{name} {child.version}".strip() for name, child in children.items()]
    return f"Python {platform.python_version()}; {', '.join(loops)}; {platform.machine()}"


def main(argv: list[str]) -> int:
    """Run the comparison; 0 if tidewire took part in all of it."""
    options, progress = parse(argv), Progress()
    load = os.getloadavg()[0]       # now: the comparison itself keeps two cores busy
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    directory = tempfile.mkdtemp(prefix="tidewire-bench-")
    children: dict[str, Child] = {}
    try:
        children = start(cores, progress, fetch(options.others, directory, progress))
        if len(cores) > 1:
            os.sched_setaffinity(0, {cores[-1]})
        certificate = make_certificate(directory)
        cases = [c for c in options.cases if certificate or not c.startswith("tls")]
        samples = run(children, cases, options, certificate, progress)
    finally:
        if len(cores) > 1:
            os.sched_setaffinity(0, cores)
        for child in children.values():
            child.end()
        shutil.rmtree(directory, ignore_errors=True)
    if options.json:
        print(json.dumps({
            "python": platform.python_version(), "machine": platform.machine(),
            "loops": {name: child.version for name, child in children.items()},
            "microseconds": samples}, indent=1))
    else:
        print(table(samples, list(children)))
        print(f"\n{versions(children)}; median of {options.rounds} rounds")
        if why := busy(samples, load, len(cores) or os.cpu_count() or 1):
            print(f"The machine is busy: {why}. Try again when it is quiet.")
    return 0 if all(by_loop.get("tidewire") for by_loop in samples.values()) else 1
