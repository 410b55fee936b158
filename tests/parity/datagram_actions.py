"""Datagram transports: every action in every callback."""
import asyncio
import functools
import itertools
import os
import socket
import sys

import support
from parity.cells import fail, made_by, once, switch, table, together
from parity.pipe_actions import abort, both, close, pause, resume
from parity.registry import PROGRAMS

LARGE = 30_000      # a few of them fill a socket
# From 3.13 on asyncio adds 8 bytes for each datagram in the buffer, and forgets them there.
EXACT = sys.version_info < (3, 13)


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, t, cell, hooks=None, name="p"):
        self.trace, self.cell, self.hooks, self.name = t, cell, hooks or {}, name
        self.transport = None

    def other(self):
        return Datagrams(self.trace, self.cell, {}, self.name + "'")

    def see(self, event, *args):
        self.trace.note(self.name, event, *args)
        if event in self.hooks:
            self.hooks[event](self)

    def connection_made(self, transport):
        self.transport = transport
        self.see("made")

    def datagram_received(self, data, address):
        self.see("datagram", data, type(address).__name__)

    def error_received(self, exc):
        self.see("error", type(exc).__name__)

    def pause_writing(self):
        self.see("pause")

    def resume_writing(self):
        self.see("resume")

    def connection_lost(self, exc):
        self.see("lost", type(exc).__name__)


def send(p):
    p.transport.sendto(b"answer")


def tell(p):
    transport = p.transport
    p.trace.note(p.name, "closing", transport.is_closing(),
                 "current", transport.get_protocol() is p,
                 "limits", transport.get_write_buffer_limits(),
                 # asyncio's stays what it was when abort() empties it.
                 "buffer", EXACT and not transport.is_closing()
                 and transport.get_write_buffer_size(),
                 "info", type(transport.get_extra_info("socket")).__name__)


ACTIONS = {
    "nothing": lambda p: None,
    "close": close,
    "abort": abort,
    "close, close": both(close, close),
    "close, abort": both(close, abort),
    "abort, close": both(abort, close),
    "send": send,
    "send thrice": both(send, send, send),
    "send, close": both(send, close),
    "send, abort": both(send, abort),
    "close, send": both(close, send),
    "abort, send": both(abort, send),
    "send nothing": lambda p: p.transport.sendto(b""),
    "send wrong": lambda p: p.transport.sendto("text"),
    "send to wrong": lambda p: p.transport.sendto(b"x", ("127.0.0.1", 9)),
    "pause": pause,
    "pause, resume": both(pause, resume),
    "pause, close": both(pause, close),
    "resume": resume,
    "switch": switch,
    "switch, close": both(switch, close),
    "switch, raise": both(switch, fail),
    "limits": lambda p: p.transport.set_write_buffer_limits(high=0),
    "state": tell,
    "raise": fail,
    "send, raise": both(send, fail),
    "close, raise": both(close, fail),
    "abort, raise": both(abort, fail),
    "cancel": lambda p: p.maker.cancel(),
    "cancel, close": both(lambda p: p.maker.cancel(), close),
}


numbers = itertools.count()


def peer_and_options(t, kind):
    """A bare socket, and the arguments that make an endpoint connected to it.

    (What asyncio does with sock=, which leaves it without an address, is
    another matter.)
    """
    peer = t.end_with(socket.socket(
        socket.AF_UNIX if kind == "unix" else socket.AF_INET, socket.SOCK_DGRAM))
    peer.setblocking(False)
    if kind == "unix":
        local, remote = (f"\0tidewire-{os.getpid()}-{next(numbers)}" for _ in "12")
        peer.bind(remote)
        return peer, {"local_addr": local, "remote_addr": remote, "family": socket.AF_UNIX}
    peer.bind(("127.0.0.1", 0))
    return peer, {"local_addr": ("127.0.0.1", 0), "remote_addr": peer.getsockname()}


def read_all(t, peer, exact=True):
    got = []
    while peer.fileno() >= 0:
        try:
            got.append(peer.recv(65536))
        except BlockingIOError:
            break
        except OSError as exc:
            t.note("peer", type(exc).__name__)
            break
    small = [data for data in got if len(data) < LARGE]
    large = len(got) - len(small)
    t.note("peer", "read", small, large if exact else large > 0)


def peer_send(t, peer, data):
    t.attempt("peer", "send", peer.send, data)


async def endpoint(t, cell, place, action, kind):
    exact = "abort" not in cell
    peer, options = peer_and_options(t, kind)
    protocol = Datagrams(t, cell, {place: once(action)})
    transport = await made_by(t, protocol, t.loop.create_datagram_endpoint(
        lambda: protocol, **options))
    if transport is not None and not transport.is_closing():
        peer.connect(transport.get_extra_info("sockname"))
    await t.settle(5)
    peer_send(t, peer, b"one")
    await t.settle(5)
    peer_send(t, peer, b"")
    peer_send(t, peer, b"two")
    await t.settle(5)
    if transport is None:
        return
    tell(protocol)
    t.attempt("p", "resume", transport.resume_reading)
    await t.settle(5)
    if place in ("pause", "resume"):
        t.attempt("p", "limits", transport.set_write_buffer_limits, 1000, 100)
        for _ in range(12):
            t.attempt("p", "send", transport.sendto, b"x" * LARGE)
        await t.settle(5)
        for _ in range(3):
            read_all(t, peer, exact)
            await t.settle(5)
    t.attempt("p", "send", transport.sendto, b"out")
    await t.settle(5)
    read_all(t, peer, exact)
    if place == "error":
        peer.close()
        t.attempt("p", "send", transport.sendto, b"refused")
        await t.settle(5)
        t.attempt("p", "send", transport.sendto, b"refused too")
        await t.settle(5)
    tell(protocol)
    t.attempt("p", "close", transport.close)
    await t.settle(5)
    tell(protocol)
    for _ in range(7):
        t.attempt("p", "late", transport.sendto, b"late")


if not EXACT:
    del ACTIONS["limits"]

table("unix datagrams:", functools.partial(endpoint, kind="unix"),
      ("made", "datagram", "pause", "resume", "lost"), ACTIONS)
table("udp:", functools.partial(endpoint, kind="udp"), ("made", "datagram", "error"), ACTIONS)


# -- making them, cancelled --------------------------------------------------

async def cancelled(t, what, steps):
    """The coroutine that makes a transport, cancelled after some steps."""
    from parity import pipe_actions
    if what == "datagrams":
        peer, options = peer_and_options(t, "unix")
        protocol = Datagrams(t, what)
        coroutine = t.loop.create_datagram_endpoint(lambda: protocol, **options)
    else:
        ours, other = pipe_actions.ends_of(t, "pipe", what == "read_pipe")
        protocol = pipe_actions.Ends(t, what)
        coroutine = getattr(t.loop, f"connect_{what}")(lambda: protocol, ours)
    task = t.loop.create_task(coroutine)
    await support.turns(steps)
    t.note("task", "done", task.done())
    task.cancel()
    await t.wait("task", "ended", task)
    await t.settle(5)
    t.note("task", "transport", protocol.transport is not None
           and protocol.transport.is_closing())
    if protocol.transport is not None:
        t.end_with(protocol.transport)


PROGRAMS["making, cancelled"] = functools.partial(together, cells={
    f"{what} at step {steps}": functools.partial(cancelled, what=what, steps=steps)
    for what in ("datagrams", "read_pipe", "write_pipe") for steps in range(5)})
