"""The programs: generated from tables, and written by hand.

``PROGRAMS`` maps a name to a coroutine function of a Trace.
"""
import asyncio
import contextvars
import functools
import gc
import os
import socket
import subprocess
import tempfile
import threading

import support

PROGRAMS = {}


def program(function):
    PROGRAMS[function.__name__] = function
    return function


def programs(*names):
    """One program for each value of an argument."""
    def register(function):
        for name in names:
            PROGRAMS[f"{function.__name__}-{name}"] = functools.partial(
                function, what=name)
        return function
    return register


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


# -- cancelling -------------------------------------------------------------

async def cancel_at(t, operation, steps):
    """An operation, cancelled after so many steps of its task."""
    loop = t.loop
    a, b = support.socketpair("unix")
    t.end_with(a)
    t.end_with(b)
    listener = t.end_with(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    listener.setblocking(False)
    if operation == "sock_recv":
        coro = loop.sock_recv(a, 10)
    elif operation == "sock_recv_into":
        coro = loop.sock_recv_into(a, bytearray(10))
    elif operation == "sock_sendall":
        coro = loop.sock_sendall(a, b"x" * 3_000_000)
    elif operation == "sock_accept":
        coro = loop.sock_accept(listener)
    elif operation == "sock_connect":
        client = t.end_with(socket.socket())
        client.setblocking(False)
        coro = loop.sock_connect(client, listener.getsockname())
    elif operation == "readline":
        reader, writer = await asyncio.open_unix_connection(sock=a)
        t.end_with(writer)
        coro = reader.readline()
    elif operation == "drain":
        reader, writer = await asyncio.open_unix_connection(sock=a)
        t.end_with(writer.transport)
        writer.write(b"x" * 3_000_000)
        coro = writer.drain()
    elif operation == "sleep":
        coro = asyncio.sleep(0.5)
    elif operation == "executor":
        release = threading.Event()

        async def wait():
            try:
                await loop.run_in_executor(None, release.wait, 5)
            finally:
                release.set()
        coro = wait()
    elif operation == "create_connection":
        coro = loop.create_connection(
            lambda: t.protocol("late"), *listener.getsockname())
    task = asyncio.ensure_future(coro)
    await support.turns(steps)
    t.note("task", "done", task.done() if operation != "create_connection"
           else "unknown")
    task.cancel()
    try:
        result = await task
    except asyncio.CancelledError:
        t.note("task", "cancelled")
    except Exception as exc:
        t.note("task", type(exc).__name__)
    else:
        if isinstance(result, tuple) and hasattr(result[0], "abort"):
            result[0].abort()
        if operation != "create_connection":
            t.note("task", "result", type(result).__name__)
    if operation == "create_connection":
        # A step more or less until it is connected is nobody's business.
        t.phases[-1].clear()
    await support.io_turns(2)
    for phase in t.phases if operation == "create_connection" else ():
        phase.clear()
    t.phases.append({})
    if operation in ("sock_recv", "sock_recv_into", "sock_sendall"):
        support.drain(b)
        b.send(b"after")
        t.note("after", await loop.sock_recv(a, 10))


for _operation in ("sock_recv", "sock_recv_into", "sock_sendall",
                   "sock_accept", "sock_connect", "readline", "drain",
                   "sleep", "executor", "create_connection"):
    for _steps in range(4):
        PROGRAMS[f"cancel {_operation} at step {_steps}"] = \
            functools.partial(cancel_at, operation=_operation, steps=_steps)


# -- order of callbacks -----------------------------------------------------

@program
async def order_soon_and_later(t):
    loop = t.loop
    for i in range(3):
        loop.call_soon(t.note, "o", "soon", i)
        loop.call_later(0, t.note, "o", "zero", i)
        loop.call_soon_threadsafe(t.note, "o", "safe", i)
        loop.call_at(i - 10, t.note, "o", "past", i)
    await asyncio.sleep(0)
    t.note("o", "slept")
    await asyncio.sleep(0)
    t.note("o", "slept again")
    await t.settle()


@program
async def order_chains(t):
    def chain(name, left):
        t.note("o", name, left)
        if left:
            t.loop.call_soon(chain, name, left - 1)

    chain("a", 5)
    chain("b", 3)
    t.loop.call_later(0, chain, "c", 2)
    await t.settle()


@program
async def order_timers(t):
    now = t.loop.time()
    for delay in (0.004, 0.001, 0.003, 0.002, 0.001):
        t.loop.call_at(now + delay, t.note, "o", delay)
    await asyncio.sleep(0.01)
    await t.settle()


@program
async def order_cancelled(t):
    handles = [t.loop.call_soon(t.note, "o", i) for i in range(10)]
    timers = [t.loop.call_later(0.001 * i, t.note, "o", "timer", i)
              for i in range(10)]
    for i in (1, 4, 9):
        handles[i].cancel()
        timers[i].cancel()
    await asyncio.sleep(0.02)
    t.note("o", [h.cancelled() for h in handles + timers])


@program
async def order_tasks(t):
    async def child(name):
        for i in range(4):
            t.note("o", name, i)
            await asyncio.sleep(0)

    await asyncio.gather(*(child(n) for n in "abc"))
    t.note("o", "gathered")
    async with asyncio.TaskGroup() as group:
        for n in "de":
            group.create_task(child(n))
    t.note("o", "grouped")


@program
async def order_futures(t):
    future = t.loop.create_future()
    for i in range(3):
        future.add_done_callback(lambda f, i=i: t.note("o", "done", i))
    t.loop.call_soon(t.note, "o", "before")
    future.set_result(1)
    t.loop.call_soon(t.note, "o", "after")
    t.note("o", "awaited", await future)
    await asyncio.sleep(0)


@program
async def order_data_and_callbacks(t):
    """What data_received schedules, and what it woke."""
    def hook(p):
        t.loop.call_soon(t.note, "p", "soon")
        if not future.done():
            future.set_result(None)

    future = t.loop.create_future()
    transport, protocol, peer = await t.connected("unix", "p", {"data": hook})
    peer.send(b"x")
    await future
    t.note("p", "woken")
    await t.settle()


@program
async def order_made_and_returned(t):
    """connection_made, then the coroutine, then data."""
    server_side = []

    def factory():
        server_side.append(t.protocol("server", {
            "made": lambda p: p.transport.write(b"greeting")}))
        return server_side[-1]

    server = await t.loop.create_server(factory, "127.0.0.1", 0)
    transport, protocol = await t.loop.create_connection(
        lambda: t.protocol("client"), *server.sockets[0].getsockname())
    t.note("client", "returned")
    await t.settle(5)
    transport.close()
    await t.settle(5)
    server.close()
    await server.wait_closed()
    t.note("server", "closed")


@program
async def order_connection_lost_and_server(t):
    server = await t.loop.create_server(
        lambda: t.protocol("server"), "127.0.0.1", 0)
    transport, protocol = await t.loop.create_connection(
        lambda: t.protocol("client"), *server.sockets[0].getsockname())
    await t.settle(5)
    transport.abort()
    t.note("client", "aborted")
    await t.settle(5)
    server.close()
    await server.wait_closed()


# -- errors -----------------------------------------------------------------

@programs("call_soon", "call_later", "call_soon_threadsafe", "task", "future",
          "reader", "gather", "task group", "never retrieved")
async def exception_in(t, what):
    def fail():
        raise LookupError("planned")

    async def failing():
        await asyncio.sleep(0)
        raise LookupError("planned")

    loop = t.loop
    if what == "call_later":
        loop.call_later(0, fail)
    elif what in ("call_soon", "call_soon_threadsafe"):
        getattr(loop, what)(fail)
    elif what == "task":
        await t.wait("t", "task", loop.create_task(failing()))
    elif what == "future":
        future = loop.create_future()
        future.add_done_callback(lambda f: fail())
        future.set_result(None)
    elif what == "reader":
        a, b = support.socketpair()
        t.end_with(a), t.end_with(b)
        loop.add_reader(b, lambda: (loop.remove_reader(b), fail()))
        a.send(b"x")
    elif what == "gather":
        await t.wait("t", "gather", asyncio.gather(
            failing(), asyncio.sleep(0.001, 1), return_exceptions=True))
    elif what == "task group":
        async def group():
            async with asyncio.TaskGroup() as tg:
                tg.create_task(failing())
                tg.create_task(asyncio.sleep(10))
        await t.wait("t", "group", group())
    elif what == "never retrieved":
        loop.create_task(failing())
    await t.settle()
    await t.settle()


@programs("made", "data", "eof", "lost", "get_buffer")
async def exception_in_server_protocol(t, what):
    def fail(p):
        raise LookupError("planned")

    server = await t.loop.create_server(
        lambda: t.protocol("server", {what: fail},
                           buffered=what == "get_buffer"), "127.0.0.1", 0)
    client = t.end_with(socket.create_connection(
        server.sockets[0].getsockname()))
    await t.settle()
    client.send(b"x")
    await t.settle()
    client.shutdown(socket.SHUT_WR)
    await t.settle()
    client.close()
    await t.settle()
    server.close()


# -- connecting -------------------------------------------------------------

@programs("refused", "unix missing", "bad host", "bad port", "no arguments",
          "sock and host", "udp sock", "closed sock", "bad family",
          "factory fails", "server_hostname", "handshake timeout",
          "bad local_addr", "unix no path", "unix path and sock",
          "unix too long", "tls to nothing")
async def connecting(t, what):
    loop = t.loop
    port = support_refused()

    def proto():
        return t.protocol("p")

    if what == "refused":
        coro = loop.create_connection(proto, "127.0.0.1", port)
    elif what == "unix missing":
        coro = loop.create_unix_connection(proto, "/nonexistent/socket")
    elif what == "bad host":
        coro = loop.create_connection(proto, "256.256.256.256.", 80,
                                      flags=socket.AI_NUMERICHOST)
    elif what == "bad port":
        coro = loop.create_connection(proto, "127.0.0.1", 99999)
    elif what == "no arguments":
        coro = loop.create_connection(proto)
    elif what == "sock and host":
        sock = t.end_with(socket.socket())
        coro = loop.create_connection(proto, "127.0.0.1", 1, sock=sock)
    elif what == "udp sock":
        sock = t.end_with(socket.socket(type=socket.SOCK_DGRAM))
        coro = loop.create_connection(proto, sock=sock)
    elif what == "closed sock":
        sock = socket.socket()
        sock.close()
        coro = loop.create_connection(proto, sock=sock)
    elif what == "bad family":
        coro = loop.create_connection(proto, "::1", 1, family=socket.AF_INET)
    elif what == "factory fails":
        a, b = support.socketpair()
        t.end_with(a), t.end_with(b)
        coro = loop.create_unix_connection(lambda: 1 / 0, sock=a)
    elif what == "server_hostname":
        coro = loop.create_connection(proto, "127.0.0.1", 1,
                                      server_hostname="x")
    elif what == "handshake timeout":
        coro = loop.create_connection(proto, "127.0.0.1", 1,
                                      ssl_handshake_timeout=1)
    elif what == "bad local_addr":
        coro = loop.create_connection(proto, "127.0.0.1", port,
                                      local_addr=("192.0.2.1", 1))
    elif what == "unix no path":
        coro = loop.create_unix_connection(proto)
    elif what == "unix path and sock":
        a, b = support.socketpair()
        t.end_with(a), t.end_with(b)
        coro = loop.create_unix_connection(proto, "/x", sock=a)
    elif what == "unix too long":
        coro = loop.create_unix_connection(proto, "/" + "x" * 200)
    elif what == "tls to nothing":
        coro = loop.create_connection(proto, "127.0.0.1", port, ssl=True)
    await t.wait("c", "connect", coro)
    await t.settle()


def support_refused():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@programs("twice", "start_serving False", "serve_forever cancelled",
          "closed while connecting", "several hosts", "in use",
          "unix", "unix stale", "unix other file", "close in made",
          "factory fails")
async def serving(t, what):
    loop = t.loop

    def proto(hooks=None):
        return lambda: t.protocol("server", hooks)

    with tempfile.TemporaryDirectory(prefix="tw-") as folder:
        path = folder + "/s"
        if what == "twice":
            server = await loop.create_server(proto(), "127.0.0.1", 0)
            await server.start_serving()
            await server.start_serving()
        elif what == "start_serving False":
            server = await loop.create_server(proto(), "127.0.0.1", 0,
                                              start_serving=False)
            t.note("s", server.is_serving())
        elif what == "serve_forever cancelled":
            server = await loop.create_server(proto(), "127.0.0.1", 0)
            task = asyncio.ensure_future(server.serve_forever())
            await asyncio.sleep(0)
            await t.wait("s", "second", server.serve_forever())
            task.cancel()
            await t.wait("s", "forever", task)
            t.note("s", server.is_serving())
        elif what == "closed while connecting":
            server = await loop.create_server(proto(), "127.0.0.1", 0)
            client = t.end_with(socket.create_connection(
                server.sockets[0].getsockname()))
            server.close()
        elif what == "several hosts":
            server = await loop.create_server(
                proto(), ["127.0.0.1", "127.0.0.2"], 0)
            t.note("s", len(server.sockets))
        elif what == "in use":
            server = await loop.create_server(proto(), "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            try:
                await loop.create_server(proto(), "127.0.0.1", port)
            except OSError as exc:
                t.note("s", exc.errno, str(exc).replace(str(port), "PORT"))
        elif what == "unix":
            server = await loop.create_unix_server(proto(), path)
            transport, _ = await loop.create_unix_connection(
                lambda: t.protocol("client"), path)
            await t.settle()
            transport.close()
        elif what == "unix stale":
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(path)
            server = await loop.create_unix_server(proto(), path)
        elif what == "unix other file":
            with open(path, "w"):
                pass
            try:
                server = await loop.create_unix_server(proto(), path)
            except OSError as exc:
                t.note("s", exc.errno)
                return
        elif what in ("close in made", "factory fails"):
            factory = proto({"made": lambda p: p.transport.close()})
            if what == "factory fails":
                def factory():
                    raise LookupError
            server = await loop.create_server(factory, "127.0.0.1", 0)
            client = t.end_with(socket.create_connection(
                server.sockets[0].getsockname()))
            client.setblocking(False)
            await t.settle()
            # In debug mode asyncio's frame that failed holds the connection,
            # and its exception's traceback the frame.
            gc.collect()
            t.note("client", await loop.sock_recv(client, 10))
        await t.settle()
        server.close()
        await t.settle()
        t.note("s", server.is_serving(), len(server.sockets))


# -- streams ----------------------------------------------------------------

STREAMS = {
    "readline": lambda r, w: r.readline(),
    "read": lambda r, w: r.read(3),
    "read all": lambda r, w: r.read(),
    "readexactly": lambda r, w: r.readexactly(4),
    "readexactly much": lambda r, w: r.readexactly(400),
    "readuntil": lambda r, w: r.readuntil(b"two"),
    "readuntil never": lambda r, w: r.readuntil(b"never"),
    "read nothing": lambda r, w: r.read(0),
    "negative": lambda r, w: r.readexactly(-1),
}


async def streaming(t, method, ending):
    a, b = support.socketpair("unix")
    t.end_with(b)
    reader, writer = await asyncio.open_unix_connection(sock=a, limit=100)
    t.end_with(writer.transport)
    b.send(b"one\ntwo\nthree")
    await t.settle()
    if ending == "eof":
        b.shutdown(socket.SHUT_WR)
    elif ending == "closed":
        b.close()
    elif ending == "feed_eof":
        reader.feed_eof()
    elif ending == "exception":
        reader.set_exception(LookupError("planned"))
    await t.settle()
    await t.wait("r", "first", STREAMS[method](reader, writer), 0.2)
    await t.wait("r", "second", STREAMS[method](reader, writer), 0.02)
    t.note("r", "at_eof", reader.at_eof())
    writer.write(b"x")
    await t.wait("r", "drain", writer.drain())
    await t.settle()
    writer.close()
    t.note("r", "closing", writer.is_closing())
    await t.wait("r", "wait_closed", writer.wait_closed())
    await t.settle()


for _method in STREAMS:
    for _ending in ("eof", "closed", "feed_eof", "exception"):
        PROGRAMS[f"stream {_method}, {_ending}"] = functools.partial(
            streaming, method=_method, ending=_ending)

# write() to a peer that is gone, then drain(): a write that is held back
# until the callback returns fails behind the tasks that the callback made.
# docs/differences.rst tells of it, and of the switch.
WITHOUT_CORK = [n for n in PROGRAMS
                if n.startswith("stream ") and n.endswith(", closed")]


# -- contexts ---------------------------------------------------------------

var = contextvars.ContextVar("var", default="none")


@programs("made", "data", "eof", "lost", "pause")   # resume: a choice of ours
async def context_of(t, what):
    """Which variables a callback sees, and what becomes of its changes."""
    def hook(p):
        t.note("v", var.get())
        var.set(f"set in {what}")

    var.set("maker")
    transport, protocol, peer = await t.connected("unix", "p", {what: hook})
    var.set("user")
    if what in ("pause", "resume"):
        transport.write(b"x" * 3_000_000)
        t.note("v", "after write", var.get())
        await peer.read_all()
    peer.send(b"x")
    await t.settle()
    peer.send(b"x")
    await t.settle()
    peer.close()
    await t.settle()
    t.note("v", "user sees", var.get())


# -- descriptors ------------------------------------------------------------

@programs("reader", "writer", "both", "replace", "remove in callback",
          "add in callback", "hang up", "shut down", "level", "closed first",
          "regular file", "negative", "object")
async def watching(t, what):
    loop = t.loop
    a, b = support.socketpair()
    t.end_with(a), t.end_with(b)

    def read(name="read"):
        try:
            t.note("w", name, b.recv(1))
        except OSError as exc:
            t.note("w", name, type(exc).__name__)
        count[0] += 1
        if count[0] >= 5:
            loop.remove_reader(b)

    def write():
        count[1] += 1
        if count[1] >= 3:
            t.note("w", "wrote", loop.remove_writer(b))

    count = [0, 0]
    if what in ("reader", "both", "level", "hang up", "shut down"):
        loop.add_reader(b, read)
    if what in ("writer", "both", "hang up"):
        loop.add_writer(b, write)
    if what == "replace":
        loop.add_reader(b, read, "first")
        loop.add_reader(b, read, "second")
    if what == "remove in callback":
        loop.add_reader(b, lambda: (read(), t.note(
            "w", "removed", loop.remove_reader(b))))
    if what == "add in callback":
        loop.add_reader(b, lambda: (read("outer"), loop.add_reader(
            b, read, "inner")))
    if what == "object":
        loop.add_reader(b, read)
        t.attempt("w", "by number", loop.remove_reader, b.fileno())
    if what == "negative":
        t.attempt("w", "add", loop.add_reader, -1, print)
        t.attempt("w", "remove", loop.remove_reader, -1)
    if what == "regular file":
        with tempfile.TemporaryFile() as file:
            t.attempt("w", "add", loop.add_reader, file, print)
            t.attempt("w", "remove", loop.remove_reader, file)
    if what == "closed first":
        number = os.dup(b.fileno())
        os.close(number)
        t.attempt("w", "add", loop.add_reader, number, print)
        t.attempt("w", "remove", loop.remove_reader, number)
    await t.settle()
    a.send(b"abc" if what == "level" else b"x")
    await t.settle()
    if what == "hang up":
        a.close()
    if what == "shut down":
        a.shutdown(socket.SHUT_WR)
    await t.settle()
    t.note("w", "end", loop.remove_reader(b), loop.remove_writer(b))


# -- datagrams, pipes, subprocesses, TLS ------------------------------------

class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, t, name, hooks=None):
        self.t, self.name, self.hooks = t, name, hooks or {}

    def see(self, event, *args):
        self.t.note(self.name, event, *args)
        if event in self.hooks:
            self.hooks[event](self)

    def connection_made(self, transport):
        self.transport = transport
        self.see("made")

    def datagram_received(self, data, address):
        self.see("datagram", data)

    def error_received(self, exc):
        self.see("error", type(exc).__name__)

    def connection_lost(self, exc):
        self.see("lost", type(exc).__name__)


@programs("echo", "empty", "refused", "wrong address", "wrong type", "close",
          "abort", "raise in received", "raise in error", "close in received",
          "abort in made", "after close", "connected", "limits", "too big")
async def datagrams(t, what):
    loop = t.loop
    hooks = {
        "raise in received": {"datagram": lambda p: 1 / 0},
        "raise in error": {"error": lambda p: 1 / 0},
        "close in received": {"datagram": lambda p: p.transport.close()},
        "abort in made": {"made": lambda p: p.transport.abort()},
    }.get(what)
    one, first = await loop.create_datagram_endpoint(
        lambda: Datagrams(t, "one", hooks), local_addr=("127.0.0.1", 0))
    t.end_with(one)
    if one.is_closing():
        await t.settle()
        return
    address = one.get_extra_info("sockname")
    two, second = await loop.create_datagram_endpoint(
        lambda: Datagrams(t, "two", hooks if "error" in what else None),
        remote_addr=address if what not in ("refused", "raise in error")
        else ("127.0.0.1", support_refused()))
    t.end_with(two)
    await t.settle()
    if what == "wrong address":
        t.attempt("two", "sendto", two.sendto, b"x", ("127.0.0.1", 1))
    elif what == "wrong type":
        t.attempt("two", "sendto", two.sendto, "text")
        t.attempt("two", "sendto", two.sendto, None)
    elif what == "limits":
        t.note("two", two.get_write_buffer_limits(),
               two.get_write_buffer_size())
        two.set_write_buffer_limits(high=0)
        two.sendto(b"x")
    elif what == "too big":
        t.attempt("two", "sendto", two.sendto, b"x" * 100_000)
    elif what == "empty":
        t.attempt("two", "sendto", two.sendto, b"")
        t.attempt("two", "sendto", two.sendto, b"after")
    elif what == "after close":
        two.close()
        t.attempt("two", "sendto", two.sendto, b"late")
    else:
        # One only where its error may come before the next is sent.
        for i in range(1 if two.get_extra_info("peername") != address else 5):
            t.attempt("two", "sendto", two.sendto, b"%d" % i)
    if what == "close":
        two.close()
    elif what == "abort":
        two.abort()
    await t.settle()
    t.note("two", "closing", two.is_closing())
    two.close()
    one.close()
    await t.settle()
    t.attempt("two", "sendto", two.sendto, b"late")


class PipeEnd(asyncio.Protocol):
    def __init__(self, t, name, hooks=None):
        self.t, self.name, self.hooks = t, name, hooks or {}

    def see(self, event, *args):
        self.t.note(self.name, event, *args)
        if event in self.hooks:
            return self.hooks[event](self)

    def connection_made(self, transport):
        self.transport = transport
        self.see("made")

    def data_received(self, data):
        self.see("data", data)

    def eof_received(self):
        self.see("eof")

    def connection_lost(self, exc):
        self.see("lost", type(exc).__name__)

    def pause_writing(self):
        self.see("pause")

    def resume_writing(self):
        self.see("resume")


@programs("echo", "writer closes", "reader closes", "writer aborts",
          "write_eof", "pause", "regular file", "raise", "much", "wrong type",
          "after close")
async def pipes(t, what):
    loop = t.loop
    if what == "regular file":
        with tempfile.TemporaryFile() as file:
            await t.wait("r", "read", loop.connect_read_pipe(
                lambda: PipeEnd(t, "r"), file))
            await t.wait("w", "write", loop.connect_write_pipe(
                lambda: PipeEnd(t, "w"), file))
        return
    r, w = os.pipe()
    hooks = {"data": lambda p: 1 / 0} if what == "raise" else None
    reader, _ = await loop.connect_read_pipe(
        lambda: PipeEnd(t, "r", hooks), os.fdopen(r, "rb", 0))
    writer, _ = await loop.connect_write_pipe(
        lambda: PipeEnd(t, "w"), os.fdopen(w, "wb", 0))
    t.end_with(reader), t.end_with(writer)
    await t.settle()
    if what == "pause":
        reader.pause_reading()
    if what == "wrong type":
        t.attempt("w", "write", writer.write, "text")
    writer.write(b"x" * (1_000_000 if what == "much" else 5))
    await t.settle(30 if what == "much" else 3)
    if what == "pause":
        reader.resume_reading()
        await t.settle()
    t.note("w", "size", writer.get_write_buffer_size(),
           writer.get_write_buffer_limits(), writer.can_write_eof())
    {"reader closes": reader.close, "writer aborts": writer.abort,
     "write_eof": writer.write_eof}.get(what, writer.close)()
    await t.settle()
    t.note("end", reader.is_closing(), writer.is_closing())
    t.attempt("w", "late", writer.write, b"late")
    await t.settle()


class Child(asyncio.SubprocessProtocol):
    def __init__(self, t):
        self.t = t
        self.exited = t.loop.create_future()
        self.lost = t.loop.create_future()

    def connection_made(self, transport):
        self.t.note("c", "made")

    def pipe_data_received(self, fd, data):
        self.t.note(f"pipe {fd}", "data", data)

    def pipe_connection_lost(self, fd, exc):
        self.t.note(f"pipe {fd}", "lost", type(exc).__name__)

    def process_exited(self):
        self.t.note("c", "exited")
        self.exited.set_result(None)

    def connection_lost(self, exc):
        self.t.note("c", "lost", type(exc).__name__)
        self.lost.set_result(None)


@programs("true", "false", "missing", "cat", "killed", "terminated",
          "closed", "shell", "stderr", "devnull", "bad argument", "exit 7")
async def subprocesses(t, what):
    loop = t.loop
    argv = {"false": ["/bin/false"], "missing": ["/nonexistent"],
            "cat": ["/bin/cat"], "killed": ["/bin/sleep", "100"],
            "terminated": ["/bin/sleep", "100"],
            "closed": ["/bin/sleep", "100"],
            "stderr": ["/bin/sh", "-c", "echo out; echo err >&2"],
            "exit 7": ["/bin/sh", "-c", "exit 7"],
            "bad argument": [5]}.get(what, ["/bin/true"])
    stdin = subprocess.PIPE if what == "cat" else subprocess.DEVNULL
    if what == "shell":
        coro = loop.subprocess_shell(lambda: Child(t), "echo hello",
                                     stdin=stdin)
    else:
        coro = loop.subprocess_exec(lambda: Child(t), *argv, stdin=stdin)
    pair = await t.wait("starter", "start", coro)
    if not pair:
        return
    transport, child = pair
    if what == "cat":
        stdin = transport.get_pipe_transport(0)
        stdin.write(b"through the cat")
        stdin.close()
    elif what == "killed":
        transport.kill()
    elif what == "terminated":
        transport.terminate()
    elif what == "closed":
        transport.close()
    await t.wait("end", "lost", child.lost)
    t.note("c", "returncode", transport.get_returncode())
    t.attempt("c", "send_signal", transport.send_signal, 9)
    t.attempt("c", "kill", transport.kill)
    transport.close()
    await t.settle()


@programs("echo", "close", "abort", "eof", "wrong name", "no certificate",
          "plain peer", "start_tls", "cut", "extra info")
async def tls(t, what):
    import ssl

    from parity import certificates
    server_context, client_context = certificates.contexts()
    loop = t.loop
    if what == "plain peer":
        server = await loop.create_server(
            lambda: t.protocol("server", {
                "any data": None,
                "made": lambda p: p.transport.write(b"this is no TLS\r\n")}),
            "127.0.0.1", 0)
    else:
        server = await loop.create_server(
            lambda: t.protocol("server", {
                "data": lambda p: p.transport.write(b"answer")}),
            "127.0.0.1", 0, ssl=server_context)
    port = server.sockets[0].getsockname()[1]
    if what == "no certificate":
        client_context = ssl.create_default_context()
    try:
        if what == "start_tls":
            return
        transport, protocol = await asyncio.wait_for(loop.create_connection(
            lambda: t.protocol("client"), "127.0.0.1", port,
            ssl=client_context,
            server_hostname="other" if what == "wrong name"
            else "localhost"), 5)
    except Exception as exc:
        t.note("client", "failed", type(exc).__name__,
               getattr(exc, "reason", None),
               getattr(exc, "verify_message", None))
        await t.settle(10)
        server.close()
        return
    t.end_with(transport)
    transport.write(b"hello")
    await t.settle(10)
    t.note("client", "can_write_eof", transport.can_write_eof())
    if what == "extra info":
        for key in ("cipher", "compression", "sslcontext", "ssl_object",
                    "peercert", "sockname"):
            t.note("client", key,
                   type(transport.get_extra_info(key)).__name__)
    if what == "eof":
        t.attempt("client", "write_eof", transport.write_eof)
    if what in ("abort", "cut"):
        transport.abort()
    else:
        transport.close()
    await t.settle(20)
    t.note("client", "closing", transport.is_closing())
    server.close()
    await t.settle(5)
