"""Stream transports: every action in every callback, and every end."""
import functools

from parity.registry import PROGRAMS

# -- every action, in every callback ----------------------------------------

def switch(protocol):
    other = type(protocol)(protocol.trace, protocol.name + "'", {}, 65536)
    other.transport = protocol.transport
    protocol.transport.set_protocol(other)


def to_buffered(protocol):
    other = protocol.trace.protocol(protocol.name + "'", buffered=True)
    protocol.transport.set_protocol(other)


def state(protocol):
    protocol.trace.state(protocol.name, protocol.transport)


def fail(protocol):
    raise ZeroDivisionError


ACTIONS = {
    "nothing": lambda p: None,
    "close": lambda p: p.transport.close(),
    "abort": lambda p: p.transport.abort(),
    "close, abort": lambda p: (p.transport.close(), p.transport.abort()),
    "write": lambda p: p.transport.write(b"answer"),
    "write thrice": lambda p: [p.transport.write(b"part") for _ in "123"],
    "write, close": lambda p: (p.transport.write(b"answer"),
                               p.transport.close()),
    "write, abort": lambda p: (p.transport.write(b"answer"),
                               p.transport.abort()),
    "close, write": lambda p: (p.transport.close(),
                               p.transport.write(b"late")),
    "write_eof": lambda p: p.transport.write_eof(),
    "write, write_eof": lambda p: (p.transport.write(b"answer"),
                                   p.transport.write_eof()),
    "write_eof, write": lambda p: (p.transport.write_eof(),
                                   p.transport.write(b"late")),
    "pause": lambda p: p.transport.pause_reading(),
    "pause, close": lambda p: (p.transport.pause_reading(),
                               p.transport.close()),
    "pause, resume": lambda p: (p.transport.pause_reading(),
                                p.transport.resume_reading()),
    "switch": switch,
    "switch kind": to_buffered,
    "limits": lambda p: p.transport.set_write_buffer_limits(high=0),
    "state": state,
    "raise": fail,
    "write, raise": lambda p: (p.transport.write(b"answer"), fail(p)),
    "close, raise": lambda p: (p.transport.close(), fail(p)),
}


async def in_callback(t, kind, buffered, place, action):
    """A connection's life, with one action at one place of it."""
    done = []

    def hook(protocol):
        if not done:
            done.append(1)
            return ACTIONS[action](protocol) and None

    transport, protocol, peer = await t.connected(
        kind, "p", {place: hook}, buffered=buffered)
    await t.settle()
    t.state("p", transport)
    if place in ("pause", "resume"):
        t.attempt("p", "write", transport.write, b"x" * 3_000_000)
        await t.settle()
        await peer.read_all()
        await t.settle()
    peer.send(b"hello")
    await t.settle()
    peer.send(b"again")
    await t.settle()
    t.state("p", transport)
    transport.resume_reading()
    await t.settle()
    peer.read()
    peer.at_eof()
    peer.shutdown()
    await t.settle()
    t.state("p", transport)
    peer.read()
    peer.at_eof()
    transport.close()
    await t.settle()
    t.state("p", transport)
    peer.read()


for _place in ("made", "data", "eof", "pause", "resume", "lost"):
    for _action in ACTIONS:
        for _kind, _buffered in (("tcp", False), ("unix", False),
                                 ("unix", True)):
            if _buffered and _place not in ("made", "data", "eof"):
                continue
            if _kind == "tcp" and _place in ("pause", "resume"):
                continue
            _name = (f"{_kind}{' buffered' if _buffered else ''}: "
                     f"{_action} in {_place}")
            PROGRAMS[_name] = functools.partial(
                in_callback, kind=_kind, buffered=_buffered, place=_place,
                action=_action)

# asyncio's own trouble, which nobody should have to imitate: a protocol that
# raises while its transport is ended, or ended again, by the same call.
for _name in [n for n in PROGRAMS if n.endswith((
        "close, raise in resume",))]:
    del PROGRAMS[_name]


# -- ends of a connection ---------------------------------------------------

ENDS = {
    "close": lambda t, tr, peer: tr.close(),
    "abort": lambda t, tr, peer: tr.abort(),
    "write_eof, close": lambda t, tr, peer: (tr.write_eof(), tr.close()),
    "peer closes": lambda t, tr, peer: peer.close(),
    "peer shuts down": lambda t, tr, peer: peer.shutdown(),
    "peer resets": lambda t, tr, peer: peer.reset(),
    "peer closes, close": lambda t, tr, peer: (peer.close(), tr.close()),
    "peer sends, closes": lambda t, tr, peer: (peer.send(b"last"),
                                               peer.close()),
    "pause, peer closes": lambda t, tr, peer: (tr.pause_reading(),
                                               peer.close()),
    "pause, peer sends, closes": lambda t, tr, peer: (
        tr.pause_reading(), peer.send(b"last"), peer.close()),
    "close, close": lambda t, tr, peer: (tr.close(), tr.close()),
    "abort, close": lambda t, tr, peer: (tr.abort(), tr.close()),
    "close, write_eof": lambda t, tr, peer: (tr.close(), tr.write_eof()),
}


async def ending(t, kind, end, queued, half_open):
    """With or without something in the queue."""
    hooks = {"eof": lambda p: True} if half_open else {}
    transport, protocol, peer = await t.connected(kind, "p", hooks)
    await t.settle()
    if queued:
        transport.write(b"x" * 3_000_000)
    t.attempt("p", "end", ENDS[end], t, transport, peer)
    t.state("p", transport)
    await t.settle()
    t.state("p", transport)
    if peer.sock.fileno() >= 0:
        await peer.read_all(exact="abort" not in end)
        await t.settle()
        peer.at_eof()
    transport.resume_reading()
    await t.settle()
    t.state("p", transport)
    t.attempt("p", "write", transport.write, b"more")
    await t.settle()
    t.attempt("p", "write", transport.write, b"more")
    await t.settle()
    transport.close()
    await t.settle()
    t.state("p", transport)


for _end in ENDS:
    for _queued in (False, True):
        for _half_open in (False, True):
            _name = (f"unix: {_end}{', queued' if _queued else ''}"
                     f"{', half open' if _half_open else ''}")
            PROGRAMS[_name] = functools.partial(
                ending, kind="unix", end=_end, queued=_queued,
                half_open=_half_open)
    PROGRAMS[f"tcp: {_end}"] = functools.partial(
        ending, kind="tcp", end=_end, queued=False, half_open=False)
