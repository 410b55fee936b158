"""Programs over TLS: actions in callbacks, start_tls(), sendfile().

The other end is a bare socket with ssl's objects on it, so that each step of
it is the program's.
"""
import asyncio
import functools
import io
import os
import ssl
import tempfile

import support
from parity import certificates, harness
from parity.registry import PROGRAMS, programs
from parity.stream_actions import ACTIONS


class TlsPeer(harness.Peer):
    """A Peer that speaks TLS over its socket."""

    def __init__(self, trace, sock, server_side=True):
        super().__init__(trace, sock)
        server, client = certificates.contexts()
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = (server if server_side else client).wrap_bio(
            self.incoming, self.outgoing, server_side,
            None if server_side else "localhost")
        self.ended = False

    def flush(self):
        if self.sock.fileno() >= 0 and self.outgoing.pending:
            try:
                self.sock.send(self.outgoing.read())
            except OSError as exc:
                self.trace.note("peer", "send", type(exc).__name__)

    def pump(self):
        """What came into the BIO; nothing more will come after an end."""
        data = support.drain(self.sock) if self.sock.fileno() >= 0 else b""
        if data:
            self.incoming.write(data)

    def drive(self, function, *args):
        """(done, result) of an operation of ssl."""
        self.pump()
        try:
            return True, function(*args)
        except ssl.SSLWantReadError:
            return False, None
        finally:
            self.flush()

    async def handshake(self):
        while not self.drive(self.tls.do_handshake)[0]:
            await asyncio.sleep(0.0005)

    def send(self, data):
        if not self.ended:
            self.trace.attempt("peer", "send", self.tls.write, data)
        self.flush()

    def read(self):
        data = b""
        try:
            while True:
                done, piece = self.drive(self.tls.read, 65536)
                if not done:
                    break
                if not piece:
                    self.ended = True
                    break
                data += piece
        except ssl.SSLError as exc:
            self.ended = True
            self.trace.note("peer", "broken", type(exc).__name__)
        self.trace.note("peer", "data", data)
        return data

    def at_eof(self):
        self.trace.note("peer", "eof", self.ended)

    def shutdown(self):
        try:
            self.drive(self.tls.unwrap)
        except ssl.SSLError as exc:
            self.trace.note("peer", "unwrap", type(exc).__name__)


async def connected(t, hooks=None, buffered=False):
    """Our client, through the handshake, and a TlsPeer."""
    ours, other = support.socketpair("unix")
    peer = TlsPeer(t, t.end_with(other))
    protocol = t.protocol("p", hooks, buffered=buffered)
    (transport, _), _ = await asyncio.gather(
        t.loop.create_unix_connection(
            lambda: protocol, sock=ours, ssl=certificates.contexts()[1],
            server_hostname="localhost"),
        peer.handshake())
    t.end_with(transport)
    return transport, protocol, peer


# -- every action, in every callback ----------------------------------------

async def in_callback(t, buffered, place, action):
    done = []

    def hook(protocol):
        if not done:
            done.append(1)
            return ACTIONS[action](protocol) and None

    transport, protocol, peer = await connected(t, {place: hook}, buffered)
    await t.settle()
    t.state("p", transport)
    peer.send(b"hello")
    await t.settle()
    peer.send(b"again")
    await t.settle()
    t.note("p", "closing", transport.is_closing())
    t.attempt("p", "resume", transport.resume_reading)
    await t.settle()
    peer.read()
    peer.at_eof()
    peer.shutdown()
    await t.settle()
    t.note("p", "closing", transport.is_closing())
    peer.read()
    transport.close()
    await t.settle()
    t.note("p", "closing", transport.is_closing())


for _place in ("made", "data", "eof", "lost"):
    for _action in ACTIONS:
        if (_action == "limits" or (_place, _action) == ("made", "pause")
                or _place in ("data", "eof") and _action in ("close, abort", "close, raise")):
            # A choice of ours (docs/differences.rst); asyncio waits for ever; it has said
            # goodbye already when the connection is broken off.
            continue
        for _buffered in (False, True) if _place == "data" else (False,):
            PROGRAMS[f"tls{' buffered' if _buffered else ''}: {_action} in {_place}"] = \
                functools.partial(in_callback, buffered=_buffered, place=_place,
                                  action=_action)


# -- start_tls() ------------------------------------------------------------

async def talk(t, transport, peer):
    """Some words each way, and the end."""
    t.attempt("p", "write", transport.write, b"to the peer")
    await t.settle()
    peer.read()
    peer.send(b"to us")
    await t.settle()
    t.state("p", transport)
    transport.close()
    await t.settle()
    peer.read()
    peer.at_eof()
    peer.shutdown()
    await t.settle()


@programs("client", "server", "paused", "paused, resumed", "written before", "data with it",
          "buffered", "switched")
async def start_tls(t, what):
    """An upgrade that succeeds."""
    server_context, client_context = certificates.contexts()
    transport, protocol, plain = await t.connected("unix", buffered=what == "buffered")
    ours = what == "server"
    peer = TlsPeer(t, plain.sock, server_side=not ours)
    if what.startswith("paused"):
        transport.pause_reading()
    if what == "paused, resumed":
        transport.resume_reading()
    if what == "written before":
        transport.write(b"in clear")
        await t.settle()
        plain.read()
    if what == "switched":
        protocol = t.protocol("q")
        transport.set_protocol(protocol)

    async def handshake():
        await peer.handshake()
        if what == "data with it":
            peer.send(b"early")

    upgraded, _ = await asyncio.gather(
        t.loop.start_tls(transport, protocol, server_context if ours else client_context,
                         server_side=ours, server_hostname=None if ours else "localhost"),
        handshake())
    t.end_with(upgraded)
    # Of the starter's, not of the protocol's: early data comes before or after.
    t.note("starter", "another", upgraded is transport)
    t.note("starter", "old one", transport.is_closing())
    protocol.transport = upgraded
    await t.settle()
    t.state("p", upgraded)
    upgraded.resume_reading()
    await talk(t, upgraded, peer)


@programs("plain peer", "wrong name", "peer closes", "peer resets", "silent peer", "closed",
          "lost", "no context", "wrong transport", "timeout 0")
async def start_tls_fails(t, what):
    server_context, context = certificates.contexts()
    transport, protocol, plain = await t.connected(
        "tcp" if what == "peer resets" else "unix")
    peer = TlsPeer(t, plain.sock)
    kwargs = {"server_hostname": "elsewhere" if what == "wrong name" else "localhost"}
    if what == "silent peer":
        kwargs["ssl_handshake_timeout"] = 0.05
    if what == "timeout 0":
        kwargs["ssl_handshake_timeout"] = 0
    if what == "closed":
        transport.close()
    if what == "lost":
        transport.abort()
        await t.settle()
    task = asyncio.ensure_future(t.loop.start_tls(
        None if what == "wrong transport" else transport, protocol,
        None if what == "no context" else context, **kwargs))
    await t.settle()
    if what == "plain peer":
        plain.send(b"this is no TLS\r\n")
    elif what == "peer closes":
        plain.close()
    elif what == "peer resets":
        plain.reset()
    elif what == "wrong name":
        try:
            await asyncio.wait_for(peer.handshake(), 2)
        except (ssl.SSLError, TimeoutError) as exc:
            t.note("peer", "handshake", type(exc).__name__)
    await t.wait("p", "start_tls", task, 2)
    await t.settle(10)
    t.note("p", "closing", transport.is_closing())


async def start_tls_cancelled(t, steps):
    transport, protocol, plain = await t.connected("unix")
    task = asyncio.ensure_future(t.loop.start_tls(
        transport, protocol, certificates.contexts()[1], server_hostname="localhost"))
    await support.turns(steps)
    t.note("task", task.done())
    task.cancel()
    await t.wait("task", "start_tls", task)
    await t.settle()
    t.note("p", "closing", transport.is_closing())


for _steps in range(5):
    PROGRAMS[f"cancel start_tls at step {_steps}"] = functools.partial(
        start_tls_cancelled, steps=_steps)


# -- sendfile() -------------------------------------------------------------

BODY = bytes(range(256)) * 40


def files(kind):
    """A file with BODY: from the disk, in memory, at another position."""
    if kind == "memory":
        return io.BytesIO(BODY)
    file = tempfile.TemporaryFile()
    file.write(BODY)
    file.flush()
    if kind == "at the end":
        return file
    file.seek(0)
    return file


FILES = {
    "whole": ("disk", (), {}),
    "part": ("disk", (100, 1000), {}),
    "offset": ("disk", (10000,), {}),
    "behind the end": ("disk", (len(BODY) + 5,), {}),
    "more than there is": ("disk", (10000, 5000), {}),
    "nothing": ("disk", (0, 0), {}),
    "negative offset": ("disk", (-1,), {}),
    "negative count": ("disk", (0, -1), {}),
    "wrong offset": ("disk", ("x",), {}),
    "at the end": ("at the end", (), {}),
    "memory": ("memory", (), {}),
    "part of memory": ("memory", (100, 1000), {}),
    "memory, no fallback": ("memory", (), {"fallback": False}),
    "no fallback": ("disk", (), {"fallback": False}),
}


async def sendfile(t, over, what):
    kind, args, kwargs = FILES[what]
    if over == "tls":
        transport, protocol, peer = await connected(t)
    else:
        transport, protocol, peer = await t.connected("tcp" if over == "socket" else over)
    await t.settle()
    with files(kind) as file:
        if over == "socket":
            sock = transport.get_extra_info("socket")._sock.dup()
            t.end_with(sock)
            sent = t.loop.sock_sendfile(sock, file, *args, **kwargs)
        else:
            transport.write(b"head ")
            sent = t.loop.sendfile(transport, file, *args, **kwargs)
        await t.wait("p", "sendfile", sent)
        t.note("p", "position", file.tell())
    t.attempt("p", "write", transport.write, b" tail")
    await t.settle()
    peer.read()
    t.state("p", transport)
    transport.close()
    await t.settle()
    peer.read()


for _over in ("tcp", "unix", "tls", "socket"):
    for _what in FILES:
        PROGRAMS[f"sendfile over {_over}: {_what}"] = functools.partial(
            sendfile, over=_over, what=_what)


@programs("write", "pause", "peer sends", "closed", "write_eof", "text file",
          "no file", "wrong transport", "set_protocol", "peer closes")
async def sendfile_meanwhile(t, what):
    """While a large file is under way, or before it begins."""
    hooks = {"data": lambda p: None}
    transport, protocol, peer = await t.connected("unix", "p", hooks)
    with tempfile.TemporaryFile() as file:
        file.truncate(3_000_000)
        if what == "closed":
            transport.close()
        if what == "write_eof":
            transport.write_eof()
        given = file
        if what == "text file":
            given = t.end_with(open(os.devnull))
        elif what == "no file":
            given = None
        task = asyncio.ensure_future(t.loop.sendfile(
            None if what == "wrong transport" else transport, given))
        await t.settle()
        if what == "write":
            t.attempt("p", "write", transport.write, b"between")
        elif what == "pause":
            transport.pause_reading()
        elif what == "peer sends":
            peer.send(b"hello")
        elif what == "set_protocol":
            transport.set_protocol(t.protocol("q", hooks))
            peer.send(b"hello")
        elif what == "peer closes":
            peer.close()
        await t.settle()
        if peer.sock.fileno() >= 0:
            await peer.read_all()
        await t.wait("p", "sendfile", task)
    await t.settle()
    peer.read()
    t.note("p", "closing", transport.is_closing())


async def sendfile_cancelled(t, steps):
    transport, protocol, peer = await t.connected("unix")
    with tempfile.TemporaryFile() as file:
        file.truncate(3_000_000)
        task = asyncio.ensure_future(t.loop.sendfile(transport, file))
        await support.turns(steps)
        task.cancel()
        await t.wait("task", "sendfile", task)
    await t.settle()
    await peer.read_all(exact=False)
    t.attempt("p", "write", transport.write, b"after")
    await t.settle()
    peer.read()
    t.state("p", transport)


for _steps in range(5):
    PROGRAMS[f"cancel sendfile at step {_steps}"] = functools.partial(
        sendfile_cancelled, steps=_steps)
