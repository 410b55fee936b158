"""What the loop itself does: cancelling, order, errors, contexts, descriptors."""
import asyncio
import contextvars
import functools
import os
import socket
import tempfile
import threading

import support
from parity.registry import PROGRAMS, program, programs

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
