"""``python -m tidewire top`` and ``metrics``: look into running processes."""
import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from . import _catalogue, _expose

_REMOTE = """\
import sys
tidewire = sys.modules.get("tidewire")
if tidewire is not None:
    tidewire.expose()
"""


# -- finding a process -----------------------------------------------------------------------


def _ask_by_debugger(pid: int) -> None:
    """From Python 3.14 on: run expose() in a process that did not call it."""
    with tempfile.NamedTemporaryFile("w", suffix=".py", delete=False) as script:
        script.write(_REMOTE)
    try:
        sys.remote_exec(pid, script.name)       # type: ignore[attr-defined, unused-ignore]
        end = time.monotonic() + 5
        while _expose.find(pid) is None and time.monotonic() < end:
            time.sleep(0.05)
    finally:
        os.unlink(script.name)


def connect(pid: int) -> _expose.Client:
    """Reach a process; SystemExit, with what to do, if that fails."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        sys.exit(f"tidewire: there is no process {pid}")
    except PermissionError:
        sys.exit(f"tidewire: process {pid} is another user's")
    problem = ""
    if _expose.find(pid) is None and hasattr(sys, "remote_exec"):
        try:
            _ask_by_debugger(pid)
        except (OSError, RuntimeError) as exc:
            problem = f" ({exc})"
    try:
        return _expose.Client(pid)
    except OSError:
        sys.exit(f"tidewire: process {pid} is not exposed{problem}: it has to call "
                 "tidewire.expose(), or be started with TIDEWIRE_EXPOSE=1")


def _choose(pid: int | None) -> int:
    if pid is not None:
        return pid
    found = _expose.processes()
    if len(found) == 1:
        return found[0]
    if not found:
        sys.exit("tidewire: no process of this user is exposed: it has to call "
                 "tidewire.expose(), or be started with TIDEWIRE_EXPOSE=1")
    sys.exit(f"tidewire: which one? {' '.join(map(str, found))}")


# -- what is shown ---------------------------------------------------------------------------

COLUMNS = ("loop", "state", "busy", "callbacks/s", "lag p50", "lag p99", "callback p99",
           "open", "in/s", "out/s", "paused", "timers", "jobs")


def seconds(value: float) -> str:
    """In the unit that fits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e6:.3g} us"


def amount(value: float) -> str:
    """Bytes in the unit that fits."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"


def _total(stats: Any, key: str) -> float:
    # What TLS carries is in tcp and unix already, as encrypted bytes.
    return float(sum(values.get(key, 0) for kind, values in stats["transports"].items()
                     if kind != "tls"))


def row(now: Any, before: Any) -> list[str]:
    """What one loop did between two stats(), in the order of COLUMNS."""
    passed = now["time"] - before["time"] if before else now["time"] - now["made"]

    def rate(value: float, earlier: float) -> float:
        return max(value - earlier, 0) / passed if passed > 0 else 0.0

    def part(name: str) -> Any:
        return _catalogue.difference(now["histograms"][name],
                                     before["histograms"][name] if before else None)

    def since(key: str) -> float:
        return float(before[key]) if before else 0.0

    lag, callback = part("lag"), part("callback")
    jobs = sum(now[what][key] for what in ("lookups", "executor")
               for key in ("waiting", "running"))
    return [now["name"], now["state"],
            f"{min(rate(now['busy'], since('busy')), 1):.0%}",
            f"{rate(now['callbacks'], since('callbacks')):,.0f}",
            seconds(_catalogue.quantile(lag, 0.5)), seconds(_catalogue.quantile(lag, 0.99)),
            seconds(_catalogue.quantile(callback, 0.99)), f"{_total(now, 'open'):.0f}",
            *(amount(rate(_total(now, key), _total(before, key) if before else 0))
              for key in ("bytes_in", "bytes_out")),
            str(now["writing"]["paused"]), str(now["timers"]["pending"]), str(jobs)]


class View:
    """What a process said last, and the page of it."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}

    def page(self, said: Any) -> tuple[str, list[list[str]], list[str]]:
        """Title, rows, and lines about the slowest callbacks."""
        title = (f"process {said['pid']}: {' '.join(said['argv']) or 'python'}   "
                 f"tidewire {said['tidewire']}, Python {said['python']}")
        rows = [row(loop, self._before.get(loop["id"])) for loop in said["loops"]]
        self._before = {loop["id"]: loop for loop in said["loops"]}
        return title, rows, [_slow_line(report) for report in said.get("slow", ())]


def _slow_line(report: Any) -> str:
    where = f" at {report['file']}:{report['line']}" if report["file"] else ""
    return f"{seconds(report['seconds'])}  {report['loop']}  {report['callback']}{where}"


def plain(title: str, rows: list[list[str]], slow: list[str]) -> str:
    widths = [max(len(line[i]) for line in [COLUMNS, *rows]) for i in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
             for line in [list(COLUMNS), *rows]]
    if slow:
        lines += ["", "slowest callbacks", *slow]
    return "\n".join([title, *(line.rstrip() for line in lines)])


def _rich_table(title: str, rows: list[list[str]], slow: list[str]) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left")
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if number < 2 else "right")
    for cells in rows:
        table.add_row(*map(Text, cells))
    return Group(table, *(Text(line) for line in (["slowest callbacks", *slow] if slow else [])))


@contextlib.contextmanager
def _screen() -> Iterator[Any]:
    """A function that shows a page: in place, where rich and a terminal are there."""
    try:
        from rich.live import Live
    except ImportError:
        Live = None     # type: ignore[assignment, misc]
    if Live is None or not sys.stdout.isatty():
        yield lambda page: print(plain(*page), flush=True)
        return
    with Live(auto_refresh=False) as live:
        yield lambda page: live.update(_rich_table(*page), refresh=True)


def top(argv: list[str]) -> int:
    """The command ``top``."""
    p = argparse.ArgumentParser(
        prog="python -m tidewire top",
        description="Show what the loops of a running process of yours do.")
    p.add_argument("pid", type=int, nargs="?", help="the only one that is exposed, if left out")
    p.add_argument("--interval", type=float, default=1, metavar="SECONDS")
    p.add_argument("--count", type=int, default=0, metavar="N", help="pages, then end")
    p.add_argument("--json", action="store_true", help="print what the process says, once")
    args = p.parse_args(argv)
    client = connect(_choose(args.pid))
    try:
        if args.json:
            print(json.dumps(client.stats()))
            return 0
        view, shown = View(), 0
        with _screen() as show:
            while True:
                show(view.page(client.stats()))
                shown += 1
                if shown == args.count:
                    return 0
                time.sleep(args.interval)
    except ConnectionError as exc:
        sys.exit(f"tidewire: {exc}")
    except KeyboardInterrupt:
        return 0
    finally:
        client.close()


# -- for Prometheus, of several processes ------------------------------------------------------


def _all_stats(pids: list[int]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for pid in pids or _expose.processes():
        with contextlib.suppress(OSError):
            client = _expose.Client(pid)
            try:
                for stats in client.stats()["loops"]:       # type: ignore[attr-defined]
                    yield (str(pid), stats["name"]), stats
            finally:
                client.close()


def metrics(argv: list[str]) -> int:
    """The command ``metrics``: Prometheus's text for every exposed process."""
    p = argparse.ArgumentParser(
        prog="python -m tidewire metrics",
        description="Print the metrics of all exposed processes of yours, or serve them.")
    p.add_argument("pid", type=int, nargs="*", help="only these")
    p.add_argument("--listen", metavar="[HOST:]PORT", help="serve them to Prometheus over HTTP")
    args = p.parse_args(argv)
    try:
        import prometheus_client
        from prometheus_client.registry import Collector

        from . import prometheus
    except ImportError:
        sys.exit("tidewire: this needs prometheus_client: pip install 'tidewire[prometheus]'")

    class Processes(Collector):
        def collect(self) -> Any:
            return prometheus.families(_all_stats(args.pid), ("pid", "loop"))

        def describe(self) -> Any:
            return prometheus.families([], ("pid", "loop"))

    registry = prometheus_client.CollectorRegistry()
    registry.register(Processes())
    if not args.listen:
        print(prometheus_client.generate_latest(registry).decode(), end="")
        return 0
    host, _, port = args.listen.rpartition(":")
    server, thread = prometheus_client.start_http_server(int(port), host or "127.0.0.1",
                                                         registry)
    print(f"http://{host or '127.0.0.1'}:{server.server_port}/metrics", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        thread.join()
    return 0
