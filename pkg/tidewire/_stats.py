"""The types of loop.stats(); docs/observability.rst says what each key means."""
from typing import TypedDict


class Traffic(TypedDict):
    """Bytes and messages of a kind of transport."""

    bytes_in: int
    bytes_out: int
    messages_in: int
    messages_out: int


class Connections(Traffic):
    """The same of a kind that has connections."""

    opened: int
    accepted: int
    failed: int
    closed: int
    reset: int
    lost: int
    open: int


class Transports(TypedDict):
    """By kind."""

    tcp: Connections
    unix: Connections
    pipe: Connections
    udp: Connections
    tls: Traffic
    sock: Traffic


class Writing(TypedDict):
    """Data that waits to be sent."""

    pauses: int
    paused: int
    waiting_bytes: int


class AcceptErrors(TypedDict):
    """By the error's name."""

    EMFILE: int
    ENFILE: int
    ENOBUFS: int
    ENOMEM: int
    other: int


class Tls(TypedDict):
    """Handshakes."""

    handshakes: int
    failures: int
    resumed: int
    seconds: float


class Timers(TypedDict):
    """call_later() and call_at()."""

    scheduled: int
    cancelled: int
    pending: int


class Work(TypedDict):
    """Work that threads, or other processes, do for the loop."""

    submitted: int
    done: int
    waiting: int
    running: int
    seconds: float


class Subprocesses(TypedDict):
    """Child processes."""

    started: int
    exited: int
    running: int


class Histogram(TypedDict):
    """counts[i] values were less than bounds[i], and not less than bounds[i - 1]."""

    count: int
    sum: float
    bounds: tuple[float, ...]
    counts: tuple[int, ...]


class Histograms(TypedDict):
    """Seconds; but ready: a number of callbacks."""

    callback: Histogram
    turn: Histogram
    lag: Histogram
    poll: Histogram
    ready: Histogram


class Stats(TypedDict):
    """The result of loop.stats()."""

    version: int
    id: int
    name: str
    pid: int
    thread: int | None
    state: str
    poller: str | None
    time: float
    made: float
    closed: float | None
    turns: int
    callbacks: int
    busy: float
    idle: float
    ready: int
    signals: int
    timers: Timers
    transports: Transports
    writing: Writing
    accept_errors: AcceptErrors
    tls: Tls
    lookups: Work
    executor: Work
    subprocesses: Subprocesses
    histograms: Histograms
