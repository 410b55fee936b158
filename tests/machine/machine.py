#!/usr/bin/env python3
"""Every public method of every object, in any order, with any arguments, on two loops.

    machine.py --calls 1000000            compare tidewire with asyncio, call by call
    machine.py --seeds 17-18 --verbose    one sequence, with what each call did

A sequence makes one object of each kind, then calls methods of them that are drawn at random,
with arguments of right and wrong types, and lets the loop turn in between.  What a call
returned or raised has to be the same on both; so has what the protocols were told.  With
--collect the garbage collector runs at every call.
"""
import argparse
import asyncio
import functools
import gc
import io
import itertools
import multiprocessing
import os
import random
import re
import signal
import socket
import sys
import tempfile
import time
import warnings

# Not called: they run the loop, wait for ever, or replace what the process needs.
NEVER = {
    "loop": {"run_forever", "run_until_complete", "close", "subprocess_exec", "subprocess_shell",
             "shutdown_default_executor", "shutdown_asyncgens", "run_in_executor",
             "set_default_executor", "connect_read_pipe", "connect_write_pipe", "getaddrinfo",
             "getnameinfo", "sendfile", "start_tls", "create_connection", "create_server",
             "create_datagram_endpoint", "create_unix_connection", "create_unix_server",
             "connect_accepted_socket", "time", "call_at", "stats", "name", "set_debug",
             "default_exception_handler", "call_exception_handler", "stop", "add_signal_handler",
             "remove_signal_handler", "set_task_factory", "set_exception_handler"},
    "server": {"serve_forever", "wait_closed", "get_loop"}, "future": {"get_loop"},
    "stream": {"get_extra_info"}, "datagram": {"get_extra_info"},
    "read pipe": {"get_extra_info"}, "write pipe": {"get_extra_info"},
}


class Told(asyncio.BufferedProtocol):
    """Notes what it is told; with a buffer, or by data."""

    def __init__(self, log, name):
        self.log, self.name = log, name

    def note(self, what):
        self.log.append(f"{self.name}: {what}")

    def connection_made(self, transport):
        self.note("made")

    def connection_lost(self, exc):
        self.note(f"lost {type(exc).__name__}")

    def pause_writing(self):
        self.note("pause")

    def resume_writing(self):
        self.note("resume")

    def eof_received(self):
        self.note("eof")

    def error_received(self, exc):
        self.note(f"error {type(exc).__name__}")


class ToldData(Told, asyncio.Protocol):
    # a BufferedProtocol, too, for isinstance(): what asyncio asks first
    def get_buffer(self, hint):
        return bytearray(256)

    def buffer_updated(self, n):
        pass

    def data_received(self, data):
        pass

    def datagram_received(self, data, addr):
        pass


def callback(*args):
    pass


async def coroutine():
    return 7


class Objects:
    """One of each kind, on one loop."""

    def __init__(self, loop, log, directory):
        self.loop, self.log, self.directory = loop, log, directory
        self.sockets = []

    def pair(self, kind=socket.SOCK_STREAM):
        one, two = socket.socketpair(socket.AF_UNIX, kind)
        for sock in (one, two):
            sock.setblocking(False)
            self.sockets.append(sock)
        return one, two

    async def make(self):
        loop, told = self.loop, lambda name: lambda: ToldData(self.log, name)
        one, self.peer = self.pair()
        stream, _ = await loop.create_connection(told("stream"), sock=one)
        one, self.datagram_peer = self.pair(socket.SOCK_DGRAM)
        datagram, _ = await loop.create_datagram_endpoint(told("datagram"), sock=one)
        readable, writable = os.pipe()
        self.pipe_writer = open(writable, "wb", 0)
        read, _ = await loop.connect_read_pipe(told("read pipe"), open(readable, "rb", 0))
        readable, writable = os.pipe()
        self.pipe_reader = open(readable, "rb", 0)
        write, _ = await loop.connect_write_pipe(told("write pipe"), open(writable, "wb", 0))
        server = await loop.create_unix_server(told("accepted"), f"{self.directory}/sock")
        free, self.free_peer = self.pair()
        self.named = {
            "loop": loop, "stream": stream, "datagram": datagram, "read pipe": read,
            "write pipe": write, "server": server, "handle": loop.call_soon(callback),
            "timer": loop.call_later(3600, callback), "future": loop.create_future(),
        }
        self.arguments = [
            None, True, 0, 1, -1, 5, 70_000, 2 ** 40, -2 ** 40, 0.5, "",
            "text", b"", b"bytes", bytearray(b"array"), memoryview(b"view"),
            memoryview(bytes(8)).cast("I"), b"x" * 300_000, [], [b"a", b"b"], [1], (), ("a", 1),
            {}, object, callback, coroutine, free, Descriptor(free.fileno()), told("switched")(),
            asyncio.Protocol(), io.BytesIO(b"file"), ...,
        ]

    def finish(self):
        for name in ("stream", "datagram", "read pipe", "write pipe", "server"):
            self.named[name].close()
        self.named["timer"].cancel()
        self.named["future"].cancel()

    def close(self):
        for thing in (*self.sockets, self.pipe_writer, self.pipe_reader):
            thing.close()


@functools.cache
def methods():
    """(kind, method) of asyncio's objects."""
    loop = asyncio.SelectorEventLoop
    events, selector = asyncio.events, asyncio.selector_events
    unix = asyncio.unix_events
    kinds = {"loop": loop, "stream": selector._SelectorSocketTransport,
             "datagram": selector._SelectorDatagramTransport,
             "read pipe": unix._UnixReadPipeTransport, "write pipe": unix._UnixWritePipeTransport,
             "server": asyncio.base_events.Server, "handle": events.Handle,
             "timer": events.TimerHandle, "future": asyncio.Future}
    return [(kind, name) for kind, cls in kinds.items() for name in sorted(dir(cls))
            if not name.startswith("_") and name not in NEVER.get(kind, ())
            and callable(getattr(cls, name)) and not is_abstract(cls, name)]


def is_abstract(cls, name):
    """Is it the method that raises NotImplementedError? The first 3.11s have no pause_reading() of
    datagrams.
    """
    return name.endswith("_reading") and (
        getattr(cls, name) is getattr(asyncio.ReadTransport, name))


class Descriptor(int):
    """A number that may be another one on each loop."""

    def __repr__(self):
        return "descriptor"


def shown(value):
    """What of a result has to be the same: its value, or its kind."""
    if value is None or isinstance(value, (bool, int, str, bytes, tuple)):
        text = repr(value)
    elif asyncio.isfuture(value) or asyncio.iscoroutine(value):
        text = "awaitable"
    else:
        text = type(value).__name__.lstrip("_")
    return text if len(text) < 100 else text[:100]


def plain(kind, name, exc):
    """The error, without what is this loop's own: addresses, names of classes, descriptors."""
    text = re.sub(r"0x[0-9a-f]+|fd=\d+|<[^>]*>", "*", str(exc))
    # C and Python count and name arguments in other words
    if isinstance(exc, TypeError):
        text = ""
    for what, pattern, why in DIFFERENT:
        if what == name and re.fullmatch(pattern, f"{type(exc).__name__}: {text}"):
            return why
    return f"{type(exc).__name__}: {text}"


# What asyncio itself does wrong: it forgets its loop before the transport is called again;
# before 3.12 it joins the pieces before it looks at the state; it sends queued datagrams of a
# connected Unix socket to None.
DEFECTS = (r"AttributeError: 'NoneType' object has no attribute", r"writelines\(.*TypeError",
           "Fatal write error on datagram transport", r"reported: .*_UnixWritePipeTransport")
# What asyncio from 3.12 on accepts of wrong lines: those that are false, or any on a lost
# connection (docs/differences.rst).  Neither loop sends anything.
ACCEPTED = (r"stream\.writelines\(\d+\) -> None", r"stream\.writelines\(\d+\) -> ! TypeError: ")
# Errors that are told in other words: method, pattern, what is shown of both.
DIFFERENT = (
    # asyncio before 3.12 joins the pieces, and calls write()
    ("writelines", r"RuntimeError: Cannot call write(lines)?\(\) after write_eof\(\)", "after eof"),
    # numbers that are no integers: asyncio compares them as they are
    ("set_write_buffer_limits", r"(TypeError|ValueError|OverflowError): .*", "wrong limits"),
)


def draw(seed, calls):
    """The sequence: (kind, method, indices of arguments, turns behind it)."""
    rng, every = random.Random(seed), methods()
    for _ in range(calls):
        kind, name = rng.choice(every)
        yield (kind, name, [rng.randrange(34) for _ in range(rng.choice((0, 0, 1, 1, 1, 2, 3)))],
               rng.choice((0, 0, 1, 3)))


async def play(sequence, log, directory, collect):
    loop, reported = asyncio.get_running_loop(), set()

    def handler(loop, context):
        # a reader's callback that fails is reported at every turn: once is enough
        # not what was called: its repr() has addresses and is cut
        text = re.sub(r"(Exception in callback) (?!_Unix).*", r"\1", context["message"])
        if text not in reported:
            reported.add(text)
            log.append(f"reported: {text}")

    loop.set_exception_handler(handler)
    objects = Objects(loop, log, directory)
    await objects.make()
    for kind, name, numbers, turns in sequence:
        if collect:
            gc.collect()
        arguments = [objects.arguments[n % len(objects.arguments)] for n in numbers]
        if name == "set_write_buffer_limits":       # asyncio compares them before they are rounded
            arguments = [int(n) if isinstance(n, float) else n for n in arguments]
        try:
            result = getattr(objects.named[kind], name)(*arguments)
        except (Exception, asyncio.CancelledError) as exc:
            outcome = "! " + plain(kind, name, exc)
        else:
            if name == "get_write_buffer_limits":
                result = tuple(map(int, result))    # asyncio keeps floats and bools
            outcome = shown(result)
            if asyncio.iscoroutine(result):
                result.close()
            elif asyncio.isfuture(result):
                result.cancel()
            del result
        log.append(f"{kind}.{name}({', '.join(map(str, numbers))}) -> {outcome}")
        for _ in range(turns):
            await asyncio.sleep(0)
        for peer in (objects.peer, objects.datagram_peer):
            try:
                while peer.recv(1 << 20):
                    pass
            except OSError:
                pass
    objects.finish()
    for _ in range(4):
        await asyncio.sleep(0.001)
    objects.close()


def run(factory, seed, calls, collect):
    log = []
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loop = factory()
        try:
            signal.alarm(60)
            loop.run_until_complete(play(draw(seed, calls), log, directory, collect))
        finally:
            signal.alarm(0)
            loop.close()
    return log


def compare(seed, calls, collect=False):
    """The first line that differs, or None."""
    import tidewire
    stock = run(asyncio.SelectorEventLoop, seed, calls, collect)
    ours = run(tidewire.new_event_loop, seed, calls, collect)
    for at, (a, b) in enumerate(itertools.zip_longest(stock, ours)):
        if a != b and not all(map(re.fullmatch, ACCEPTED, (a or "", b or ""))):
            if any(re.search(pattern, a or "") for pattern in DEFECTS):
                return None     # from here on they are in different states
            return at, a, b, stock[max(at - 12, 0):at]
    return None


def occupy():
    """The small numbers among the arguments stand for no descriptor of a loop."""
    while os.open(os.devnull, os.O_RDWR) < 9:
        pass


def compared(seed, calls, collect):
    return seed, compare(seed, calls, collect)


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--seeds", default="0-100",
                   type=lambda text: tuple(int(part) for part in text.split("-")))
    p.add_argument("--calls", type=int, default=0, help="in all; instead of --seeds")
    p.add_argument("--length", type=int, default=40, help="calls of one sequence")
    p.add_argument("--jobs", type=int, default=os.cpu_count())
    p.add_argument("--collect", action="store_true")
    p.add_argument("--verbose", action="store_true")
    args = p.parse_args(argv)
    first, last = args.seeds
    if args.calls:
        last = first + -(-args.calls // args.length)
    began, wrong = time.monotonic(), 0
    each = functools.partial(compared, calls=args.length, collect=args.collect)
    with multiprocessing.get_context("fork").Pool(args.jobs, occupy) as pool:
        for seed, found in pool.imap_unordered(each, range(first, last), chunksize=10):
            if found:
                wrong += 1
                at, stock, ours, before = found
                print(f"seed {seed}, line {at}: asyncio {stock!r}, tidewire {ours!r}", flush=True)
                if args.verbose:
                    print("    " + "\n    ".join(before))
    print(f"{(last - first) * args.length:,} calls, {wrong} sequences differ, "
          f"{time.monotonic() - began:.0f} s")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
