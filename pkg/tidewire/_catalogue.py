"""The numbers of loop.stats() under the names that monitoring systems use.

Prometheus has `name` with its unit and "_total"; OpenTelemetry has `otel`.
docs/observability.rst has the list.
"""
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ._loop import _loops
from ._stats import Histogram, Stats

#: Label values (without the loop's), value.
Samples = Iterator[tuple[tuple[str, ...], float]]


@dataclass(frozen=True)
class Metric:
    """A family of numbers; the loop's name is the first label of each."""

    kind: str                           # "counter" or "gauge"
    name: str                           # of Prometheus, without "_total"
    otel: str
    unit: str                           # of OpenTelemetry
    help: str
    labels: tuple[str, ...]
    samples: Callable[[Stats], Samples]


def _one(*path: str) -> Callable[[Stats], Samples]:
    def samples(stats: Stats) -> Samples:
        value: object = stats
        for key in path:
            value = value[key]          # type: ignore[index]
        yield (), value                 # type: ignore[misc]
    return samples


def _by_kind(*keys: str) -> Callable[[Stats], Samples]:
    """Of each kind of transport; with several keys these are the second label."""
    def samples(stats: Stats) -> Samples:
        for kind, values in stats["transports"].items():
            for key in keys:
                if key in values:       # type: ignore[operator]
                    labels = (kind,) if len(keys) == 1 else (kind, key)
                    yield labels, values[key]       # type: ignore[index]
    return samples


def _accept_errors(stats: Stats) -> Samples:
    for name, value in stats["accept_errors"].items():
        yield (name,), value            # type: ignore[misc]


def _work(*keys: str) -> Callable[[Stats], Samples]:
    def samples(stats: Stats) -> Samples:
        for what in ("lookups", "executor"):
            for key in keys:
                value = stats[what][key]            # type: ignore[literal-required]
                yield (what,) if len(keys) == 1 else (what, key), value
    return samples


def _counter(name: str, otel: str, unit: str, text: str, samples: Callable[[Stats], Samples],
             *labels: str) -> Metric:
    return Metric("counter", "tidewire_" + name, "tidewire." + otel, unit, text, labels, samples)


def _gauge(name: str, otel: str, unit: str, text: str, samples: Callable[[Stats], Samples],
           *labels: str) -> Metric:
    return Metric("gauge", "tidewire_" + name, "tidewire." + otel, unit, text, labels, samples)


METRICS = (
    _counter("loop_turns", "loop.turns", "{turn}", "Polls.", _one("turns")),
    _counter("loop_callbacks", "loop.callbacks", "{callback}", "Callbacks that ran.",
             _one("callbacks")),
    _counter("loop_busy_seconds", "loop.busy.time", "s", "Time in run_forever() and not waiting.",
             _one("busy")),
    _counter("loop_idle_seconds", "loop.idle.time", "s", "Time spent waiting.", _one("idle")),
    _gauge("loop_ready", "loop.ready", "{callback}", "Callbacks that are ready to run.",
           _one("ready")),
    _counter("loop_signals", "loop.signals", "{signal}", "Signals that came to handlers.",
             _one("signals")),
    _counter("received_bytes", "io.received", "By", "Bytes received.",
             _by_kind("bytes_in"), "kind"),
    _counter("sent_bytes", "io.sent", "By", "Bytes sent.", _by_kind("bytes_out"), "kind"),
    _counter("received_messages", "io.received.messages", "{message}",
             "Reads that brought something, or datagrams.", _by_kind("messages_in"), "kind"),
    _counter("sent_messages", "io.sent.messages", "{message}",
             "Sends that took something, or datagrams.", _by_kind("messages_out"), "kind"),
    _counter("connections_begun", "connections.begun", "{connection}",
             "Transports made, or connections that failed.",
             _by_kind("opened", "accepted", "failed"), "kind", "how"),
    _counter("connections_ended", "connections.ended", "{connection}", "Transports that ended.",
             _by_kind("closed", "reset", "lost"), "kind", "how"),
    _gauge("connections_open", "connections.open", "{connection}", "Transports that are open.",
           _by_kind("open"), "kind"),
    _counter("write_pauses", "writing.pauses", "{call}", "Calls of pause_writing().",
             _one("writing", "pauses")),
    _gauge("write_paused", "writing.paused", "{connection}",
           "Transports whose protocol is paused.", _one("writing", "paused")),
    _gauge("write_waiting_bytes", "writing.waiting", "By", "Bytes that wait to be sent.",
           _one("writing", "waiting_bytes")),
    _counter("accept_errors", "accept.errors", "{error}", "Errors of accept().",
             _accept_errors, "error"),
    _counter("tls_handshakes", "tls.handshakes", "{handshake}", "TLS handshakes completed.",
             _one("tls", "handshakes")),
    _counter("tls_handshake_failures", "tls.handshake.failures", "{handshake}",
             "TLS handshakes that failed.", _one("tls", "failures")),
    _counter("tls_resumed", "tls.resumed", "{handshake}",
             "Completed handshakes that continued an older session.", _one("tls", "resumed")),
    _counter("tls_handshake_seconds", "tls.handshake.time", "s",
             "Time that the loop's thread spent in handshakes.", _one("tls", "seconds")),
    _counter("timers_scheduled", "timers.scheduled", "{timer}",
             "Calls of call_later() and call_at().", _one("timers", "scheduled")),
    _counter("timers_cancelled", "timers.cancelled", "{timer}",
             "Timers cancelled before they were due.", _one("timers", "cancelled")),
    _gauge("timers_pending", "timers.pending", "{timer}", "Timers that will run.",
           _one("timers", "pending")),
    _counter("jobs_submitted", "jobs.submitted", "{job}",
             "Lookups, and jobs of the executor, submitted.", _work("submitted"), "what"),
    _counter("jobs_done", "jobs.done", "{job}", "Those that ended.", _work("done"), "what"),
    _counter("jobs_seconds", "jobs.time", "s", "From submission to the end, of those that ended.",
             _work("seconds"), "what"),
    _gauge("jobs", "jobs", "{job}", "Those that wait for a thread, and those that run.",
           _work("waiting", "running"), "what", "state"),
    _counter("subprocesses_started", "subprocesses.started", "{process}", "Child processes.",
             _one("subprocesses", "started")),
    _gauge("subprocesses", "subprocesses", "{process}", "Child processes that run.",
           _one("subprocesses", "running")),
)

#: Histogram of stats(): name of Prometheus, name and unit of OpenTelemetry, help.
HISTOGRAMS = {
    "callback": ("tidewire_callback_seconds", "tidewire.callback.duration", "s",
                 "Time that a callback took."),
    "turn": ("tidewire_turn_seconds", "tidewire.turn.duration", "s", "Time between two polls."),
    "lag": ("tidewire_lag_seconds", "tidewire.lag", "s",
            "Time from when a timer was due to its start."),
    "poll": ("tidewire_poll_seconds", "tidewire.poll.duration", "s",
             "Time of a poll that waited."),
    "ready": ("tidewire_ready_callbacks", "tidewire.ready.depth", "{callback}",
              "Callbacks that were ready when a generation began."),
}


def snapshot() -> list[Stats]:
    """stats() of every loop of this process that is not closed, by number."""
    found = [loop.stats() for loop in _loops() if not loop.is_closed()]
    return sorted(found, key=lambda stats: stats["id"])


def describe() -> dict[str, object]:
    """This process, its loops, and their slowest callbacks, in types of JSON."""
    import sys

    from ._version import __version__

    return {"pid": os.getpid(), "argv": sys.argv, "tidewire": __version__,
            "python": sys.version.split()[0], "loops": snapshot(), "slow": _slowest()}


def _slowest() -> list[dict[str, object]]:
    """Of all loops that are watched: see watch()."""
    watches = [loop._watch for loop in _loops() if loop._watch is not None]
    reports = [report for watch in watches for report in watch.slowest()]
    return [report.as_dict() for report in sorted(reports, key=lambda one: -one.seconds)]


def coarse(histogram: Histogram, every: int = 16) -> list[tuple[float, int]]:
    """(bound, values below it) at each power of two, from the first to the last that differs.

    The last pair has no bound: infinity, and all values.
    """
    pairs, below = [], 0
    for index, count in enumerate(histogram["counts"][:-1]):
        below += count
        if index % every == every - 1:
            pairs.append((histogram["bounds"][index], below))
    return [*pairs, (float("inf"), histogram["count"])]


def difference(now: Histogram, before: Histogram | None) -> Histogram:
    """What was counted since an earlier call."""
    if before is None:
        return now
    return Histogram(
        count=now["count"] - before["count"], sum=now["sum"] - before["sum"],
        bounds=now["bounds"],
        counts=tuple(a - b for a, b in zip(now["counts"], before["counts"], strict=True)))


def quantile(histogram: Histogram, share: float) -> float:
    """The value that `share` of all values do not exceed, within a bucket's width; 0 of none."""
    wanted, below, lower = share * histogram["count"], 0, 0.0
    if not histogram["count"]:
        return 0.0
    for bound, count in zip(histogram["bounds"], histogram["counts"], strict=False):
        below += count
        if below >= wanted:
            return (lower + bound) / 2
        lower = bound
    return lower
