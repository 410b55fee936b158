"""Subprocess transports: every action in every callback."""
import asyncio
import functools
import signal
import subprocess

import support
from parity.cells import fail, made_by, once, switch, table, together
from parity.pipe_actions import both, close
from parity.registry import PROGRAMS


class Child(asyncio.SubprocessProtocol):
    """`seen` is shared by those that follow each other on a transport."""

    def __init__(self, t, cell, hooks=None, name="p", seen=None):
        self.trace, self.cell, self.hooks, self.name = t, cell, hooks or {}, name
        self.transport = None
        self.seen = seen if seen is not None else Seen()

    def other(self):
        return Child(self.trace, self.cell, {}, self.name + "'", self.seen)

    def see(self, actor, event, *args):
        self.trace.note(f"{self.name} {actor}", event, *args)
        self.seen.add(event)
        if event in self.hooks:
            self.hooks[event](self)

    def connection_made(self, transport):
        self.transport = transport
        self.see("process", "made")

    def pipe_data_received(self, fd, data):
        self.see(f"pipe {fd}", "data", data)

    def pipe_connection_lost(self, fd, exc):
        # One of them has the hook: which comes first is the kernel's business.
        self.see(f"pipe {fd}", "pipe lost" if fd == 1 else "other lost", type(exc).__name__)

    def process_exited(self):
        self.see("process", "exited")

    def connection_lost(self, exc):
        self.see("process", "lost", type(exc).__name__)


class Seen(set):
    def __init__(self):
        self.changed = asyncio.Event()

    def add(self, event):
        super().add(event)
        self.changed.set()

    async def until(self, *events):
        while self.isdisjoint(events):
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 10 * support.SLOWER)


def pipe(fd):
    return lambda p: p.transport.get_pipe_transport(fd)


def stop(action):
    """It may keep the child's answer from coming."""
    def stopping(p):
        p.seen.add("stopped")
        action(p)
    return stopping


def kill(p):
    p.transport.kill()


def tell(p):
    transport = p.transport
    p.trace.note(p.name, "closing", transport.is_closing(),
                 "current", transport.get_protocol() is p,
                 "pid", type(transport.get_pid()).__name__,
                 "pipes", [type(transport.get_pipe_transport(fd)).__name__.lstrip("_Unix")
                           for fd in range(4)],
                 "info", type(transport.get_extra_info("subprocess")).__name__)


ACTIONS = {
    "nothing": lambda p: None,
    "close": stop(close),
    "close, close": stop(both(close, close)),
    "kill": stop(kill),
    # (kill() and close() in a row poll the process: asyncio's thread may then
    # find that somebody else has waited for it.)
    "terminate": stop(lambda p: p.transport.terminate()),
    "signal": lambda p: p.transport.send_signal(signal.SIGCONT),
    "signal wrong": lambda p: p.transport.send_signal("SIGNO"),
    "write": lambda p: pipe(0)(p).write(b"more"),
    "stdin close": stop(lambda p: pipe(0)(p).close()),
    "stdin abort": stop(lambda p: pipe(0)(p).abort()),
    "stdout close": stop(lambda p: pipe(1)(p).close()),
    "stdout pause": stop(lambda p: pipe(1)(p).pause_reading()),
    "stdout pause, resume": lambda p: (pipe(1)(p).pause_reading(), pipe(1)(p).resume_reading()),
    "stdout pause, close": stop(lambda p: (pipe(1)(p).pause_reading(), close(p))),
    "switch": switch,
    "switch, close": stop(both(switch, close)),
    "state": tell,
    "raise": fail,
    "close, raise": stop(both(close, fail)),
    "kill, raise": stop(both(kill, fail)),
    "cancel": stop(lambda p: p.maker.cancel()),
    "cancel, close": stop(both(lambda p: p.maker.cancel(), close)),
}
# Ends its output before itself, so that no callback races with the exit.
PROGRAM = "read line; echo $line; exec >&-; read line; exit 7"


async def process(t, cell, place, action):
    protocol = Child(t, cell, {place: once(action)})
    transport = await made_by(t, protocol, t.loop.subprocess_exec(
        lambda: protocol, "/bin/sh", "-c", PROGRAM, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
    if transport is None:
        await t.settle(3)
        return
    stdin, stdout = map(transport.get_pipe_transport, (0, 1))
    if "stopped" not in protocol.seen:
        t.attempt("main", "write", stdin.write, b"hello\n")
        await protocol.seen.until("data" if place in ("made", "data") else "pipe lost",
                                  "lost", "stopped")
    if not transport.is_closing():
        t.attempt("main", "resume", stdout.resume_reading)
    t.attempt("main", "stdin", stdin.close)
    await protocol.seen.until("lost")
    await t.settle(3)
    t.note("main", "returncode", transport.get_returncode())
    t.attempt("main", "kill", transport.kill)
    t.attempt("main", "signal", transport.send_signal, signal.SIGTERM)
    transport.close()
    tell(protocol)
    await t.settle(3)
    t.attempt("main", "late", stdin.write, b"late")
    t.attempt("main", "late", stdout.pause_reading)


# Whether the end of the child's input is seen before it is known to be dead.
RACES = ["INFO [WritePipeTransport] was closed by peer"]
table("subprocess:", process, ("made", "data", "pipe lost", "exited", "lost"), ACTIONS, RACES)


async def cancelled(t, steps):
    """subprocess_exec() cancelled after some steps: nothing is left."""
    protocol = Child(t, "cancelled")
    task = t.loop.create_task(t.loop.subprocess_exec(
        lambda: protocol, "/bin/cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    await support.turns(steps)
    t.note("task", "done", task.done())
    task.cancel()
    await t.wait("task", "ended", task)
    if protocol.transport is not None:
        t.note("task", "closing", protocol.transport.is_closing())
        protocol.transport.close()
        await protocol.seen.until("lost")
    await t.settle(3)


PROGRAMS["subprocess, cancelled"] = functools.partial(together, cells={
    f"step {steps}": functools.partial(cancelled, steps=steps) for steps in range(6)})
