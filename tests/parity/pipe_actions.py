"""Pipe transports: every action in every callback, and every end."""
import asyncio
import functools
import os
import socket

from parity import harness
from parity.cells import fail, made_by, once, switch, table, together
from parity.registry import PROGRAMS

MUCH = 400_000


class Ends(harness.Plain):
    """A protocol at one of a pipe's ends."""

    def __init__(self, trace, cell, hooks=None, name="p"):
        super().__init__(trace, name, hooks or {}, 0)
        self.cell = cell

    def other(self):
        return Ends(self.trace, self.cell, {}, self.name + "'")


def both(*functions):
    def action(p):
        for function in functions:
            function(p)
    return action


def tell(p):
    """What the transport says of itself; what it has depends on its side."""
    transport = p.transport
    p.trace.note(p.name, "closing", transport.is_closing(),
                 "current", transport.get_protocol() is p,
                 "pipe", transport.get_extra_info("pipe") is not None)
    for name in ("is_reading", "can_write_eof", "get_write_buffer_limits"):
        if hasattr(transport, name):
            p.trace.attempt(p.name, name, getattr(transport, name))
    if hasattr(transport, "get_write_buffer_size"):
        size = transport.get_write_buffer_size()
        p.trace.note(p.name, "buffer", "some" if size else "empty")


def close(p):
    p.transport.close()


def abort(p):
    p.transport.abort()


def pause(p):
    p.transport.pause_reading()


def resume(p):
    p.transport.resume_reading()


def write(p):
    p.transport.write(b"answer")


def write_eof(p):
    p.transport.write_eof()


SHARED = {
    "nothing": lambda p: None,
    "close": close,
    "close, close": both(close, close),
    "switch": switch,
    "switch, close": both(switch, close),
    "state": tell,
    "raise": fail,
    "close, raise": both(close, fail),
    "switch, raise": both(switch, fail),
    "cancel": lambda p: p.maker.cancel(),
    "cancel, close": both(lambda p: p.maker.cancel(), close),
}
READING = {
    **SHARED,
    "abort": abort,                     # which a read pipe does not have
    "pause": pause,
    "pause, close": both(pause, close),
    "pause, resume": both(pause, resume),
    "pause, raise": both(pause, fail),
    "pause, pause": both(pause, pause),
    "resume": resume,
    "close, pause, resume": both(close, pause, resume),
    "close pipe": lambda p: p.transport.get_extra_info("pipe").closed,
}
WRITING = {
    **SHARED,
    "abort": abort,
    "close, abort": both(close, abort),
    "abort, close": both(abort, close),
    "abort, raise": both(abort, fail),
    "write": write,
    "write thrice": both(write, write, write),
    "write, close": both(write, close),
    "write, abort": both(write, abort),
    "close, write": both(close, write),
    "write, raise": both(write, fail),
    "write_eof": write_eof,
    "write, write_eof": both(write, write_eof),
    "write_eof, write": both(write_eof, write),
    "write_eof, close": both(write_eof, close),
    "write nothing": lambda p: p.transport.write(b""),
    "write wrong": lambda p: p.transport.write("text"),
    "writelines": lambda p: p.transport.writelines([b"one", bytearray(b"two")]),
    "limits": lambda p: p.transport.set_write_buffer_limits(high=0),
    "limits, write much": lambda p: (p.transport.set_write_buffer_limits(high=10),
                                     p.transport.write(b"x" * MUCH)),
}


# -- the bare other end ------------------------------------------------------

class Other:
    def __init__(self, t, fd):
        self.t, self.fd = t, fd
        os.set_blocking(fd, False)

    def write(self, data):
        self.t.attempt("other", "write", os.write, self.fd, data)

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    async def read_all(self, exact=True):
        """Everything until nothing comes any more."""
        total, quiet, ended = 0, 0, False
        while quiet < 3 and self.fd >= 0:
            try:
                data = os.read(self.fd, 1 << 20)
                ended = not data
            except BlockingIOError:
                data = b""
            except OSError as exc:
                self.t.note("other", type(exc).__name__)
                break
            total += len(data)
            quiet = 0 if data else quiet + 1
            await asyncio.sleep(0.0005)
        self.t.note("other", "read", total if exact or total < 50000 else "much", ended)


def ends_of(t, kind, reading):
    """(file object for the transport, Other)."""
    if kind == "socket":
        ours, theirs = socket.socketpair()
        other = Other(t, theirs.detach())
    else:
        r, w = os.pipe()
        ours = os.fdopen(r if reading else w, "rb" if reading else "wb", 0)
        other = Other(t, w if reading else r)
    t.end_with(ours), t.end_with(other)
    return ours, other


# -- an action in a callback -------------------------------------------------

async def read_pipe(t, cell, place, action, kind="pipe"):
    ours, other = ends_of(t, kind, True)
    protocol = Ends(t, cell, {place: once(action)})
    transport = await made_by(t, protocol, t.loop.connect_read_pipe(lambda: protocol, ours))
    await t.settle(3)
    other.write(b"hello")
    await t.settle(3)
    other.write(b"again")
    await t.settle(3)
    if transport is not None:
        tell(protocol)
        t.attempt("p", "resume", transport.resume_reading)
    await t.settle(3)
    other.close()
    await t.settle(3)
    if transport is not None:
        tell(protocol)
        t.attempt("p", "close", transport.close)
    await t.settle(3)
    if transport is not None:
        t.attempt("p", "pause", transport.pause_reading)
        t.attempt("p", "resume", transport.resume_reading)
    t.note("file", ours.fileno() < 0 if kind == "socket" else ours.closed)


async def write_pipe(t, cell, place, action, kind="pipe"):
    exact = "abort" not in cell
    ours, other = ends_of(t, kind, False)
    protocol = Ends(t, cell, {place: once(action)})
    transport = await made_by(t, protocol, t.loop.connect_write_pipe(lambda: protocol, ours))
    await t.settle(3)
    if transport is None:
        t.note("file", ours.fileno() < 0 if kind == "socket" else ours.closed)
        return
    t.attempt("p", "write", transport.write, b"hello")
    await t.settle(3)
    tell(protocol)
    if place in ("pause", "resume"):
        t.attempt("p", "write", transport.write, b"x" * MUCH)
        await t.settle(3)
    await other.read_all(exact)
    await t.settle(3)
    tell(protocol)
    other.close()
    await t.settle(3)
    for _ in range(7):      # asyncio warns of the fifth and later ones
        t.attempt("p", "late", transport.write, b"late")
    tell(protocol)
    await t.settle(3)
    t.attempt("p", "close", transport.close)
    await t.settle(3)
    t.attempt("p", "write_eof", transport.write_eof)
    t.attempt("p", "abort", transport.abort)
    t.note("file", ours.fileno() < 0 if kind == "socket" else ours.closed)


for _kind in ("pipe", "socket"):
    table(f"read {_kind}:", functools.partial(read_pipe, kind=_kind),
          ("made", "data", "eof", "lost"), READING)
    table(f"write {_kind}:", functools.partial(write_pipe, kind=_kind),
          ("made", "pause", "resume", "lost"), WRITING)


# -- ends --------------------------------------------------------------------

READ_ENDS = {
    "close": lambda tr, other: tr.close(),
    "other closes": lambda tr, other: other.close(),
    "other writes, closes": lambda tr, other: (other.write(b"last"), other.close()),
    "other closes, close": lambda tr, other: (other.close(), tr.close()),
    "pause, other closes": lambda tr, other: (tr.pause_reading(), other.close()),
    "pause, other writes, closes": lambda tr, other: (
        tr.pause_reading(), other.write(b"last"), other.close()),
    "pause, close": lambda tr, other: (tr.pause_reading(), tr.close()),
    "close, other writes": lambda tr, other: (tr.close(), other.write(b"last")),
    "much": lambda tr, other: (other.write(b"x" * 65536), other.close()),
}
WRITE_ENDS = {
    "close": lambda tr, other: tr.close(),
    "abort": lambda tr, other: tr.abort(),
    "close, abort": lambda tr, other: (tr.close(), tr.abort()),
    "write_eof": lambda tr, other: tr.write_eof(),
    "write_eof, close": lambda tr, other: (tr.write_eof(), tr.close()),
    "write_eof, abort": lambda tr, other: (tr.write_eof(), tr.abort()),
    "close, write_eof": lambda tr, other: (tr.close(), tr.write_eof()),
    "other closes": lambda tr, other: other.close(),
    "other closes, write": lambda tr, other: (other.close(), tr.write(b"x")),
    "other closes, close": lambda tr, other: (other.close(), tr.close()),
    "close, other closes": lambda tr, other: (tr.close(), other.close()),
}


async def read_end(t, end, kind):
    ours, other = ends_of(t, kind, True)
    protocol = Ends(t, end)
    transport = await made_by(t, protocol, t.loop.connect_read_pipe(lambda: protocol, ours))
    await t.settle(3)
    t.attempt("p", "end", READ_ENDS[end], transport, other)
    tell(protocol)
    await t.settle(3)
    tell(protocol)
    t.attempt("p", "resume", transport.resume_reading)
    await t.settle(3)
    transport.close()
    await t.settle(3)
    tell(protocol)


async def write_end(t, end, kind, queued):
    ours, other = ends_of(t, kind, False)
    protocol = Ends(t, end)
    transport = await made_by(t, protocol, t.loop.connect_write_pipe(lambda: protocol, ours))
    await t.settle(3)
    if queued:
        transport.write(b"x" * MUCH)
    t.attempt("p", "end", WRITE_ENDS[end], transport, other)
    tell(protocol)
    await t.settle(3)
    tell(protocol)
    await other.read_all(exact="abort" not in end)
    await t.settle(3)
    t.attempt("p", "late", transport.write, b"late")
    transport.close()
    await t.settle(3)
    tell(protocol)


for _kind in ("pipe", "socket"):
    PROGRAMS[f"read {_kind}: ends"] = functools.partial(together, cells={
        end: functools.partial(read_end, end=end, kind=_kind) for end in READ_ENDS})
    for _queued in (False, True):
        PROGRAMS[f"write {_kind}: ends{', queued' if _queued else ''}"] = functools.partial(
            together, cells={end: functools.partial(
                write_end, end=end, kind=_kind, queued=_queued) for end in WRITE_ENDS})
